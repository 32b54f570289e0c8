"""The kinds of handler, told apart by signature.

A factory ``(c, **url_kwargs) -> handler(stream)``, plain or ``async``; a direct ``async (c, stream, **url_kwargs)``; an async
generator ``(c, …)``; a sync generator ``(c, …)``. URL kwargs are passed by name, where the handler names them. What follows
topics that the URL names has such a signature too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from keyword import iskeyword
from types import CodeType
from typing import Any, TypeVar

from django.http import HttpResponseBase

from ..eventlog.validation import fields_of, filled, valid_topic
from ..exceptions import FollowError, RouteError
from ..topics.follower import Start
from ..topics.reading import Fold
from .context import Context
from .stream import Stream
from .topic_source import Filter, Map, check_follow

_F = TypeVar("_F", bound=Callable[..., Any])
Handler = Callable[[Stream], Awaitable[object]]
TopicsOf = Callable[..., Awaitable[Iterable[str]]]
"""``async (c, **fields)``: the topics that a request would follow."""
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

EXPECTED_HANDLERS = (
    "a handler is a factory `def f(c, …): return async_handler`, a direct `async def f(c, stream, …)`, "
    "or a generator `def`/`async def f(c, …)` with yield"
)


def _first_name(function: Any) -> str:
    """Return the name of a function's own first parameter; of a decorator's, not that of what it wraps."""
    return next(iter(getattr(getattr(function, "__code__", None), "co_varnames", ())), "")


class HandlerSignature:
    """What kind of handler a route has, and how it is called."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        """Read a handler's signature; raise ``RouteError`` for what is no kind of handler, whatever the URL captures."""
        if not callable(handler):
            raise RouteError(f"{handler!r} is not callable; {EXPECTED_HANDLERS}")
        self.name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
        self._handler = handler
        self._hint: str | None = getattr(handler, "sse_hint", None)
        home = getattr(handler, "__globals__", {}).get("__name__", "")
        # View decorators of Django, and of other packages as of django-guardian, pass a context off as a request.
        if home.startswith("django.") or (hasattr(handler, "__wrapped__") and _first_name(handler) == "request"):
            raise RouteError(
                f"{self.name} is wrapped by a decorator of {home}, which expects a request; use guards=[…] (django_agent_sse has "
                "login_required, permission_required, staff_required), middleware=[…] or csrf_exempt=True on the route"
            )
        inner = inspect.unwrap(handler)
        function = inner if inspect.isroutine(inner) or isinstance(inner, functools.partial) else type(inner).__call__
        self._is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        self._is_async = inspect.iscoroutinefunction(function)
        parameters = list(inspect.signature(handler).parameters.values())
        self._positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
        self._named = [parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
        self._takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        self.takes_stream = functools.cache(self._takes_stream)
        if not self._positional:
            raise RouteError(f"{self.name} takes no arguments; {EXPECTED_HANDLERS}")

    @functools.cached_property
    def follows(self) -> bool:
        """Whether it follows topics, as far as its code says: it is a route of a topic, or names ``follow``."""
        return self._hint is not None or uses_name(self._handler, "follow")

    async def topics_of(self, c: Context, kwargs: Mapping[str, Any]) -> list[str]:
        """Return the topics that a request would follow, where the route says so before its handler runs."""
        topics_of: TopicsOf | None = getattr(self._handler, "sse_topics_of", None)
        if topics_of is None:
            return []
        given = {parameter.name: kwargs[parameter.name] for parameter in self._named if parameter.name in kwargs}
        return [valid_topic(topic) for topic in await topics_of(c, **given)]

    def check_early(self, url_kwargs: frozenset[str]) -> None:
        """Raise ``RouteError`` for a plain function or generator that takes the stream, whatever ``include()`` captures too."""
        if [parameter.name for parameter in self._positional[1:2]] != ["stream"] or "stream" in url_kwargs:
            return
        if self._is_generator:
            self._refuse_generator("stream")
        if not self._is_async:
            self._refuse_sync()

    def _refuse_sync(self) -> None:
        raise RouteError(
            f"{self.name} is a plain function that takes a stream, so it would block every other request; write "
            f"`async def`, or make it a generator (`yield` each event), which runs on a thread. {EXPECTED_HANDLERS}"
        )

    def _refuse_generator(self, taken: str) -> None:
        raise RouteError(f"{self.name} is a generator and takes {taken!r}; a generator yields its events, it needs no stream")

    def _takes_stream(self, url_kwargs: frozenset[str]) -> bool:
        """Whether the second parameter is the stream: the one that is neither the context nor captured by the URL.

        Raises:
            RouteError: What the URL captures does not fit the handler; with that and the shapes.
        """
        others, missing = _not_given(self._positional[1:], url_kwargs), _not_given(self._named, url_kwargs)
        if len(others) > 1 or missing:
            captured = ", ".join(sorted(url_kwargs)) or "nothing"
            taken = ", ".join(missing if self._hint else others + missing)
            raise RouteError(f"{self.name} takes {taken}, but the URL captures {captured}; {self._hint or EXPECTED_HANDLERS}")
        if others and self._is_generator:
            self._refuse_generator(others[0])
        if others and self._positional[1].name != others[0]:
            raise RouteError(f"{self.name} takes the stream as {others[0]!r}; it stands second, after the context")
        if others and not self._is_async:
            self._refuse_sync()
        return bool(others)

    async def prepare(self, c: Context, kwargs: Mapping[str, Any], handler: Callable[..., Any]) -> Handler | HttpResponseBase:
        """Run what comes before the stream (a factory's body) and return what takes the stream.

        ``handler`` is the one that was looked at, or the same method of another instance; ``kwargs`` is what the URL captured.

        Raises:
            RouteError: The handler cannot be called so, or the factory returned nothing that takes a stream.
        """
        direct = self.takes_stream(frozenset(kwargs))
        call = self._bound(handler, c, kwargs, skip=2 if direct else 1)
        if direct:
            return call
        if self._is_generator:
            return functools.partial(_pipe, call)
        made = call()
        if inspect.isawaitable(made):
            made = await made
        return self._handler_of(made)

    def _bound(self, handler: Callable[..., Any], c: Context, kwargs: Mapping[str, Any], skip: int) -> Callable[..., Any]:
        """The handler as a function of what comes between the context and the URL's values: the stream, or nothing.

        A plain function, and no coroutine around the handler's, which would stay for as long as the stream.
        """
        own = {parameter.name for parameter in self._positional[:skip]}
        rest = [parameter for parameter in self._positional[skip:] if parameter.name in kwargs]
        by_position = [kwargs[parameter.name] for parameter in rest if parameter.kind is parameter.POSITIONAL_ONLY]
        by_name = {parameter.name for parameter in (*rest, *self._named) if parameter.kind is not parameter.POSITIONAL_ONLY}
        named = {name: value for name, value in kwargs.items() if name not in own and (self._takes_all or name in by_name)}
        return lambda *stream: handler(c, *stream, *by_position, **named)

    def _handler_of(self, made: Any) -> Handler | HttpResponseBase:
        if isinstance(made, HttpResponseBase):
            return made
        if inspect.isasyncgen(made) or inspect.isgenerator(made):
            return functools.partial(_pipe, lambda: made)
        if callable(made):
            return functools.partial(_call_factory_result, made, self.name)
        raise RouteError(f"{self.name} returned {made!r}, and nothing that takes a stream; {EXPECTED_HANDLERS}")


def _not_given(parameters: list[inspect.Parameter], url_kwargs: frozenset[str]) -> list[str]:
    """Return the names of those that have no default and that the URL does not capture."""
    return [
        parameter.name for parameter in parameters if parameter.name not in url_kwargs and parameter.default is parameter.empty
    ]


def uses_name(function: Any, name: str) -> bool:
    """Whether a function, or one inside of it, uses an attribute or a global of this name; what they call is not looked into."""
    code = function if isinstance(function, CodeType) else getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and (name in code.co_names or any(uses_name(inner, name) for inner in code.co_consts))


def _pipe(call: Callable[[], Any], stream: Stream) -> Awaitable[object]:
    return stream.pipe(call())


def _call_factory_result(made: Callable[[Stream], Any], name: str, stream: Stream) -> Awaitable[object]:
    outcome: Awaitable[object] = made(stream)
    if inspect.isawaitable(outcome):
        return outcome
    if inspect.isasyncgen(outcome) or inspect.isgenerator(outcome):
        return stream.pipe(outcome)
    raise RouteError(f"what {name} returned is a plain function; write `async def handler(stream)`")


# Handlers that are made of names of topics


def topic_handler(
    templates: tuple[str, ...], start: Start, filter: Filter | None, map: Map | None, offsets: bool, fold: Fold | None
) -> Callable[[Context, Stream], Coroutine[Any, Any, None]]:
    """A handler that follows the topics of these names, with what the URL captured in them.

    Raises:
        RouteError: A name that no topic can have, or what ``follow()`` cannot take.
    """
    try:
        check_follow(templates, start, filter, map, offsets, fold)
    except FollowError as error:
        raise RouteError(f"topic(): {error}") from error
    fields = sorted({field for template in templates for field in fields_of(template)})

    async def topics_of(c: Context, **values: object) -> list[str]:
        return [filled(template, values) for template in templates]

    async def topic(c: Context, stream: Stream, **values: object) -> None:
        await stream.follow(*await topics_of(c, **values), start=start, filter=filter, map=map, offsets=offsets, fold=fold)

    called = f"router.topic({', '.join([repr(template) for template in templates])})"
    return set_signature(topic, fields, "c", "stream", called=called, topics_of=topics_of)


def set_signature(function: _F, fields: Iterable[str], *positional: str, called: str, topics_of: TopicsOf) -> _F:
    """Return a function with a signature, to be looked at as any handler's is: ``positional``, then the ``fields`` of a URL.

    In messages it is ``called`` what stands in the project's code. ``topics_of`` tells what a request would follow.

    Raises:
        RouteError: A field that has the name of what a handler is called with, or no name that a parameter can have.
    """
    taken = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in positional]
    for field in fields:
        if field in ("c", "stream") or iskeyword(field):
            raise RouteError(
                f"a topic's name holds {{{field}}}, and {field!r} is taken: capture it by another name in the path, as "
                f"<{field}_id>, and write {{{field}_id}}"
            )
        taken.append(inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY))
    function.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    function.__qualname__ = called
    vars(function)["sse_topics_of"] = topics_of
    vars(function)["sse_hint"] = "each {field} of a topic's name is something that the route's path captures, as <int:id>"
    return function
