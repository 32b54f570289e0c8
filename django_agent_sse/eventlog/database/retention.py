"""What a topic in the database keeps: nothing is scanned for it, rows are found by halving and deleted many at a time."""

from __future__ import annotations

from ..records import Limits
from .store import Found, Rows

SLACK = 1 / 16
"""So much more than the limits say may be stored; what is beyond ``MAX_EVENTS`` or ``MAX_AGE`` is not read all the same."""
SLACK_EVENTS = 1024
SLACK_BYTES = 1_048_576
"""The most that the sixteenth may be."""


def is_worth_it(topic: Found, limits: Limits, now: float) -> bool:
    """Whether so much is beyond the limits that it is time to delete it."""
    return (
        topic.top - topic.floor > limits.max_events + min(limits.max_events * SLACK, SLACK_EVENTS)
        or topic.total - topic.gone > limits.max_bytes + min(limits.max_bytes * SLACK, SLACK_BYTES)
        or topic.oldest_at < now - limits.max_age * (1 + SLACK)
    )


def floor_of(rows: Rows, topic: Found, max_events: float | None, max_bytes: float | None, oldest: float | None) -> int:
    """The topic's floor, or the newest offset that is beyond one of these bounds. Bytes never take the newest event."""
    floor = topic.floor if max_events is None else int(max(topic.floor, topic.top - max_events))
    if oldest is not None and topic.appended_at <= oldest:
        return topic.top
    if oldest is not None and topic.oldest_at <= oldest:
        floor = rows.last_where(topic, lambda row: row.at <= oldest, floor)
    if max_bytes is not None and topic.total - topic.gone > max_bytes:
        floor = max(floor, min(_beyond(rows, topic, max_bytes, floor), topic.top - 1))
    return floor


def _beyond(rows: Rows, topic: Found, max_bytes: float, floor: int) -> int:
    """The first offset from ``floor`` on behind which there are no more than so many bytes."""
    must_go = topic.total - max_bytes
    offset = rows.last_where(topic, lambda row: row.total < must_go, floor)
    row = rows.row_after(topic, offset)
    if row is None:
        return offset
    sizes = rows.sizes(topic, row)
    inside = offset - (row.last - row.events)
    until = row.total - sum(sizes[inside:])
    for size in sizes[inside:]:
        if until >= must_go:
            break
        until += size
        offset += 1
    return offset
