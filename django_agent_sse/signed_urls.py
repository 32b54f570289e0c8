"""Signed addresses: a stream for clients that can send neither headers nor cookies, for one user, one method and a short time.

The signature stands in the query. It covers the path, the rest of the query, the method, the host where there is one, the time,
and the user with all that their sessions hang on, so that a new password ends it as it ends sessions. It is taken off the request
before anything logs it.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from hmac import compare_digest
from typing import Any, Final
from urllib.parse import unquote_plus, urlsplit

from asgiref.sync import sync_to_async
from django.apps import apps
from django.conf import settings
from django.core import signing
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.utils.encoding import punycode
from django.utils.functional import Promise

from .access.closing import tell_at_commit
from .access.identity import user_text
from .access.orders import Recheck
from .conf import MOST_SIGNED_SECONDS, setting
from .eventlog.backend import event_log, log_to_publish_to, refuse_on_a_loop
from .exceptions import ArgumentInvalid, ConfigurationError
from .revocations import REVOCATIONS, revocations
from .runtime.pools import where_called, writers
from .streams.context import Context
from .streams.error_responses import error_body
from .streams.headers import plain_host
from .streams.last_event_id import QUERY_PARAMETER

PARAMETER: Final = "sse_signature"
"""The parameter of the query that holds the signature."""
IN_SCOPE: Final = "django_agent_sse.signature"
"""The key in the ASGI scope under which it is then found."""
CHALLENGE: Final = 'SignedURL realm="django"'
LONGEST: Final = 1_000
"""Characters of a signature that are looked at; those that are made here have fewer than 300, and a third more of the host."""
CLOCKS_DIFFER: Final = 5.0
"""Seconds by which the clocks of machines may differ."""
_GET: Final = ("GET", "HEAD")
_REFUSALS: Final = {
    "missing": "this stream is opened by a signed address only",
    "invalid": "the address was not signed here, for this path, query, method and host: fetch a new one",
    "expired": "the address has expired: fetch a new one",
    "revoked": "the address was revoked, or its user may not sign in any more",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a signature has let in.

    Attributes:
        user: The primary key as text; ``None`` for whoever has the address.
        account: A digest of what the user's sessions hang on; ``""`` where the user model has nothing of the kind.
        at: When it was signed, in seconds since 1970.
        url: The path and the query that it is for.
    """

    user: str | None
    account: str
    at: float
    url: str

    @property
    def keys(self) -> tuple[str, ...]:
        """What it can be revoked by."""
        return (_key(None, self.url), *([] if self.user is None else [_key(self.user, None), _key(self.user, self.url)]))


def signed_url(url: str, *, user: Any = None, method: str = "GET", max_age: int | None = None) -> str:
    """Return an address of a stream that lets its client in for a short time, without headers and cookies.

    The route takes it where it has ``signed=True`` or the guard ``signed_required``. Costs no query.

    Args:
        url: As ``reverse()`` returns it, perhaps with a query, or with a scheme and a host. The signature is for this path, this
            query but for ``last_event_id``, and this host where there is one; without one for each host of the project.
        user: Whose stream it is: ``c.user`` is loaded anew each time. A new password, deactivation and deletion end it. ``None``,
            or nobody who is signed in: for whoever has the address.
        method: The one method that it is for; ``GET`` brings ``HEAD``.
        max_age: Seconds in which a stream can be opened with it, a day at most; ``AGENT_SSE["SIGNED_MAX_AGE"]`` where not given.
            A stream that is open stays open.

    Raises:
        ArgumentInvalid: Something else than an address, a user of the project that has been saved, a method, or seconds.
        ConfigurationError: ``AGENT_SSE["SIGNED_MAX_AGE"]`` is ``None``: no signed addresses are made or taken.
    """
    url = str(url) if isinstance(url, Promise) else url  # of reverse_lazy()
    longest = _longest()
    age = longest if max_age is None else max_age
    if isinstance(age, bool) or not isinstance(age, int) or not 1 <= age <= MOST_SIGNED_SECONDS:
        raise ArgumentInvalid(f"signed_url(max_age={max_age!r:.40}): a whole number of seconds, from 1 to {MOST_SIGNED_SECONDS}")
    if not isinstance(method, str) or not method.isalpha() or not method.isascii():
        raise ArgumentInvalid(f"signed_url(method={method!r:.40}): one method, as 'GET'")
    canonical, separator = _canonical(url), "&" if "?" in str(url) else "?"
    pk, account = _account(user)
    payload = [int(time.time() * 1_000_000), age, pk, account, _host(url)]
    signature = _signer(canonical, method.upper()).sign_object(payload)
    return f"{url}{separator}{PARAMETER}={signature}"


async def signed_required(c: Context) -> bool | HttpResponseBase:
    """Let in who comes with an address that ``signed_url()`` made, and nobody else; 401 for everybody else.

    ``c.user`` is then the user whom it was made for, and the guards after this one are asked about that user.
    """
    return await _admitted(c) or _refused(c, "missing")


async def signature_allowed(c: Context) -> bool | HttpResponseBase:
    """Take a signed address where there is one, and else leave it to the other guards: what the option ``signed`` asks first."""
    return await _admitted(c) or True


