"""One topic on one event loop: what its followers have in common.

The newest events stand in a ring, each encoded once. Who is behind the ring reads pages of the log, aligned so that those who are
behind together share them. Ring and pages are only two ways to get the events after a cursor: there is no moment at which a
follower changes from "history" to "live", and nothing that could fall between the two.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from ..eventlog.base import EventLog
from ..eventlog.position import Position
from ..eventlog.records import Page, Record
from ..wire.encoder import frame

logger = logging.getLogger("django_agent_sse.hub")

RING_EVENTS = 512
RING_BYTES = 2_097_152
"""Bytes of frames that a ring keeps; the newest one always stays."""
CHUNK_BYTES = 65_536
"""Bytes that are joined for one write; one frame always is, however large."""
PAGE = 256
"""Events of an aligned page: the offsets 1 to 256, 257 to 512, …"""
PAGES = 8
"""Pages that a feed keeps for others who are behind."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event, as it goes to every follower of this topic alone."""

    record: Record
    frame: bytes


class Budget:
    """The bytes of all rings of the process. Over the limit, the ring that grows gives up its oldest events for it."""

    def __init__(self, limit: int = 67_108_864) -> None:
        self.limit = limit
        self.used = 0

    @property
    def exceeded(self) -> bool:
        return self.used > self.limit


budget = Budget()


