"""The verbs about leases and pointers of ``DatabaseEventLog``."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Concatenate, ParamSpec, TypeVar

from django.db import connections

from ...wire.event import Event
from ...wire.line_levels import marks_of
from ..base import EventLog
from ..leases import LOST, POINTER_AGE, Lease, Sized, held_error
from ..validation import lost_error, refuse_append
from .serialization import pack, unpack
from .store import TopicRow, TopicStore
from .transactions import keen

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DatabaseLeasing(EventLog):
    """A log in a database, as far as its leases go: a topic's own lock keeps its lease and its events together."""

    _now: Callable[[], float]

    @abstractmethod
    def _write(
        self, body: Callable[Concatenate[TopicStore, str, _P], _T], name: str, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T: ...

    @abstractmethod
    def _write_any(self, body: Callable[Concatenate[TopicStore, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T: ...

    @abstractmethod
    def _read(self, body: Callable[Concatenate[TopicStore, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T: ...

    @abstractmethod
    def _locked(self, store: TopicStore, name: str) -> TopicRow: ...

    @abstractmethod
    def _retain(self, store: TopicStore, topic: TopicRow, now: float) -> None: ...

    def _acquire(self, topic: str, holder: str, seconds: float, last: Sized) -> Lease:
        return self._write(self._acquired, topic, holder, seconds, pack(event for event, _ in last))

    def _acquired(self, store: TopicStore, name: str, holder: str, seconds: float, last: str) -> Lease:
        topic = self._locked(store, name)
        refuse_append(name, topic.closed, topic.top, None)
        before = next(store.leases.find([name]), None)
        if before is not None and before.left > 0 and before.holder != holder:
            raise held_error(name, before.holder, before.left)
        store.leases.put(name, holder, seconds, last, stop=before is not None and before.holder == holder and before.stop)
        return next(store.leases.find([name])).shown()

    def _renew(self, topic: str, holder: str, seconds: float) -> Lease:
        return self._write(self._renewed, topic, holder, seconds)

    def _renewed(self, store: TopicStore, name: str, holder: str, seconds: float) -> Lease:
        if not store.leases.renew(name, holder, seconds):
            raise lost_error(name, holder)
        return next(store.leases.find([name])).shown()

    def _renew_all(self, wanted: list[tuple[str, str, float]]) -> dict[str, Lease]:
        if connections[self.alias].vendor != "sqlite":
            return super()._renew_all(wanted)
        return self._write_any(_all_renewed, wanted)

    def keen(self) -> AbstractContextManager[None]:
        """See ``Leasing``. SQLite has one writer, and whoever waits for its turn long enough has lost its lease."""
        return keen(self.alias) if connections[self.alias].vendor == "sqlite" else nullcontext()

    def _release(self, topic: str, holder: str) -> bool:
        return self._write(_released, topic, holder)

    def _request_stop(self, topic: str, holder: str) -> bool:
        return self._write(_requested, topic, holder)

    def _last_words(self, topic: str) -> list[Event] | None:
        words = self._read(_last_words, topic)
        return None if words is None else unpack(words)

    def _expire(self, topic: str, holder: str, last: Sized, expect: int | None) -> bool:
        return self._write(self._expired, topic, holder, last, expect)

    def _expired(self, store: TopicStore, name: str, holder: str, last: Sized, expect: int | None) -> bool:
        topic = store.lock(name)
        if topic is None or topic.closed or expect not in (None, topic.top) or not store.leases.lapse(name, holder):
            return False
        self._end(store, name, LOST, last)
        return True

    def _end(self, store: TopicStore, name: str, reason: str, last: Sized) -> None:
        """Append what a locked, open topic ends with, and close it."""
        now = self._now()
        topic = store.advance(name, len(last), sum(size for _, size in last), now, None) if last else None
        if topic is not None:
            store.add(topic, last, now, dict(marks_of(event for event, _ in last)))
            self._retain(store, topic, now)
        store.close(name, reason)
        store.leases.end(name)

    def _leases(self, topics: list[str]) -> dict[str, Lease]:
        return self._read(_found, topics)

    def _pointer(self, name: str) -> str | None:
        return self._read(_pointed, name)

    def _move_pointer(self, name: str, to: str | None, expect: str | None) -> str | None:
        now = self._now()
        return self._write(_moved, name, to, expect, now, now - POINTER_AGE - self.limits.max_age)


def _all_renewed(store: TopicStore, wanted: list[tuple[str, str, float]]) -> dict[str, Lease]:
    renewed = [name for name, holder, seconds in wanted if store.leases.renew(name, holder, seconds)]
    return {row.name: row.shown() for row in store.leases.find(renewed)}


def _released(store: TopicStore, name: str, holder: str) -> bool:
    return store.leases.remove([name], holder)


def _requested(store: TopicStore, name: str, holder: str) -> bool:
    return store.leases.request_stop(name, holder) or any(row.holder == holder for row in store.leases.find([name]))


def _last_words(store: TopicStore, name: str) -> str | None:
    return store.leases.last_words(name)


def _found(store: TopicStore, names: list[str]) -> dict[str, Lease]:
    return {row.name: row.shown() for row in store.leases.find(names)}


def _pointed(store: TopicStore, name: str) -> str | None:
    return store.pointers.find(name)


def _moved(store: TopicStore, name: str, to: str | None, expect: str | None, now: float, oldest: float) -> str | None:
    if expect is None:
        store.pointers.forget(oldest)
    return store.pointers.move(name, to, expect, now)
