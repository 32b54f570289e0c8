"""Events as they go out: each encoded once, for every follower, and joined into chunks that followers share."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol

from ..eventlog.position import Position
from ..eventlog.records import Record
from ..wire.encoder import frame
from ..wire.gzip import Block, GzipEncoder


class Waiter(Protocol):
    """What a feed wakes."""

    def wake(self) -> None:
        """Look again. Called on the event loop; must not raise."""


CHUNK_BYTES = 65_536
"""Bytes that are joined for one write; one frame always is, however large."""


class Entry:
    """One event of a topic: its frame, which can be had with another id without encoding the payload again.

    Attributes:
        event: What was published.
        offset: Its number in the topic.
        nonce: See `Record`.
        frame: The bytes for a connection that follows this topic alone.
    """

    __slots__ = ("_tail", "event", "frame", "nonce", "offset")

    def __init__(self, epoch: str, record: Record) -> None:
        event = record.event
        id = str(Position(epoch, record.offset, record.nonce))
        self.event = event
        self.offset = record.offset
        self.nonce = record.nonce
        self.frame = frame(event.data, event.event, id, event.retry)
        self._tail = len(self.frame) - len("id: \n\n") - len(id)

    @property
    def id(self) -> str:
        """The id for a connection that follows this topic alone."""
        return self.frame[self._tail + len("id: ") : -2].decode()

    def numbered(self, id: str) -> bytes:
        """Return the frame with another id, which must be one line."""
        return b"".join((memoryview(self.frame)[: self._tail], f"id: {id}\n\n".encode()))

    def with_retry(self, framed: bytes, retry: int) -> bytes:
        """Return ``framed``, which begins with this event's frame, with a reconnection time in milliseconds if it has none."""
        if self.event.retry is not None:
            return framed
        head = len(f"event: {self.event.event}\n".encode()) if self.event.event is not None else 0
        return b"".join((framed[:head], b"retry: %d\n" % retry, memoryview(framed)[head:]))


class Batch:
    """Consecutive events of one topic, as many as one write takes.

    Attributes:
        entries: The events, one at least.
        last: The offset of the last one.
        nonce: Its nonce.
    """

    __slots__ = ("_block", "_data", "entries", "last", "nonce")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.last = entries[-1].offset
        self.nonce = entries[-1].nonce
        self._data: bytes | None = None
        self._block: Block | None = None

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Batch:
        """Return a batch of the first of these, up to ``CHUNK_BYTES``; of one at least."""
        room, taken = CHUNK_BYTES, list[Entry]()
        for entry in entries:
            room -= len(entry.frame)
            if room < 0 and taken:
                break
            taken.append(entry)
        return cls(taken)

    @property
    def data(self) -> bytes:
        """The frames as one chunk, joined when it is first wanted."""
        if self._data is None:
            self._data = b"".join([entry.frame for entry in self.entries])
        return self._data

    def block(self, gzip: GzipEncoder) -> Block:
        """Return the chunk as a block for all that take gzip, made by the first of them."""
        if self._block is None:
            self._block = gzip.make_block(self.data)
        return self._block


class SharedPage:
    """Events that were read from the log once, for all followers that need them.

    Attributes:
        entries: ``None`` while they are being read.
        used: Somebody took from it since this was last set to ``False``.
        taken: Somebody took from it.
    """

    __slots__ = ("_batches", "bytes", "entries", "taken", "used", "waiting")

    def __init__(self) -> None:
        self.entries: list[Entry] | None = None
        self.bytes = 0
        self.used = True
        self.taken = False
        self.waiting: set[Waiter] = set()
        self._batches: dict[int, Batch] = {}

    def covers(self, offset: int) -> bool:
        """Return whether the event after ``offset`` is here."""
        return bool(self.entries) and self.entries[0].offset <= offset + 1 <= self.entries[-1].offset  # type: ignore[index]

    def after(self, offset: int) -> Batch:
        """Return the events after ``offset``, which must be covered."""
        self.used = self.taken = True
        batch = self._batches.get(offset)
        if batch is None:
            assert self.entries is not None
            batch = self._batches[offset] = Batch.of(islice(self.entries, offset + 1 - self.entries[0].offset, None))
        return batch


class Budget:
    """The bytes of all rings and pages of the process. Over the limit, the feed that grows gives up its own oldest for it."""

    def __init__(self, limit: int = 67_108_864) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def grow(self, by: int) -> None:
        """Add ``by`` bytes, or take them off. Thread-safe."""
        with self._lock:
            self.used += by

    @property
    def exceeded(self) -> bool:
        return self.used > self.limit


budget = Budget()
