"""Events as they stand in Redis and in its notifications, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from string import ascii_uppercase
from typing import Any, TypeAlias

from ...exceptions import EventUnreadable
from ...wire.event import Event, all_stored, stored
from ..records import Head, Page, Record

Text: TypeAlias = bytes | str
"""What a connection gives: bytes, unless the project has it decode."""

NONCES = 26**6
"""A nonce is a number below this in Redis, and six capital letters everywhere else."""
INLINE = 16_384
"""Bytes of events that a notification takes along; of more it tells only where they stand."""

_THREE = tuple(a + b + c for a in ascii_uppercase for b in ascii_uppercase for c in ascii_uppercase)


def letters(number: int) -> str:
    return _THREE[number // 17576 % 17576] + _THREE[number % 17576]


def plain(value: Text) -> str:
    return value if isinstance(value, str) else value.decode()


def arguments(events: Iterable[Event]) -> Iterator[str]:
    """Yield name, data and retry of each, as the script takes them."""
    for event in events:
        yield "" if event.event is None else f":{event.event}"
        yield event.data
        yield "" if event.retry is None else str(event.retry)


def record(entry: Sequence[object]) -> Record:
    """Return the event of an entry of a stream.

    Raises:
        EventUnreadable: This package has not written it.
    """
    id, fields = entry
    offset, _, nonce = plain(id).partition("-")  # type: ignore[arg-type]
    try:
        _, name, _, data, _, at, *rest = map(plain, fields)  # type: ignore[call-overload]
        retry = int(rest[1]) if rest else None
        event = stored(data, name[1:] if name else None, retry)
        return Record(int(offset), event, int(at) / 1e6, letters(int(nonce)))
    except (TypeError, ValueError) as error:
        message = f"the entry {id!r:.60} of a topic in Redis was written by something else: {error}"
        raise EventUnreadable(message, int(offset)) from error


def head(fields: Sequence[Text]) -> tuple[Head, str, str]:
    """Return where a topic is, the nonce of its top, and the epoch before its fork if that is told."""
    epoch, floor, top, closed, nonce, *forked = fields
    where = Head(plain(epoch), int(floor), int(top), None if closed is None else plain(closed))
    return where, letters(int(nonce)) if nonce else "", plain(forked[0]) if forked else ""


def page(reply: Sequence[object]) -> Page:
    """Return what the script for reading has answered."""
    if len(reply) == 1:
        return Page(lost=plain(reply[0]) == "vanished")  # type: ignore[arg-type]
    _, where, before, entries = reply
    state, nonce, forked = head(where)  # type: ignore[arg-type]
    return Page(
        **state._asdict(),
        records=_readable(entries),  # type: ignore[arg-type]
        nonce=nonce,
        before=letters(int(before)) if before else "",  # type: ignore[call-overload]
        forked=forked,
    )


def _readable(answered: Sequence[object]) -> tuple[Record, ...]:
    """Return the entries up to one that cannot be read, which is an error where it is the first."""
    records: list[Record] = []
    try:
        for some in answered:
            records.extend(_records(some))  # of several, those before one that cannot be read
    except EventUnreadable:
        if not records:
            raise
    return tuple(records)


def _records(answered: Any) -> Iterable[Record]:
    """Return the event of an entry; or those of many, which came as one text: their ids, names, data and times."""
    if isinstance(answered, bytes):
        answered = answered.decode(errors="surrogateescape")
    if not isinstance(answered, str):
        return (record(answered),)
    columns = json.loads(answered)
    try:
        return _records_of(*columns)
    except ValueError:  # one of them cannot be read, or has a number that is none
        return (record((id, ("e", name, "d", data, "t", at))) for id, name, data, at in zip(*columns, strict=True))


def _records_of(ids: list[str], names: list[str], datas: list[str], times: list[str]) -> list[Record]:
    """Return what ``record`` does of each, all at once."""
    events = all_stored(datas, [name[1:] if name else None for name in names])
    records: list[Record] = []
    before: tuple[str, str] | None = None
    nonce, when = "", 0.0
    for id, event, at in zip(ids, events, times, strict=True):
        offset, _, number = id.partition("-")
        if (number, at) != before:  # of another append
            before = number, at
            nonce, when = letters(int(number)), int(at) / 1e6
        records.append(Record(int(offset), event, when, nonce))
    return records


def notification(message: bytes) -> Page | None:
    """Return what a notification said: the events that it took along, as the log would have given them, if it took any.

    ``None`` where it only says that the topic has changed, and where it cannot be read.
    """
    line, _, rest = message.partition(b"\n")
    try:
        version, *values = line.split(b" ")
        if version != b"1":
            return None
        epoch, nonce, before = values[0].decode(), letters(int(values[3])), letters(int(values[4])) if values[4] != b"-" else ""
        first, top, floor, at, count = (int(values[place]) for place in (1, 2, 5, 6, 7))
        records, place = list[Record](), 0
        for offset in range(first, top + 1) if count else ():
            begin = rest.index(b"\n", place) + 1
            name_size, data_size, retry = rest[place : begin - 1].split(b" ")
            end = begin + int(name_size)
            place = end + int(data_size)
            name, data = rest[begin:end], rest[end:place]
            event = stored(data.decode(), name[1:].decode() if name else None, int(retry) if retry else None)
            records.append(Record(offset, event, at / 1e6, nonce))
        if len(records) != count or place != len(rest):
            return None
        return Page(epoch=epoch, floor=floor, top=top, records=tuple(records), nonce=nonce, before=before)
    except (ValueError, IndexError):
        return None
