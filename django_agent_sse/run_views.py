"""Runs over HTTP, as ``router.run()`` serves them: POST starts one, GET resumes it, DELETE stops it."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Concatenate, Protocol, TypeAlias, TypedDict, TypeVar

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import register_converter
from django.urls.converters import StringConverter

from .conf import Count, MillisecondsOrNone, OnDisconnect, Origins, Seconds, SecondsOrNone, Switch, SwitchOrNone
from .eventlog.leases import MOST_SECONDS
from .eventlog.validation import fields_of
from .exceptions import RouteError
from .guards import Guard
from .run_calls import Call
from .run_names import KEY, RUN
from .run_routes import Access, RunKey, RunRoute
from .runs.async_run import AsyncRun
from .runs.handlers import RunSignature
from .runs.ids import PATTERN
from .runs.run import Run
from .runs.wire import NO_WIRE, PLAIN, Wire
from .streams.body import MOST_BYTES
from .streams.context import Context
from .streams.handlers import Handler, HandlerSignature
from .streams.options import check_names
from .views import SSEView, checked_methods

RunMade: TypeAlias = Callable[[AsyncRun], Awaitable[object]] | AsyncIterator[object] | Iterator[object] | HttpResponseBase
"""What a factory returns: code that takes the run, what is written, or an answer instead of a run."""
RunHandler: TypeAlias = (
    Callable[Concatenate[Context, AsyncRun, ...], Awaitable[object]]
    | Callable[Concatenate[Context, Run, ...], None]
    | Callable[Concatenate[Context, ...], RunMade | Awaitable[RunMade]]
)
"""What ``router.run()`` serves: ``async (c, run, …)``; a plain function ``(c, run, …)``; a factory or a generator ``(c, …)``."""
R = TypeVar("R", bound=RunHandler)


class RunKeywords(TypedDict, total=False):
    """The keyword arguments of ``router.run()``: its own, and those of streams that its readers' have."""

    wire: Wire
    topic: str
    key: RunKey | None
    access: Access
    lease: Seconds
    replay: Switch
    max_body: Count | None
    on_disconnect: OnDisconnect
    guards: Sequence[Guard]
    middleware: Sequence[str | Callable[..., Any]]
    csrf_exempt: bool
    heartbeat: SecondsOrNone
    retry: MillisecondsOrNone
    max_duration: SecondsOrNone
    buffer_bytes: Count
    buffer_events: Count
    send_timeout: SecondsOrNone
    commit_after: Seconds
    close_grace: Seconds
    recheck: SecondsOrNone
    cache: str
    origins: Origins
    allow_credentials: Switch
    compress: SwitchOrNone
    control_events: SwitchOrNone
    signed: Switch


class RunDecorator(Protocol):
    """What ``router.run(path, …)`` is: it returns the handler unchanged."""

    def __call__(self, handler: R, /) -> R:
        """Serve ``handler``."""


class RunIdConverter(StringConverter):
    """The ids of runs, and nothing else that a project may serve below the same path."""

    regex = PATTERN


register_converter(RunIdConverter, "sse_run")
PARTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "": ("", ("GET", "POST", "DELETE")),
    "run": (f"<{RUN}:{RUN}>/", ("GET", "DELETE")),
    "run-bare": (f"<{RUN}:{RUN}>", ("GET", "DELETE")),
    "stream": (f"<str:{KEY}>/stream", ("GET",)),
    "stop": (f"<{RUN}:{RUN}>/stop", ("POST",)),
    "cancel": (f"<{RUN}:{RUN}>/cancel", ("POST",)),
}
"""The addresses of a route of runs, by what is added to its name: their path below its own, and their methods."""


class RunView(SSEView):
    """One address of a route of runs."""

    serves_drained: ClassVar[bool] = True
    """A run can be stopped, and read to its end, by a process that takes no new ones."""
    answers_head: ClassVar[bool] = True
    code: ClassVar[Callable[..., Any]]
    """The project's, which Django's ``login_not_required`` marks; perhaps after the route was made of it."""

    def _takes_place(self, request: HttpRequest) -> bool:
        return request.method != "DELETE" and not request.path.endswith(("/stop", "/cancel"))

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """See ``SSEView``."""
        vars(cls.handle)["login_required"] = getattr(cls.code, "login_required", True)
        return super().as_view(**initkwargs)


def check_run(name: str, wire: object, key: object, access: object, lease: object, max_body: object) -> None:
    """Refuse what a route of runs cannot take.

    Raises:
        RouteError: With what it takes.
    """
    about = f"the runs {name!r}:"
    if not isinstance(wire, Wire):
        raise RouteError(f"{about} wire={wire!r:.80} is not a Wire; give one of django_agent_sse.contrib.wires, or leave it out")
    if isinstance(key, str):
        fields_of(key)
    elif key is not None and not _is_async(key):
        raise RouteError(f"{about} key={key!r:.80}: a name with {{fields}} of the URL, or async (c) -> name")
    if access is not None and not _is_async(access):
        raise RouteError(f"{about} access={access!r:.80}: write async def access(c, run) and return True, False or a response")
    if lease is not None and (isinstance(lease, bool) or not isinstance(lease, int | float) or not 1 <= lease <= MOST_SECONDS):
        raise RouteError(f"{about} lease={lease!r:.40}: seconds, from 1 to {MOST_SECONDS:.0f}")
    if max_body is not None and (isinstance(max_body, bool) or not isinstance(max_body, int) or not 0 <= max_body <= MOST_BYTES):
        raise RouteError(f"{about} max_body={max_body!r:.40}: bytes, up to {MOST_BYTES}, or None")


