"""Whose turn it is to catch up with a topic, on one event loop: so many at a time, and so many bytes a second for all of them.

A page of a log goes to a client in one piece, and many pages in a row would be all that a process does. A stream that has just
been given a large piece asks here before it takes the next one. It has a place from then on until it has caught up. Where others
wait it gives it up after ``TURN`` seconds, and where its client takes nothing for ``PATIENCE``: neither one that does not read
nor one that reads slowly, or without end, holds up anybody. Those without a place wait in line, the first to come first, and
whoever gave up a place behind them; while the bytes of this moment are used up, all wait. Nothing is refused or lost.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Protocol

from ..runtime.per_loop import PerLoop
from .limits import limits

LARGE_BYTES = 16_384
LARGE_EVENTS = 128
"""A piece of so many bytes or events is one of many: half of what a page of the log has."""
PATIENCE = 0.25
TURN = 2.0
LOOK = 0.1
"""Seconds between two looks at the line, while there is one."""
AHEAD = 0.25
"""Seconds for which bytes that nobody took are kept: so much may go at once."""


class Replaying(Protocol):
    """A stream that catches up."""

    def turn_came(self) -> None: ...  # it may ask again


class _Place:
    """A turn, and when it was last asked in it."""

    __slots__ = ("asked", "since")

    def __init__(self, now: float) -> None:
        self.since = self.asked = now


class Replays:
    """The streams of one event loop that catch up.

    Attributes:
        waited: How many had to wait for a place, since the process began.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._places: dict[Replaying, _Place] = {}
        self._line: dict[Replaying, None] = {}
        self._short: dict[Replaying, None] = {}
        self._left = 0.0
        self._at = loop.time() - AHEAD
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.waited = 0

    @property
    def running(self) -> int:
        return len(self._places)

    @property
    def waiting(self) -> int:
        return len(self._line)

    def may(self, who: Replaying) -> bool:
        """Whether it may take the next piece now; otherwise it is called when it should ask again."""
        bounds, now = limits(), self._loop.time()
        place = self._places.get(who)
        if bounds.replays is not None:
            if place is not None and self._line and now > place.since + TURN:
                del self._places[who]
                self._wait(who)
                self._call_next()
                return False
            if place is None and not self._has_place(bounds.replays, now):
                self._wait(who)
                return False
        self._line.pop(who, None)
        if place is None:
            place = self._places[who] = _Place(now)
        place.asked = now
        if bounds.replay_bytes is not None and self._refilled(bounds.replay_bytes, now) <= 0:
            self._short[who] = None
            self._look_in(-self._left / bounds.replay_bytes + 0.001)
            return False
        return True

    def _wait(self, who: Replaying) -> None:
        if who not in self._line:
            self._line[who] = None
            self.waited += 1
        self._look_in(LOOK)

    def took(self, size: int) -> None:
        """So many bytes went to one that catches up."""
        self._left -= size

    def done(self, who: Replaying) -> None:
        """It has caught up, or is over."""
        self._line.pop(who, None)
        self._short.pop(who, None)
        if self._places.pop(who, None) is not None:
            self._call_next()

    async def paced(self, size: int) -> None:
        """Wait until bytes that are read in another way than by turns may go."""
        self.took(size)
        rate = limits().replay_bytes
        if rate is not None and (left := self._refilled(rate, self._loop.time())) < 0:
            await asyncio.sleep(-left / rate)

    def _has_place(self, most: int, now: float) -> bool:
        if len(self._places) < most:
            return True
        stuck = [who for who, place in self._places.items() if place.asked < now - PATIENCE and who not in self._short]
        for who in stuck:
            del self._places[who]
        return bool(stuck)

    def _refilled(self, rate: int, now: float) -> float:
        self._left = min(self._left + (now - self._at) * rate, AHEAD * rate)
        self._at = now
        return self._left

    def _look_in(self, seconds: float) -> None:
        due = self._loop.time() + seconds
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due  # uvloop's handle of something that is due by now does not tell when
        self._timer = self._loop.call_at(due, self._look, context=contextvars.Context())

    def _look(self) -> None:
        self._timer = None
        short, self._short = self._short, {}
        for who in short:
            who.turn_came()
        most, now = limits().replays, self._loop.time()
        free = len(self._line) if most is None else most - len(self._places) if self._has_place(most, now) else 0
        for _ in range(free):
            self._call_next()
        if self._line:
            self._look_in(LOOK)

    def _call_next(self) -> None:
        """Have the first in line ask. Whoever does not, since its client takes nothing just now, does so when it can."""
        if self._line:
            first = next(iter(self._line))
            del self._line[first]
            first.turn_came()


_replays = PerLoop(Replays)


def replays_here() -> Replays:
    """Return those of the running loop."""
    return _replays.here()


def replay_counts() -> tuple[int, int]:
    """Return how many streams of this process catch up, and how many wait for their turn."""
    found = _replays.all()
    return sum(one.running for one in found), sum(one.waiting for one in found)
