"""Checks of what an event log is given: topics' names, also those made of values from outside, events, keys, expected offsets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from string import Formatter

from ..exceptions import EventTooLarge, InvalidEvent, LeaseLost, PositionConflict, RouteError, TopicClosed, TopicNameInvalid
from ..runtime.safe_text import printable
from ..wire.event import RESERVED, Event, is_reserved, valid_name

MAX_NAME = 200
"""Characters of a topic's name."""
MAX_KEY = 200
"""Characters of an idempotency key."""
_FIELD = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def size_of(event: Event) -> int:
    """Return the size of an event as limits count it: its data and its name in UTF-8."""
    data, name = event.data, event.event or ""
    return (len(data) if data.isascii() else len(data.encode())) + (len(name) if name.isascii() else len(name.encode()))


class InternalTopic(str):
    """A topic of the package's own, whose name is reserved. ``valid_topic`` accepts reserved names of this type only."""

    __slots__ = ()


def valid_topic(name: str) -> str:
    """Return a valid topic's name as a plain ``str``. Every verb of a log begins with this.

    Raises:
        TopicNameInvalid: It is not a ``str``, or is empty, longer than ``MAX_NAME``, not printable ASCII, or reserved.
    """
    text = _printable(name, "topic")
    if (text[:1] in " sS") and is_reserved(text) and not isinstance(name, InternalTopic):
        raise TopicNameInvalid(
            f"the topic {text[:40]!r} begins with {RESERVED!r}, which is reserved for the package's own: choose another name"
        )
    return text


def valid_holder(holder: str) -> str:
    """Return a valid name of a lease's holder as a plain ``str``.

    Raises:
        TopicNameInvalid: It breaks the rules for the characters and the length of a topic's name.
    """
    return _printable(holder, "holder")


def is_valid_topic(name: str) -> bool:
    try:
        valid_topic(name)
    except TopicNameInvalid:
        return False
    return True


def valid_reason(reason: str) -> str:
    """Return a valid reason for closing a topic as a plain ``str``.

    Raises:
        TopicNameInvalid: It breaks the rules for the characters and the length of a topic's name.
    """
    return _printable(reason, "reason")


def _printable(name: str, what: str) -> str:
    if not isinstance(name, str):
        raise TopicNameInvalid(f"a {what} is a str, not {type(name).__name__}")
    text = name if type(name) is str else str.__str__(name)
    if not text or len(text) > MAX_NAME:
        raise TopicNameInvalid(f"the {what} has {len(text)} characters; 1 to {MAX_NAME} are allowed: {text[:40]!r}")
    if not (text.isascii() and text.isprintable()):
        raise TopicNameInvalid(f"the {what} {text[:40]!r} holds characters other than printable ASCII: use an id or a slug in it")
    return text


def sized(events: Iterable[Event], most: int) -> list[tuple[Event, int]]:
    """Return events with their sizes, if the log can keep them.

    Raises:
        InvalidEvent: One has an id, or a name that is reserved, as what a decoder has read of another stream may have.
        EventTooLarge: One has more than ``most`` bytes.
    """
    pairs = [(event, size_of(event)) for event in events]
    for number, (event, size) in enumerate(pairs):
        if size > most:
            raise EventTooLarge(
                f"event {number} has {size:,} bytes, {most:,} fit: store it elsewhere and publish where, or raise "
                "AGENT_SSE['EVENT_LOG']['OPTIONS']['MAX_EVENT_BYTES'], up to 8 MiB. Nothing was appended"
            )
        if event.id is not None:
            raise InvalidEvent(f"the event has the id {event.id!r}, but in a topic the log numbers the events: leave id out")
        if event.event is not None:
            valid_name("event", event.event)
    return pairs


def valid_key(key: str | None) -> str | None:
    """Return a valid idempotency key, or ``None``.

    Raises:
        InvalidEvent: It is neither ``None`` nor a ``str`` of 1 to ``MAX_KEY`` characters.
    """
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= MAX_KEY):
        raise InvalidEvent(f"key={key!r:.80}: a str of 1 to {MAX_KEY} characters, or None")
    return key