def revoke_signed_urls(*, user: Any = None, url: str | None = None) -> None:
    """Take back signed addresses that are out: those of a user, those for an address, or those of a user for an address.

    What is signed from now on is good. Every process heeds it, from the next use on, and asks the guards of streams that are
    open: those that such an address has opened end within seconds, as ``revoked``.

    Args:
        user: Whose.
        url: For which path and query, as ``signed_url()`` got it, or as it returned it.

    Raises:
        ArgumentInvalid: Neither was given, or what was is none.
        EventLogError: The event log, where it is kept, cannot be written.
        AsyncRequired: An event loop runs here: await ``arevoke_signed_urls()``.
    """
    refuse_on_a_loop("revoke_signed_urls")
    _revoke(_revoked_key(user, url), user)


async def arevoke_signed_urls(*, user: Any = None, url: str | None = None) -> None:
    """See ``revoke_signed_urls``."""
    key = _revoked_key(user, url)
    await where_called(lambda: _revoke(key, user), writers)


def _revoke(key: str, user: Any) -> None:
    log_to_publish_to().append(REVOCATIONS, revocations.event_of(key, time.time()))
    # Whose the streams of an address for anybody are, nobody knows.
    tell_at_commit(Recheck(everybody=True) if user is None else Recheck(users=frozenset({user_text(user)})))


def hide_signature(request: ASGIRequest) -> None:
    """Take the signature off the query, where error pages, logs, error tracking and servers would find it, and keep it aside."""
    scope: Any = request.scope
    signature = scope.pop(IN_SCOPE, None)  # of ``asgi.wrap()``, before there was a request
    if signature is None:
        query, signature = _without_signature(request.META.get("QUERY_STRING", ""))
        if signature is None:
            return
        request.META["QUERY_STRING"] = query
        scope["query_string"] = query.encode()  # of which servers make their line of the access log
        vars(request).pop("GET", None)
    vars(request)["_sse_signature"] = signature


def take_signature(scope: MutableMapping[str, Any]) -> dict[str, str]:
    """Take the signature off a server's own scope; return what the application's has instead."""
    sent: bytes | str = scope.get("query_string", b"")
    query, signature = _without_signature(sent if isinstance(sent, str) else sent.decode("latin-1"))
    if signature is None:
        return {}
    scope["query_string"] = query if isinstance(sent, str) else query.encode("latin-1")
    return {IN_SCOPE: signature}


class HideSignature(logging.Filter):
    """Takes signatures out of what a server logs of the address itself, and not of the ASGI scope: gunicorn's own workers do."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, without them. gunicorn gives the parts of a line as one mapping."""
        if isinstance(parts := record.args, MutableMapping):
            for name, value in parts.items():
                if isinstance(value, str) and PARAMETER in value:
                    parts[name] = " ".join(map(_without, value.split(" ")))
        return True


def _without(word: str) -> str:
    """Return an address, or a query alone, without the signature."""
    before, mark, query = word.rpartition("?")
    left = _without_signature(query)[0]
    return f"{before}{mark}{left}" if left else before


def _without_signature(query: str) -> tuple[str, str | None]:
    """Return a query without the signature, and the signature: ``""`` where there are several, ``None`` where there is none."""
    if PARAMETER not in query and "%" not in query:
        return query, None
    parts = query.split("&")
    found = [part for part in parts if unquote_plus(part.partition("=")[0]) == PARAMETER]
    if not found:
        return query, None
    signature = unquote_plus(found[0].partition("=")[2]) if len(found) == 1 else ""
    return "&".join(part for part in parts if part not in found), signature


# Making one


def _longest() -> int:
    longest: int | None = setting("SIGNED_MAX_AGE")
    if longest is None:
        raise ConfigurationError("AGENT_SSE['SIGNED_MAX_AGE'] is None, which switches signed addresses off; give it seconds")
    return longest


def _signer(canonical: str, method: str) -> signing.TimestampSigner:
    """Return what signs for one path, query and method, and nothing else: they are part of the key."""
    return signing.TimestampSigner(salt=f"django_agent_sse.signed_url\n{'GET' if method in _GET else method}\n{canonical}")


def _canonical(url: object) -> str:
    """Return the path and the query of an address, one text for all spellings of them."""
    if not isinstance(url, str):
        raise ArgumentInvalid(f"a signed address is made of one as reverse() returns it, not of {type(url).__name__}")
    try:
        _, _, path, query, fragment = urlsplit(url)
    except ValueError as error:
        raise ArgumentInvalid(f"{url!r:.80} is not an address: {error}") from error
    if not path.startswith("/") or fragment:
        raise ArgumentInvalid(f"{url!r:.80} is not an address with a whole path, as reverse() returns it, and no #fragment")
    return _place(unquote_plus(path.replace("+", "%2B")), query)


def _host(url: str) -> str:
    """Return the host of an address, as browsers send it; ``""`` where it has none."""
    try:
        return plain_host(punycode(urlsplit(url).netloc.rpartition("@")[2]))
    except UnicodeError as error:
        raise ArgumentInvalid(f"{url!r:.80} has a host that cannot be: {error}") from error


