"""Where retention begins: no table is scanned, rows are found by bisection."""

from __future__ import annotations

from .store import TopicRow, TopicStore


def floor_of(store: TopicStore, topic: TopicRow, max_events: float | None, max_bytes: float | None, oldest: float | None) -> int:
    """Return the newest offset that is beyond one of these bounds, or the topic's floor. Bytes never take the newest event."""
    floor = topic.floor if max_events is None else int(max(topic.floor, topic.top - max_events))
    if oldest is not None and topic.appended_at <= oldest:
        return topic.top
    if oldest is not None and topic.oldest_at <= oldest:
        floor = store.last_where(topic, lambda row: row.at <= oldest, floor)
    if max_bytes is not None and topic.total - topic.gone > max_bytes:
        floor = max(floor, min(_beyond(store, topic, max_bytes, floor), topic.top - 1))
    return floor


def _beyond(store: TopicStore, topic: TopicRow, max_bytes: float, floor: int) -> int:
    """Return the first offset, from ``floor`` on, that no more than ``max_bytes`` come after."""
    must_go = topic.total - max_bytes
    offset = store.last_where(topic, lambda row: row.total < must_go, floor)
    row = store.row_after(topic, offset)
    if row is None:
        return offset
    sizes = store.sizes(topic, row)
    inside = offset - (row.last - row.events)
    until = row.total - sum(sizes[inside:])
    for size in sizes[inside:]:
        if until >= must_go:
            break
        until += size
        offset += 1
    return offset