def valid_expect(expect: int | None) -> int | None:
    """Return a valid expected offset, or ``None``.

    Raises:
        InvalidEvent: It is neither ``None`` nor an offset.
    """
    if expect is not None and (not isinstance(expect, int) or isinstance(expect, bool) or expect < 0):
        raise InvalidEvent(f"expect={expect!r}: the offset that the topic ends at, 0 for a new one, or None")
    return expect


def refuse_append(topic: str, closed: str | None, top: int, expect: int | None, late: str | None = None) -> None:
    """Refuse an append to a topic that is closed, or that does not end where the publisher expects, or by one who is late.

    Args:
        topic: Its name.
        closed: Why it is closed, if it is.
        top: Where it ends.
        expect: Where the publisher expects it to end, if it does.
        late: Who appends as the holder of its lease, and no longer is.

    Raises:
        TopicClosed, LeaseLost, PositionConflict: Nothing was appended.
    """
    if closed:
        raise TopicClosed(f"the topic {topic!r} is closed ({closed}); delete() it, or publish to another name", closed)
    if late is not None:
        raise lost_error(topic, late)
    if expect is not None and expect != top:
        raise PositionConflict(f"the topic {topic!r} ends at {top}, not at {expect}: another publisher has appended", top)


def lost_error(topic: str, holder: str) -> LeaseLost:
    """Return the error for a holder whose lease is over."""
    return LeaseLost(
        f"{holder!r} no longer holds the lease of the topic {topic!r}: it was not renewed in time, was given up, or the topic "
        "was deleted. Nothing was appended: stop the work"
    )


# Topics' names with values from outside in them: one rule for URLs, handlers and the admin


def topic_name(template: str, /, **values: object) -> str:
    """Return a topic's name with values from outside in it, none of which can lead to another topic.

    ``topic_name("builds.{id}", id=c.query["id"])``: what stands for a field holds no ``.``, which separates the parts of a
    name, and nothing but printable ASCII. It is the rule of ``router.topic()``; use it where you make a name of what a client
    sent. In a handler whose response has not begun, the error is answered with 404.

    Args:
        template: The name with ``{fields}``.
        values: What stands for them, as ``str()`` of it.

    Raises:
        TopicNameInvalid: A value cannot stand in a name, or no topic can have the name.
        RouteError: The template is none, or has a field without a value.
    """
    if missing := [field for field in fields_of(template) if field not in values]:
        raise RouteError(f"topic_name({template!r}): there is no value for {{{missing[0]}}}")
    return filled(template, values)


def filled(template: str, values: Mapping[str, object]) -> str:
    """Return the name that a template, which ``fields_of`` has seen, makes with these values.

    Raises:
        TopicNameInvalid: A value cannot stand in a name, or no topic can have the name.
    """
    return valid_topic(template.format_map({field: _part(value) for field, value in values.items()}))


def fields_of(template: str) -> list[str]:
    """Return what stands in ``{}`` in a name.

    Raises:
        RouteError: It is not a name with ``{fields}``.
    """
    try:
        valid_topic(template)
        parts = [(field, spec, conversion) for _, field, spec, conversion in Formatter().parse(template) if field is not None]
    except (TopicNameInvalid, ValueError) as error:
        raise RouteError(f"{template!r} is not a topic's name with {{fields}}: {error}") from error
    for field, spec, conversion in parts:
        if not _FIELD.fullmatch(field) or spec or conversion:
            raise RouteError(
                f"{template!r} holds {{{field}}}; a value stands in a topic's name by the field's name alone, as {{id}}"
            )
    return [*dict.fromkeys(field for field, _, _ in parts)]


def _part(value: object) -> str:
    text = str(value)
    if not text or "." in text or len(text) > MAX_NAME or not (text.isascii() and text.isprintable()):
        raise TopicNameInvalid(
            f"'{printable(text, 40)}' cannot stand in a topic's name: a value there is 1 to {MAX_NAME} characters of printable "
            "ASCII without '.', such as an id or a slug"
        )
    return text
