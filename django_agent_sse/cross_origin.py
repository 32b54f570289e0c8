"""Pages of other origins: which may read a route's answers, and with whose cookies.

A browser says where a request comes from, in ``Sec-Fetch-Site`` and ``Origin``. A request of another origin that carries cookies
is refused unless the route lists that origin and allows credentials: it would be answered as the user whose cookies they are.
What sends neither header is not a browser, or is one on the route's own pages, and goes on.

The fetch standard (CORS) is https://fetch.spec.whatwg.org/#http-cors-protocol, Fetch Metadata https://www.w3.org/TR/fetch-metadata/.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.http import is_same_domain
from django.utils.module_loading import import_string

from .conf import ANY_ORIGIN, as_origin
from .streams.context import route_of
from .streams.counters import Refusal, counters
from .streams.error_responses import error_response
from .streams.headers import HEADER_NAME, plain_host
from .streams.options import StreamOptions

PREFLIGHT_SECONDS: Final = 600
"""How long a browser may keep the answer to a preflight."""
MOST_HEADERS: Final = 2_000
"""Characters of the list of headers that a preflight may ask for; longer ones are not looked at."""
_AMBIENT: Final = ("basic", "digest", "negotiate", "ntlm")
"""Schemes of ``Authorization`` that a browser fills in by itself, as it does cookies."""
_READABLE_ANYWAY: Final = frozenset(
    {"cache-control", "content-language", "content-length", "content-type", "expires", "last-modified", "pragma"}
)
"""The response headers that every page may read: the standard's CORS-safelisted ones."""
_OF_NO_USE: Final = frozenset({"content-encoding", "incremental", "vary", "x-accel-buffering", "x-content-type-options"})
_REFUSAL: Final = (
    "a page of another origin may not send this site's cookies here: list the origin in the route's origins, with "
    "allow_credentials=True; or let the page leave the cookies out"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossOrigin:
    """What one route says to pages of other origins.

    Attributes:
        any: Every origin is listed.
        exact: Origins, as a browser writes them.
        below: Schemes with domains whose every name is listed.
        credentials: Listed origins may send cookies.
    """

    any: bool = False
    exact: frozenset[str] = frozenset()
    below: tuple[tuple[str, str], ...] = ()
    credentials: bool = False

    @classmethod
    def of(cls, options: StreamOptions) -> CrossOrigin | None:
        """Return what a route's options say; ``None``: it neither refuses nor allows anything."""
        if options.origins is None:
            return None
        listed = [as_origin(origin) or origin for origin in options.origins]
        wild = [tuple(origin.split("://*", 1)) for origin in listed if "://*." in origin]
        return cls(
            any=ANY_ORIGIN in listed,
            exact=frozenset(origin for origin in listed if "*" not in origin),
            below=tuple((scheme, domain) for scheme, domain in wild),
            credentials=options.allow_credentials,
        )

    @property
    def lists(self) -> bool:
        """Whether it lists any origin."""
        return bool(self.any or self.exact or self.below)

    def allows(self, origin: str) -> bool:
        """Whether an origin is listed."""
        if self.any or origin in self.exact:
            return True
        scheme, mark, host = origin.partition("://")
        return bool(mark) and any(scheme == own and is_same_domain(host, domain) for own, domain in self.below)

    def answer(
        self, request: HttpRequest, middleware: Iterable[Any], methods: Collection[str], *, page: bool
    ) -> HttpResponse | None:
        """Return the answer to a page of another origin that asks what it may, or may not what it asks; ``None`` to all others.

        Args:
            request: The request.
            middleware: Of the route: the project's django-cors-headers may be there, and lists origins too.
            methods: Of the route.
            page: What is answered may be shown in a tab of its own, as text is: a link may lead there from anywhere.
        """
        refusal = self.refusal(request, middleware, page=page)
        if refusal is not None:
            counters.refused(route_of(request), Refusal.ORIGIN)
        return refusal or self.preflight(request, methods)

    def refusal(self, request: HttpRequest, middleware: Iterable[Any], *, page: bool) -> HttpResponse | None:
        """Return the refusal of a request that carries cookies and comes from where they may not be sent, or ``None``."""
        meta = request.META
        if not _foreign(request) or not _carries_credentials(meta):
            return None
        origin = meta.get("HTTP_ORIGIN", "")
        if origin and self.credentials and self.allows(origin):
            return None
        if page and request.method in ("GET", "HEAD") and _opens_tab(meta):
            return None
        if origin and _cors_headers_allow(request, (*settings.MIDDLEWARE, *middleware), origin):
            return None
        response = error_response(403, _REFUSAL, {"Cache-Control": "no-store"})
        patch_vary_headers(response, ("Origin", "Sec-Fetch-Site", "Cookie"))
        return response

    def preflight(self, request: HttpRequest, methods: Collection[str]) -> HttpResponse | None:
        """Return the answer to a browser that asks what a page of a listed origin may send, or ``None`` where it does not ask.

        Any header may be sent that a header can be called: who is listed is trusted with the answer, and a guard decides by what
        the header holds.
        """
        asked = request.META.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD")
        if request.method != "OPTIONS" or asked is None or not self.allows(request.META.get("HTTP_ORIGIN", "")):
            return None
        headers: str = request.META.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
        names = [name.strip() for name in headers.split(",")] if len(headers) <= MOST_HEADERS else []
        about = {
            "Allow": ", ".join(methods),
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": ", ".join(name for name in names if HEADER_NAME.fullmatch(name)),
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }
        response = HttpResponse(status=204, headers={name: value for name, value in about.items() if value})
        del response["Content-Type"]
        patch_vary_headers(response, ("Access-Control-Request-Method", "Access-Control-Request-Headers"))
        return response

    def add_headers(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Put the headers on any answer of the route. What others have set already stays, so that none is there twice."""
        if not self.lists:
            return response
        patch_vary_headers(response, ("Origin",))
        origin = request.META.get("HTTP_ORIGIN", "")
        if not origin or not self.allows(origin):
            return response
        headers = response.headers
        if "Access-Control-Allow-Origin" not in headers:
            headers["Access-Control-Allow-Origin"] = ANY_ORIGIN if self.any else origin
            if self.credentials:
                headers["Access-Control-Allow-Credentials"] = "true"
        if "Access-Control-Expose-Headers" not in headers and request.method != "OPTIONS":
            own = [name for name in headers if not name.lower().startswith("access-control-")]
            if readable := [name for name in own if name.lower() not in _READABLE_ANYWAY | _OF_NO_USE]:
                headers["Access-Control-Expose-Headers"] = ", ".join(readable)
        return response


def _foreign(request: HttpRequest) -> bool:
    """Whether a page of another origin has sent the request, as far as a browser says so.

    ``same-site`` counts as another origin: sites share a domain with names that others may have, and cookies go there.
    """
    meta = request.META
    if (site := meta.get("HTTP_SEC_FETCH_SITE")) is not None:  # every browser since 2023, over TLS and from this machine
        return site not in ("same-origin", "none")
    origin = meta.get("HTTP_ORIGIN")
    if origin is None:
        return False
    try:
        scheme, host = urlsplit(origin)[:2]
    except ValueError:
        return True
    # A proxy that ends TLS may not say so; a page of the same host without TLS is another one.
    return host != plain_host(request.get_host()) or (scheme == "http" and request.is_secure())


def _carries_credentials(meta: Mapping[str, Any]) -> bool:
    if meta.get("HTTP_COOKIE"):
        return True
    return str(meta.get("HTTP_AUTHORIZATION", "")).partition(" ")[0].lower() in _AMBIENT


def _opens_tab(meta: Mapping[str, Any]) -> bool:
    """Whether somebody has followed a link: the page that it stood on cannot read what comes, and shows it nowhere."""
    return meta.get("HTTP_SEC_FETCH_MODE") == "navigate" and meta.get("HTTP_SEC_FETCH_DEST") == "document"


# Beside django-cors-headers, which puts its headers on the answers of the whole project


def _cors_headers_allow(request: HttpRequest, middleware: tuple[Any, ...], origin: str) -> bool:
    """Whether the project's django-cors-headers lets this origin send cookies: it is asked what it would answer."""
    for layer in cors_headers_layers(middleware):
        told = layer.add_response_headers(request, HttpResponse()).headers
        if (told.get("Access-Control-Allow-Origin"), told.get("Access-Control-Allow-Credentials")) == (origin, "true"):
            return True
    return False


@functools.lru_cache(maxsize=64)
def cors_headers_layers(middleware: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the layers of django-cors-headers among middleware, made to be asked and not to answer."""
    factories = [import_string(entry) if isinstance(entry, str) else entry for entry in middleware]
    if (module := sys.modules.get("corsheaders.middleware")) is None:  # it is not installed, or is not used
        return ()
    own = (factory for factory in factories if isinstance(factory, type) and issubclass(factory, module.CorsMiddleware))
    return tuple(factory(lambda request: None) for factory in own)
