"""System checks of the origins that routes and django-cors-headers list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.http import HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.http import is_same_domain

from ..conf import ANY_ORIGIN
from ..cross_origin import CrossOrigin, cors_headers_layers
from ..streams.options import StreamOptions
from .urls import stream_routes

_CSRF = "django.middleware.csrf.CsrfViewMiddleware"
_EVERY_PATH = r"^.*$"
"""The default of ``CORS_URLS_REGEX``."""


def cors_headers_beside() -> Iterator[checks.CheckMessage]:
    """Warn where django-cors-headers lets every page send cookies to streams, or answers preflights of what it does not list."""
    layers = cors_headers_layers(tuple(settings.MIDDLEWARE))
    routes = (
        [(str(pattern.pattern), CrossOrigin.of(endpoint.options())) for pattern, _, endpoint in stream_routes()] if layers else []
    )
    if routes and _says("ALLOW_ALL_ORIGINS") and _says("ALLOW_CREDENTIALS"):
        yield checks.Warning(
            "CORS_ALLOW_ALL_ORIGINS and CORS_ALLOW_CREDENTIALS are both True: every page of the web may read the streams of its "
            "visitors, with their cookies",
            hint="List the origins in CORS_ALLOWED_ORIGINS, or leave the paths of streams out with CORS_URLS_REGEX.",
            id="django_agent_sse.W018",
        )
    if _says("ALLOW_ALL_ORIGINS") or (_says("URLS_REGEX") or _EVERY_PATH) != _EVERY_PATH:
        return
    listed = [
        f"{route!r} ({origin})"
        for route, own in routes
        if own is not None
        for origin in (*([ANY_ORIGIN] if own.any else ()), *sorted(own.exact))
        if not any(layer.origin_found_in_white_lists(origin, urlsplit(origin)) for layer in layers)
    ]
    if listed:
        more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
        yield checks.Warning(
            f"django-cors-headers answers preflights for the whole project, and does not list what these routes do: "
            f"{', '.join(listed[:3])}{more}. Pages there can open streams, but cannot send headers or JSON, and stop no run",
            hint="List the origins in CORS_ALLOWED_ORIGINS too, or leave the routes' paths out with CORS_URLS_REGEX.",
            id="django_agent_sse.W019",
        )


def posts_refused_by_csrf() -> Iterator[checks.CheckMessage]:
    """Warn of origins that a route lists with cookies, and from which Django's check of CSRF tokens takes no POST."""
    if _CSRF not in settings.MIDDLEWARE:
        return
    csrf = CsrfViewMiddleware(lambda request: HttpResponse())
    refused = [
        f"{str(pattern.pattern)!r} ({origin})"
        for pattern, _, endpoint in stream_routes()
        if not endpoint.csrf_exempt and not {"GET", "HEAD", "OPTIONS"}.issuperset(endpoint.methods)
        for origin in _with_cookies(endpoint.options())
        if not _trusted(csrf, origin)
    ]
    if refused:
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        yield checks.Warning(
            "these routes list origins with allow_credentials, and CSRF_TRUSTED_ORIGINS does not: "
            f"{', '.join(refused[:3])}{more}. What pages there POST is answered with 403 by "
            "CsrfViewMiddleware, without a header that lets them read why",
            hint="List the origins in CSRF_TRUSTED_ORIGINS too; the pages send Django's CSRF token.",
            id="django_agent_sse.W023",
        )


def _with_cookies(options: StreamOptions) -> list[str]:
    own = CrossOrigin.of(options)
    if own is None or not own.credentials:
        return []
    return [*sorted(own.exact), *(f"{scheme}://*{domain}" for scheme, domain in own.below)]


def _trusted(csrf: CsrfViewMiddleware, origin: str) -> bool:
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    scheme, _, host = origin.partition("://")
    return any(is_same_domain(host.removeprefix("*"), domain) for domain in csrf.allowed_origin_subdomains.get(scheme, ()))


def _says(name: str) -> Any:
    return getattr(settings, f"CORS_{name}", None)