def _place(path: str, query: str) -> str:
    ours = (PARAMETER, QUERY_PARAMETER)
    pairs = sorted((name, value) for name, values in QueryDict(query).lists() if name not in ours for value in values)
    return f"{path}\n{pairs}"


def _account(user: Any) -> tuple[str | None, str]:
    """Return the primary key of a user as text, and a digest of what their sessions hang on."""
    if user is None or getattr(user, "is_authenticated", None) is False:
        return None, ""
    if not isinstance(user, _user_model()) or user.pk is None:
        raise ArgumentInvalid(
            f"user={type(user).__name__}: give a user of {settings.AUTH_USER_MODEL} that has been saved, or None for everybody"
        )
    return user._meta.pk.value_to_string(user), next(_hashes(user), "")


def _user_model() -> Any:
    if not apps.is_installed("django.contrib.auth"):
        raise ArgumentInvalid("there are no users without 'django.contrib.auth' in INSTALLED_APPS: leave user out")
    from django.contrib.auth import get_user_model  # imports the models of an app that not all have

    return get_user_model()


def _hashes(user: Any) -> Iterator[str]:
    """Yield digests of what a user's sessions hang on; by the present key, and by those that it is rotated from."""
    if hasattr(user, "get_session_auth_hash"):
        yield _digest(user.get_session_auth_hash())
    if hasattr(user, "get_session_auth_fallback_hash"):
        yield from map(_digest, user.get_session_auth_fallback_hash())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _key(user: str | None, url: str | None) -> str:
    return _digest(f"{user!r}\n{url!r}")


def _revoked_key(user: Any, url: str | None) -> str:
    pk = _account(user)[0]
    if pk is None and (url is None or user is not None):
        raise ArgumentInvalid("revoke_signed_urls() takes user=, one who is saved, url=, or both")
    return _key(pk, None if url is None else _canonical(url))


# Taking one


async def _admitted(c: Context) -> bool | HttpResponseBase:
    """Return ``True`` for a good signature, the refusal of a bad one, ``False`` where there is none.

    Raises:
        EventLogError: The log cannot be read: nobody knows what was revoked. A new stream is told to come back later, and an open
            one goes on for now, as with any guard that fails.
    """
    grant = vars(c.request).get("sse_grant") or _opened(c)
    if not isinstance(grant, Grant):
        return grant is not None and _refused(c, grant)
    await revocations.look()
    if revocations.holds(grant.keys, grant.at) or not await _load_user(c, grant):
        return _refused(c, "revoked")
    vars(c.request)["sse_grant"] = grant  # guards that are asked again find it there; the signature is too old by then
    return True


def _opened(c: Context) -> Grant | str | None:
    """Return what the request's signature grants, or the word of its refusal; ``None`` where there is none."""
    request = c.request
    signature: str | None = vars(request).pop("_sse_signature", None)
    if signature is None:
        return None
    place = _place(request.path, request.META.get("QUERY_STRING", ""))
    signer = _signer(place, request.method or "")
    try:
        _longest()
        at, age, user, account, host = signer.unsign_object(signature) if len(signature) <= LONGEST else (0, 0, None, "", "")
        # What the log forgets sooner may have been revoked.
        signer.unsign(signature, max_age=timedelta(seconds=min(age, event_log().limits.max_age)))
    except signing.SignatureExpired:
        return "expired"
    except (signing.BadSignature, ConfigurationError, TypeError, ValueError):
        return "invalid"
    if at / 1_000_000 > time.time() + CLOCKS_DIFFER or (host and host != plain_host(request.get_host())):
        return "invalid"
    return Grant(user=user, account=account, at=at / 1_000_000, url=place)


async def _load_user(c: Context, grant: Grant) -> bool:
    """Make ``c.user`` the user of a grant, as they are now; return whether they may still come in with it."""
    if grant.user is None:  # whose cookies come along is not asked
        c.user = None
        return True
    user = await sync_to_async(_user)(_user_model()._meta.pk.to_python(grant.user))
    if user is None or not getattr(user, "is_active", True):
        return False
    hashes = [*_hashes(user)] or [""]
    if not any(compare_digest(grant.account, own) for own in hashes):
        return False
    c.user = user
    return True


def _user(pk: Any) -> Any:
    """Return the user as the first back end that gives one; ``None``: nobody with this key may sign in any more.

    Where no back end gives users, since they sign in elsewhere, the model does.
    """
    from django.contrib.auth import get_backends  # imports models
    from django.contrib.auth.backends import BaseBackend

    gives = [one for one in get_backends() if getattr(type(one), "get_user", None) not in (None, BaseBackend.get_user)]
    if not gives:
        return _user_model()._default_manager.filter(pk=pk).first()
    return next((user for user in (backend.get_user(pk) for backend in gives) if user is not None), None)


def _refused(c: Context, reason: str) -> HttpResponse:
    body = error_body(401, _REFUSALS[reason], reason=reason)
    return c.json(body, status=401, headers={"WWW-Authenticate": CHALLENGE})
