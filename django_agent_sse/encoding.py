"""From values to the text of an event: the same for what a handler writes and for what is published."""

from __future__ import annotations

import json
from collections.abc import Iterator

from django.core.serializers.json import DjangoJSONEncoder
from django.utils.functional import Promise

from .exceptions import InvalidEvent
from .wire.event import Event

SLICE = 262_144
"""Characters, or bytes, of one step through what is long: a call into C holds up every thread of the process until it returns."""
_json = DjangoJSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def encode_json(value: object) -> str:
    """Write a value as compact JSON: what ``stream.write`` sends for everything but text.

    Raises:
        InvalidEvent: ``value`` has no JSON form (NaN and infinities have none, RFC 8259 section 6).
    """
    try:
        return _json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(
            f"a {type(value).__name__} cannot be written as JSON ({error}); write text, or values that JSON has"
        ) from error


def json_slices(text: str) -> Iterator[str]:
    """Write text as a JSON string, a ``SLICE`` of it at a time."""
    if len(text) <= SLICE:
        yield json.dumps(text, ensure_ascii=False)
        return
    yield '"'
    for start in range(0, len(text), SLICE):
        yield json.dumps(text[start : start + SLICE], ensure_ascii=False)[1:-1]
    yield '"'


def text_of(data: object) -> str:
    """The text of an event's data: text as it is, ``bytes`` as UTF-8 text, anything else as JSON (``None`` is ``null``).

    Raises:
        InvalidEvent: It has no such form.
    """
    if isinstance(data, str):
        return data
    if isinstance(data, Promise):  # a translation that waits for its language
        return str(data)
    if isinstance(data, bytes | bytearray | memoryview):
        try:
            return bytes(data).decode()
        except UnicodeDecodeError as error:
            raise InvalidEvent(f"data is bytes that are not UTF-8 ({error}); an event stream is text") from error
    return encode_json(data)


def event_of(value: object, event: str | None = None, retry: int | None = None) -> Event:
    """An event from its data, or an ``Event`` as it is.

    Raises:
        InvalidEvent: It cannot stand in an event stream.
    """
    if isinstance(value, Event):
        if event is not None or retry is not None:
            raise InvalidEvent("an Event carries its own event and retry; give it alone")
        return value
    return Event(text_of(value), event=event, retry=retry)
