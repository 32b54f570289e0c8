"""What is asked most often, of PostgreSQL and SQLite: an append to a topic that is there and open, in one statement of PostgreSQL
and two to four of SQLite, and the questions of those who follow topics.

Django's ORM takes several times as long to make a query as these databases take to answer it. It has every other one: see
``DatabaseEventLog._appended`` and ``TopicStore``, which say the same in the words of every database.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from ...models import LogKey, LogMark, LogRow, LogTopic, TopicLease
from ...wire.event import Event
from ...wire.line_levels import Marks, summed
from ..records import Appended, Bounds
from .leases import CLOCKS
from .marks import ROW_EVENTS
from .serialization import pack

MOST_BYTES: Final = 65_536
"""Bytes of such an append at most. What is more may be several rows, and then the ORM's part of the time is small."""
MOST_OFFSET: Final = 2**63 - 1
"""What a column takes: no topic ends there, or behind it, where SQLite's driver refuses to ask."""
KEYS_EVERY: Final = 64
"""Events between two deletions of old keys."""


class DirectAppend(NamedTuple):
    """An append, ready to be a row.

    Args:
        topic: The topic's name.
        payload: The events: see ``serialization``.
        events: How many they are.
        size: Their bytes, as limits count them.
        expect: The offset that the topic must end at.
        digest: Of the key.
        holder: Who must hold the topic's lease.
        marked: The numbers of the first and the last event with marks, from 0, and the sums of their marks.
    """

    topic: str
    payload: str
    events: int
    size: int
    expect: int | None
    digest: str | None
    holder: str | None
    marked: tuple[int, int, Marks] | None


def direct_append(
    topic: str,
    events: list[tuple[Event, int]],
    expect: int | None,
    key: str | None,
    holder: str | None,
    marks: Mapping[int, Marks],
) -> DirectAppend | None:
    """Return an append that is one row; ``None`` where there is nothing to append, or more than a row takes."""
    size = sum(size for _, size in events)
    if not 0 < len(events) <= ROW_EVENTS or size > MOST_BYTES:
        return None
    payload = pack(event for event, _ in events)
    digest = None if key is None else digest_of(key)
    expect = None if expect is None else min(expect, MOST_OFFSET)
    marked = (min(marks), max(marks), summed(marks.values())) if marks else None
    return DirectAppend(topic, payload, len(events), size, expect, digest, holder, marked)


def append_directly(
    connection: BaseDatabaseWrapper, append: DirectAppend, now: float, bounds: Bounds, *, locks: bool
) -> Appended | None:
    """Append to a topic, unless there is more to do or to say.

    Args:
        connection: To a database that ``is_direct``.
        append: What is appended.
        now: The time, in seconds since 1970.
        bounds: Beyond these the topic is to be trimmed.
        locks: Whether a transaction is open, which keeps locks. Without one there must be no holder.

    Returns:
        ``None`` where nothing was changed: the topic is new or closed or does not end as expected, the key was used before, the
        lease is over, or old events or keys are to be deleted.

    Raises:
        IntegrityError: Without a lock, another caller was using the key at the same time. Nothing was changed.
    """
    update, params = _update(connection.vendor, append, now, bounds)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            if locks and (append.digest is not None or append.holder is not None):
                # It shows a statement other tables as they were when it began, which may be long before it gets the lock.
                cursor.execute(f"SELECT 1 FROM {_table(LogTopic)} WHERE name = %s FOR NO KEY UPDATE", [append.topic])
            parts = [f"topic AS ({update} RETURNING id, epoch, top, total)"]
            for number, (sql, more) in enumerate(_inserts(append, now)):
                parts.append(f"insert_{number} AS ({sql} FROM topic)")
                params += more
            cursor.execute(f"WITH {', '.join(parts)} SELECT id, epoch, top FROM topic", params)
            found = cursor.fetchall()
        else:
            cursor.execute(f"{update} RETURNING id, epoch, top", params)
            found = cursor.fetchall()
            for pk, _, _ in found:
                for sql, more in _inserts(append, now):
                    cursor.execute(f"{sql} FROM {_table(LogTopic)} WHERE id = %s", [*more, pk])
    return next((Appended(epoch, top - append.events + 1, top) for _, epoch, top in found), None)


