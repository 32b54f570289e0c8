"""The event log of one process: fast, and gone with the process. For tests, for ``runserver``, and for sites of one process."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

from ..wire.event import Event
from .base import PAGE_BYTES, EventLog
from .eviction import DELETED_FOR, FOLLOWED_FOR, is_internal
from .leases import LOST, POINTER_AGE, Lease, Sized, held_error
from .position import new_epoch
from .records import Appended, Head, Page, Record, TopicState
from .validation import lost_error, refuse_append

_T = TypeVar("_T")
_at = attrgetter("at")

POINTERS = 4
"""Pointers that are kept, for each topic of ``MAX_TOPICS``."""
SLACK = 64
"""Dropped records are cut off a topic's list once there are so many of them, and as many as kept ones: a cut moves the rest."""


class _Lease:
    """The lease of a topic; ``deadline`` is 0 once the topic is closed."""

    __slots__ = ("deadline", "holder", "last", "stop")

    def __init__(self, holder: str, last: Sized) -> None:
        self.holder = holder
        self.last = last
        self.deadline = 0.0
        self.stop = False

    def shown(self, now: float) -> Lease:
        return Lease(holder=self.holder, deadline=self.deadline, left=self.deadline and self.deadline - now, stop=self.stop)


class _Topic:
    """One topic. Its records are ``records[gone:]``, the first of which has the offset ``floor + 1``."""

    __slots__ = ("bytes", "closed", "epoch", "floor", "followed_at", "gone", "keys", "lease", "records", "sizes", "top")

    def __init__(self) -> None:
        self.epoch = new_epoch()
        self.floor = self.top = self.gone = self.bytes = 0
        self.followed_at = 0.0
        self.closed: str | None = None
        self.lease: _Lease | None = None
        self.records: list[Record] = []
        self.sizes: list[int] = []
        self.keys: OrderedDict[str, tuple[float, Appended]] = OrderedDict()

    def __len__(self) -> int:
        return len(self.records) - self.gone

    def is_held(self, now: float, holder: str | None = None) -> bool:
        """Return whether somebody works here, or this one does."""
        return self.lease is not None and self.lease.deadline > now and holder in (None, self.lease.holder)

    @property
    def head(self) -> Head:
        return Head(self.epoch, self.floor, self.top, self.closed)

    def add(self, events: list[tuple[Event, int]], now: float) -> Appended:
        first = self.top + 1
        for event, size in events:
            self.top += 1
            self.records.append(Record(self.top, event, now))
            self.sizes.append(size)
            self.bytes += size
        return Appended(self.epoch, first, self.top)

    def drop(self, count: int) -> None:
        self.bytes -= sum(self.sizes[self.gone : self.gone + count])
        self.floor += count
        self.gone += count
        if self.gone >= SLACK and self.gone >= len(self):
            del self.records[: self.gone], self.sizes[: self.gone]
            self.gone = 0

    def surplus(self, max_events: float, max_bytes: float, oldest: float) -> int:
        """Return how many of the oldest records are beyond these bounds. The newest one stays, whatever its size."""
        count = max(0, len(self) - int(min(max_events, len(self))))
        left = self.bytes - sum(self.sizes[self.gone : self.gone + count])
        while left > max_bytes and count < len(self) - 1:
            left -= self.sizes[self.gone + count]
            count += 1
        return max(count, bisect_right(self.records, oldest, lo=self.gone, key=_at) - self.gone)


