"""Events as the text of one column: JSON that a person can read, ``["a line", ["{}", "tick"], ["data", null, 100]]``.

A long line that JSON would make much longer is kept as Base64 and says so: ``[["AAAA…", "stdout", null, "base64"]]``.
"""

from __future__ import annotations

import json
import time
from binascii import a2b_base64, b2a_base64
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from ...encoding import SLICE, json_slices
from ...exceptions import InvalidEvent
from ...wire.event import Event, all_stored, stored

TOGETHER = 4 * SLICE
"""Characters of texts that are read in one step."""
GIVE_WAY = 0.001
"""Seconds of sleep after each ``SLICE`` of a large event, so that other threads run: an event loop needs many short turns."""
MOST_ESCAPED = 1.5
"""Times its own length that the data of a large event may have as JSON: it writes NUL in six bytes, a quote in two. Drivers copy
and escape what they send in steps that hold up the process; psycopg's grow with the square of a statement's length.
"""
BASE64 = "base64"
"""Takes four bytes for three, whatever they are."""


def pack(events: Iterable[Event]) -> str:
    """Return events as text: their data, and their name and ``retry`` only where they have them. JSON escapes NUL."""
    some = [*events]
    if len(some) == 1 and len(some[0].data) > SLICE:
        return _pack_large(some[0])
    return _json([_item(event) for event in some])


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
    return _events(items)


def unpack_together(texts: Sequence[str], counts: Sequence[int]) -> list[list[Event]] | None:
    """Return the events of several texts, so many of each: one step for all of them, since a run has many with a few events.

    ``None`` where that cannot be done. One text may be damaged, or too long for one step: see ``unpack``.
    """
    if sum(map(len, texts)) > TOGETHER or (len(texts) == 1 and len(texts[0]) > SLICE):
        return None
    try:
        lists = json.loads(f"[{','.join(texts)}]")
        if [len(items) if type(items) is list else None for items in lists] != [*counts]:
            return None
        events = iter(_events([*chain.from_iterable(lists)]))
    except (TypeError, ValueError):
        return None
    return [[*islice(events, count)] for count in counts]


def _pack_large(event: Event) -> str:
    item, pieces = _item(Event("", event=event.event, retry=event.retry)), _escaped(event.data)
    if pieces is None:
        item, pieces = ["", event.event, event.retry, BASE64], ['"', *_giving_way(_base64(event.data)), '"']
    head, tail = _json([item]).split('""', 1)
    return "".join([head, *pieces, tail])


def _escaped(data: str) -> list[str] | None:
    """The data as a JSON string, in pieces; ``None`` where that is too long."""
    pieces, left = [], MOST_ESCAPED * len(data)
    for piece in _giving_way(json_slices(data)):
        left -= len(piece)
        if left < 0:
            return None
        pieces.append(piece)
    return pieces


def _base64(data: str) -> Iterator[str]:
    raw, step = memoryview(data.encode()), SLICE // 4 * 3
    for start in range(0, len(raw), step):
        yield b2a_base64(raw[start : start + step], newline=False).decode()


def _decoded(data: object, encoding: object) -> str:
    if encoding != BASE64 or not isinstance(data, str):
        raise ValueError(f"its data is in {encoding!r:.80}, not in {BASE64!r}")
    utf8 = getincrementaldecoder("utf-8")()
    raw = (a2b_base64(data[start : start + SLICE], strict_mode=True) for start in range(0, len(data), SLICE))
    return "".join([*_giving_way(map(utf8.decode, raw)), utf8.decode(b"", final=True)])


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


def _events(items: list[Any]) -> list[Event]:
    """Return the events of what stands in a list, those with data, or data and a name, all at once."""
    try:
        datas = [item if type(item) is str else _two(item)[0] for item in items]
        return all_stored(datas, [None if type(item) is str else item[1] for item in items])
    except TypeError:
        return [_event(item) for item in items]


def _two(item: object) -> list[Any]:
    if type(item) is not list or len(item) != 2:
        raise TypeError("it has a retry, or is none")
    return item


def _event(item: object) -> Event:
    if isinstance(item, str):
        return stored(item)
    if not isinstance(item, list) or not 2 <= len(item) <= 4:
        raise ValueError(f"{item!r:.80} is not an event")
    data = item[0] if len(item) < 4 else _decoded(item[0], item[3])
    try:
        return stored(data, item[1], item[2] if len(item) > 2 else None)
    except InvalidEvent as error:
        raise ValueError(str(error)) from error
