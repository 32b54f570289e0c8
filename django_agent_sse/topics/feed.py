"""One topic on one event loop: what its followers have in common.

The newest events stand in a ring, each encoded once. A follower that is behind the ring reads pages of the log. They begin at
fixed offsets, so that others at about the same place share them. Ring and pages are only two ways to get the events after a
cursor: there is no moment at which a follower changes from "history" to "live", and nothing that could fall between the two.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import islice

from ..eventlog import records
from ..eventlog.base import EventLog
from ..eventlog.outage import outage
from ..exceptions import EventLogError, EventLogUnavailable
from .arrivals import arrivals
from .batch import Batch, Entry, SharedPage, Waiter, budget

RING_EVENTS = 512
RING_BYTES = 2_097_152
"""Bytes of frames that a ring keeps; the newest one always stays."""
PAGE = 256
"""Events of an aligned page: the offsets 1 to 256, 257 to 512, …"""
PAGES = 32
"""Pages that a feed keeps for other followers that are behind: twice as many as catch up at a time, each somewhere else."""
RETRY = 1.0
"""Seconds, more or less, after which a page that the log could not give is asked for again."""


class Feed:
    """The state of a topic as far as this loop knows it, never ahead of the log.

    Attributes:
        epoch: The topic's incarnation; ``""`` where there is no topic.
        floor: The newest offset that the log no longer keeps.
        top: The newest offset that this feed has seen.
        closed: Why the topic was closed, once every event before that has been seen.
        nonce: Of the event at ``top``, where the log has nonces and it is known.
        forked: The epoch before this one, if the log had lost what it had acknowledged in that.
        lost: There is no topic, and nobody deleted it.
        stale: The last refresh has failed.
        obsolete: The log was replaced: followers must open the topic anew.
        shared: What followers at an offset get next, made by the first who asked since anything changed.
    """

    def __init__(self, topic: str, log: EventLog, on_found: Callable[[str], object] = lambda topic: None) -> None:
        """Know nothing yet. ``on_found`` is called with the name whenever the log has the topic, or another one of that name."""
        self.topic = topic
        self._on_found = on_found
        self.epoch = self.nonce = self.forked = ""
        self.floor = self.top = 0
        self.closed: str | None = None
        self.obsolete = self.lost = self.stale = False
        self._log = log
        self._ring: deque[Entry] = deque()
        self._ring_bytes = 0
        self.shared: dict[int, Batch] = {}
        self._pages: OrderedDict[int, SharedPage] = OrderedDict()
        self._waiting: set[Waiter] = set()
        self._refreshing: asyncio.Task[None] | None = None
        self._again = False
        self._reading: set[asyncio.Task[None]] = set()

    async def refresh(self) -> None:
        """Read what the log has after ``top``. On return, nothing was missing at some moment after the call.

        Raises:
            EventLogError: The log cannot be read.
        """
        self.request_refresh()
        assert self._refreshing is not None
        await asyncio.shield(self._refreshing)

    def request_refresh(self) -> None:
        """Have the log read soon: a notification came, or it is time. Several requests become one read."""
        self._again = True
        if self._refreshing is None:
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
            self._refreshing.add_done_callback(self._refreshed)

    async def _refresh(self) -> None:
        while self._again:
            self._again = False  # before the read: a notification that comes during it asks for one more
            epoch, top, nonce = self.epoch, self.top, self.nonce
            page = await self._log.aread_after(self.topic, top, PAGE)
            # A failover may have lost events that were acknowledged, and others may stand at their offsets by now. The epoch is
            # the same then. Only the nonce of the last event seen here tells, and the log is given another epoch for everybody.
            if nonce and page.epoch == epoch and (page.top < top or page.before not in ("", nonce)):
                await self._log.afork(self.topic, epoch)
                self._again = True
            elif page.epoch == self.epoch and page.top < self.top:  # meanwhile a notification has brought more
                self.floor = max(self.floor, page.floor)
            elif self._take(page):
                self._again = True

    def _refreshed(self, task: asyncio.Task[None]) -> None:
        self._refreshing = None
        error = None if task.cancelled() else task.exception()
        self.stale = error is not None
        if error is not None:
            outage.failed(error, [self.topic])
        elif not task.cancelled():
            outage.recovered([self.topic])

    def offer(self, page: records.Page) -> None:
        """Take records that came with a notification, if they provably are the next ones; else refresh.

        Offsets tell what comes twice or late. The nonce tells what does not continue the event before it.
        """
        first, last = page.records[0], page.records[-1]
        if self.obsolete:
            return
        if page.epoch == self.epoch and first.offset == self.top + 1 and page.before == self.nonce:
            self._take(page)
        elif page.epoch != self.epoch or last.offset > self.top or self._held(last.offset) not in ("", last.nonce):
            self.request_refresh()

    def _held(self, offset: int) -> str:
        """Return the nonce of an event in the ring; ``""`` for any other event."""
        place = offset - (self.top - len(self._ring)) - 1
        return self._ring[place].nonce if 0 <= place < len(self._ring) else ""

    def _take(self, page: records.Page) -> bool:
        """Take over what was read after ``top``. Return whether the log has more."""
        if page.epoch != self.epoch:
            return self._begin(page)
        changed = page.floor != self.floor
        self.floor = max(self.floor, page.floor)
        if self.floor > self.top:  # it was trimmed faster than it was read
            self._forget()
            self.top = self.floor
            self.nonce = page.nonce if page.top == self.top else ""
        new = [record for record in page.records if record.offset > self.top]  # a notification may have brought the first ones
        if new and new[0].offset == self.top + 1:
            if self.top:  # else it may have been there for long
                arrivals.count(new[0].at)
            self._add(new)
            changed = True
        more = self.top < page.top
        if not more and page.closed != self.closed:
            self.closed = page.closed
            changed = True
        if changed:
            self.wake()
        return more

    def _begin(self, page: records.Page) -> bool:
        """Begin with another incarnation of the topic, or none. A short one fits into the ring; of others pages are read."""
        fresh = bool(page.records) and page.records[0].offset == 1 and page.records[-1].offset == page.top
        self._forget()
        self.epoch, self.floor, self.closed = page.epoch, page.floor, None
        self.forked, self.lost = page.forked, page.lost
        if page.epoch:
            self._on_found(self.topic)
        self.top, self.nonce = (0, "") if fresh or not page.top else (page.top, page.nonce)
        more = bool(page.epoch) and self._take(page)
        self.wake()
        return more

    def _add(self, found: Sequence[records.Record]) -> None:
        """Take consecutive records into the ring, and drop what is too much then."""
        ring, before = self._ring, self._ring_bytes
        for record in found:
            entry = Entry(self.epoch, record)
            ring.append(entry)
            self._ring_bytes += len(entry.frame)
        self.top, self.nonce = found[-1].offset, found[-1].nonce
        budget.grow(self._ring_bytes - before)
        while len(ring) > RING_EVENTS or (len(ring) > 1 and (self._ring_bytes > RING_BYTES or budget.exceeded)):
            self._grow(-len(ring.popleft().frame))

    def _grow(self, by: int) -> None:
        self._ring_bytes += by
        budget.grow(by)

    # Followers

    def wait(self, waiter: Waiter) -> None:
        """Wake ``waiter`` once, when anything changes."""
        self._waiting.add(waiter)

    def leave(self, waiter: Waiter) -> None:
        """Wake ``waiter`` no more."""
        self._waiting.discard(waiter)
        for page in self._pages.values():
            page.waiting.discard(waiter)

    def wake(self) -> None:
        self.shared.clear()
        waiting, self._waiting = self._waiting, set()  # whoever is woken may wait again at once, and is not woken twice
        for waiter in waiting:
            waiter.wake()

    def after(self, offset: int, waiter: Waiter) -> Batch | None:
        """Return the events after ``offset``, which is below ``top``; or ``None``, and wake ``waiter`` once they are read."""
        first = self.top - len(self._ring)
        if offset >= first:
            batch = self.shared.get(offset)
            if batch is None:
                batch = self.shared[offset] = Batch.of(islice(self._ring, offset - first, None))
            return batch
        start, page = offset, self._pages.get(offset)  # asked for first: where memory is short, the aligned page is gone by now
        if page is None:
            start = offset - offset % PAGE
            page = self._pages.get(start)
            if page is not None and page.entries and page.entries[-1].offset <= offset:
                start, page = offset, None  # that one was cut by its bytes, or has grown since: read on from here
        if page is not None and page.covers(offset):
            self._pages[start] = self._pages.pop(start)  # the last one to be dropped
            return page.after(offset)
        if page is None or page.entries is not None:
            page = self._read(start)
        page.waiting.add(waiter)
        return None

    # Pages

    def _read(self, start: int) -> SharedPage:
        self._drop(start)
        page = self._pages[start] = SharedPage()
        while len(self._pages) > PAGES and self._drop_oldest(taken=True):
            pass
        # In a task of the feed's own: a follower that is cancelled does not cancel a read that others wait for.
        task = asyncio.get_running_loop().create_task(self._fetch(start, page))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)
        return page

    async def _fetch(self, start: int, page: SharedPage) -> None:
        epoch = self.epoch
        try:
            read = await self._log.aread_after(self.topic, start, PAGE - start % PAGE)
            if read.epoch != epoch or not read.records or read.records[0].offset != start + 1:
                await self.refresh()  # so that epoch and floor explain it to those who wait: trimmed, deleted, made anew
                if self.epoch == epoch and self.floor <= start < self.top:
                    raise EventLogUnavailable(
                        f"the topic {self.topic!r} has no events after {start}, though its top is after them", "topic"
                    )
        except EventLogError as error:
            # The page stays empty, and those who wait ask again. With jitter, so that feeds do not come back all at once.
            outage.failed(error, [self.topic])
            await asyncio.sleep(RETRY * random.uniform(0.5, 1.5))
            read = records.Page()
        same = read.epoch == self.epoch == epoch
        page.entries = [Entry(epoch, record) for record in read.records] if same else []
        page.bytes = sum(len(entry.frame) for entry in page.entries)
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

    def _drop_oldest(self, but: int = -1, *, taken: bool = False) -> bool:
        """Drop the page that was not used for the longest time. Return whether there was one.

        One that is being read stays. With ``taken`` one stays too that nobody took from: whoever has asked for it has not had
        its turn yet. Else many followers could drop each other's pages for ever, and none of them would get on.
        """
        droppable = (start for start, page in self._pages.items() if start != but and page.entries is not None)
        oldest = next((start for start in droppable if self._pages[start].taken or not taken), None)
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def _drop(self, start: int) -> None:
        page = self._pages.pop(start, None)
        if page is not None:
            budget.grow(-page.bytes)

    # The end

    def close(self) -> None:
        """Give the memory back and wake the followers: the log was replaced, or the topic has no followers any more."""
        self.obsolete = True
        for task in (self._refreshing, *self._reading):
            if task is not None and not task.get_loop().is_closed():
                task.cancel()
        self._forget()
        self.wake()

    def _forget(self) -> None:
        """Forget the events. Whatever waits for a page waits for a change of the feed instead."""
        self._ring.clear()
        self._grow(-self._ring_bytes)
        self.shared.clear()
        for start, page in [*self._pages.items()]:
            self._waiting |= page.waiting
            self._drop(start)
