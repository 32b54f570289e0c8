"""Topics named by a URL: the handler behind ``router.topic()``."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from inspect import Parameter, Signature
from string import Formatter
from typing import Any, TypeVar

from django.http import Http404

from ..eventlog.checked import valid_topic
from ..exceptions import FollowError, RouteError, TopicNameInvalid
from ..hub.follower import Start
from .context import Context
from .following import Filter, Map, check_follow
from .stream import Stream

_F = TypeVar("_F", bound=Callable[..., Any])
_FIELD = re.compile(r"[A-Za-z_]\w*")


class TopicNames:
    """Names of topics with ``{fields}`` in them, for what a URL captures.

    Raises:
        RouteError: A name that no topic can have.
    """

    __slots__ = ("_templates", "fields")

    def __init__(self, *templates: str) -> None:
        try:
            self.fields = sorted({field for template in templates for field in _fields(template)})
        except TopicNameInvalid as error:
            raise RouteError(f"topic(): {error}") from error
        self._templates = templates

    def of(self, values: Mapping[str, object]) -> list[str]:
        """The names with these values.

        Raises:
            Http404: One that no topic can have, or that could reach another topic.
        """
        parts = {field: _part(values[field]) for field in self.fields}
        try:
            return [valid_topic(template.format_map(parts)) for template in self._templates]
        except TopicNameInvalid as error:
            raise Http404(str(error)) from error


def topic_handler(
    templates: tuple[str, ...], start: Start, filter: Filter | None, map: Map | None, offsets: bool
) -> Callable[[Context, Stream], Coroutine[Any, Any, None]]:
    """A handler that follows the topics of these names, with what the URL captured in them.

    Raises:
        RouteError: A name that no topic can have, or what ``follow()`` cannot take.
    """
    try:
        check_follow(templates, start, filter, map, offsets)
    except FollowError as error:
        raise RouteError(f"topic(): {error}") from error
    names = TopicNames(*templates)

    async def topic(c: Context, stream: Stream, **values: object) -> None:
        await stream.follow(*names.of(values), start=start, filter=filter, map=map, offsets=offsets)

    called = f"router.topic({', '.join([repr(template) for template in templates])})"
    return taking(topic, names.fields, "c", "stream", called=called)


def taking(function: _F, fields: Iterable[str], *positional: str, called: str) -> _F:
    """A function whose signature names what it takes of a URL: it is looked at as any handler's is.

    Args:
        function: It.
        fields: What it takes of the URL.
        positional: What it takes before that.
        called: Its name in messages: what stands in the project's code.
    """
    taken = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in positional]
    named = [Parameter(field, Parameter.KEYWORD_ONLY) for field in fields]
    function.__signature__ = Signature([*taken, *named])  # type: ignore[attr-defined]
    function.__qualname__ = called
    vars(function)["sse_hint"] = "each {field} of a topic's name is something that the route's path captures, as <int:id>"
    return function


def _fields(template: str) -> list[str]:
    valid_topic(template)
    try:
        parts = [(field, spec, conversion) for _, field, spec, conversion in Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise RouteError(f"topic(): {template!r} is no name with {{fields}}: {error}") from error
    for field, spec, conversion in parts:
        if not _FIELD.fullmatch(field) or spec or conversion:
            raise RouteError(f"topic(): {template!r} holds {{{field}}}; what the URL captures stands there by its name alone")
    return [field for field, _, _ in parts]


def _part(value: object) -> str:
    text = str(value)
    if not text or "." in text:
        raise Http404(f"{text!r} cannot stand in a topic's name")
    return text
