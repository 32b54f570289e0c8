"""The event log in the project's own database: every process publishes, every process follows, a crash loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, TypeVar

from django.db import connections, transaction

from ... import conf
from ...exceptions import ConfigurationError, EventLogUnavailable, PositionConflict, TopicClosed, TransactionRefused
from ...runtime.pools import readers, where_called, where_waited_for, writers
from ..base import EventLog
from ..eviction import DELETED_FOR, FOLLOWED_FOR, NOTE_EVERY
from ..records import Appended, Head, Page, TopicState
from .notes import DELETED, FOLLOWED
from .retention import floor_of, is_worth_it
from .store import Found, Rows, Sized
from .transactions import is_open, read, written

ATTEMPTS = 10
"""How often somebody else may make, delete or trim a topic between two of our statements about it."""
KEYS_EVERY = 64
"""Appends with a key after which old keys are looked for."""

_T = TypeVar("_T")


class DatabaseEventLog(EventLog):
    """Topics in the tables of one of the project's databases, ``ALIAS`` or the one that its routers write ``LogTopic`` to.

    It is written to and read from there, never from a replica that lags: that would invent positions ahead of the log.
    Appends are part of the caller's transaction, and take the topic's lock until its end.
    """

    crosses_processes = True
    durable = True
    transactional = True
    own_options: ClassVar[tuple[str, ...]] = ("ALIAS",)

    def __init__(self, **options: Any) -> None:
        alias = options.pop("ALIAS", None)
        super().__init__(**options)
        if alias is not None and not isinstance(alias, str):
            raise ConfigurationError(
                f"AGENT_SSE['EVENT_LOG']['OPTIONS']['ALIAS'] is {conf.shown(alias)}; it is a name in DATABASES"
            )
        self._named: str | None = alias
        self._now: Callable[[], float] = time.time

    @property
    def alias(self) -> str:
        """The database, by its name in ``DATABASES``."""
        return self._named or Rows.database()

    def check(self) -> list[str]:
        """What keeps this log from working in this project, a sentence each."""
        alias = self.alias
        if alias not in connections:
            return [f"AGENT_SSE['EVENT_LOG']['OPTIONS']['ALIAS'] is {conf.shown(alias)}, DATABASES has {', '.join(connections)}"]
        if connections.settings[alias]["ENGINE"] == "django.db.backends.dummy":
            return [f"DATABASES[{alias!r}] names no ENGINE: name one, or keep topics elsewhere with AGENT_SSE['EVENT_LOG']"]
        return []

    # Threads and transactions

    async def _run(self, body: Callable[[], _T]) -> _T:
        return await where_called(body, writers)

    async def _run_read(self, body: Callable[[], _T]) -> _T:
        return await where_waited_for(body, readers)

    async def _run_note(self, body: Callable[[], _T]) -> _T:
        return await where_waited_for(body, writers)

    def _when_visible(self, call: Callable[[], object]) -> None:
        alias = self.alias
        if connections[alias].in_atomic_block:
            transaction.on_commit(call, using=alias, robust=True)
        else:
            call()

    def _outside(self, topic: str, call: Callable[[], _T]) -> _T:
        alias = self.alias
        if not is_open(alias):
            return call()
        if connections[alias].vendor == "sqlite":
            raise TransactionRefused(
                "outside_transaction=True needs a second connection that writes, and SQLite has one writer, this transaction: "
                "publish before or after it, or use PostgreSQL. Nothing was appended"
            )
        if any(isinstance(hook, _Ring) and hook.topic == topic for _, hook, *_ in connections[alias].run_on_commit):
            raise TransactionRefused(
                f"outside_transaction=True would wait for ever: this transaction has itself published to {topic!r}, and holds "
                "its lock until it ends. Publish there with outside_transaction=True only. Nothing was appended"
            )
        return writers.submit(call).result()

    def _ring(self, topic: str) -> Callable[[], object]:
        return _Ring(topic, self.on_change)

    def _write(self, body: Callable[[Rows], _T]) -> _T:
        alias = self.alias
        return written(alias, partial(body, Rows(alias)))

    def _read(self, body: Callable[[Rows], _T]) -> _T:
        alias = self.alias
        return read(alias, partial(body, Rows(alias)))

    # Verbs

    def _append(self, topic: str, events: Sized, expect: int | None, key: str | None) -> Appended:
        return self._write(lambda rows: self._appended(rows, topic, events, expect, key))

    def _appended(self, rows: Rows, name: str, events: Sized, expect: int | None, key: str | None) -> Appended:
        now = self._now()
        size = sum(size for _, size in events)
        for _ in range(ATTEMPTS):
            if key is not None and (topic := rows.lock(name)) is not None:
                before = rows.repeated(topic, key, now - self.limits.key_window)
                if before is not None:
                    return before
            topic = rows.advance(name, len(events), size, now, expect)
            if topic is not None:
                appended = rows.add(topic, events, now)
                if key is not None:
                    self._remember(rows, topic, key, appended, now)
                self._retain(rows, topic, now)
                return appended
            self._make(rows, name, expect, now)
        raise _restless(name)

    def _make(self, rows: Rows, name: str, expect: int | None, now: float) -> None:
        """Make the topic that takes no append because there is none; refuse for any other reason."""
        topic = rows.find(name)
        if topic is not None and topic.closed:
            raise TopicClosed(f"the topic {name!r} is closed ({topic.closed}); delete() it, or publish to another name")
        top = 0 if topic is None else topic.top
        if expect is not None and expect != top:
            raise PositionConflict(f"the topic {name!r} ends at {top}, not at {expect}: somebody else appended", top)
        if topic is None:
            self._make_new(rows, name, now)

    def _make_new(self, rows: Rows, name: str, now: float) -> None:
        rows.make(name, now)
        most = self.limits.max_topics
        self._evicted(rows.make_room(most, name, now - FOLLOWED_FOR), most)

    def _remember(self, rows: Rows, topic: Found, key: str, appended: Appended, now: float) -> None:
        rows.remember(topic, key, appended, now)
        if topic.top // KEYS_EVERY != (topic.top - len(appended)) // KEYS_EVERY:
            rows.forget_keys(topic, now - self.limits.key_window)

    def _retain(self, rows: Rows, topic: Found, now: float) -> None:
        """Delete what is beyond the limits, once it is worth it."""
        limits = self.limits
        if is_worth_it(topic, limits, now):
            rows.drop(topic, floor_of(rows, topic, limits.max_events, limits.max_bytes, now - limits.max_age))

    def _kept_after(self, rows: Rows, topic: Found) -> int:
        """The floor as it is read: without what is too old or too much, deleted or not."""
        return floor_of(rows, topic, self.limits.max_events, None, self._now() - self.limits.max_age)

    def _read_after(self, topic: str, offset: int, limit: int) -> Page:
        return self._read(lambda rows: self._page(rows, topic, offset, limit))

    def _page(self, rows: Rows, name: str, offset: int, limit: int) -> Page:
        before: Found | None = None
        for _ in range(ATTEMPTS):
            topic = rows.find(name)
            if topic is None:
                return Page(vanished=not rows.notes.since(DELETED, self._now() - DELETED_FOR).filter(name=name).exists())
            floor = self._kept_after(rows, topic)
            after = max(offset, floor)
            records = rows.records(topic, after, limit) if after < topic.top and limit > 0 else []
            if records or after >= topic.top or limit <= 0:
                return Page(epoch=topic.epoch, floor=floor, top=topic.top, closed=topic.closed or None, records=records)
            if topic == before:
                raise rows.lacks(topic, after)
            before = topic  # it was trimmed or deleted between the two queries, or is broken
        raise _restless(name)

    def _state(self, topic: str) -> TopicState:
        return self._read(lambda rows: self._stated(rows, topic))

    def _stated(self, rows: Rows, name: str) -> TopicState:
        topic = rows.find(name)
        if topic is None:
            return TopicState()
        floor, gone, oldest_at = self._kept_after(rows, topic), topic.gone, topic.oldest_at
        if floor > topic.floor:
            row = rows.row_after(topic, floor)
            gone = rows.bytes_until(topic, floor, row)
            oldest_at = topic.appended_at if row is None else row.at
        kept = floor < topic.top
        return TopicState(
            epoch=topic.epoch,
            floor=floor,
            top=topic.top,
            closed=topic.closed or None,
            events=topic.top - floor,
            bytes=topic.total - gone,
            oldest_at=oldest_at if kept else None,
            newest_at=topic.appended_at if kept else None,
        )

    def _heads(self, topics: list[str]) -> dict[str, Head]:
        return self._read(lambda rows: {name: self._head(head, at) for name, head, at in rows.heads(topics)})

    def _head(self, head: Head, appended_at: float) -> Head:
        """Without what is too much, and without anything where all is too old."""
        if appended_at <= self._now() - self.limits.max_age:
            return head._replace(floor=head.top)
        return head._replace(floor=int(max(head.floor, head.top - self.limits.max_events)))

    def _close(self, topic: str, reason: str) -> bool:
        return self._write(lambda rows: self._closed(rows, topic, reason))

    def _closed(self, rows: Rows, name: str, reason: str) -> bool:
        for _ in range(ATTEMPTS):
            if rows.close(name, reason):
                return True
            if rows.find(name) is not None:
                return False
            self._make_new(rows, name, self._now())
        raise _restless(name)

    def _delete(self, topic: str) -> bool:
        return self._write(lambda rows: self._deleted(rows, topic))

    def _deleted(self, rows: Rows, name: str) -> bool:
        topic = rows.lock(name)
        if topic is not None:
            rows.delete(topic)
            rows.notes.put(DELETED, [name], self._now(), DELETED_FOR)
        return topic is not None

    def _note_followed(self, topics: list[str]) -> None:
        now = self._now()
        missing = self._read(lambda rows: rows.notes.missing(FOLLOWED, topics, now - NOTE_EVERY / 2))
        if missing:  # no other process has noted them just now
            self._write(lambda rows: rows.notes.put(FOLLOWED, missing, now, FOLLOWED_FOR))

    def _trim(self, topic: str, max_events: int | None, max_bytes: int | None, max_age: float | None) -> int:
        return self._write(lambda rows: self._trimmed(rows, topic, max_events, max_bytes, max_age))

    def _trimmed(self, rows: Rows, name: str, max_events: int | None, max_bytes: int | None, max_age: float | None) -> int:
        topic = rows.lock(name)
        if topic is None:
            return 0
        now, limits = self._now(), self.limits
        own = floor_of(rows, topic, limits.max_events, limits.max_bytes, now - limits.max_age)
        floor = max(own, floor_of(rows, topic, max_events, max_bytes, None if max_age is None else now - max_age))
        rows.drop(topic, floor)
        rows.forget_keys(topic, now - limits.key_window)
        return floor - own

    def _topics(self, prefix: str, after: str, limit: int) -> list[str]:
        if prefix and not (prefix.isascii() and prefix.isprintable()):
            return []
        return self._read(lambda rows: rows.names(prefix, after, limit))

    def _clear_all(self) -> None:
        self._write(lambda rows: rows.clear())


class _Ring:
    """Rings for a topic at the commit; until then it tells that the transaction holds the topic's lock."""

    __slots__ = ("_changed", "topic")

    def __init__(self, topic: str, changed: Callable[[str], object]) -> None:
        self.topic = topic
        self._changed = changed

    def __call__(self) -> None:
        self._changed(self.topic)


def _restless(name: str) -> EventLogUnavailable:
    return EventLogUnavailable(
        f"the topic {name!r} was deleted, made or trimmed {ATTEMPTS} times while this looked at it. Nothing was changed"
    )