class MemoryEventLog(EventLog):
    """Topics in this process's memory. Thread-safe; a verb waits for nothing but another thread's verb."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lock = threading.Lock()
        self._topics_by_name: OrderedDict[str, _Topic] = OrderedDict()  # the latest appended to last
        self._deleted_at: OrderedDict[str, float] = OrderedDict()
        self._pointers: OrderedDict[str, tuple[str, float]] = OrderedDict()  # the latest moved last
        self._gone: list[str] = []
        self._now: Callable[[], float] = time.time

    async def _run(self, body: Callable[[], _T]) -> _T:
        return body()

    def _append(self, name: str, events: Sized, expect: int | None, key: str | None, holder: str | None) -> Appended:
        with self._lock:
            topic = self._topics_by_name.get(name)
            if topic is not None and key is not None and (before := self._repeated(topic, key)) is not None:
                return before
            closed, top = (None, 0) if topic is None else (topic.closed, topic.top)
            refuse_append(name, closed, top, expect, self._late(topic, holder))
            if topic is None:
                topic = self._make(name)
            now = self._now()
            appended = topic.add(events, now)
            if key is not None:
                topic.keys[key] = now, appended
            self._topics_by_name.move_to_end(name)
            self._retain(topic, now)
        self._tell_evicted()
        return appended

    def _late(self, topic: _Topic | None, holder: str | None) -> str | None:
        """Return who should hold the lease, and does not."""
        return None if holder is None or (topic is not None and topic.is_held(self._now(), holder)) else holder

    def _repeated(self, topic: _Topic, key: str) -> Appended | None:
        oldest = self._now() - self.limits.key_window
        while topic.keys and next(iter(topic.keys.values()))[0] <= oldest:
            topic.keys.popitem(last=False)
        used = topic.keys.get(key)
        return used[1] if used is not None else None

    def _make(self, name: str) -> _Topic:
        topic = self._topics_by_name[name] = _Topic()
        self._deleted_at.pop(name, None)
        # Those beyond MAX_TOPICS go, but for the new one and those that are followed.
        topics, most = self._topics_by_name, self.limits.max_topics
        if len(topics) <= most:
            return topic
        surplus = sum(not is_internal(name) for name in topics) - most
        now = self._now()
        idle = [
            key
            for key, old in topics.items()
            if old.followed_at <= now - FOLLOWED_FOR and key != name and not is_internal(key) and not old.is_held(now)
        ]
        for victim in sorted(idle, key=lambda key: topics[key].closed is None)[: max(0, int(surplus))]:
            del topics[victim]
            self._gone.append(victim)
        return topic

    def _tell_evicted(self) -> None:
        """Report evictions. Call without the lock: whoever is told may read the log at once."""
        if self._gone:
            gone, self._gone = self._gone, []
            self._evicted(gone)

    def _note_followed(self, topics: list[str]) -> None:
        with self._lock:
            for name in topics:
                if (topic := self._topics_by_name.get(name)) is not None:
                    topic.followed_at = self._now()

    def _retain(self, topic: _Topic, now: float) -> None:
        if surplus := topic.surplus(self.limits.max_events, self.limits.max_bytes, now - self.limits.max_age):
            topic.drop(surplus)

    def _found(self, name: str) -> _Topic | None:
        """Return the topic, without the events that have become too old."""
        topic = self._topics_by_name.get(name)
        if topic is not None:
            self._retain(topic, self._now())
        return topic

    def _read_after(self, name: str, offset: int, limit: int) -> Page:
        with self._lock:
            topic = self._found(name)
            if topic is None:
                return Page(lost=name not in self._deleted_at)
            begin = topic.gone + max(0, offset - topic.floor)
            end, room = begin, PAGE_BYTES
            last = min(len(topic.records), begin + limit)
            while end < last and (room >= topic.sizes[end] or end == begin):
                room -= topic.sizes[end]
                end += 1
            records = tuple(topic.records[begin:end])  # a copy: the list goes on growing outside of the lock
            return Page(epoch=topic.epoch, floor=topic.floor, top=topic.top, closed=topic.closed, records=records)

    def _state(self, name: str) -> TopicState:
        with self._lock:
            topic = self._found(name)
            if topic is None:
                return TopicState()
            oldest_at, newest_at = (topic.records[topic.gone].at, topic.records[-1].at) if len(topic) else (0.0, 0.0)
            return TopicState.of(topic.head, topic.bytes, oldest_at, newest_at)

    def _summaries(self, topics: list[str]) -> dict[str, Head]:
        with self._lock:
            return {name: topic.head for name in topics if (topic := self._found(name)) is not None}

    def _close(self, name: str, reason: str, last: Sized, holder: str | None) -> bool:
        with self._lock:
            topic = self._topics_by_name.get(name)
            if topic is not None and topic.closed is not None:
                return False
            if (late := self._late(topic, holder)) is not None:
                raise lost_error(name, late)
            self._end(topic if topic is not None else self._make(name), reason, last)
        self._tell_evicted()
        return True

    def _end(self, topic: _Topic, reason: str, last: Sized) -> None:
        now = self._now()
        topic.add(last, now)
        topic.closed = reason
        if topic.lease is not None:
            topic.lease.deadline = 0.0
        self._retain(topic, now)

    def _delete(self, name: str) -> bool:
        with self._lock:
            if self._topics_by_name.pop(name, None) is None:
                return False
            now, deleted = self._now(), self._deleted_at
            deleted[name] = now
            deleted.move_to_end(name)
            while len(deleted) > max(1, self.limits.max_topics) or next(iter(deleted.values())) <= now - DELETED_FOR:
                deleted.popitem(last=False)
            return True

    def _trim(self, name: str, max_events: int | None, max_bytes: int | None, max_age: float | None) -> int:
        with self._lock:
            topic = self._found(name)
            if topic is None:
                return 0
            bounds = [float("inf") if bound is None else bound for bound in (max_events, max_bytes, max_age)]
            surplus = topic.surplus(bounds[0], bounds[1], self._now() - bounds[2])
            topic.drop(surplus)
            return surplus

    # Leases

    def _held(self, name: str) -> tuple[_Topic, _Lease] | None:
        topic = self._topics_by_name.get(name)
        return None if topic is None or topic.lease is None else (topic, topic.lease)

    def _acquire(self, name: str, holder: str, seconds: float, last: Sized) -> Lease:
        with self._lock:
            now, topic = self._now(), self._topics_by_name.get(name)
            if topic is None:
                topic = self._make(name)
            refuse_append(name, topic.closed, topic.top, None)
            lease = topic.lease
            if lease is not None and lease.deadline > now and lease.holder != holder:
                raise held_error(name, lease.holder, lease.deadline - now)
            if lease is None or lease.holder != holder:
                lease = topic.lease = _Lease(holder, last)
            lease.deadline, lease.last = now + seconds, last
            shown = lease.shown(now)
        self._tell_evicted()
        return shown

    def _renew(self, name: str, holder: str, seconds: float) -> Lease:
        with self._lock:
            held, now = self._held(name), self._now()
            if held is None or not held[0].is_held(now, holder):
                raise lost_error(name, holder)
            held[1].deadline = now + seconds
            return held[1].shown(now)

    def _release(self, name: str, holder: str) -> bool:
        with self._lock:
            held = self._held(name)
            if held is None or held[1].holder != holder or not held[1].deadline:
                return False
            held[0].lease = None
            return True

    def _request_stop(self, name: str, holder: str) -> bool:
        with self._lock:
            held = self._held(name)
            if held is None or held[1].holder != holder:
                return False
            held[1].stop = held[1].stop or held[1].deadline > 0
            return True

    def _last_words(self, name: str) -> list[Event] | None:
        with self._lock:
            held = self._held(name)
            return None if held is None else [event for event, _ in held[1].last]

    def _expire(self, name: str, holder: str, last: Sized, expect: int | None) -> bool:
        with self._lock:
            held = self._held(name)
            if held is None or held[1].holder != holder or not 0 < held[1].deadline <= self._now():
                return False
            if expect not in (None, held[0].top):
                return False
            self._end(held[0], LOST, last)
            return True

    def _leases(self, topics: list[str]) -> dict[str, Lease]:
        with self._lock:
            now = self._now()
            return {name: held[1].shown(now) for name in topics if (held := self._held(name)) is not None}

    def _pointer(self, name: str) -> str | None:
        with self._lock:
            return self._pointers.get(name, (None, 0.0))[0]

    def _move_pointer(self, name: str, to: str | None, expect: str | None) -> str | None:
        with self._lock:
            now = self._now()
            while self._pointers and next(iter(self._pointers.values()))[1] <= now - POINTER_AGE - self.limits.max_age:
                self._pointers.popitem(last=False)
            leads = self._pointers.get(name, (None, 0.0))[0]
            if leads != expect:
                return leads
            self._pointers.pop(name, None)
            if to is not None:
                self._forget_pointers(now)
                self._pointers[name] = to, now
            return to

    def _forget_pointers(self, now: float) -> None:
        """Forget the oldest pointers where there are too many, but for those that lead to somebody at work."""
        surplus = len(self._pointers) - POINTERS * max(1, self.limits.max_topics)
        if surplus < 0:
            return
        for name, (leads, _) in [*self._pointers.items()][: int(surplus) + 1]:
            topic = self._topics_by_name.get(leads)
            if topic is None or not topic.is_held(now):
                del self._pointers[name]

    def _topics(self, prefix: str, after: str, limit: int) -> list[str]:
        with self._lock:
            return sorted(name for name in self._topics_by_name if name.startswith(prefix) and name > after)[:limit]

    def _clear_all(self) -> None:
        with self._lock:
            self._topics_by_name.clear()
            self._deleted_at.clear()
            self._pointers.clear()
