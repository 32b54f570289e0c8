"""What one connection follows: some topics, and one position in all of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..eventlog.position import Position, parse_vector, short_name, vector_id, vector_part
from ..exceptions import EventLogError
from .batch import Batch, Entry
from .feed import RETRY, Feed
from .feeds import Feeds, feeds_here
from .follower import Finished, Follower, Gap, GapReason, Start

_WORST_FIRST: tuple[GapReason, ...] = ("unknown", "ahead", "epoch", "fork", "trimmed")


class Part(NamedTuple):
    """Consecutive events of one of several topics. A tuple, since each delivery makes one."""

    batch: Batch
    epoch: str
    around: tuple[str, str]
    """The id's text before and after the part of this topic."""

    def id_of(self, entry: Entry) -> str:
        """Return the connection's position after this event."""
        return vector_part(Position(self.epoch, entry.offset, entry.nonce)).join(self.around)


class Subscription:
    """Follows topics: a position and a wake-up, no queue. Belongs to one event loop.

    Attributes:
        topics: Their names.
        finished: Why each topic ended that has.
        wake: Called when there may be something to pull.
    """

    __slots__ = ("_feeds", "_followers", "_gaps", "_names", "_reopening", "_start", "_turn", "finished", "topics", "wake")

    def __init__(self, topics: Sequence[str], start: Start, wake: Callable[[], None]) -> None:
        self.topics = topics
        self._names = [short_name(topic) for topic in topics]
        self._start: Start = start
        self.wake = wake
        self._feeds: Feeds
        self._followers: list[Follower] = []
        self._gaps: list[Gap] = []
        self._turn = 0
        self._reopening: asyncio.Task[None] | None = None
        self.finished: dict[str, str] = {}

    async def open(self, asked: str | None, malformed: bool, offsets: bool = False) -> Gap | None:
        """Begin, after the id that the client sent if it sent one. With ``offsets`` that may be a number of events.

        Returns:
            How continuity was lost, where that id cannot be honoured.

        Raises:
            EventLogError: The log cannot be read, or a topic has no valid name; nothing stays open.
        """
        await self._open_feeds()
        try:
            return await self._resume(asked, malformed, offsets)
        except BaseException:
            self.close()
            raise

    async def _open_feeds(self) -> None:
        self._feeds = feeds_here()
        opened: dict[int, Feed] = {}

        async def open_feed(number: int, topic: str) -> None:
            opened[number] = await self._feeds.open(topic)

        try:
            for error in await asyncio.gather(*map(open_feed, range(len(self.topics)), self.topics), return_exceptions=True):
                if error is not None:
                    raise error
        except BaseException:  # also a cancel that comes when all are open, and nobody was told yet
            for feed in opened.values():
                self._feeds.release(feed)
            raise
        self._followers = [Follower(opened[number], self._start) for number in sorted(opened)]

    async def _resume(self, asked: str | None, malformed: bool, offsets: bool = False) -> Gap | None:
        if asked is None and not malformed:
            return None
        id = asked or ""
        if offsets and id.isdecimal():  # of an event in the current epoch of the only topic
            feed = self._followers[0].feed
            await feed.refresh()
            id = f"{feed.epoch}.{id}" if feed.epoch else id
        sent = await self._sent(id)
        reasons: set[GapReason] = set() if sent else {"unknown"}
        missed = 0
        for follower, name in zip(self._followers, self._names, strict=True):
            if name in sent:
                reason = await follower.resume(sent[name])
                lost = follower.skip()
                missed += lost
                if reason or lost:
                    reasons.add(reason or "trimmed")
        if not reasons:
            return None
        worst = next(reason for reason in _WORST_FIRST if reason in reasons)
        return Gap(worst, asked, missed if worst == "trimmed" else None, self.id)

    async def _sent(self, asked: str) -> dict[str, Position]:
        """Return the positions in an id, by the topics' short names; none where it is not an id of any of these topics."""
        position = Position.parse(asked)
        if position is None:
            return {name: place for name, place in (parse_vector(asked) or {}).items() if name in self._names}
        if len(self._names) == 1:
            return {self._names[0]: position}
        if not position.epoch:
            return dict.fromkeys(self._names, position)
        # From a stream of one topic, to which others have been added: its epoch tells which it was.
        await asyncio.gather(*(follower.feed.refresh() for follower in self._followers))
        return {
            name: position
            for name, follower in zip(self._names, self._followers, strict=True)
            if follower.feed.epoch == position.epoch
        }

    @property
    def id(self) -> str:
        """The connection's position."""
        if len(self._followers) == 1:
            return str(self._followers[0].position)
        return vector_id(self._positions())

    @property
    def behind(self) -> int:
        """The number of events that the feeds have seen and that were not pulled yet. Thread-safe, and only approximate."""
        return sum(follower.behind for follower in tuple(self._followers))

    def _positions(self) -> dict[str, Position]:
        return {name: follower.position for name, follower in zip(self._names, self._followers, strict=True)}

    def pull(self) -> Batch | Part | Gap | None:
        """Return what comes next, from the topics in turn; ``None`` where nothing is ready, or all topics have ended.

        Of one topic it is a ``Batch``, whose frames have the connection's position as their ids; of several a ``Part``.
        """
        if self._gaps:
            return self._gaps.pop(0)
        if self._reopening is not None:
            return None
        count = len(self._followers)
        if count == 1:  # most connections: no turns, no vector, and a batch that others have just made
            return self._followers[0].pull_shared() or self._pull(0)
        for step in range(count):  # in turn, so that a busy topic does not keep the others waiting
            index = (self._turn + step) % count
            pulled = self._pull(index)
            if pulled is not None:
                self._turn = index + 1
                return pulled
            if self._reopening is not None:
                return None
        return None

    def _pull(self, index: int) -> Batch | Part | Gap | None:
        follower, topic = self._followers[index], self.topics[index]
        if topic in self.finished:
            return None
        if follower.feed.obsolete:
            self._reopening = asyncio.get_running_loop().create_task(self._reopen())
            return None
        pulled = follower.pull(self)
        if isinstance(pulled, Batch):
            if len(self._followers) == 1:
                return pulled
            before, name, after = self._id_with(index, None).partition(self._names[index])
            return Part(pulled, follower.epoch, (before + name, after))
        if isinstance(pulled, Finished):
            self.finished[topic] = pulled.reason
            return None
        if pulled is None or len(self._followers) == 1:
            return pulled
        return replace(pulled, asked=self._id_with(index, Position.parse(pulled.asked or "")), id=self.id)

    def _id_with(self, index: int, position: Position | None) -> str:
        """Return the connection's id with another position in one of its topics."""
        return vector_id({**self._positions(), self._names[index]: position or Position("", 0)})

    async def _reopen(self) -> None:
        """Go on at the same position in the log that has replaced the old one."""
        asked = self.id
        try:
            await self._open_feeds()
            gap = await self._resume(asked, malformed=False)
        except EventLogError:
            await asyncio.sleep(RETRY * random.uniform(0.5, 1.5))  # the feeds have logged why
        else:
            self._gaps += [gap] if gap else []
        self._reopening = None
        self.wake()

    def rest(self) -> bool:
        """Return whether nothing more is ready, and have ``wake`` called then. With one topic it spares a pull."""
        if len(self._followers) != 1 or not self._followers[0].at_top or self._gaps:
            return False
        self._followers[0].feed.wait(self)
        return True

    @property
    def over(self) -> bool:
        """Whether every topic has ended."""
        return len(self.finished) == len(self.topics)

    def close(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
        for follower in self._followers:
            follower.feed.leave(self)
            self._feeds.release(follower.feed)
        self._followers = []
