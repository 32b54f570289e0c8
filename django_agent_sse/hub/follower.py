"""One reader of one topic: a position, and what comes after it. It has no queue: being slow costs reads of the log, no memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..eventlog.position import Position
from .feed import Feed, join

GapReason: TypeAlias = Literal["trimmed", "epoch", "unknown", "ahead"]
Start: TypeAlias = Literal["oldest", "live"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames that follow the position, joined for one write, and the position after them."""

    data: bytes
    position: Position


@dataclass(frozen=True, slots=True)
class Gap:
    """Continuity was lost here, and reading goes on elsewhere.

    Args:
        reason: ``trimmed``: events were dropped before they were read. ``epoch``: the topic is another one of that name.
            ``ahead``: nothing was ever there. ``unknown``: no position of this package.
        asked: What the client sent, or where it was.
        missed: How many events were lost; ``None`` where nobody can know.
        position: Where reading goes on; ``None`` where there is no topic yet.
    """

    reason: GapReason
    asked: str
    missed: int | None
    position: Position | None


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing will follow: the topic was closed for this reason, and everything was read; or it was deleted."""

    reason: str


class Follower:
    """Reads a feed from a position on.

    Args:
        feed: A feed that has looked at the log at least once.
        after: The id that the client sent; ``None`` for none.
        start: Where to begin without one that can be honoured: with the oldest event that is kept, or with the next one.
    """

    def __init__(self, feed: Feed, after: str | None = None, start: Start = "oldest") -> None:
        self.feed = feed
        self._epoch = feed.epoch
        self._offset = feed.floor if start == "oldest" else feed.top
        self._start = start
        self._asked = after

    @property
    def position(self) -> Position | None:
        """The place after everything that was read; ``None`` while there is no topic."""
        return Position(self._epoch, self._offset) if self._epoch else None

    async def read(self) -> Chunk | Gap | Finished:
        """What comes next; waits until there is something. Cancelling it loses nothing.

        Raises:
            EventLogError: The log cannot be read; another call tries again.
        """
        if self._asked is not None:
            gap = await self._honour(self._asked)
            self._asked = None
            if gap is not None:
                return gap
        while True:
            changed = self.feed.changed()
            found = self._now()
            if found is not None:
                return found
            if self._offset < self.feed.top:
                if (chunk := await self._behind()) is not None:
                    return chunk
            else:
                await changed

    def _now(self) -> Chunk | Gap | Finished | None:
        """What can be told without waiting."""
        feed = self.feed
        if feed.epoch != self._epoch:
            return self._other_epoch()
        if self._offset < feed.floor:
            gap = Gap("trimmed", str(self.position), feed.floor - self._offset, Position(feed.epoch, feed.floor))
            self._offset = feed.floor
            return gap
        if feed.in_ring(self._offset):
            data, self._offset = feed.joined(self._offset)
            return Chunk(data, Position(self._epoch, self._offset))
        if self._offset >= feed.top and feed.closed is not None:
            return Finished(feed.closed)
        return None

    def _other_epoch(self) -> Gap | Finished | None:
        feed, before = self.feed, self.position
        if before is not None and not feed.epoch:
            return Finished("deleted")
        self._epoch = feed.epoch
        self._offset = feed.floor if before is not None or self._start == "oldest" else 0
        return None if before is None else Gap("epoch", str(before), None, self.position)

    async def _behind(self) -> Chunk | None:
        """The next events from the log; ``None`` where the feed has to be looked at again."""
        epoch, offset = self._epoch, self._offset
        entries = await self.feed.page(offset)
        if self.feed.epoch != epoch:
            return None
        if not entries or entries[0].record.offset != offset + 1:
            await self.feed.look()  # trimmed meanwhile: the feed learns of its floor
            return None
        data, self._offset = join(entries)
        return Chunk(data, Position(epoch, self._offset))

    async def _honour(self, asked: str) -> Gap | None:
        """Go to the position that the client sent, or say why not."""
        feed, sent = self.feed, Position.parse(asked)
        if sent is not None and (sent.epoch != feed.epoch or sent.offset > feed.top):
            await feed.look()  # another process may know more
        self._epoch = feed.epoch
        if sent is None or (sent.epoch == feed.epoch and sent.offset > feed.top):
            self._offset = feed.floor if self._start == "oldest" else feed.top
            return Gap("unknown" if sent is None else "ahead", asked, None, self.position)
        if sent.epoch != feed.epoch:
            self._offset = feed.floor
            return Gap("epoch", asked, None, self.position)
        self._offset = sent.offset
        return None
