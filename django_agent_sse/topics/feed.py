"""One topic on one event loop: what its followers have in common.

The newest events stand in a ring, each encoded once. Who is behind the ring reads pages of the log, aligned so that those who are
behind together share them. Ring and pages are only two ways to get the events after a cursor: there is no moment at which a
follower changes from "history" to "live", and nothing that could fall between the two.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

from ..eventlog import records
from ..eventlog.base import EventLog
from ..eventlog.outage import outage
from ..exceptions import EventLogError, EventLogUnavailable
from .batch import Batch, Entry, Page, Waiter
from .budget import budget

RING_EVENTS = 512
RING_BYTES = 2_097_152
"""Bytes of frames that a ring keeps; the newest one always stays."""
PAGE = 256
"""Events of an aligned page: the offsets 1 to 256, 257 to 512, …"""
PAGES = 8
"""Pages that a feed keeps for others who are behind."""
RETRY = 1.0
"""Seconds after which, more or less, a page is asked for again that the log could not give."""


def _nothing(topic: str) -> None:
    """Tell nobody."""


class Feed:
    """The state of a topic as far as this loop knows it, never ahead of the log.

    Attributes:
        epoch: The topic's incarnation; ``""`` where there is no topic.
        floor: The newest offset that the log no longer keeps.
        top: The newest offset that this feed has seen.
        closed: Why the topic was closed, once every event before that has been seen.
        nonce: Of the event at ``top``, where the log has nonces and it is known.
        forked: The epoch before this one, if the log had lost what it had acknowledged in that.
        vanished: There is no topic, and nobody deleted it.
        behind: The last look has failed.
        retired: The log was replaced: who follows must open the topic anew.
        shared: What followers at an offset get next, made by the first who asked since anything changed.
    """

    def __init__(self, topic: str, log: EventLog, found: Callable[[str], object] = _nothing) -> None:
        """Know nothing yet; ``found`` is called with the topic's name whenever there is one, or another one, in the log."""
        self.topic = topic
        self._found = found
        self.epoch = self.nonce = self.forked = ""
        self.floor = self.top = 0
        self.closed: str | None = None
        self.retired = self.vanished = self.behind = False
        self._log = log
        self._ring: deque[Entry] = deque()
        self._ring_bytes = 0
        self.shared: dict[int, Batch] = {}
        self._pages: OrderedDict[int, Page] = OrderedDict()
        self._waiting: set[Waiter] = set()
        self._looking: asyncio.Task[None] | None = None
        self._again = False
        self._reading: set[asyncio.Task[None]] = set()

    async def look(self) -> None:
        """Read what the log has beyond ``top``; returns when nothing was missing at some moment after the call.

        Raises:
            EventLogError: The log cannot be read.
        """
        self.nudge()
        assert self._looking is not None
        await asyncio.shield(self._looking)

    def nudge(self) -> None:
        """Have the log read soon: a notification came, or it is time to look. Many nudges are one."""
        self._again = True
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())
            self._looking.add_done_callback(self._looked)

    async def _look(self) -> None:
        while self._again:
            self._again = False
            epoch, top, nonce = self.epoch, self.top, self.nonce
            page = await self._log.aread_after(self.topic, top, PAGE)
            if nonce and page.epoch == epoch and (page.top < top or page.before not in ("", nonce)):
                await self._log.afork(self.topic, epoch)
                self._again = True
            elif page.epoch == self.epoch and page.top < self.top:  # meanwhile a notification has brought more
                self.floor = max(self.floor, page.floor)
            elif self._take(page):
                self._again = True

    def _looked(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        error = None if task.cancelled() else task.exception()
        self.behind = error is not None
        if error is not None:
            outage.failed(error, [self.topic])
        elif not task.cancelled():
            outage.recovered([self.topic])

    def offer(self, page: records.Page) -> None:
        """Take the log's own records, which a notification brought, if they provably are the next ones; look, if they are not.

        What comes twice or late is recognised by its numbers; what does not fit to the event before it, by its nonce.
        """
        first, last = page.records[0], page.records[-1]
        if self.retired:
            return
        if page.epoch == self.epoch and first.offset == self.top + 1 and page.before == self.nonce:
            self._take(page)
        elif page.epoch != self.epoch or last.offset > self.top or self._held(last.offset) not in ("", last.nonce):
            self.nudge()

    def _held(self, offset: int) -> str:
        """The nonce of an event in the ring; ``""`` for another one."""
        place = offset - (self.top - len(self._ring)) - 1
        return self._ring[place].nonce if 0 <= place < len(self._ring) else ""

    def _take(self, page: records.Page) -> bool:
        """Take over what was read after ``top``; whether the log has more."""
        if page.epoch != self.epoch:
            return self._begin(page)
        changed = page.floor != self.floor
        self.floor = max(self.floor, page.floor)
        if self.floor > self.top:  # it was trimmed faster than it was read
            self._forget()
            self.top = self.floor
            self.nonce = page.nonce if page.top == self.top else ""
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

    def _begin(self, page: records.Page) -> bool:
        """Another incarnation, or none any more. A short one goes into the ring as a whole; of a longer one pages are read."""
        fresh = bool(page.records) and page.records[0].offset == 1 and page.records[-1].offset == page.top
        self._forget()
        self.epoch, self.floor, self.closed = page.epoch, page.floor, None
        self.forked, self.vanished = page.forked, page.vanished
        if page.epoch:
            self._found(self.topic)
        self.top, self.nonce = (0, "") if fresh or not page.top else (page.top, page.nonce)
        more = bool(page.epoch) and self._take(page)
        self.wake()
        return more

    def _add(self, record: records.Record) -> None:
        entry = Entry(self.epoch, record)
        self._ring.append(entry)
        self._grow(len(entry.frame))
        self.top, self.nonce = record.offset, record.nonce
        while len(self._ring) > RING_EVENTS or (len(self._ring) > 1 and (self._ring_bytes > RING_BYTES or budget.exceeded)):
            self._grow(-len(self._ring.popleft().frame))

    def _grow(self, by: int) -> None:
        self._ring_bytes += by
        budget.grow(by)

    # Followers

    def wait(self, waiter: Waiter) -> None:
        """Wake ``waiter`` once, when anything changes."""
        self._waiting.add(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Do not wake it."""
        self._waiting.discard(waiter)
        for page in self._pages.values():
            page.waiting.discard(waiter)

    def wake(self) -> None:
        """Let everybody look who waits."""
        self.shared.clear()
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            waiter.wake()

    def after(self, offset: int, waiter: Waiter) -> Batch | None:
        """The events after ``offset``, which is below ``top``; ``None`` where they are read first, and ``waiter`` woken then."""
        first = self.top - len(self._ring)
        if offset >= first:
            batch = self.shared.get(offset)
            if batch is None:
                batch = self.shared[offset] = Batch.of(islice(self._ring, offset - first, None))
            return batch
        start, page = offset, self._pages.get(offset)  # alone enough: where memory is short, the aligned one is gone by now
        if page is None:
            start = offset - offset % PAGE
            page = self._pages.get(start)
            if page is not None and page.entries and page.entries[-1].offset <= offset:
                start, page = offset, None  # that one was cut by its bytes, or has grown since: read on from here
        if page is not None and page.covers(offset):
            return page.after(offset)
        if page is None or page.entries is not None:
            page = self._read(start)
        page.waiting.add(waiter)
        return None

    # Pages

    def _read(self, start: int) -> Page:
        self._drop(start)
        page = self._pages[start] = Page()
        while len(self._pages) > PAGES and self._drop_oldest():
            pass
        self._spawn(self._fetch(start, page))
        return page

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """In a task of the feed's own: a reader that is cancelled does not cancel the read."""
        task = asyncio.get_running_loop().create_task(work)
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _fetch(self, start: int, page: Page) -> None:
        epoch = self.epoch
        try:
            found = await self._log.aread_after(self.topic, start, PAGE - start % PAGE)
            if found.epoch != epoch or not found.records or found.records[0].offset != start + 1:
                await self.look()  # so that epoch and floor explain it to those who wait
                if self.epoch == epoch and self.floor <= start < self.top:
                    raise EventLogUnavailable(
                        f"the topic {self.topic!r} has no events after {start}, where it says that there are some", "topic"
                    )
        except EventLogError as error:
            outage.failed(error, [self.topic])
            await asyncio.sleep(RETRY * random.uniform(0.5, 1.5))
            found = records.Page()
        same = found.epoch == self.epoch == epoch
        page.fill([Entry(epoch, record) for record in found.records] if same else [])
        budget.grow(page.bytes)
        if self._pages.get(start) is not page:
            budget.grow(-page.bytes)
        elif not page.entries:
            self._drop(start)
        while budget.exceeded and len(self._pages) > 1 and self._drop_oldest(but=start):
            pass
        for waiter in page.waiting:
            waiter.wake()

    def tidy(self) -> None:
        """Drop the pages that nobody used since the last time."""
        for start, page in [*self._pages.items()]:
            if page.entries is not None and not page.used:
                self._drop(start)
            page.used = False

    def _drop_oldest(self, but: int = -1) -> bool:
        """Drop the oldest page that is not being read; whether there was one."""
        oldest = next((start for start, page in self._pages.items() if start != but and page.entries is not None), None)
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def _drop(self, start: int) -> None:
        page = self._pages.pop(start, None)
        if page is not None:
            budget.grow(-page.bytes)

    # The end

    def retire(self) -> None:
        """The log was replaced, or nobody follows it any more: give the memory back, and tell those who are still there."""
        self.retired = True
        for task in (self._looking, *self._reading):
            if task is not None and not task.get_loop().is_closed():
                task.cancel()
        self._forget()
        self.wake()

    def _forget(self) -> None:
        """Forget the events. Those who wait for a page wait for a change of the feed instead."""
        self._ring.clear()
        self._grow(-self._ring_bytes)
        self.shared.clear()
        for start, page in [*self._pages.items()]:
            self._waiting |= page.waiting
            self._drop(start)