class Feed:
    """The state of a topic as far as this loop knows it, never ahead of the log.

    Attributes:
        epoch: The topic's incarnation; ``""`` where there is no topic.
        floor: The newest offset that the log no longer keeps.
        top: The newest offset that this feed has seen.
        closed: Why the topic was closed, once every event before that has been seen.
    """

    def __init__(self, topic: str, log: EventLog) -> None:
        self.topic = topic
        self.epoch = ""
        self.floor = self.top = 0
        self.closed: str | None = None
        self._log = log
        self._ring: deque[Entry] = deque()
        self._ring_bytes = 0
        self._joined: dict[int, tuple[bytes, int]] = {}
        self._pages: OrderedDict[int, asyncio.Task[list[Entry]]] = OrderedDict()
        self._waiting: list[asyncio.Future[None]] = []
        self._looking: asyncio.Task[None] | None = None
        self._again = False

    async def look(self) -> None:
        """Read what the log has beyond ``top``; returns when nothing was missing at some moment after the call.

        Raises:
            EventLogError: The log cannot be read.
        """
        self.nudge()
        assert self._looking is not None
        await asyncio.shield(self._looking)

    def nudge(self) -> None:
        """Have the log read soon: the bell rang, or it is time to look. Many nudges are one."""
        self._again = True
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(self._looked)

    async def _look(self) -> None:
        while self._again:
            self._again = False
            page = await self._log.aread_after(self.topic, self.top, PAGE)
            if self._take(page):
                self._again = True

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.warning("the topic %r cannot be read now: %s", self.topic, error)

    def _take(self, page: Page) -> bool:
        """Take over what was read after ``top``; whether the log has more."""
        if page.epoch != self.epoch:
            return self._begin(page)
        changed = page.floor != self.floor
        self.floor = max(self.floor, page.floor)
        if self.floor > self.top:  # it was trimmed faster than it was read
            self._forget()
            self.top = self.floor
        for record in page.records:
            if record.offset == self.top + 1:
                self._add(record)
                changed = True
        more = self.top < page.top
        if not more and page.closed != self.closed:
            self.closed = page.closed
            changed = True
        if changed:
            self.wake()
        return more

    def _begin(self, page: Page) -> bool:
        """Another incarnation, or none any more. Its first events go into the ring; who needs others reads pages."""
        fresh = bool(page.records) and page.records[0].offset == 1
        self._forget()
        self.epoch, self.floor, self.closed = page.epoch, page.floor, None
        self.top = 0 if fresh or not page.top else page.top
        if not page.epoch:
            self.wake()
            return False
        return self._take(page) or self.wake()

    def discard(self) -> None:
        """Nobody follows it any more: give its memory back."""
        if self._looking is not None:
            self._looking.cancel()
        for task in self._pages.values():
            task.cancel()
        self._forget()

    def _forget(self) -> None:
        self._ring.clear()
        budget.used -= self._ring_bytes
        self._ring_bytes = 0
        self._joined.clear()
        self._pages.clear()

    def _add(self, record: Record) -> None:
        entry = self._entry(record)
        self._ring.append(entry)
        self._grow(len(entry.frame))
        self.top = record.offset
        while len(self._ring) > RING_EVENTS or (len(self._ring) > 1 and (self._ring_bytes > RING_BYTES or budget.exceeded)):
            self._grow(-len(self._ring.popleft().frame))

    def _grow(self, by: int) -> None:
        self._ring_bytes += by
        budget.used += by

    def _entry(self, record: Record) -> Entry:
        event = record.event
        return Entry(record, frame(event.data, event.event, str(Position(self.epoch, record.offset)), event.retry))

    # Followers

    def wake(self) -> bool:
        """Let everybody look who waits; returns ``False``."""
        self._joined.clear()
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        return False

    def changed(self) -> asyncio.Future[None]:
        """Done when anything changes. Ask, look at the feed, and only then wait: no change is missed in between."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def in_ring(self, offset: int) -> bool:
        """Whether the ring has every event after ``offset``."""
        return self.top - len(self._ring) <= offset < self.top

    def joined(self, offset: int) -> tuple[bytes, int]:
        """The frames after ``offset``, which must be in the ring, and the offset of the last: one chunk, joined once for all."""
        found = self._joined.get(offset)
        if found is None:
            first = len(self._ring) - (self.top - offset)
            found = self._joined[offset] = join([self._ring[index] for index in range(first, len(self._ring))])
        return found

    def entries(self, offset: int) -> list[Entry]:
        """The events after ``offset`` that the ring has."""
        first = len(self._ring) - (self.top - offset)
        return [self._ring[index] for index in range(first, len(self._ring))]

    async def page(self, offset: int) -> list[Entry]:
        """The events after ``offset`` of its aligned page, read once for all who want them; none where they are trimmed.

        A reader that is cancelled does not cancel the read; one that fails is not kept.
        """
        number = offset // PAGE
        task = self._pages.get(number)
        if task is None:
            task = self._pages[number] = asyncio.get_running_loop().create_task(self._fetch(number))
            task.add_done_callback(lambda done: self._keep(number, done))
            while len(self._pages) > PAGES:
                self._pages.popitem(last=False)
        return [entry for entry in await asyncio.shield(task) if entry.record.offset > offset]

    async def _fetch(self, number: int) -> list[Entry]:
        epoch, after, end = self.epoch, number * PAGE, (number + 1) * PAGE
        found: list[Entry] = []
        while after < end:
            page = await self._log.aread_after(self.topic, after, end - after)
            if page.epoch != epoch:
                self.nudge()
                return []
            self.floor = max(self.floor, page.floor)
            inside = [record for record in page.records if record.offset <= end]
            if not inside:
                break
            found += map(self._entry, inside)
            after = inside[-1].offset
        return found

    def _keep(self, number: int, task: asyncio.Task[list[Entry]]) -> None:
        """Pages that are full never change. A cancel of the task is an error too."""
        whole = not task.cancelled() and task.exception() is None and len(task.result()) == PAGE
        if not whole and self._pages.get(number) is task:
            del self._pages[number]


def join(entries: Sequence[Entry]) -> tuple[bytes, int]:
    """The frames of up to ``CHUNK_BYTES``, and the offset of the last of them."""
    room, frames = CHUNK_BYTES, list[bytes]()
    last = entries[0].record.offset - 1
    for entry in entries:
        if frames and len(entry.frame) > room:
            break
        room -= len(entry.frame)
        frames.append(entry.frame)
        last = entry.record.offset
    return b"".join(frames), last
