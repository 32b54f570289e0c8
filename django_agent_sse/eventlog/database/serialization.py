"""Events as the text of one column: JSON that a person can read, ``["a line", ["{}", "tick"], ["data", null, 100]]``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]

from ...encoding import SLICE, json_slices
from ...exceptions import InvalidEvent
from ...wire.event import Event, stored

GIVE_WAY = 0.001
"""Seconds of sleep after each ``SLICE`` of a large event, so that other threads run: an event loop needs many short turns."""


def pack(events: Iterable[Event]) -> str:
    """Return events as text: their data, and their name and ``retry`` only where they have them. JSON escapes NUL."""
    found = [*events]
    if len(found) == 1 and len(found[0].data) > SLICE:
        [event] = found
        head, tail = _json([_item(Event("", event=event.event, retry=event.retry))]).split('""', 1)
        return "".join([head, *_giving_way(json_slices(event.data)), tail])
    return _json([_item(event) for event in found])


def unpack(text: str) -> list[Event]:
    """Return the events that ``pack`` has written.

    Raises:
        ValueError: The text is damaged.
    """
    data, rest = _first(text) if len(text) > SLICE else (None, text)
    items = json.loads(rest)
    if not isinstance(items, list):
        raise ValueError("it is not a list")
    if data is not None:
        items[0] = [data, *items[0][1:]] if isinstance(items[0], list) else data
    return [_event(item) for item in items]


def _giving_way(slices: Iterable[str]) -> Iterator[str]:
    for piece in slices:
        yield piece
        time.sleep(GIVE_WAY)


def _json(items: list[object]) -> str:
    return json.dumps(items, ensure_ascii=False, separators=(",", ":"))


def _first(text: str) -> tuple[str | None, str]:
    """Return the data of the first event, read a ``SLICE`` at a time, and the text with ``""`` in its place."""
    at = begin = text.find('"') + 1
    if text[:begin] not in ('["', '[["'):
        return None, text
    pieces: list[str] = []
    while at < len(text):
        slice = text[at : _whole_escapes(text, at, at + SLICE)]
        piece, end = scanstring(f'{slice}"', 0)
        pieces.append(piece)
        time.sleep(GIVE_WAY)
        at += min(end, len(slice))
        if end <= len(slice):
            return "".join(pieces), f'{text[:begin]}"{text[at:]}'
    raise ValueError("its first string does not end")


def _whole_escapes(text: str, begin: int, end: int) -> int:
    """Return ``end``, or the beginning of the escape that ``end`` would cut; ``begin`` cuts none."""
    for start in range(end - 5, end):
        if text[start : start + 1] == "\\":
            before = text[begin:start]
            width = 6 if text[start + 1 : start + 2] == "u" else 2
            if (len(before) - len(before.rstrip("\\"))) % 2 == 0 and start + width > end:
                return start
    return end


def _item(event: Event) -> object:
    if event.retry is not None:
        return [event.data, event.event, event.retry]
    return event.data if event.event is None else [event.data, event.event]


def _event(item: object) -> Event:
    if isinstance(item, str):
        return stored(item)
    if not isinstance(item, list) or not 2 <= len(item) <= 3:
        raise ValueError(f"{item!r:.80} is not an event")
    try:
        return stored(item[0], item[1], item[2] if len(item) == 3 else None)
    except InvalidEvent as error:
        raise ValueError(str(error)) from error
