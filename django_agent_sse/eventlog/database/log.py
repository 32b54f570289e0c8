"""The event log in the project's own database: every process publishes, every process follows, a crash loses nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from django.db import IntegrityError, connections, router, transaction

from ... import conf
from ...exceptions import ConfigurationError
from ...models import LogTopic
from ...runtime.loop import blocking
from ...runtime.pools import outside, readers, where_called, where_waited_for, writers
from ...wire.line_levels import Marks, marks_of
from ..eviction import DELETED_FOR, FOLLOWED_FOR, NOTE_EVERY
from ..records import Appended, Bounds, Head, Page, Record, StoreWarning, TopicState
from ..validation import lost_error, refuse_append
from .examination import findings
from .grouping import PLAIN, GroupCommit, PendingAppend
from .leasing import DatabaseLeasing
from .retention import floor_of
from .searching import ATTEMPTS, DatabaseSearching, restless, settled
from .statements import KEYS_EVERY, DirectAppend, append_directly, direct_append
from .store import DELETED, FOLLOWED, Sized, TopicRow, TopicStore
from .sweeping import Sweeper
from .transactions import (
    by_itself,
    hold,
    is_direct,
    is_one_statement,
    is_open,
    lock_scope,
    may_stand_alone,
    must_leave,
    read,
    write,
)

TOLD = 16_384
"""Bytes of an append, at most, whose events are told to followers in this process together with the notification."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DatabaseEventLog(DatabaseSearching, DatabaseLeasing):
    """Topics in the tables of one of the project's databases, ``ALIAS`` or the one that its routers write ``LogTopic`` to.

    It is written to and read from there, never from a replica that lags: that would invent positions ahead of the log.
    Appends are part of the caller's transaction, and take the topic's lock until its end.
    """

    crosses_processes = True
    durable = True
    transactional = True
    own_options: ClassVar[tuple[str, ...]] = ("ALIAS", "NOTIFY_ALIAS")

    def __init__(self, **options: Any) -> None:
        alias, notify = options.pop("ALIAS", None), options.pop("NOTIFY_ALIAS", "")
        super().__init__(**options)
        if alias is not None and not isinstance(alias, str):
            raise ConfigurationError(
                f"AGENT_SSE['EVENT_LOG']['OPTIONS']['ALIAS'] is {conf.shown(alias)}; it must be a name in DATABASES"
            )
        if notify is not None and not isinstance(notify, str):
            raise ConfigurationError(
                f"AGENT_SSE['EVENT_LOG']['OPTIONS']['NOTIFY_ALIAS'] is {conf.shown(notify)}; it must be a name in DATABASES "
                "or None"
            )
        self._named: str | None = alias
        self._notify_named: str | None = notify
        self._now: Callable[[], float] = time.time
        self._group = GroupCommit()

    @property
    def alias(self) -> str:
        """The name in ``DATABASES`` of the database that keeps the topics."""
        return self._named or router.db_for_write(LogTopic)

    @property
    def notify_alias(self) -> str | None:
        """See ``EventLog``."""
        return None if self._notify_named is None else self._notify_named or self.alias

    def check(self) -> list[str]:
        """See ``EventLog``."""
        alias = self.alias
        for option, name in (("ALIAS", alias), ("NOTIFY_ALIAS", self.notify_alias or alias)):
            if name not in connections:
                known = ", ".join(connections)
                return [f"AGENT_SSE['EVENT_LOG']['OPTIONS']['{option}'] is {conf.shown(name)}, DATABASES has {known}"]
        if connections.settings[alias]["ENGINE"] == "django.db.backends.dummy":
            return [f"DATABASES[{alias!r}] names no ENGINE: name one, or keep topics elsewhere with AGENT_SSE['EVENT_LOG']"]
        return []

    def examine(self) -> list[StoreWarning]:
        """See ``EventLog``."""
        return [*findings(self.alias)]

    # Threads and transactions

    async def _run(self, body: Callable[[], _T]) -> _T:
        return await where_called(body, writers)

    async def _run_read(self, body: Callable[[], _T]) -> _T:
        return await where_waited_for(body, readers)

    async def _run_note(self, body: Callable[[], _T]) -> _T:
        return await where_waited_for(body, writers)

    async def _run_apart(self, body: Callable[[], _T]) -> _T:
        return await where_waited_for(body, blocking)

    def _when_visible(self, call: Callable[[], object]) -> None:
        alias = self.alias
        if connections[alias].in_atomic_block:
            transaction.on_commit(call, using=alias, robust=True)
        else:
            call()

    def _outside(self, topic: str, call: Callable[[], _T]) -> _T:
        return outside.submit(call).result() if must_leave(self.alias, topic) else call()

    def _notify(self, topic: str, *page: Page) -> None:
        if page and not is_open(self.alias):
            self.on_change(topic, *page)
        else:  # nothing is kept in memory until a commit that may be far away
            self._when_visible(partial(self.on_change, topic))

    def _appended_page(self, result: object, *args: Any) -> tuple[Page, ...]:
        if not isinstance(result, Appended) or not result:
            return ()
        events, _, key, _ = args
        if key is not None or sum(size for _, size in events) > TOLD:  # with a key it may have been another time, and others
            return ()
        records = [Record(offset, event, self._now()) for offset, (event, _) in enumerate(events, result.first)]
        return (Page(epoch=result.epoch, top=result.last, records=records),)

    def _write(self, body: Callable[Concatenate[TopicStore, str, _P], _T], name: str, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        hold(self.alias, name)
        return self._write_any(body, name, *args, **kwargs)

    def _write_any(self, body: Callable[Concatenate[TopicStore, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        alias = self.alias
        return write(alias, body, TopicStore(alias), *args, **kwargs)

    def _read(self, body: Callable[Concatenate[TopicStore, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        alias = self.alias
        return read(alias, body, TopicStore(alias), *args, **kwargs)

    # Verbs

    def _append_notified(self, topic: str, events: Sized, expect: int | None, key: str | None, holder: str | None) -> Appended:
        append = topic, events, expect, key, holder
        alone = partial(super()._append_notified, *append)
        scope = lock_scope(self.alias, topic)
        return alone() if scope is None else self._group.append(scope, PendingAppend(*append), alone, self._append_together)

    def _append_together(self, topics: dict[str, Sized]) -> dict[str, Appended]:
        """Append to topics, to all of them or to none, for callers who would wait for each other."""
        if len(topics) == 1:
            ((topic, events),) = topics.items()
            return {topic: super()._append_notified(topic, events, *PLAIN)}
        alias = self.alias
        prepared = {topic: self._prepared(alias, topic, events, *PLAIN) for topic, events in topics.items()}
        appended = write(alias, self._append_each, alias, prepared)
        for topic, events in topics.items():
            self._notify(topic, *self._appended_page(appended[topic], events, *PLAIN))
        return appended

    def _append_each(self, alias: str, prepared: dict[str, tuple[Any, ...]]) -> dict[str, Appended]:
        return {topic: self._append_here(alias, *append) for topic, append in prepared.items()}

    def _append(self, topic: str, events: Sized, expect: int | None, key: str | None, holder: str | None) -> Appended:
        alias = self.alias
        direct, *append = self._prepared(alias, topic, events, expect, key, holder)
        if direct is not None and holder is None and is_one_statement(alias) and may_stand_alone(alias):
            appended = by_itself(alias, self._append_alone, alias, direct)
            if appended is not None:
                return appended
            direct = None
        # What a holder who is late has changed must be undone in a transaction of the caller's too.
        alone = nullcontext() if holder is None or not is_open(alias) else transaction.atomic(alias)
        with alone:
            hold(alias, topic)
            return write(alias, self._append_here, alias, direct, *append)

    def _prepared(
        self, alias: str, topic: str, events: Sized, expect: int | None, key: str | None, holder: str | None
    ) -> tuple[Any, ...]:
        """Return what `_append_here` takes: all of this comes before the lock is taken."""
        marks = dict(marks_of(event for event, _ in events))
        direct = direct_append(topic, events, expect, key, holder, marks) if is_direct(alias) else None
        return direct, topic, events, expect, key, holder, marks

    def _append_alone(self, alias: str, direct: DirectAppend) -> Appended | None:
        try:
            return self._append_directly(alias, direct, locks=False)
        except IntegrityError:  # another caller was using the key at the same time: who waits for the topic's lock sees it
            return None

    def _append_here(self, alias: str, direct: DirectAppend | None, *append: Any) -> Appended:
        appended = None if direct is None else self._append_directly(alias, direct, locks=True)
        return self._appended(TopicStore(alias), *append) if appended is None else appended

    def _append_directly(self, alias: str, direct: DirectAppend, *, locks: bool) -> Appended | None:
        now = self._now()
        return append_directly(connections[alias], direct, now, Bounds.of(self.limits, now), locks=locks)

    def _appended(
        self,
        store: TopicStore,
        name: str,
        events: Sized,
        expect: int | None,
        key: str | None,
        holder: str | None,
        marks: Mapping[int, Marks],
    ) -> Appended:
        now = self._now()
        size = sum(size for _, size in events)
        # The UPDATE of advance() comes first. It takes the topic's lock, so that offsets follow the order of the commits; and on
        # SQLite a transaction that reads first may not be able to write later. Why it changes no row is asked afterwards.
        for _ in range(ATTEMPTS):
            if key is not None and (topic := store.lock(name)) is not None:
                before = store.repeated(topic, key, now - self.limits.key_window)
                if before is not None:
                    return before
            topic = store.advance(name, len(events), size, now, expect)
            if topic is not None:
                if holder is not None and not store.leases.is_held(name, holder):  # looked at under the lock, and rolled back
                    raise lost_error(name, holder)
                appended = store.add(topic, events, now, marks)
                if key is not None:
                    store.remember(topic, key, appended, now)
                    if topic.top // KEYS_EVERY != (topic.top - len(appended)) // KEYS_EVERY:
                        store.forget_keys(topic, now - self.limits.key_window)
                self._retain(store, topic, now)
                return appended
            if holder is not None:
                _check_holder(store, name, holder)
            self._make(store, name, expect, now)
        raise restless(name)

    def _make(self, store: TopicStore, name: str, expect: int | None, now: float) -> None:
        """Find out why an append changed no row: make the topic if there is none, and raise for any other reason."""
        topic = store.find(name)
        closed, top = ("", 0) if topic is None else (topic.closed, topic.top)
        refuse_append(name, closed, top, expect)
        if topic is None:
            self._make_new(store, name, now)

    def _make_new(self, store: TopicStore, name: str, now: float) -> None:
        store.make(name, now)
        if evicted := store.make_room(self.limits.max_topics, name, now - FOLLOWED_FOR):
            for victim in evicted:
                hold(self.alias, victim)
            self._evicted(evicted)
            self._when_visible(store.sweeper.sweep_soon)

    def _retain(self, store: TopicStore, topic: TopicRow, now: float) -> None:
        """Delete what is beyond the limits, once there is enough of it."""
        limits, bounds = self.limits, Bounds.of(self.limits, now)
        kept = topic.top - topic.floor, topic.total - topic.gone
        if kept[0] > bounds.events or kept[1] > bounds.bytes or topic.oldest_at < bounds.oldest:
            floor = floor_of(store, topic, limits.max_events, limits.max_bytes, now - limits.max_age)
            if store.drop(topic, floor):
                self._when_visible(store.sweeper.sweep_soon)

    def _read_after(self, topic: str, offset: int, limit: int) -> Page:
        return self._read(self._page, topic, offset, limit)

    def _page(self, store: TopicStore, name: str, offset: int, limit: int) -> Page:
        before: TopicRow | None = None
        for _ in range(ATTEMPTS):
            topic = store.find(name)
            if topic is None:
                return Page(lost=bool(store.without_note(DELETED, [name], self._now() - DELETED_FOR)))
            floor = self._kept_after(store, topic)
            after = max(offset, floor)
            records = store.records(topic, after, limit) if after < topic.top and limit > 0 else []
            if records or after >= topic.top or limit <= 0:
                return Page(epoch=topic.epoch, floor=floor, top=topic.top, closed=topic.closed or None, records=records)
            if topic == before:
                raise store.lacks(topic, after)
            before = topic  # trimmed or deleted between the two queries; if it is the same once more, a row is missing
        raise restless(name)

    def _state(self, topic: str) -> TopicState:
        return self._read(self._stated, topic)

    def _stated(self, store: TopicStore, name: str) -> TopicState:
        return settled(store, name, partial(self._state_of, store)) or TopicState()

    def _state_of(self, store: TopicStore, topic: TopicRow) -> TopicState:
        floor, gone, oldest_at = self._kept_after(store, topic), topic.gone, topic.oldest_at
        if floor > topic.floor:
            row = store.row_after(topic, floor)
            gone = store.bytes_until(topic, floor, row)
            oldest_at = topic.appended_at if row is None else row.at
        if topic.oldest_at <= self._now() - self.limits.max_age and store.find(topic.name) != topic:
            raise store.lacks(topic, floor)  # rows have gone while they were looked for: once more
        head = Head(topic.epoch, floor, topic.top, topic.closed or None)
        return TopicState.of(head, topic.total - gone, oldest_at, topic.appended_at)

    def _summaries(self, topics: list[str]) -> dict[str, Head]:
        return self._read(self._current_heads, topics)

    def _current_heads(self, store: TopicStore, topics: list[str]) -> dict[str, Head]:
        oldest, most = self._now() - self.limits.max_age, self.limits.max_events
        heads = {}
        for name, head, appended_at in store.summaries(topics):  # with the floor that readers see, as _kept_after() does
            floor = head.top if appended_at <= oldest else int(max(head.floor, head.top - most))
            heads[name] = head._replace(floor=floor)
        return heads

    def _close(self, topic: str, reason: str, last: Sized, holder: str | None) -> bool:
        return self._write(self._closed, topic, reason, last, holder)

    def _closed(self, store: TopicStore, name: str, reason: str, last: Sized, holder: str | None) -> bool:
        topic = self._locked(store, name) if holder is None else _check_holder(store, name, holder)
        if not topic.closed:
            self._end(store, name, reason, last)
        return not topic.closed

    def _locked(self, store: TopicStore, name: str) -> TopicRow:
        for _ in range(ATTEMPTS):
            topic = store.lock(name)
            if topic is not None:
                return topic
            self._make_new(store, name, self._now())
        raise restless(name)

    def _delete(self, topic: str) -> bool:
        return self._write(self._deleted, topic)

    def _sweep(self) -> None:
        self._when_visible(Sweeper(self.alias).sweep)

    def _deleted(self, store: TopicStore, name: str) -> bool:
        topic = store.lock(name)
        if topic is not None:
            store.delete(topic)
            store.note(DELETED, [name], self._now(), DELETED_FOR)
        return topic is not None

    def _note_followed(self, topics: list[str]) -> None:
        now = self._now()
        missing = self._read(TopicStore.without_note, FOLLOWED, topics, now - NOTE_EVERY / 2)
        if missing:  # no other process has noted them just now
            self._write_any(TopicStore.note, FOLLOWED, missing, now, FOLLOWED_FOR)

    def _trim(self, topic: str, max_events: int | None, max_bytes: int | None, max_age: float | None) -> int:
        trimmed = self._write(self._trimmed, topic, max_events, max_bytes, max_age)
        self._sweep()
        return trimmed

    def _trimmed(self, store: TopicStore, name: str, max_events: int | None, max_bytes: int | None, max_age: float | None) -> int:
        topic = store.lock(name)
        if topic is None:
            return 0
        now, limits = self._now(), self.limits
        own = floor_of(store, topic, limits.max_events, limits.max_bytes, now - limits.max_age)
        floor = max(own, floor_of(store, topic, max_events, max_bytes, None if max_age is None else now - max_age))
        store.drop(topic, floor)
        store.forget_keys(topic, now - limits.key_window)
        return floor - own

    def _topics(self, prefix: str, after: str, limit: int) -> list[str]:
        return self._read(TopicStore.names, prefix, after, limit) if prefix.isascii() and prefix.isprintable() else []

    def _clear_all(self) -> None:
        self._write_any(TopicStore.clear)


def _check_holder(store: TopicStore, name: str, holder: str) -> TopicRow:
    """Lock a topic, and return it if it is closed, or this one holds its lease."""
    topic = store.lock(name)
    if topic is None or not (topic.closed or store.leases.is_held(name, holder)):
        raise lost_error(name, holder)
    return topic
