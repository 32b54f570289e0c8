"""Events as the text of one column: JSON that a person can read, ``["a line", ["{}", "tick"], ["data", null, 100]]``."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ..exceptions import InvalidEvent
from ..wire.event import Event, stored


def pack(events: Iterable[Event]) -> str:
    """The text: of each event its data, and only where it has them its name and ``retry``. JSON escapes NUL."""
    return json.dumps([_item(event) for event in events], ensure_ascii=False, separators=(",", ":"))


def unpack(text: str) -> list[Event]:
    """What ``pack`` was given.

    Raises:
        ValueError: It is no such text.
    """
    items = json.loads(text)
    if not isinstance(items, list):
        raise ValueError("it is no list")
    return [_event(item) for item in items]


def _item(event: Event) -> object:
    if event.retry is not None:
        return [event.data, event.event, event.retry]
    return event.data if event.event is None else [event.data, event.event]


def _event(item: object) -> Event:
    if isinstance(item, str):
        return stored(item)
    if not isinstance(item, list) or not 2 <= len(item) <= 3:
        raise ValueError(f"{item!r:.80} is no event")
    try:
        return stored(item[0], item[1], item[2] if len(item) == 3 else None)
    except InvalidEvent as error:
        raise ValueError(str(error)) from error
