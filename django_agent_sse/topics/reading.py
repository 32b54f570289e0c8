"""Topics read from Python: a page of a topic, or everything that comes. Each event has its position as its ``id``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import aclosing

from ..eventlog.backend import event_log, refuse_on_a_loop
from ..eventlog.base import PAGE_EVENTS
from ..eventlog.position import Position
from ..eventlog.records import Page
from ..exceptions import ArgumentInvalid, AsyncRequired, EventLogUnavailable, PositionGone
from ..runtime.backoff import Backoff
from ..wire.event import Event, decoded
from .batch import Batch
from .follower import Gap, Start
from .lease_watch import LeaseLooks
from .subscription import Subscription

Fold = Callable[[Iterable[Event]], Iterable[Event]]
"""Returns fewer events that say the same; what it has returned may be given to it again, with those that follow."""
REPLAY_EVENTS = 2048
"""Events of one read of a replay that is folded."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5
"""Seconds between two looks at the log by sync code that waits for events."""


class Reading:
    """A place in a topic, and what is read after it.

    Args:
        topic: Its name.
        after: An event's id, or what ``topic_cursor()`` returned; ``None`` for the oldest event that is kept.
    """

    def __init__(self, topic: str, after: str | None) -> None:
        self._topic = topic
        self._after = after
        self._at = _position(topic, after)
        self._over = False

    @property
    def over(self) -> bool:
        """Whether the topic was closed or deleted, and everything was read."""
        return self._over

    def read(self, limit: int) -> list[Event]:
        """Return events up to ``limit``: fewer only where the topic has no more.

        Raises:
            PositionGone: What comes next was dropped, or the topic is another one.
        """
        found: list[Event] = []
        while (wanted := limit - len(found)) > 0:
            page = event_log().read_after(self._topic, self._at.offset, min(wanted, PAGE_EVENTS))
            if not self._take(page, found):
                break
        return found

    async def aread(self, limit: int) -> list[Event]:
        """See ``read``."""
        found: list[Event] = []
        while (wanted := limit - len(found)) > 0:
            page = await event_log().aread_after(self._topic, self._at.offset, min(wanted, PAGE_EVENTS))
            if not self._take(page, found):
                break
        return found

    def rest(self) -> Generator[Event, None, None]:
        """Yield what the topic has now."""
        while events := self.read(PAGE_EVENTS):
            yield from events
            if len(events) < PAGE_EVENTS:
                return

    async def aread_page(self, limit: int) -> tuple[list[Event], bool]:
        """Return what one read of the log gives, and whether the topic has more."""
        found: list[Event] = []
        more = self._take(await event_log().aread_after(self._topic, self._at.offset, limit), found)
        return found, more

    def _take(self, page: Page, found: list[Event]) -> bool:
        """Add what a page has. Return whether the topic has more."""
        at = self._at
        if (reason := _lost(at, page, begins=self._after is None)) is not None:
            raise _gone(self._topic, str(at), reason)
        self._after = self._after or str(at)
        found += [_numbered(record.event, page.epoch, record.offset, record.nonce) for record in page.records]
        if page.records:
            last = page.records[-1]
            self._at = Position(page.epoch, last.offset, last.nonce)
        elif page.epoch:
            self._at = Position(page.epoch, max(at.offset, page.floor), at.nonce)
        more = self._at.offset < page.top
        self._over = not more and (page.closed is not None or bool(at.epoch and not page.epoch))
        return more


def _position(topic: str, after: str | None) -> Position:
    position = Position("", 0) if after is None else Position.parse(after)
    if position is None:
        raise _gone(topic, after or "", "unknown")
    return position


def _lost(at: Position, page: Page, *, begins: bool) -> str | None:
    """Return how continuity was lost between a position and the page that was read after it, as in `Gap`."""
    if not page.epoch:
        return "epoch" if at.epoch and page.lost else None  # deleted, or not there yet
    if at.epoch and at.epoch != page.epoch:
        return "fork" if at.epoch == page.forked else "epoch"
    if at.nonce and page.before not in ("", at.nonce):
        return "fork"
    if at.offset > page.top:
        return "fork" if at.nonce else "ahead"
    return "trimmed" if at.offset < page.floor and not begins else None


