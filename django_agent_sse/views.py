"""The class form of a route, and what every route goes through before its handler."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.apps import apps
from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string
from django.views import View

from . import conf
from .conf import Count, CountOrNone, MillisecondsOrNone, OnDisconnect, Origins, Seconds, SecondsOrNone, Switch, SwitchOrNone
from .cross_origin import CrossOrigin
from .exceptions import ConfigurationError, RouteError
from .guards import Guard, as_tuple, check_guards, login_required
from .middleware import build_chain
from .signed_urls import hide_signature
from .stream_calls import StreamCall, turn_away, wants_control
from .streams.admission import Arrival, arrive
from .streams.callbacks import contained, ends_process
from .streams.context import Context, route_of
from .streams.error_responses import answer_error, error_response, wants_html, wsgi_response
from .streams.handlers import HandlerSignature
from .streams.options import NAMES, StreamOptions
from .streams.reporting import ErrorStreak, OnError


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
    recheck: SecondsOrNone = UNSET
    cache: str = UNSET
    origins: Origins = UNSET
    allow_credentials: Switch = UNSET
    compress: SwitchOrNone = UNSET
    control_events: SwitchOrNone = UNSET
    final_on_error: Switch = UNSET
    slim: Switch = UNSET
    pinned: Switch = UNSET
    signed: Switch = UNSET
    max_streams: CountOrNone = UNSET

    serves_drained: ClassVar[bool] = False
    """Whether a process that is being drained accepts streams of this view all the same, as those of the monitor."""
    for_operators: ClassVar[bool] = False
    """Whether streams of this view begin also where the process has as many as ``AGENT_SSE["LIMITS"]`` lets it."""
    answers_head: ClassVar[bool] = False
    """Whether HEAD is answered as GET is, but for the stream: the handler says whether there is one, and its headers."""
    opens_in_tab: ClassVar[bool] = False
    """Whether a link on a page of any origin may lead here, as to a text that is shown in a tab of its own."""
    _endpoint: ClassVar[RouteEndpoint | None] = None
    """What ``as_view()`` worked out; not for use."""

    handle: Callable[..., Any]
    """The handler: ``async (self, c, stream, **url_kwargs)``, or any other shape that a router takes."""

    async def authorize(self, c: Context) -> bool | HttpResponseBase:
        """One more guard, after ``guards``."""
        return True

    def _takes_place(self, request: HttpRequest) -> bool:
        """Whether a request is for a stream: it is counted as one, and a process that ends sends it elsewhere."""
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
        self._read: tuple[Mapping[str, Any], StreamOptions, CrossOrigin | None] | None = None
        with contextlib.suppress(ConfigurationError):  # no fault of the route: `manage.py check` says it, and every request
            self.options()

    def add_origin_headers(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Put on an answer what the route says to pages of other origins."""
        others = self._in_force()[2]
        return response if others is None else others.add_headers(request, response)

    def options(self) -> StreamOptions:
        """Return the options in force; they are read again when the settings change."""
        return self._in_force()[1]

    def _in_force(self) -> tuple[Mapping[str, Any], StreamOptions, CrossOrigin | None]:
        current = conf.current()
        if self._read is None or self._read[0] is not current:
            options = StreamOptions.of(self._given)
            self._read = current, options, CrossOrigin.of(options)
        return self._read

    async def answer(self, view: SSEView, request: HttpRequest, kwargs: Mapping[str, Any]) -> HttpResponseBase:
        """Answer one request: middleware, guards, and then the stream."""
        if not isinstance(request, ASGIRequest):  # under WSGI nobody would tell of a disconnect, and each stream takes a worker
            return wsgi_response(request)
        hide_signature(request)
        others: CrossOrigin | None = None
        try:
            _, options, others = self._in_force()
            response = await self._received(view, request, kwargs, options, others)
        except Exception as error:
            if settings.DEBUG_PROPAGATE_EXCEPTIONS or (wants_html(request) and not (others and others.lists)):
                raise
            response = await answer_error(request, error)
        return response if others is None else others.add_headers(request, response)

    async def _received(
        self, view: SSEView, request: ASGIRequest, kwargs: Mapping[str, Any], options: StreamOptions, others: CrossOrigin | None
    ) -> HttpResponseBase:
        arrival = await arrive(request.scope)
        try:
            if arrival.refusal is not None:  # nobody is asked who it is
                return turn_away(route_of(request), arrival.refusal, control=wants_control(request, options))
            instead = others and others.answer(request, self._middleware, self.methods, page=view.opens_in_tab)
            return instead or await self._through_middleware(view, request, kwargs, arrival)
        finally:
            arrival.known()

    async def _through_middleware(
        self, view: SSEView, request: HttpRequest, kwargs: Mapping[str, Any], arrival: Arrival
    ) -> HttpResponseBase:
        if not self._middleware:
            return await self._answer(view, request, kwargs, arrival)
        # The chain is built once for the route and hands on a request alone, so the request carries what belongs to this call.
        request.sse_call = (view, kwargs, arrival)  # type: ignore[attr-defined]
        return await self._chain(request)

    @functools.cached_property
    def _chain(self) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
        async def inner(request: HttpRequest) -> HttpResponseBase:
            view, kwargs, arrival = request.sse_call  # type: ignore[attr-defined]
            return await self._answer(view, request, kwargs, arrival)

        return build_chain(inner, self._middleware)

    async def _answer(self, view: SSEView, request: HttpRequest, kwargs: Mapping[str, Any], arrival: Arrival) -> HttpResponseBase:
        if request.method == "OPTIONS":
            return HttpResponse(headers={"Allow": ", ".join(self.methods)})
        if request.method not in self.methods:
            allow = ", ".join(self.methods)
            return error_response(405, f"{request.method} is not one of this route's methods: {allow}", {"Allow": allow})
        if settings.SESSION_SAVE_EVERY_REQUEST and request.method in ("GET", "HEAD"):
            _leave_session(request)
        return await StreamCall(self, view, request, kwargs, arrival).answer()

    def guards_of(self, view: SSEView) -> tuple[Guard, ...]:
        """Return what is asked before a stream of this route begins, in order."""
        guards = self.guards if type(view).authorize is SSEView.authorize else (*self.guards, view.authorize)
        if not self._public and requires_login((*settings.MIDDLEWARE, *self._middleware)):
            guards = (login_required, *guards)
        return guards


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
    """Let a request that a script makes by itself, for as long as a page is open, not put off the end of an idle session.

    What somebody has changed in the session is saved all the same.
    """
    session = getattr(request, "session", None)
    if session is None:
        return
    held = weakref.ref(session)  # it must not keep itself

    def save(must_create: bool = False) -> None:
        if (session := held()) is not None and (must_create or session.modified):
            type(session).save(session, must_create)

    session.save = save
