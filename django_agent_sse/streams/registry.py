"""The open streams of this process, over all its event loops, and the one clock of each loop that looks after them.

Everything that has a future or a timer belongs to one event loop. What is due is kept in buckets of a second (finer for
short intervals), each stream at its own phase, so that heartbeats of many streams never go out all at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import NamedTuple, Protocol

from ..runtime.per_loop import PerLoop
from ..runtime.process import PerProcess, on_exit
from ..signals import process_closing
from .departures import Departures
from .drain import NOW, Drain, next_wave, plan
from .endings import Ending
from .vanished import Vanished

SLOW_SECONDS = 1.0
"""A send that has waited for the client for so long makes the stream a slow one."""
SLOWEST_HEARTBEAT = 55
"""Seconds: load balancers and nginx close a connection that was silent for 60."""


class State(StrEnum):
    """What a stream is doing."""

    STARTING = "starting"  # its response has not begun
    LIVE = "live"  # the client has everything
    REPLAYING = "replaying"  # events wait for it
    SLOW = "slow"  # the client has taken nothing for ``SLOW_SECONDS``
    CLOSING = "closing"  # its end is decided, and the last of it is being sent
    LINGERING = "lingering"  # the client is gone; the handler goes on


class StreamStats(NamedTuple):
    """One stream, in numbers. Times are those of its event loop, in seconds.

    ``buffered`` are bytes that its handler has written and nobody has taken; ``stalled`` is since when a send waits for the
    client, ``None`` where none does.
    """

    state: State
    events: int
    bytes: int
    opened: float | None
    wrote: float
    lag: int
    buffered: int
    stalled: float | None


class StreamInfo(NamedTuple):
    """What does not change about a stream. ``user`` is a primary key as text, ``""`` for nobody; ``patience`` is how many
    seconds a send may wait for the client."""

    route: str
    user: str
    address: str
    agent: str
    heartbeat: float | None
    patience: float | None = None


_ENDED = (State.CLOSING, State.LINGERING)
logger = logging.getLogger("django_agent_sse.stream")

BUCKET = 1.0
"""Seconds of a bucket: as exact as a heartbeat needs to be."""
FINE_BUCKET = 0.05
"""Seconds of a bucket for what is due in less than ``FINE_BELOW`` seconds."""
FINE_BELOW = 4.0
PHASE = 0.5
"""The first tick comes after this share of the interval at least: a random phase spreads streams that came together."""

CLOSING_SECONDS = 30.0
"""How long after a shutdown, and what it takes, new streams are sent elsewhere, or ended at once: a request that was under way
may still start one."""
HURRY_AFTER = 0.5
"""Seconds after which being told once more to end means: at once. Who interrupts a terminal tells several processes twice."""
LAST_EVENTS_SECONDS = 4.8
"""How long a stream may wait then for the end of what it follows: servers are held up for 5."""
LAST_EVENTS_INTERVAL = 0.05
AFTER_LAST_EVENTS_SECONDS = 1.0
"""How long its handler may go on when it has had that end: what it says to its client comes from there."""


class Companion(Protocol):
    """Work of this process that is no stream, and ends with the process too: its runs."""

    def shut_down(self) -> None:
        """The process ends. Called from a signal handler, or any thread: takes no lock, waits for nothing."""

    @property
    def busy(self) -> bool:
        """Whether some of it is not over."""

    @property
    def ending_topics(self) -> frozenset[str]:
        """The topics that get their end now, since the process ends: whoever follows one is told of it first."""


_numbers = itertools.count(1)


class OpenStream(Protocol):
    """What the registry knows of a stream. All but ``end()`` may be asked from any thread: what holds at one moment."""

    number: int  # unique in the process

    @property
    def route(self) -> str: ...
    @property
    def heartbeat(self) -> float | None: ...  # in seconds
    @property
    def topics(self) -> Sequence[str]: ...  # those that it follows
    @property
    def last_id(self) -> str | None: ...  # the last one that the client was sent, or came with
    @property
    def outlives_client(self) -> bool: ...  # its handler goes on though the transport is over

    def stats(self, now: float) -> StreamStats: ...  # at that time of its loop
    def info(self) -> StreamInfo: ...
    def end(self, ending: Ending, *, retry: int | None = None) -> bool: ...  # on its loop; false where it had ended


class StreamWatch(Protocol):
    """What goes with a stream for as long as it is there: its place under the limits, its permit. On its event loop."""

    def begun(self, stream: OpenStream, context: contextvars.Context) -> None: ...  # that of its handler
    def over(self) -> None: ...


class Scheduled(Protocol):
    """Something with a due time of its own, such as a transport."""

    due_slot: float | None

    def tick(self, now: float) -> float | None: ...  # do what is due at ``now`` (loop time); when to come again, if ever


class LoopState:
    """What belongs to one event loop: its open streams, its clock, and the futures that they share.

    Attributes:
        sent: A finished future, ``True``: what a write returns while there is room.
        dropped: A finished future, ``False``: what a write returns when the client has left under ``continue``.
        departures: The connections whose stream has ended a moment ago.
        vanished: The connections that the kernel is to give up if their clients vanish.
    """

    __slots__ = ("_buckets", "departures", "dropped", "loop", "sent", "streams", "thread", "vanished")

    def __init__(self, loop: asyncio.AbstractEventLoop, is_closing: Callable[[], bool]) -> None:
        self.loop = loop
        self.departures = Departures(loop, is_closing)
        self.vanished = Vanished(loop)
        self.thread = threading.get_ident()
        self.streams: set[OpenStream] = set()
        self.sent: asyncio.Future[bool] = loop.create_future()
        self.sent.set_result(True)
        self.dropped: asyncio.Future[bool] = loop.create_future()
        self.dropped.set_result(False)
        self._buckets: dict[float, set[Scheduled]] = {}

    def add(self, stream: OpenStream) -> None:
        stream.number = next(_numbers)
        self.streams.add(stream)

    def watch(self, item: Scheduled, interval: float | None) -> None:
        """Tick every ``interval`` seconds or so (``None``: never), from a random phase on."""
        if interval is not None:
            self._schedule(item, self.loop.time() + interval * random.uniform(PHASE, 1))

    def discard(self, stream: OpenStream) -> None:
        self.streams.discard(stream)

    def unwatch(self, item: Scheduled) -> None:
        if item.due_slot is not None:
            bucket = self._buckets.get(item.due_slot)
            if bucket is not None:
                bucket.discard(item)
            item.due_slot = None

    def end_all(self, ending: Ending) -> None:
        """End every stream of this loop; call it on the loop."""
        for stream in tuple(self.streams):
            stream.end(ending)

    def _schedule(self, item: Scheduled, due: float) -> None:
        grain = BUCKET if due - self.loop.time() >= FINE_BELOW else FINE_BUCKET
        slot = math.ceil(due / grain) * grain
        bucket = self._buckets.get(slot)
        if bucket is None:
            bucket = self._buckets[slot] = set()
            self.loop.call_at(slot, self._tick, slot, context=contextvars.Context())  # not that of some request
        bucket.add(item)
        item.due_slot = slot

    def _tick(self, slot: float) -> None:
        now = self.loop.time()
        for item in self._buckets.pop(slot):
            item.due_slot = None
            try:
                due = item.tick(now)
            except Exception:  # the others in the bucket must not lose their heartbeat for it
                logger.exception("the tick of %r failed", item)
                continue
            if due is not None:
                self._schedule(item, due)


class Registry(PerProcess):
    """The event loops of this process with their streams. One per process; ``reset()`` makes it new, also after a fork.

    Attributes:
        companions: What else is told when the process ends.
    """

    def __init__(self) -> None:
        self.companions: list[Companion] = []
        super().__init__()

    def reset(self) -> None:
        """Forget every loop and stream, without ending them."""
        self._loops = PerLoop(lambda loop: LoopState(loop, lambda: self.closing))
        self._closing_until = self._drained_until = self._drains_until = self._told_at = 0.0
        self._telling: asyncio.Task[object] | None = None

    def loop_state(self) -> LoopState:
        """Return the state of the running loop, made at its first stream."""
        return self._loops.here()

    def loops(self) -> list[LoopState]:
        """Return the loops that have or had streams, and are not closed."""
        return self._loops.all()

    @property
    def closing(self) -> bool:
        """Whether this process was told to end a moment ago."""
        return time.monotonic() < self._closing_until

    @property
    def draining(self) -> bool:
        """Whether this process takes no new streams."""
        return time.monotonic() < self._drained_until

    def drain(self, seconds: float) -> None:
        """Take no new streams for so long; 0 takes them again."""
        self._drained_until = time.monotonic() + seconds

    @property
    def drain_left(self) -> float:
        """Seconds until the last stream is ended, of a process that was told to end."""
        return max(0.0, self._drains_until - time.monotonic())

    def end_all(self, ending: Ending) -> None:
        """End every stream of every loop, from any thread or signal handler: at a shutdown in waves, where they are many."""
        drain, now = NOW, time.monotonic()
        if ending is Ending.SHUTDOWN:
            if not self.closing:
                drain, self._told_at = plan(sum(len(loop_state.streams) for loop_state in self.loops())), now
            elif now < self._told_at + HURRY_AFTER:
                return
            self._drains_until = now + drain.window
            self._closing_until = self._drains_until + CLOSING_SECONDS
            if not drain.window:
                self._shut_down_companions()
        for loop_state in self.loops():
            with contextlib.suppress(RuntimeError):  # the loop closed in between
                loop_state.loop.call_soon_threadsafe(self._begin_end, loop_state, ending, drain)

    def end_late(self, stream: OpenStream) -> None:
        """End a stream that begins after the process was told to end: its request had been let in before."""
        if self.closing:
            stream.end(Ending.SHUTDOWN, retry=NOW.retry(0))

    def _shut_down_companions(self) -> None:
        for companion in self.companions:
            companion.shut_down()

    def exit(self) -> None:
        """The interpreter ends: tell runs that were not told, where the server has ended with streams that left early."""
        if self.drain_left:
            self._shut_down_companions()

    def _begin_end(self, loop_state: LoopState, ending: Ending, drain: Drain) -> None:
        if ending is Ending.SHUTDOWN:
            loop_state.departures.limit_all()
        if ending is Ending.SHUTDOWN and process_closing.has_listeners(Registry):
            told = process_closing.asend_robust(sender=Registry, seconds=drain.window)
            self._telling = loop_state.loop.create_task(told, context=contextvars.Context())
        if drain.window:
            turns = [*loop_state.streams]
            random.shuffle(turns)
            self._end_wave(loop_state, drain, turns, len(turns))
        else:
            self._end_streams(loop_state, ending, drain, time.monotonic() + LAST_EVENTS_SECONDS, {})

    def _end_wave(self, loop_state: LoopState, drain: Drain, turns: list[OpenStream], count: int) -> None:
        """End those whose turn it is, until the window is over; then runs end too, and what is left."""
        left = self.drain_left
        if left <= 0 or not open_streams():
            self._shut_down_companions()
            self._end_streams(loop_state, Ending.SHUTDOWN, drain, time.monotonic() + LAST_EVENTS_SECONDS, {})
            return
        while len(turns) > max(1, count * left / drain.window):  # the last one stays: a server may end when none is left
            turns.pop().end(Ending.SHUTDOWN, retry=drain.retry(1 - left / drain.window))
        again = partial(self._end_wave, loop_state, drain, turns, count)
        loop_state.loop.call_later(min(next_wave(), left), again, context=contextvars.Context())

    def _end_streams(
        self, loop_state: LoopState, ending: Ending, drain: Drain, until: float, followed: dict[OpenStream, float]
    ) -> None:
        """End the streams of a loop: those that follow what gets its end just now when they have had it.

        Args:
            followed: When each of those was last seen to follow it.
        """
        now = time.monotonic()
        waits = ending is Ending.SHUTDOWN and now < until
        topics = frozenset[str]().union(*(companion.ending_topics for companion in self.companions)) if waits else frozenset()
        if not topics:
            for stream in tuple(loop_state.streams):
                self._end_one(stream, ending, drain)
            return
        followed |= {stream: now for stream in loop_state.streams if not topics.isdisjoint(stream.topics)}
        waiting = [stream for stream in loop_state.streams if now < followed.get(stream, 0.0) + AFTER_LAST_EVENTS_SECONDS]
        if not waiting and any(companion.busy for companion in self.companions):
            # Some servers end the loop with the last stream, and with it what runs there.
            open_ones = (one for one in loop_state.streams if one.stats(loop_state.loop.time()).state not in _ENDED)
            waiting = [*itertools.islice(open_ones, 1)]
        for stream in loop_state.streams.difference(waiting):
            self._end_one(stream, ending, drain)
        if waiting:
            again = partial(self._end_streams, loop_state, ending, drain, until, followed)
            loop_state.loop.call_later(LAST_EVENTS_INTERVAL, again, context=contextvars.Context())

    def _end_one(self, stream: OpenStream, ending: Ending, drain: Drain) -> None:
        turn = 1.0 if drain.window else random.random()
        stream.end(ending, retry=drain.retry(turn) if ending is Ending.SHUTDOWN else None)


registry = Registry()
on_exit(registry.exit, twice=True)


def open_streams() -> list[OpenStream]:
    """Return the streams of this process whose handler or transport is not over. From another thread a moment's picture."""
    return [stream for loop_state in registry.loops() for stream in tuple(loop_state.streams)]