def _gone(topic: str, asked: str, reason: str) -> PositionGone:
    return PositionGone(
        f"the topic {topic!r} cannot be read after {asked[:80]!r} ({reason}): events that came next are no longer kept, or it is "
        "another topic of that name. Leave after= out to begin with the oldest event that is kept",
        reason,
    )


def _numbered(event: Event, epoch: str, offset: int, nonce: str) -> Event:
    id = f"{epoch}.{offset}.{nonce}" if nonce else f"{epoch}.{offset}"  # as of a Position, at a third of its cost
    return decoded(event.data, event.event, id, event.retry)


class Replay:
    """What a topic has after a place, folded: for ``async for``, up to the newest event.

    It holds one page of events and one folded event, however long the topic is. It ends early, and raises nothing, where the log
    cannot be read or continuity is lost: whoever goes on after it finds out.

    Attributes:
        after: The id of the place after everything that was yielded.
    """

    def __init__(self, topic: str, after: str | None, fold: Fold) -> None:
        self._topic = topic
        self._fold = fold
        self.after = after

    async def __aiter__(self) -> AsyncGenerator[Event, None]:
        held: list[Event] = []
        more = True
        try:
            reading = Reading(self._topic, self.after)
            while more:
                page, more = await reading.aread_page(REPLAY_EVENTS)
                held = [*self._fold([*held, *page])]
                ready = held[:-1] if more else held
                held = held[-1:]
                for event in ready:
                    self.after = event.id
                    yield event
        except (PositionGone, EventLogUnavailable):
            return


class Followed:
    """The events of a topic as they come: for ``async for``, and for ``for`` in sync code.

    It ends when the topic is closed or deleted, and everything was read.
    """

    def __init__(self, topic: str, after: str | None, start: Start, fold: Fold | None = None) -> None:
        if start not in ("oldest", "live"):
            raise ArgumentInvalid(f"start={start!r:.40}: it is 'oldest' or 'live'")
        if fold is not None and not callable(fold):
            raise ArgumentInvalid(f"fold={fold!r:.40}: a wire's, as AI_SDK.fold, which takes events and returns fewer")
        self._topic = topic
        self._after = after
        self._start: Start = start
        self._fold = fold

    async def __aiter__(self) -> AsyncGenerator[Event, None]:
        after, woken = self._after, asyncio.Event()
        if self._fold is not None and (after is not None or self._start == "oldest"):
            replay = Replay(self._topic, after, self._fold)
            async with aclosing(replay.__aiter__()) as events:
                async for event in events:
                    yield event
            after = replay.after
        subscription = Subscription([self._topic], self._start, woken.set)
        found: object = await subscription.open(after, malformed=False)
        try:
            while not subscription.over:
                if isinstance(found, Gap):
                    raise _gone(self._topic, found.asked or "", found.reason)
                if isinstance(found, Batch):
                    for entry in found.entries:
                        event = entry.event
                        yield Event(event.data, event=event.event, id=entry.id, retry=event.retry)
                found = subscription.pull()
                if found is None and not subscription.over:
                    await woken.wait()
                    woken.clear()
        finally:
            subscription.close()

    def __iter__(self) -> Generator[Event, None, None]:
        try:
            refuse_on_a_loop("follow")
        except AsyncRequired:
            raise AsyncRequired(
                "`for` would hold up the event loop that runs here; write `async for`. Nothing was read"
            ) from None
        after = self._after
        if after is None and self._start == "live":
            state = event_log().state(self._topic)
            after = str(Position(state.epoch, state.top, state.nonce))
        reading, backoff = Reading(self._topic, after), Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        leases = LeaseLooks(event_log(), self._topic)
        if self._fold is not None:
            yield from self._fold(reading.rest())
        while True:
            events = reading.read(PAGE_EVENTS)
            yield from events
            if reading.over:
                return
            if events:
                backoff.reset()
                leases.soon()
            else:
                leases.look()
                time.sleep(backoff.next())
