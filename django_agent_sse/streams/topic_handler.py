"""Topics named by a URL: the handler behind ``router.topic()``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from inspect import Parameter, Signature
from keyword import iskeyword
from typing import Any, TypeVar

from ..eventlog.naming import fields_of, filled
from ..exceptions import FollowError, RouteError
from ..topics.follower import Start
from ..topics.reading import Fold
from .context import Context
from .stream import Stream
from .topic_source import Filter, Map, check_follow

_F = TypeVar("_F", bound=Callable[..., Any])


class TopicNames:
    """Names of topics with ``{fields}`` in them, for what a URL captures.

    Raises:
        RouteError: A name that no topic can have.
    """

    __slots__ = ("_templates", "fields")

    def __init__(self, *templates: str) -> None:
        self.fields = sorted({field for template in templates for field in fields_of(template)})
        self._templates = templates

    def of(self, values: Mapping[str, object]) -> list[str]:
        """The names with these values.

        Raises:
            TopicNameInvalid: One that no topic can have, or that could reach another topic. It is answered with 404.
        """
        parts = {field: values[field] for field in self.fields}
        return [filled(template, parts) for template in self._templates]


def topic_handler(
    templates: tuple[str, ...],
    start: Start,
    filter: Filter | None,
    map: Map | None,
    offsets: bool,
    fold: Fold | None,
) -> Callable[[Context, Stream], Coroutine[Any, Any, None]]:
    """A handler that follows the topics of these names, with what the URL captured in them.

    Raises:
        RouteError: A name that no topic can have, or what ``follow()`` cannot take.
    """
    try:
        check_follow(templates, start, filter, map, offsets, fold)
    except FollowError as error:
        raise RouteError(f"topic(): {error}") from error
    names = TopicNames(*templates)

    async def topic(c: Context, stream: Stream, **values: object) -> None:
        await stream.follow(*names.of(values), start=start, filter=filter, map=map, offsets=offsets, fold=fold)

    called = f"router.topic({', '.join([repr(template) for template in templates])})"
    return taking(topic, names.fields, "c", "stream", called=called)


def taking(function: _F, fields: Iterable[str], *positional: str, called: str) -> _F:
    """A function whose signature names what it takes of a URL: it is looked at as any handler's is.

    Args:
        function: It.
        fields: What it takes of the URL.
        positional: What it takes before that.
        called: Its name in messages: what stands in the project's code.

    Raises:
        RouteError: A field that has the name of what a handler is called with, or no name that a parameter can have.
    """
    taken = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in positional]
    for field in fields:
        if field in ("c", "stream") or iskeyword(field):
            raise RouteError(
                f"a topic's name holds {{{field}}}, and {field!r} is taken: capture it by another name in the path, as "
                f"<{field}_id>, and write {{{field}_id}}"
            )
        taken.append(Parameter(field, Parameter.KEYWORD_ONLY))
    function.__signature__ = Signature(taken)  # type: ignore[attr-defined]
    function.__qualname__ = called
    vars(function)["sse_hint"] = "each {field} of a topic's name is something that the route's path captures, as <int:id>"
    return function
