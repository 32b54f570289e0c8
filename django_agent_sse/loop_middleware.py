"""Django's own middleware on the event loop, wherever it has nothing to wait for.

Under ASGI Django runs ``process_request()``, ``process_view()`` and ``process_response()`` of every middleware on the request's
thread, since it cannot know what they do: with its default middleware that is thirteen changes of thread a request, for methods
that look at a header or a cookie. Of the classes listed here it is known what they do, and when. What may wait (a session
that is saved, a body that is parsed, a URL that is looked up, a view of errors) keeps the thread, and so does every class that is
derived from these or was patched, and every other one.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SESSIONS = "django.contrib.sessions.backends."
_CACHED_SESSIONS = frozenset({f"{_SESSIONS}cache", f"{_SESSIONS}cached_db"})
_OTHER_SESSIONS = frozenset({f"{_SESSIONS}db", f"{_SESSIONS}signed_cookies"})
_CACHES = "django.core.cache.backends."
_MESSAGES = "django.contrib.messages.storage."
_SIGNER = "django.core.signing.TimestampSigner"


def run_on_loop(handler: ASGIHandler) -> None:
    """Let this handler call the middleware that is listed here without a thread, in each case in which it does no I/O.

    Behind a middleware that does not have its ``get_response`` under that name, all keep their thread.
    """
    quick: dict[int, _Case] = {}
    for middleware in _chain(handler):
        if (case := _case(middleware)) is not None:
            quick[id(middleware)] = case
            # Where MiddlewareMixin.__call__() finds it before the class's own.
            middleware.__acall__ = _Call(middleware, case)
    views: Any = handler._view_middleware  # type: ignore[attr-defined]
    for number, on_thread in enumerate(views):
        if case := quick.get(id(getattr(on_thread, "__self__", None))):
            views[number] = _View(on_thread, case)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """When the methods of one middleware class do no I/O. Each is asked with what the method itself is called with."""

    request: Callable[[Any, HttpRequest], bool] = lambda middleware, request: True
    view: Callable[[Any, HttpRequest, Any], bool] = lambda middleware, request, view: True
    response: Callable[[Any, HttpRequest, HttpResponseBase], bool] = lambda middleware, request, response: True


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """``MiddlewareMixin.__acall__()``, but for the threads."""

    _middleware: Any
    _case: _Case

    async def __call__(self, request: HttpRequest) -> Any:
        middleware, case = self._middleware, self._case
        response: Any = None
        if hasattr(middleware, "process_request"):
            process = middleware.process_request
            response = process(request) if case.request(middleware, request) else await sync_to_async(process)(request)
        response = response or await middleware.get_response(request)
        if hasattr(middleware, "process_response"):
            process = middleware.process_response
            on_loop = case.response(middleware, request, response)
            response = process(request, response) if on_loop else await sync_to_async(process)(request, response)
        return response


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """One of the handler's calls of ``process_view()``, of which Django has made an async one."""

    _on_thread: Any
    _case: _Case

    async def __call__(self, request: HttpRequest, view: Any, *arguments: Any) -> Any:
        middleware = self._on_thread.__self__
        if self._case.view(middleware, request, view):
            return middleware.process_view(request, view, *arguments)
        return await self._on_thread(request, view, *arguments)


def _chain(handler: ASGIHandler) -> Iterator[Any]:
    """The handler's middleware from the outside, as far as it can be seen."""
    step: Any = handler._middleware_chain  # type: ignore[attr-defined]
    while step is not None:
        if isinstance(step, MiddlewareMixin):
            yield step
        step = _next(step)


def _next(step: Any) -> Any:
    """What is inside a handler that Django has wrapped, or behind a middleware."""
    for name in ("__wrapped__", "awaitable", "get_response"):
        if (inner := getattr(step, name, None)) is not None:
            return inner
    return inspect.getclosurevars(step).nonlocals.get("get_response") if inspect.isfunction(step) else None


def _case(middleware: object) -> _Case | None:
    kind = type(middleware)
    case = _CASES.get(f"{kind.__module__}.{kind.__qualname__}")
    return case if all(map(_as_defined, kind.__mro__[:-1])) else None


def _as_defined(kind: type) -> bool:
    """Whether the methods of a class are those of its module; what a tool has put in their place may do anything."""
    module = vars(sys.modules[kind.__module__])
    methods = [method for method in vars(kind).values() if callable(method) and not isinstance(method, type)]
    return all(type(method) is FunctionType and method.__globals__ is module for method in methods)


# The cases


def _makes_session(middleware: Any, request: HttpRequest) -> bool:
    engine = middleware.SessionStore.__module__
    if engine in _CACHED_SESSIONS:
        return bool(settings.CACHES[settings.SESSION_CACHE_ALIAS]["BACKEND"].startswith(_CACHES))
    return engine in _OTHER_SESSIONS


def _saves_no_session(middleware: Any, request: HttpRequest, response: HttpResponseBase) -> bool:
    session: Any = getattr(request, "session", None)
    known = type(session).__module__ in _CACHED_SESSIONS | _OTHER_SESSIONS
    return known and not session.modified and not settings.SESSION_SAVE_EVERY_REQUEST


def _checks_no_token(middleware: Any, request: HttpRequest, view: Any) -> bool:
    return request.method in _SAFE_METHODS or getattr(view, "csrf_exempt", False)


def _no_token_in_session(*about: object) -> bool:
    return not settings.CSRF_USE_SESSIONS


def _makes_messages(middleware: Any, request: HttpRequest) -> bool:
    return bool(settings.MESSAGE_STORAGE.startswith(_MESSAGES)) and settings.SIGNING_BACKEND == _SIGNER


def _touched_no_messages(middleware: Any, request: HttpRequest, response: HttpResponseBase) -> bool:
    storage: Any = getattr(request, "_messages", None)
    return type(storage).__module__.startswith(_MESSAGES) and not storage.used and not storage.added_new


_CASES = {
    "django.middleware.security.SecurityMiddleware": _Case(),
    "django.contrib.sessions.middleware.SessionMiddleware": _Case(request=_makes_session, response=_saves_no_session),
    "django.middleware.common.CommonMiddleware": _Case(
        request=lambda middleware, request: not settings.PREPEND_WWW,  # else it looks for the URL
        response=lambda middleware, request, response: response.status_code != 404,  # there too
    ),
    "django.middleware.csrf.CsrfViewMiddleware": _Case(
        request=_no_token_in_session, view=_checks_no_token, response=_no_token_in_session
    ),
    "django.contrib.auth.middleware.AuthenticationMiddleware": _Case(),  # the user is asked for when somebody needs it
    "django.contrib.messages.middleware.MessageMiddleware": _Case(request=_makes_messages, response=_touched_no_messages),
    "django.middleware.clickjacking.XFrameOptionsMiddleware": _Case(),
}