def topics_directly(connection: BaseDatabaseWrapper, columns: Iterable[str], names: Collection[str]) -> list[Any]:
    """Return columns of those of these topics that there are; ``names`` are no more than one statement takes."""
    places = ", ".join(["%s"] * len(names))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)} FROM {_table(LogTopic)} WHERE name IN ({places})", [*names])
        return [*cursor.fetchall()]


def rows_directly(
    connection: BaseDatabaseWrapper, topic: int, offset: int, newest: int, most_bytes: int, limit: int
) -> list[Any]:
    """Return rows of a topic, in their order: those after ``offset``, of which only the first may be larger than ``most_bytes``.

    Args:
        connection: To a database that ``is_direct``.
        topic: Its primary key.
        offset: What comes after it is read.
        newest: The last event of no row is after this.
        most_bytes: Bytes of all rows but the first, at most.
        limit: How many, at most.
    """
    after = f"FROM {_table(LogRow)} WHERE topic_id = %s AND last > %s"
    sql = (
        f"SELECT last, events, total, at, payload {after} AND last <= %s"
        f" AND total <= (SELECT total {after} ORDER BY last LIMIT 1) + %s ORDER BY last LIMIT %s"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [topic, offset, newest, topic, offset, most_bytes, limit])
        return [*cursor.fetchall()]


def _update(vendor: str, append: DirectAppend, now: float, bounds: Bounds) -> tuple[str, list[Any]]:
    """Return the statement that locks a topic and moves its ``top`` on, where nothing else has to be done."""
    sql = (
        f"UPDATE {_table(LogTopic)} AS topic SET top = top + %s, total = total + %s, appended_at = %s, "
        "oldest_at = CASE WHEN top = floor THEN %s ELSE oldest_at END "
        "WHERE name = %s AND closed = '' AND top > 0 "
        "AND top + %s - floor <= %s AND total + %s - gone <= %s AND oldest_at >= %s"
    )
    count, size = append.events, append.size
    params = [count, size, now, now, append.topic, count, bounds.events, size, bounds.bytes, bounds.oldest]
    if append.expect is not None:
        sql += " AND top = %s"
        params.append(append.expect)
    if append.digest is not None:
        sql += (
            f" AND NOT EXISTS (SELECT 1 FROM {_table(LogKey)} AS used WHERE used.topic_id = topic.id AND used.digest = %s)"
            f" AND (top + %s) / {KEYS_EVERY} = top / {KEYS_EVERY}"
        )
        params += append.digest, count
    if append.holder is not None:
        clock = CLOCKS.get(vendor, "%s")
        sql += (
            f" AND EXISTS (SELECT 1 FROM {_table(TopicLease)} AS lease"
            f" WHERE lease.name = topic.name AND lease.holder = %s AND lease.deadline > {clock})"
        )
        params += [append.holder] if vendor in CLOCKS else [append.holder, time.time()]
    return sql, params


def _inserts(append: DirectAppend, now: float) -> Iterator[tuple[str, list[Any]]]:
    """Yield what is inserted, as far as ``FROM``, after which the topic is as ``_update`` has left it."""
    yield (
        f"INSERT INTO {_table(LogRow)} (topic_id, last, events, total, at, payload) SELECT id, top, %s, total, %s, %s",
        [append.events, now, append.payload],
    )
    if append.digest is not None:
        yield (
            f"INSERT INTO {_table(LogKey)} (topic_id, digest, first, last, at) SELECT id, %s, top - %s, top, %s",
            [append.digest, append.events - 1, now],
        )
    if append.marked is not None:
        first, last, marks = append.marked
        yield (
            f"INSERT INTO {_table(LogMark)} (topic_id, first, last, {', '.join(Marks._fields)})"
            f" SELECT id, top - %s, top - %s{', %s' * len(marks)}",
            [append.events - 1 - first, append.events - 1 - last, *marks],
        )


def _table(model: type[Model]) -> str:
    return f'"{model._meta.db_table}"'


def digest_of(key: str) -> str:
    """Return what is kept of a key, which may hold characters that a database does not take."""
    return blake2b(key.encode(errors="surrogatepass"), digest_size=16).hexdigest()
