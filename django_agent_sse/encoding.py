"""From values to the text of an event: the same for what a handler writes and for what is published."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.utils.functional import Promise

from .exceptions import ArgumentInvalid, InvalidEvent
from .wire.event import Event

SLICE = 262_144
"""Characters or bytes of one step through long data: a call into C holds the GIL, and with it every thread, until it returns."""
_ONE = (str, bytes, bytearray, memoryview, Mapping, Event, Promise)


class _Encoder(DjangoJSONEncoder):
    """Django's encoder, and dataclasses, attrs classes, Pydantic models and enumerations."""

    def default(self, o: Any) -> Any:
        kind = type(o)
        if callable(getattr(kind, "model_dump", None)):  # a Pydantic model, known by what it can do: nothing is imported
            return o.model_dump(mode="json")
        if _is_model_1(kind):
            return json.loads(o.json())
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else getattr(kind, "__attrs_attrs__", None)
        if fields is not None:
            return {field.name: getattr(o, field.name) for field in fields}
        return o.value if isinstance(o, Enum) else super().default(o)


def _is_model_1(kind: type) -> bool:
    """Return whether it is a model of Pydantic 1, which ``pydantic.v1`` still has."""
    return hasattr(kind, "__fields__") and callable(getattr(kind, "json", None))


_json = _Encoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def encode_json(value: object) -> str:
    """Write a value as compact JSON: what ``stream.write`` sends for everything but text.

    Beside what JSON has, that takes dates, decimals, UUIDs, enumerations (their values), dataclasses, attrs classes and Pydantic
    models (``model_dump(mode="json")``; ``json()`` of Pydantic 1), also inside of lists and dicts.

    Raises:
        InvalidEvent: ``value`` has no JSON form (NaN and infinities have none, RFC 8259 section 6).
    """
    try:
        return _json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEvent(
            f"data of the type {type(value).__name__} cannot be written as JSON ({error}); write text, values that JSON has, "
            "dataclasses or Pydantic models"
        ) from error


def json_slices(text: str) -> Iterator[str]:
    """Write text as a JSON string, a ``SLICE`` of it at a time."""
    if len(text) <= SLICE:
        yield json.dumps(text, ensure_ascii=False)
        return
    # A string cut anywhere is the same string in pieces: escapes stand for single characters.
    yield '"'
    for start in range(0, len(text), SLICE):
        yield json.dumps(text[start : start + SLICE], ensure_ascii=False)[1:-1]
    yield '"'


def text_of(data: object) -> str:
    """Return the text of an event's data: text as it is, ``bytes`` as UTF-8 text, anything else as JSON; ``None`` is ``null``."""
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
    """Return an event made of its data, or an ``Event`` as it is; ``InvalidEvent`` where it cannot stand in a stream."""
    if isinstance(value, Event):
        if event is not None or retry is not None:
            raise InvalidEvent("an Event carries its own event and retry; give it alone")
        return value
    return Event(text_of(value), event=event, retry=retry)


def each_of(values: object, verb: str) -> Iterable[Any]:
    """Return an iterable of values, each for one event; ``ArgumentInvalid`` for one value: text would become its letters."""
    if is_one_value(values) or not isinstance(values, Iterable):
        raise ArgumentInvalid(
            f"{verb}() takes a list, or another iterable, with one value for each event, not data of the type "
            f"{type(values).__name__}: write [value] for a single one. Nothing was done"
        )
    return values


def is_one_value(value: object) -> bool:
    """Return whether a value is the data of one event, though Python may iterate over it."""
    return isinstance(value, _ONE) or hasattr(type(value), "model_dump") or _is_model_1(type(value))


def only_events(events: object) -> list[Event]:
    """Return one event, or several, as a list; ``ArgumentInvalid`` where something is not an ``Event``."""
    listed = [events] if isinstance(events, Event) else [*each_of(events, "append")]
    if wrong := next((type(event).__name__ for event in listed if not isinstance(event, Event)), None):
        raise ArgumentInvalid(
            f"an event log takes Events, not {wrong}: publish_many() makes them of values. Nothing was appended"
        )
    return listed