def _is_async(function: object) -> bool:
    return callable(function) and (iscoroutinefunction(function) or iscoroutinefunction(type(function).__call__))


class _AnswerSignature(HandlerSignature):
    """The signature of a route's own handler, checked as that of the project's code behind it."""

    def __init__(self, answer: Callable[..., Any], shape: HandlerSignature) -> None:
        super().__init__(answer)
        self._code = shape

    @functools.cached_property
    def follows(self) -> bool:
        """See above."""
        return True

    def _takes_stream(self, url_kwargs: frozenset[str]) -> bool:
        self._code.takes_stream(url_kwargs - {RUN, KEY})
        return super()._takes_stream(url_kwargs)


RUN_OPTIONS = ("wire", "topic", "key", "access", "lease", "replay", "max_body")
"""What ``router.run()`` takes beside the options of a stream."""


def run_entries(
    handler: Any, *, name: str | None = None, resumable: bool = False, methods: Any = None, on_error: Any = None, **about: Any
) -> dict[str, tuple[type[RunView], dict[str, Any]]]:
    """Return what ``router.sse()`` serves for a route of runs, by ``PARTS``: a view, and its options.

    Raises:
        RouteError: The handler, or an option, is none that a route of runs can take.
    """
    if not callable(handler) or isinstance(handler, type):
        raise RouteError(
            f"{handler!r:.80} is not the code of a run: a function async (c, run, …), def (c, run, …), or a generator"
        )
    name = name or getattr(handler, "__name__", None) or type(handler).__name__
    if on_error is not None:
        raise RouteError(
            f"the runs {name!r}: on_error writes to one client's stream; catch the error in the run, or end with wire"
        )
    own = {option: about.pop(option) for option in RUN_OPTIONS if option in about}
    check_names({option: value for option, value in about.items() if option not in _ROUTE_ONLY})
    _check_not_streams(name, about)
    wire = own.setdefault("wire", NO_WIRE)
    if wire not in (NO_WIRE, PLAIN):  # clients of a protocol know its events, and no others
        about.setdefault("control_events", False)
    shape = HandlerSignature(handler) if resumable else RunSignature(handler)
    check_run(name, **{option: own.get(option) for option in ("wire", "key", "access", "lease", "max_body")})
    own.setdefault("topic", f"runs.{_NOT_IN_NAMES.sub('-', name)}")
    stops = about.pop("on_disconnect", "continue") == "cancel"
    control = about.get("control_events")
    fields_of(own["topic"])
    route = RunRoute(handler, shape, name=name, stops=stops, resumable=resumable, control_events=control, **own)
    route.commit_after = about.get("commit_after")
    own_methods = _methods_of(name, resumable, methods)
    route.starts_on_get = resumable and (methods is None or "GET" in checked_methods(methods))
    views = _views(route, own_methods)
    return {part: (view, {**about, "name": f"{name}-{part}" if part else name}) for part, view in views.items()}


_ROUTE_ONLY = ("guards", "middleware", "csrf_exempt")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


def _check_not_streams(name: str, about: Mapping[str, Any]) -> None:
    for option in ("slim", "pinned", "final_on_error"):
        if about.get(option):
            raise RouteError(
                f"the runs {name!r}: {option}=True is for handlers of streams; runs have threads and topics of their own"
            )
    if about.get("on_disconnect", "continue") not in ("continue", "cancel"):
        raise RouteError(f"the runs {name!r}: on_disconnect is 'continue', or 'cancel' to stop a run whose client leaves")


def _methods_of(name: str, resumable: bool, given: Any) -> tuple[str, ...]:
    """Return the methods of the route's own address."""
    if given is None:
        return ("GET", "DELETE") if resumable else ("GET", "POST", "DELETE")
    if not resumable:
        raise RouteError(f"the runs {name!r}: methods are GET, POST and DELETE, and each has its meaning; leave methods out")
    methods = checked_methods(given)
    if wrong := {*methods} - {"GET", "POST", "HEAD", "OPTIONS"}:
        raise RouteError(f"the runs {name!r}: {', '.join(sorted(wrong))} cannot start one; methods are GET, POST or both")
    return tuple(dict.fromkeys([*methods, "GET", "DELETE"]))


def _views(route: RunRoute, methods: tuple[str, ...]) -> dict[str, type[RunView]]:
    async def answer(c: Context) -> Handler | HttpResponseBase:
        return await Call(route, c).answer()

    vars(answer)["sse_signature"] = _AnswerSignature(answer, route.shape)
    module = getattr(inspect.unwrap(route.handler), "__module__", __name__)
    body = {
        "handle": staticmethod(answer),
        "code": staticmethod(route.handler),
        "__module__": module,
        "__doc__": route.handler.__doc__,
    }
    return {part: type(route.name, (RunView,), {**body, "methods": own if part else methods}) for part, (_, own) in PARTS.items()}


def path_of(path: str, part: str) -> str:
    """Return the path of one of a route's addresses, as for Django's ``path()``."""
    suffix = PARTS[part][0]
    return f"{path.rstrip('/')}/{suffix}".removeprefix("/" if not path.strip("/") else "") if suffix else path
