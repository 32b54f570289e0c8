"""The class form of a route, and what every route goes through before its handler."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.apps import apps
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string
from django.views import View

from . import conf
from .conf import Count, MillisecondsOrNone, OnDisconnect, Seconds, SecondsOrNone
from .eventlog.outage import outage
from .exceptions import (
    ConfigurationError,
    EventLogUnavailable,
    KVKeyInvalid,
    PositionGone,
    QueryInvalid,
    RequestBodyError,
    RouteError,
    RunNotFound,
    TooManyThreads,
    TopicNameInvalid,
)
from .guards import Guard, as_tuple, check_guards, login_required, run_guards
from .middleware import build_chain
from .runtime.safe_text import printable
from .streams.callbacks import contained, ends_process
from .streams.context import Context
from .streams.counters import Refusal, counters
from .streams.error_responses import answer_error, error_body, error_response, wants_html, wsgi_response
from .streams.handlers import HandlerSignature
from .streams.options import NAMES, StreamOptions, Switch, SwitchOrNone
from .streams.registry import registry
from .streams.reporting import ErrorStreak, OnError
from .streams.response import SSEResponse, add_session_tag, ended_response, head_response, names_event_stream, overloaded_response
from .streams.stream import Stream
from .streams.supervisor import Supervisor
from .streams.transport import Transport

logger = logging.getLogger("django_agent_sse.stream")

NAMES_NOBODY_HAS = (TopicNameInvalid, KVKeyInvalid)
"""Errors about names that cannot exist: answered with 404, as for one that does not, since most likely the client named it."""
UNREADABLE = "the event log cannot be read now"
CHECK_HEADER = "Agent-SSE-Check"
"""A request with it only asks whether its user may still see a stream, as the viewer does at times."""
"""All that a client is told: the reason, which may name addresses, is in the project's log."""


class _Unset:
    """The value of an option of a view that was not set: the project's value holds."""

    def __repr__(self) -> str:
        return "<the project's setting>"


UNSET: Any = _Unset()


class SSEView(View):
    """A stream as a class: override ``handle``, and ``authorize`` where the class itself decides who may.

    Every attribute can also be given to ``as_view()``. Options not set are those of ``AGENT_SSE``; for their meaning and units
    see ``StreamOptions``. One instance answers one request.

    Attributes:
        guards: Asked in order before anything is sent.
        middleware: Ordinary Django middleware around this route only, classes or dotted paths, outermost first.
        methods: The HTTP methods; GET brings HEAD, and OPTIONS is always answered.
        csrf_exempt: Let non-browser clients POST without a CSRF token.
        on_error: ``(c, stream, exception)``, sync or async, after the handler failed; may write a last event.
    """

    guards: Sequence[Guard] = ()
    middleware: Sequence[str | Callable[..., Any]] = ()
    methods: Collection[str] = ("GET",)
    csrf_exempt: bool = False
    on_error: OnError | None = None

    heartbeat: SecondsOrNone = UNSET
    retry: MillisecondsOrNone = UNSET
    max_duration: SecondsOrNone = UNSET
    on_disconnect: OnDisconnect = UNSET
    buffer_bytes: Count = UNSET
    buffer_events: Count = UNSET
    send_timeout: SecondsOrNone = UNSET
    commit_after: Seconds = UNSET
    close_grace: Seconds = UNSET
    cache: str = UNSET
    control_events: SwitchOrNone = UNSET
    final_on_error: Switch = UNSET
    slim: Switch = UNSET
    pinned: Switch = UNSET

    serves_drained: ClassVar[bool] = False
    """Whether a process that is being drained accepts streams of this view all the same, as those of the monitor."""
    answers_head: ClassVar[bool] = False
    """Whether HEAD is answered as GET is, but for the stream: the handler says whether there is one, and its headers."""
    _endpoint: ClassVar[RouteEndpoint | None] = None
    """What ``as_view()`` worked out; not for use."""

    handle: Callable[..., Any]
    """The handler: ``async (self, c, stream, **url_kwargs)``, or any other shape that a router takes."""

    async def authorize(self, c: Context) -> bool | HttpResponseBase:
        """One more guard, after ``guards``."""
        return True

    def _wrap_response(self, response: HttpResponseBase) -> HttpResponseBase:
        """Return what is sent instead of the response of a stream, and of that to HEAD: a view may send another form of it."""
        return response

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., Any]:
        """Return the view for a URLconf.

        Raises:
            RouteError: A handler, guard, method or option that a route cannot take.
        """
        endpoint = RouteEndpoint(cls(**initkwargs))
        view = super().as_view(**initkwargs, _endpoint=endpoint)
        markcoroutinefunction(view)
        if endpoint.csrf_exempt:
            view.csrf_exempt = True  # type: ignore[attr-defined]
        view.login_required = False  # type: ignore[attr-defined]  # asked here: an EventSource cannot use a redirect to a login page
        for alias in connections:  # Django refuses async views under ATOMIC_REQUESTS
            transaction.non_atomic_requests(using=alias)(view)
        return view

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        assert self._endpoint is not None, "use as_view()"
        task = asyncio.current_task()
        try:
            return await self._endpoint.answer(self, request, kwargs)
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as error:
            if ends_process(error, task):
                raise
            raise contained(error, f"a guard, factory or middleware of {request.path}") from error


