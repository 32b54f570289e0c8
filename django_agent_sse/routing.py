"""``router.sse()``: handlers become URLconf entries."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Concatenate, TypeAlias, TypeVar, Unpack, overload

from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, include, path

from .exceptions import RouteError
from .guards import Guard, as_tuple
from .log_steps import LogSteps, steps_views
from .logs import LogTopicName, log_views, part_of_log
from .run_views import R, RunDecorator, RunKeywords, path_of, run_entries
from .streams.context import Context
from .streams.handlers import HandlerSignature, topic_handler
from .streams.options import StreamKeywords, check_names
from .streams.reporting import OnError
from .streams.stream import Stream
from .streams.topic_source import Filter, Map
from .topics.follower import Start
from .topics.reading import Fold
from .views import UNSET, SSEView

_Items: TypeAlias = AsyncIterator[object] | Iterator[object]
Made: TypeAlias = Callable[[Stream], Awaitable[object] | _Items] | _Items | HttpResponseBase
"""What a factory returns: a handler of the stream, what is sent, or an answer instead of a stream."""
RouteHandler: TypeAlias = (
    Callable[Concatenate[Context, Stream, ...], Awaitable[object]]
    | Callable[Concatenate[Context, ...], Made | Awaitable[Made]]
    | type[SSEView]
)
"""What ``router.sse()`` serves: ``async (c, stream, …)``; a factory or a generator ``(c, …)``; a view."""
H = TypeVar("H", bound=RouteHandler)


class RouteKeywords(StreamKeywords, total=False):
    """The keyword arguments of ``router.topic()`` and ``router.log()`` that are those of ``router.sse()``."""

    methods: Collection[str] | None
    guards: Sequence[Guard]
    middleware: Sequence[str | Callable[..., Any]]
    csrf_exempt: bool
    on_error: OnError | None


_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")
_COLON_PARAMETER = re.compile(r"(?:^|/):(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Defaults:
    """The defaults of a router for all its routes."""

    guards: tuple[Any, ...] = ()
    middleware: tuple[Any, ...] = ()
    on_error: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def over(self, outer: _Defaults) -> _Defaults:
        """Return these defaults inside an outer router's, whose guards and middleware come first and whose options yield."""
        return _Defaults(
            guards=(*outer.guards, *self.guards),
            middleware=(*outer.middleware, *self.middleware),
            on_error=self.on_error or outer.on_error,
            options={**outer.options, **self.options},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    path: str
    name: str
    view: type[SSEView]
    methods: Collection[str] | None
    csrf_exempt: bool
    own: _Defaults

    def pattern(self, router: _Defaults) -> URLPattern:
        """Return the URL pattern. The route's options hold before its view's, and those before the router's."""
        view, own = self.view, self.own
        # A router's options are defaults: what the view's class says is nearer to the stream.
        options = {name: value for name, value in router.options.items() if getattr(view, name) is UNSET}
        on_error = own.on_error or (router.on_error if view.on_error is None else None)
        about = {"methods": self.methods, "on_error": on_error, "csrf_exempt": self.csrf_exempt or None}
        made = view.as_view(
            guards=(*router.guards, *own.guards, *as_tuple("guards", view.guards)),
            middleware=(*router.middleware, *own.middleware, *as_tuple("middleware", view.middleware)),
            **{name: value for name, value in about.items() if value is not None},
            **{**options, **own.options},
        )
        return path(self.path, made, name=self.name)


class Router:
    """Collects routes; ``path("api/", include(router.urls))`` serves them.

    Args:
        app_name: The URL namespace of the routes, for ``reverse("app_name:name")``.
        guards: Asked before each route's own.
        middleware: Around each route, outside its own.
        on_error: For routes that have none.
        options: Defaults for the options of ``StreamOptions``.

    Raises:
        RouteError: An option that does not exist.
    """

    def __init__(
        self,
        app_name: str | None = None,
        *,
        guards: Sequence[Guard] = (),
        middleware: Sequence[str | Callable[..., Any]] = (),
        on_error: OnError | None = None,
        **options: Unpack[StreamKeywords],
    ) -> None:
        check_names(options)
        self.app_name = app_name
        self._defaults = _Defaults(
            guards=as_tuple("guards", guards), middleware=as_tuple("middleware", middleware), on_error=on_error, options=options
        )
        self._entries: list[_Route | tuple[str, Router]] = []

    @overload
    def sse(
        self, path: str, *, name: str | None = None, resumable: bool = False, **options: Unpack[RouteKeywords]
    ) -> Callable[[H], H]: ...
    @overload
    def sse(
        self,
        path: str,
        *guards_and_handler: *tuple[*tuple[Guard, ...], H],
        name: str | None = None,
        resumable: bool = False,
        **options: Unpack[RouteKeywords],
    ) -> H: ...
    def sse(  # type: ignore[misc]  # mypy does not see that *Any takes a tuple whose last item differs from the others
        self,
        path: str,
        *guards_and_handler: Any,
        name: str | None = None,
        methods: Collection[str] | None = None,
        guards: Sequence[Guard] = (),
        middleware: Sequence[str | Callable[..., Any]] = (),
        csrf_exempt: bool = False,
        on_error: OnError | None = None,
        resumable: bool = False,
        **options: Unpack[StreamKeywords],
    ) -> Any:
        """Serve a handler as a stream: as a decorator, or as a call ``sse(path, guard, …, handler)``.

        Args:
            path: As for Django's ``path()``; a leading slash is dropped.
            guards_and_handler: In the call form any number of guards, then the handler or an ``SSEView``.
            name: For ``reverse()``; the handler's own name where not given.
            methods: The HTTP methods; GET where not given, and where a view does not say otherwise.
            guards: Asked in order before the handler, after the router's.
            middleware: Ordinary Django middleware around this route, outermost first.
            csrf_exempt: Let non-browser clients POST without a CSRF token.
            on_error: ``(c, stream, exception)`` after the handler failed.
            resumable: The handler runs once for each client and URL, whatever becomes of connections, and its events are kept: a
                client that comes back goes on where it was. See ``run``.
            options: Any of ``StreamOptions``.

        Returns:
            The handler, unchanged; or, without one, a decorator that returns it.

        Raises:
            RouteError: At import, for what a route cannot take.
        """
        check_names(options)
        path = _checked_path(path)
        if resumable:
            about: Any = {"methods": methods, "guards": guards, "middleware": middleware, "csrf_exempt": csrf_exempt, **options}
            return self._run(path, guards_and_handler, name=name, resumable=True, on_error=on_error, **about)

        def add(handler: Any, *positional_guards: Any) -> Any:
            view = handler if isinstance(handler, type) and issubclass(handler, SSEView) else _view_of(handler)
            own = _Defaults(
                guards=(*positional_guards, *as_tuple("guards", guards)),
                middleware=as_tuple("middleware", middleware),
                on_error=on_error,
                options=options,
            )
            called = name or _name_of(handler)
            route = _Route(path=path, name=called, view=view, methods=methods, csrf_exempt=csrf_exempt, own=own)
            pattern = route.pattern(self._defaults)  # whatever is wrong is said here, where the route is written
            if not isinstance(handler, type):
                HandlerSignature(handler).check_early(frozenset(pattern.pattern.converters))
            self._entries.append(route)
            return handler

        if not guards_and_handler:
            return add
        *positional, handler = guards_and_handler
        return add(handler, *positional)

    @overload
    def run(self, path: str, *, name: str | None = None, **about: Unpack[RunKeywords]) -> RunDecorator: ...
    @overload
    def run(
        self, path: str, *guards_and_handler: *tuple[*tuple[Guard, ...], R], name: str | None = None, **about: Unpack[RunKeywords]
    ) -> R: ...
    def run(self, path: str, *guards_and_handler: Any, name: str | None = None, **about: Any) -> Any:  # type: ignore[misc]
        """Serve code as runs that outlive their readers: ``async (c, run, …)``, a plain function, a factory or a generator.

        POST starts one and answers with its stream, or with 202 and ``Location`` where ``Prefer: respond-async`` asks for it. GET
        sends what the client has not had of the present run, or of the last one; 204 where there is none. Below ``path`` stand
        ``<id>/``, one run, for GET and DELETE, which stops it, and ``<id>/stop`` for POST.

        Args:
            path: As for ``sse``.
            guards_and_handler: As for ``sse``.
            name: For ``reverse()``; one run's address is ``name-run``.
            about: ``guards`` and the options of ``sse``, and: ``wire``, how a protocol spells a run. ``topic``, the beginning of
                the names of topics, with ``{fields}`` of the URL. ``key``: one run at a time has it; where not given, what the
                URL captures. ``access``: ``async (c, run)``, who may resume and stop a run; whoever started it. ``lease``:
                seconds after which a run whose process has died is lost. ``replay=False``: a run that is over is 204.
                ``max_body``: the most bytes of a request. ``on_disconnect="cancel"``: a run is stopped when whoever started it
                leaves; else it goes on.

        Returns:
            The handler, unchanged; or, without one, a decorator that returns it.

        Raises:
            RouteError: At import, for what a route cannot take.
        """
        return self._run(_checked_path(path), guards_and_handler, name=name, **about)

    def _run(self, path: str, guards_and_handler: tuple[Any, ...], *, resumable: bool = False, **about: Any) -> Any:
        def add(handler: Any, *positional_guards: Any) -> Any:
            for part, (view, options) in run_entries(handler, resumable=resumable, **about).items():
                given = as_tuple("guards", options.pop("guards", ()))
                self.sse(path_of(path, part), view, guards=(*positional_guards, *given), **options)
            return handler

        if not guards_and_handler:
            return add
        *positional, handler = guards_and_handler
        return add(handler, *positional)

    def topic(
        self,
        path: str,
        *topics: str,
        name: str | None = None,
        start: Start = "oldest",
        filter: Filter | None = None,
        map: Map | None = None,
        offsets: bool = False,
        fold: Fold | None = None,
        **about: Unpack[RouteKeywords],
    ) -> None:
        """Serve topics as a stream, without a handler: ``router.topic("builds/<int:id>/logs/", "builds.{id}")``.

        A value of the URL may hold no ``.`` where it stands in a topic's name, or a client could reach another topic: 404.

        Args:
            path: As for ``sse``.
            topics: 1 to 16 names; ``{id}`` stands for what the URL captured as ``id``.
            name: For ``reverse()``; where not given it is made of the first topic's name: ``builds.{id}`` is ``builds-id``.
            start: As for ``stream.follow``, and so are ``filter``, ``map``, ``offsets`` and ``fold``.
            about: ``guards``, ``middleware``, ``on_error`` and the options of ``sse``.

        Raises:
            RouteError: At import, for what a route cannot take.
        """
        handler = topic_handler(topics, start, filter, map, offsets, fold)
        self.sse(path, handler, name=name or self._free_name(_NOT_IN_NAMES.sub("-", topics[0]).strip("-") or "topic"), **about)

    def log(self, path: str, topic: LogTopicName, *, name: str | None = None, **about: Unpack[RouteKeywords]) -> None:
        """Serve a topic of lines in three ways, behind the same guards: what ``{% sse_log %}`` and a terminal want.

        ``path`` is the stream, ``name``; below it stand ``range/``, parts of the log as JSON, ``name-range``, and ``raw/``, its
        text, ``name-raw``.

        Args:
            path: As for ``sse``.
            topic: A name as for ``topic``, or ``async (c, …) -> name`` that takes what the URL captured by name. It may raise
                ``Http404`` and ``PermissionDenied``.
            name: For ``reverse()``; where not given ``log``, and ``log-2`` and so on for further ones.
            about: As for ``topic``.

        Raises:
            RouteError: At import, for what a route cannot take.
        """
        name = name or self._free_name("log")
        for part, view in log_views(topic).items():
            options: RouteKeywords = {**about, "control_events": False} if part == "raw" else about
            self.sse(part_of_log(path, part), view, name=f"{name}-{part}" if part else name, **options)

    def logs(self, path: str, steps: LogSteps, *, name: str | None = None, **about: Unpack[RouteKeywords]) -> None:
        """Serve several logs of one thing, as the steps of a build: what ``{% sse_logs %}`` wants.

        ``path`` is the stream of their states, ``name``: an event ``step`` for each, and again when it changes. Below it each
        step has a log of its own, ``<step>/``, ``name-step``, with ``range/`` and ``raw/`` as ``log`` has.

        Args:
            path: As for ``sse``.
            steps: Topics by the names of steps, ``{"test": "builds.{id}.test"}``, 1 to 16 of them; or ``async (c, …)`` that takes
                what the URL captured by name and returns such a mapping.
            name: For ``reverse()``; where not given ``logs``, and ``logs-2`` and so on for further ones.
            about: As for ``topic``.

        Raises:
            RouteError: At import, for what a route cannot take.
        """
        name = name or self._free_name("logs")
        states, topic_of = steps_views(steps)
        self.sse(path, states, name=name, **about)
        self.log(part_of_log(path, "<slug:step>"), topic_of, name=f"{name}-step", **about)

    def _free_name(self, name: str) -> str:
        """Return ``name``, or the first of ``name-2``, ``name-3`` and so on that is free in this router."""
        taken = {entry.name for entry in self._entries if isinstance(entry, _Route)}
        names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
        return next(free for free in names if free not in taken)

    def include(self, other: Router, prefix: str = "") -> None:
        """Serve another router's routes under ``prefix``, inside this one's guards, middleware and options.

        Raises:
            RouteError: It is not a router, or this one is among its own.
        """
        if not isinstance(other, Router):
            raise RouteError(f"include() takes a Router, not {other!r}; other URLs stand beside router.urls in urlpatterns")
        if other._serves(self):
            raise RouteError("a router cannot be included in itself")
        self._entries.append((_checked_path(prefix), other))

    def _serves(self, router: Router) -> bool:
        return self is router or any(entry[1]._serves(router) for entry in self._entries if not isinstance(entry, _Route))

    @property
    def urls(self) -> Any:
        """For ``include()``: the URL patterns, with the namespace where there is one."""
        return self._named(_Defaults())

    def _named(self, outer: _Defaults) -> Any:
        defaults = self._defaults.over(outer)
        patterns: list[URLPattern | URLResolver] = []
        for entry in self._entries:
            if isinstance(entry, _Route):
                patterns.append(entry.pattern(defaults))
            else:
                prefix, other = entry
                patterns.append(path(prefix, include(other._named(defaults))))
        return (patterns, self.app_name) if self.app_name else patterns


def _view_of(handler: Any) -> type[SSEView]:
    if not callable(handler):
        raise RouteError(f"sse() takes a path, guards and a handler; {handler!r} is not a handler")
    body = {"handle": staticmethod(handler), "__module__": getattr(handler, "__module__", __name__), "__doc__": handler.__doc__}
    return type(_name_of(handler), (SSEView,), body)


def _name_of(handler: Any) -> str:
    return getattr(handler, "__name__", None) or type(handler).__name__


def _checked_path(route: str) -> str:
    if not isinstance(route, str):
        raise RouteError(f"a route's path is text, as for Django's path(), not {route!r}; write @router.sse(\"path/\")")
    if match := _COLON_PARAMETER.search(route):
        raise RouteError(f"{route!r}: Django writes <{match[1]}> or <int:{match[1]}> where other frameworks write :{match[1]}")
    return route.removeprefix("/")
