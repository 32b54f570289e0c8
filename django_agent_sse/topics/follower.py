"""One reader of one topic: a position, and what comes after it. It has no queue: being slow costs reads of the log, no memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..eventlog.position import Position
from .batch import Batch, Waiter
from .feed import Feed

GapReason: TypeAlias = Literal["trimmed", "epoch", "unknown", "ahead", "fork"]
Start: TypeAlias = Literal["oldest", "live"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Continuity was lost here, and reading goes on elsewhere.

    Args:
        reason: ``trimmed``: events were dropped before they were read. ``epoch``: the topic is another one of that name.
            ``ahead``: nothing was ever there. ``unknown``: no position of this package. ``fork``: the log has lost what it had
            acknowledged, as a failover may, and what stands there now is something else.
        asked: What the client sent, or where it was.
        missed: How many events were lost; ``None`` where nobody can know.
        id: The position at which reading goes on.
    """

    reason: GapReason
    asked: str | None
    missed: int | None
    id: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing will follow: the topic was closed for this reason, and everything was read; or it was deleted."""

    reason: str


class Follower:
    """Reads a feed from a position on.

    Args:
        feed: A feed that has looked at the log at least once.
        start: Where to begin: with the oldest event that is kept, or with the next one. A topic that does not exist yet begins
            with its first event, whatever ``start`` says.
    """

    __slots__ = ("_nonce", "_offset", "_start", "epoch", "feed")

    def __init__(self, feed: Feed, start: Start = "oldest") -> None:
        self.feed = feed
        self._start: Start = start
        self.epoch = feed.epoch
        self._offset = self._beginning
        self._nonce = feed.nonce if self._offset == feed.top else ""

    @property
    def _beginning(self) -> int:
        return self.feed.floor if self._start == "oldest" else self.feed.top

    @property
    def position(self) -> Position:
        """The place after everything that was read."""
        return Position(self.epoch, self._offset, self._nonce)

    @property
    def at_top(self) -> bool:
        """Whether everything was read, and more may come."""
        feed = self.feed
        return self._offset == feed.top and self.epoch == feed.epoch and feed.closed is None and not feed.obsolete

    @property
    def behind(self) -> int:
        """The number of events that the feed has seen and this follower has not read."""
        return max(0, self.feed.top - self._offset) if self.epoch == self.feed.epoch else self.feed.top

    async def resume(self, sent: Position | None) -> GapReason | None:
        """Go to the position that a client sent (``None``: nothing that can be read), or say why not.

        Raises:
            EventLogError: The log cannot be read.
        """
        feed = self.feed
        # What a client has seen may be newer than this feed: it got it from another process, which was notified sooner.
        if sent is not None and ((sent.epoch and sent.epoch != feed.epoch) or sent.offset > feed.top):
            await feed.refresh()  # another process may know more
        self.epoch, self._offset, self._nonce = feed.epoch, self._beginning, ""
        if sent is None:
            return "unknown"
        if not sent.epoch:  # there was no topic yet: whatever is there has come since
            self._offset = sent.offset
        elif sent.epoch != feed.epoch:
            self._offset = feed.floor
            return "fork" if sent.epoch == feed.forked else "epoch"
        elif sent.offset > feed.top and not sent.nonce:
            return "ahead"  # made up; with a nonce it was there, and the log has lost it: that is a fork, below
        elif sent.nonce and await nonce_at(feed, sent.offset) not in (sent.nonce, ""):
            self._offset = feed.floor
            return "fork"
        else:
            self._offset, self._nonce = sent.offset, sent.nonce
        return None

    def skip(self) -> int:
        """Go on with the oldest event that is kept. Return how many are skipped by that."""
        lost = max(0, self.feed.floor - self._offset)
        if lost:
            self._offset, self._nonce = self.feed.floor, ""
        return lost

    def pull_shared(self) -> Batch | None:
        """Return what comes next, if another follower at the same place has just pulled it."""
        batch = self.feed.shared.get(self._offset)
        if batch is None or self.epoch != self.feed.epoch:
            return None
        self._offset, self._nonce = batch.last, batch.nonce
        return batch

    def pull(self, waiter: Waiter) -> Batch | Gap | Finished | None:
        """Return what comes next; or ``None``, and wake ``waiter`` once when it should ask again."""
        feed, offset = self.feed, self._offset
        if feed.epoch != self.epoch:
            before, self.epoch = self.epoch, feed.epoch
            if before:
                return self._other_epoch(Position(before, offset, self._nonce))
            self._offset = offset = 0
        if offset < feed.floor:
            asked, lost = str(self.position), self.skip()
            return Gap("trimmed", asked, lost, str(self.position))
        if offset < feed.top:
            batch = feed.after(offset, waiter)
            if batch is not None:
                self._offset, self._nonce = batch.last, batch.nonce
            return batch
        if feed.closed is not None:
            return Finished(feed.closed)
        feed.wait(waiter)
        return None

    def _other_epoch(self, before: Position) -> Gap | Finished:
        feed = self.feed
        if not (feed.epoch or feed.lost):
            return Finished("deleted")
        self._offset, self._nonce = feed.floor, ""
        return Gap("fork" if feed.forked == before.epoch else "epoch", str(before), None, str(self.position))


class _Waiting(asyncio.Event):
    """A waiter for a coroutine."""

    wake = asyncio.Event.set


async def nonce_at(feed: Feed, offset: int) -> str | None:
    """Return an event's nonce: ``""`` where it is unknown (not kept, a log without nonces), ``None`` without such an event.

    The follower that asks reads the same page next, so that this costs no read of its own.

    Raises:
        EventLogError: The log cannot be read.
    """
    if offset > feed.top:
        return None
    if offset == feed.top and feed.nonce:
        return feed.nonce
    epoch, waiting = feed.epoch, _Waiting()
    while feed.epoch == epoch and feed.floor < offset <= feed.top and not feed.obsolete:
        waiting.clear()
        batch = feed.after(offset - 1, waiting)
        if batch is not None:
            return batch.entries[0].nonce
        await waiting.wait()
        if feed.floor < offset <= feed.top and feed.after(offset - 1, waiting) is None:
            await feed.refresh()  # the page could not be read: if the log is away, this says so
    return ""