class RouteEndpoint:
    """A route, checked: what is the same for each of its requests."""

    def __init__(self, view: SSEView) -> None:
        handle = getattr(view, "handle", None)
        if handle is None:
            raise RouteError(f"{type(view).__name__} has no handler; write `async def handle(self, c, stream, …)`")
        if not iscoroutinefunction(view.authorize):
            raise RouteError(f"{type(view).__name__}.authorize must be async: write `async def authorize(self, c)`")
        self.shape: HandlerSignature = getattr(handle, "sse_signature", None) or HandlerSignature(handle)
        if inspect.ismethod(handle):  # a router looks at a function itself: it knows what the URL captures
            self.shape.check_early(frozenset())
        self.methods = checked_methods(view.methods)
        self.csrf_exempt = view.csrf_exempt
        self.guards = check_guards(view.guards)
        self.streak = ErrorStreak()
        self._public = getattr(handle, "login_required", getattr(view.dispatch, "login_required", True)) is False
        self._middleware = as_tuple("middleware", view.middleware)
        if view.on_error is not None and not callable(view.on_error):
            raise RouteError(f"on_error is called with (c, stream, exception); {view.on_error!r} is not callable")
        self._given = {name: value for name in NAMES if (value := getattr(view, name)) is not UNSET}
        self._read: tuple[Mapping[str, Any], StreamOptions] | None = None
        with contextlib.suppress(ConfigurationError):  # no fault of the route: `manage.py check` says it, and every request
            self.options()

    def options(self) -> StreamOptions:
        """Return the options in force; they are read again when the settings change."""
        current = conf.current()
        if self._read is None or self._read[0] is not current:
            self._read = current, StreamOptions.of(self._given)
        return self._read[1]

    async def answer(self, view: SSEView, request: HttpRequest, kwargs: Mapping[str, Any]) -> HttpResponseBase:
        """Answer one request: middleware, guards, and then the stream."""
        if not isinstance(request, ASGIRequest):  # under WSGI nobody would tell of a disconnect, and each stream takes a worker
            return wsgi_response(request)
        if not self._middleware:
            try:
                return await self._answer(view, request, kwargs)
            except Exception as error:
                if wants_html(request) or settings.DEBUG_PROPAGATE_EXCEPTIONS:
                    raise
                return await answer_error(request, error)
        # The chain is built once for the route and hands on a request alone, so the request carries what belongs to this call.
        request.sse_call = (view, kwargs)  # type: ignore[attr-defined]
        return await self._chain(request)

    @functools.cached_property
    def _chain(self) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
        async def inner(request: HttpRequest) -> HttpResponseBase:
            view, kwargs = request.sse_call  # type: ignore[attr-defined]
            return await self._answer(view, request, kwargs)

        return build_chain(inner, self._middleware)

    async def _answer(self, view: SSEView, request: HttpRequest, kwargs: Mapping[str, Any]) -> HttpResponseBase:
        if request.method == "OPTIONS":
            return HttpResponse(headers={"Allow": ", ".join(self.methods)})
        if request.method not in self.methods:
            allow = ", ".join(self.methods)
            return error_response(405, f"{request.method} is not one of this route's methods: {allow}", {"Allow": allow})
        if CHECK_HEADER in request.headers:
            _leave_session(request)
        options = self.options()
        match = request.resolver_match
        c = Context(request, kwargs, route=match.route if match else printable(request.path), cache=options.cache)
        try:
            response = await self._stream(view, c, options, kwargs)
        except (RequestBodyError, QueryInvalid) as error:
            return c.json(error_body(error.status, str(error)), status=error.status)
        except RunNotFound as error:
            raise Http404(str(error)) from error
        except NAMES_NOBODY_HAS as error:  # most likely of what the client sent; the log tells who wrote it himself
            logger.warning("%s is answered with 404: %s", c.route, error, extra={"route": c.route})
            raise Http404(str(error)) from error
        add_session_tag(response, c)
        c.apply_headers(response)
        return response

    async def _stream(self, view: SSEView, c: Context, options: StreamOptions, kwargs: Mapping[str, Any]) -> HttpResponseBase:
        request: ASGIRequest = c.request  # type: ignore[assignment]
        await c.load_user()
        guards = self.guards if type(view).authorize is SSEView.authorize else (*self.guards, view.authorize)
        if not self._public and requires_login((*settings.MIDDLEWARE, *self._middleware)):
            guards = (login_required, *guards)
        # The order is the contract: who may not see the stream learns nothing of it, neither by HEAD nor by whether it has ended.
        refusal = await run_guards(guards, c)
        if refusal is not None:
            counters.refused(c.route, Refusal.GUARD, str(refusal.status_code))
            return refusal
        if request.method == "HEAD" and not view.answers_head:
            return view._wrap_response(head_response())
        if c.ended:  # 204: the client came back after the last event, and only that stops an EventSource for good
            return ended_response()
        control = names_event_stream(c) if options.control_events is None else options.control_events
        if registry.draining and not view.serves_drained:
            return self._overloaded(c.route, control, "this server is being drained")
        handler = await self.shape.prepare(c, kwargs, view.handle)
        if isinstance(handler, HttpResponseBase):
            return handler
        if request.method == "HEAD":
            return view._wrap_response(head_response())
        supervisor = Supervisor(c, options, self.streak, control, view.on_error)
        opened = await self._open(supervisor, handler, c, control)
        if isinstance(opened, Transport):
            return view._wrap_response(SSEResponse(opened, slim=c if options.slim else None))
        return opened

    async def _open(
        self, supervisor: Supervisor, handler: Callable[[Stream], Awaitable[object]], c: Context, control: bool
    ) -> Transport | HttpResponseBase:
        try:
            return await supervisor.begin(handler)
        except TooManyThreads as error:
            return self._overloaded(c.route, control, str(error))
        except PositionGone as error:
            counters.refused(c.route, Refusal.GONE, error.reason)
            return c.json(error_body(410, str(error), reason=error.reason), status=410)
        except EventLogUnavailable as error:
            outage.failed(error, ())
            return self._overloaded(c.route, control, UNREADABLE)
        except (Http404, *NAMES_NOBODY_HAS):
            counters.refused(c.route, Refusal.NOT_FOUND)
            raise
        except Exception as error:
            counters.refused(c.route, Refusal.ERROR, type(error).__name__)
            raise

    def _overloaded(self, route: str, control: bool, reason: str) -> HttpResponse:
        counters.refused(route, Refusal.OVERLOADED)
        return overloaded_response(control, reason)


