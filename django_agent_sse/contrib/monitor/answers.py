"""What a process answered to a query for its streams, as it is read from the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ...eventlog.position import MAX_TOPICS
from ...eventlog.validation import MAX_NAME
from ...streams.registry import State
from ...streams.snapshot import Snapshot
from . import fields
from .inspector import ROWS, TOPICS, StreamQuery, StreamRow

ANSWERS = 32
"""Answers in one event at most."""
MAX_TEXT = 2000
"""Characters of a route, an id, a user agent."""


class Answer(NamedTuple):
    """The answer of one process to one query, at a time in seconds since 1970. ``matched`` counts rows left out, too."""

    at: float
    rows: list[StreamRow]
    matched: int
    readers: Mapping[str, int]


NONE = Answer(0.0, [], 0, {})


def answers_of(snapshot: Snapshot, payload: object) -> Iterator[tuple[StreamQuery, Answer]]:
    """Yield the answers that came with a snapshot.

    Raises:
        ValueError: Another version of the package wrote them, or somebody else.
    """
    for answer in fields.listed(payload, ANSWERS):
        query, rows, matched, readers = _exactly(answer, 4)
        own = [_row(row, snapshot.process.id) for row in fields.listed(rows, ROWS)]
        counts = {topic: fields.count(number) for topic, number in fields.mapping(readers, TOPICS).items()}
        yield _query(query), Answer(snapshot.at, own, fields.count(matched), counts)


def _query(payload: object) -> StreamQuery:
    given = fields.mapping(payload, len(StreamQuery.__slots__))
    if unknown := given.keys() - {*StreamQuery.__slots__}:
        raise ValueError(f"a query has no {min(unknown)[:40]!r}")
    readers = given.get("readers")
    texts = {name: fields.text(value, MAX_TEXT) for name, value in given.items() if name != "readers"}
    return StreamQuery(**texts, readers=None if readers is None else fields.text(readers, MAX_NAME))


def _row(payload: object, process: str) -> StreamRow:
    row = StreamRow(*_exactly(payload, len(StreamRow._fields)))
    if row.process != process or not fields.text(row.id, 100).startswith(f"{process}."):
        raise ValueError("a process may tell of its own streams only")
    if fields.text(row.state, 20) not in {*State}:
        raise ValueError("a stream cannot be in this state")
    return row._replace(
        route=fields.text(row.route, MAX_TEXT),
        topics=tuple(fields.text(topic, MAX_NAME) for topic in fields.listed(row.topics, MAX_TOPICS)),
        user=fields.text(row.user, MAX_TEXT),
        opened=fields.moment(row.opened),
        seconds=fields.number(row.seconds),
        events=fields.count(row.events),
        bytes=fields.count(row.bytes),
        last_id=None if row.last_id is None else fields.text(row.last_id, MAX_TEXT),
        lag=fields.count(row.lag),
        idle=fields.number(row.idle),
        address=fields.text(row.address, MAX_TEXT),
        agent=fields.text(row.agent, MAX_TEXT),
    )


def _exactly(payload: object, parts: int) -> list[Any]:
    values = fields.listed(payload, parts)
    if len(values) != parts:
        raise ValueError(f"it must have {parts} parts, not {len(values)}")
    return values
