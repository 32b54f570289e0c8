"""What a process told of its streams in answer to a question, as it is taken from the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ...eventlog.validation import MAX_NAME
from ...eventlog.vector import MAX_TOPICS
from . import fields
from .inspector import ROWS, TOPICS, Question
from .stats import Row, Snapshot, State

ANSWERS = 32
"""Answers of one event at most."""
MAX_TEXT = 2000
"""Characters of a route, an id, a user agent."""


class Answer(NamedTuple):
    """What one process said to one question, at a time in seconds since 1970. ``matched`` counts what is not told, too."""

    at: float
    rows: list[Row]
    matched: int
    readers: Mapping[str, int]


NONE = Answer(0.0, [], 0, {})


def answers_of(snapshot: Snapshot, told: object) -> Iterator[tuple[Question, Answer]]:
    """The answers that came with a snapshot.

    Raises:
        ValueError: Another version, or somebody else, wrote them.
    """
    for one in fields.listed(told, ANSWERS):
        asked, rows, matched, readers = _exactly(one, 4)
        found = [_row(row, snapshot.process.id) for row in fields.listed(rows, ROWS)]
        counts = {topic: fields.count(number) for topic, number in fields.mapping(readers, TOPICS).items()}
        yield _question(asked), Answer(snapshot.at, found, fields.count(matched), counts)


def _question(told: object) -> Question:
    given = fields.mapping(told, len(Question.__slots__))
    if unknown := given.keys() - {*Question.__slots__}:
        raise ValueError(f"a question has no {min(unknown)[:40]!r}")
    readers = given.get("readers")
    texts = {name: fields.text(value, MAX_TEXT) for name, value in given.items() if name != "readers"}
    return Question(**texts, readers=None if readers is None else fields.text(readers, MAX_NAME))


def _row(told: object, process: str) -> Row:
    row = Row(*_exactly(told, len(Row._fields)))
    if row.process != process or not fields.text(row.id, 100).startswith(f"{process}."):
        raise ValueError("a process tells of its own streams only")
    if fields.text(row.state, 20) not in {*State}:
        raise ValueError("a stream is in no such state")
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


def _exactly(told: object, parts: int) -> list[Any]:
    found = fields.listed(told, parts)
    if len(found) != parts:
        raise ValueError(f"it has {parts} parts")
    return found