def checked_methods(methods: Collection[str]) -> tuple[str, ...]:
    """Return a route's methods in capitals, with those that come along; ``RouteError`` where they are not a list of names."""
    wrong = isinstance(methods, str | bytes | Mapping) or not isinstance(methods, Collection) or not methods
    if wrong or not all(isinstance(method, str) and method.isalpha() for method in methods):
        raise RouteError(f"methods must be a list such as ['GET', 'POST'], not {methods!r}")
    upper = [method.upper() for method in methods]
    return tuple(dict.fromkeys([*upper, *(["HEAD"] if "GET" in upper else []), "OPTIONS"]))


@functools.cache
def requires_login(middleware: tuple[str | Callable[..., Any], ...]) -> bool:
    """Return whether ``LoginRequiredMiddleware`` is among these: a stream that is not public then answers 401 itself."""
    if not apps.is_installed("django.contrib.auth"):
        return False
    from django.contrib.auth.middleware import LoginRequiredMiddleware  # imports the models of an app that not all have

    factories = (import_string(entry) if isinstance(entry, str) else entry for entry in middleware)
    return any(isinstance(factory, type) and issubclass(factory, LoginRequiredMiddleware) for factory in factories)


def _leave_session(request: HttpRequest) -> None:
    """Let a request that only asks whether its user may still see a stream not count as activity.

    With ``SESSION_SAVE_EVERY_REQUEST`` it would put off the end of a session for as long as a page is open.
    """
    session = getattr(request, "session", None)
    if session is not None:
        session.save = lambda must_create=False: None
