"""A log in a file: simple, slow, and what one process appends others read."""

from __future__ import annotations

import asyncio
import fcntl
import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django_agent_sse.eventlog.leases import Lease
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.eventlog.records import Appended, Head, Page, TopicState
from django_agent_sse.exceptions import EventLogUnavailable

_T = TypeVar("_T")


class SharedEventLog(MemoryEventLog):
    """The topics of a file, which each question reads and each change writes as a whole.

    Attributes:
        asked: The topics of each question where they are.
        read: The topics that events were read of.
        away: Questions fail.
    """

    crosses_processes = True
    durable = True

    def __init__(self, file: str | None = None, **options: Any) -> None:
        self._file: str = file or options.pop("FILE")
        super().__init__(**options)
        self.asked: list[list[str]] = []
        self.read: list[str] = []
        self.away = False

    async def _run(self, body: Callable[[], _T]) -> _T:
        return await asyncio.to_thread(body)

    @contextmanager
    def _topics_of_file(self, change: bool = False) -> Iterator[None]:
        if self.away:
            raise EventLogUnavailable("the file is away")
        with open(self._file, "ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            content = file.read()
            found = pickle.loads(content) if content else (OrderedDict(), OrderedDict(), OrderedDict())
            self._topics_by_name, self._deleted_at, self._pointers = found
            yield
            if change:
                file.truncate(0)
                file.write(pickle.dumps((self._topics_by_name, self._deleted_at, self._pointers)))

    def _append(self, *about: Any) -> Appended:
        with self._topics_of_file(change=True):
            return super()._append(*about)

    def _read_after(self, topic: str, offset: int, limit: int) -> Page:
        self.read.append(topic)
        with self._topics_of_file():
            return super()._read_after(topic, offset, limit)

    def _summaries(self, topics: list[str]) -> dict[str, Head]:
        self.asked.append(topics)
        with self._topics_of_file():
            return super()._summaries(topics)

    def _close(self, *about: Any) -> bool:
        with self._topics_of_file(change=True):
            return super()._close(*about)

    def _acquire(self, *about: Any) -> Lease:
        with self._topics_of_file(change=True):
            return super()._acquire(*about)

    def _renew(self, *about: Any) -> Lease:
        with self._topics_of_file(change=True):
            return super()._renew(*about)

    def _release(self, *about: Any) -> bool:
        with self._topics_of_file(change=True):
            return super()._release(*about)

    def _request_stop(self, *about: Any) -> bool:
        with self._topics_of_file(change=True):
            return super()._request_stop(*about)

    def _expire(self, *about: Any) -> bool:
        with self._topics_of_file(change=True):
            return super()._expire(*about)

    def _leases(self, topics: list[str]) -> dict[str, Lease]:
        with self._topics_of_file():
            return super()._leases(topics)

    def _pointer(self, name: str) -> str | None:
        with self._topics_of_file():
            return super()._pointer(name)

    def _move_pointer(self, *about: Any) -> str | None:
        with self._topics_of_file(change=True):
            return super()._move_pointer(*about)

    def _delete(self, topic: str) -> bool:
        with self._topics_of_file(change=True):
            return super()._delete(topic)

    def _note_followed(self, topics: list[str]) -> None:
        with self._topics_of_file(change=True):
            super()._note_followed(topics)

    def _state(self, topic: str) -> TopicState:
        with self._topics_of_file():
            return super()._state(topic)

    def _trim(self, *about: Any) -> int:
        with self._topics_of_file(change=True):
            return super()._trim(*about)

    def _topics(self, prefix: str, after: str, limit: int) -> list[str]:
        with self._topics_of_file():
            return super()._topics(prefix, after, limit)

    def _clear_all(self) -> None:
        with self._topics_of_file(change=True):
            super()._clear_all()
