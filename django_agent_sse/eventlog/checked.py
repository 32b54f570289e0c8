"""What callers of an event log may pass: names, keys, expectations."""

from __future__ import annotations

from ..exceptions import InvalidEvent, TopicNameInvalid
from ..wire.event import Event

MAX_NAME = 200
"""Characters of a topic's name."""
MAX_KEY = 200
"""Characters of an idempotency key."""


def size_of(event: Event) -> int:
    """The bytes that count: data and name in UTF-8."""
    data, name = event.data, event.event or ""
    return (len(data) if data.isascii() else len(data.encode())) + (len(name) if name.isascii() else len(name.encode()))


def valid_topic(name: str, what: str = "topic") -> str:
    """Return ``name``.

    Raises:
        TopicNameInvalid: It is no ``str``, empty, longer than ``MAX_NAME``, or not printable ASCII.
    """
    if not isinstance(name, str):
        raise TopicNameInvalid(f"a {what} is a str, not {type(name).__name__}")
    if not name or len(name) > MAX_NAME:
        raise TopicNameInvalid(f"the {what} has {len(name)} characters; 1 to {MAX_NAME} are allowed: {name[:40]!r}")
    if not (name.isascii() and name.isprintable()):
        raise TopicNameInvalid(f"the {what} {name[:40]!r} holds something else than printable ASCII: use an id or a slug in it")
    return name


def valid_key(key: str | None) -> str | None:
    """Return ``key``.

    Raises:
        InvalidEvent: It is neither ``None`` nor a ``str`` of 1 to ``MAX_KEY`` characters.
    """
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= MAX_KEY):
        raise InvalidEvent(f"key={key!r:.80}: a str of 1 to {MAX_KEY} characters, or None")
    return key


def valid_expect(expect: int | None) -> int | None:
    """Return ``expect``.

    Raises:
        InvalidEvent: It is neither ``None`` nor an offset.
    """
    if expect is not None and (not isinstance(expect, int) or isinstance(expect, bool) or expect < 0):
        raise InvalidEvent(f"expect={expect!r}: the offset that the topic ends at, 0 for a new one, or None")
    return expect
