"""The open streams of one event loop, and the one clock that visits them.

Everything that has a future or a timer belongs to one event loop. Streams are visited in buckets of a second (finer for
short intervals), each at its own phase, so that heartbeats of many streams never go out all at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import math
import random
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from .departures import Departures
from .endings import Ending
from .state import StreamInfo, StreamStats

logger = logging.getLogger("django_agent_sse.stream")

BUCKET = 1.0
"""Seconds of a bucket: as exact as a heartbeat needs to be."""
FINE_BUCKET = 0.05
"""Seconds of a bucket for what is due in less than ``FINE_BELOW`` seconds."""
FINE_BELOW = 4.0
PHASE = 0.5
"""The first visit comes after this share of the interval at least: a random phase spreads streams that came together."""


_numbers = itertools.count(1)


class OpenStream(Protocol):
    """What the registry knows of a stream."""

    number: int
    """Another one for each stream of the process."""
    route: str

    @property
    def heartbeat(self) -> float | None:
        """Seconds, or ``None`` for none."""

    @property
    def topics(self) -> Sequence[str]:
        """What it follows."""

    @property
    def last_id(self) -> str | None:
        """The last id that the client was sent, or came with."""

    def stats(self, now: float) -> StreamStats:
        """What it does, at that time of its loop. From any thread, as all above: a moment's picture."""

    def info(self) -> StreamInfo:
        """What does not change about it."""

    @property
    def lingers(self) -> bool:
        """Whether its handler goes on though the transport is over."""

    def end(self, ending: Ending, *, retry: int | None = None) -> bool:
        """End the stream; call it on its loop. False where it had ended."""


class Visited(Protocol):
    """What the clock looks at."""

    slot: float | None

    def visit(self, now: float) -> float | None:
        """Do what is due at ``now`` (loop time, seconds); return when to come again, or ``None`` for never."""


class LoopStreams:
    """The open streams of one event loop.

    Attributes:
        sent: A finished future, ``True``: what a write returns while there is room.
        dropped: A finished future, ``False``: what a write returns when the client has left under ``continue``.
        departures: The connections whose stream has ended a moment ago.
    """

    __slots__ = ("_buckets", "departures", "dropped", "loop", "sent", "streams", "thread")

    def __init__(self, loop: asyncio.AbstractEventLoop, is_closing: Callable[[], bool]) -> None:
        self.loop = loop
        self.departures = Departures(loop, is_closing)
        self.thread = threading.get_ident()
        self.streams: set[OpenStream] = set()
        self.sent: asyncio.Future[bool] = loop.create_future()
        self.sent.set_result(True)
        self.dropped: asyncio.Future[bool] = loop.create_future()
        self.dropped.set_result(False)
        self._buckets: dict[float, set[Visited]] = {}

    def add(self, stream: OpenStream) -> None:
        """Enter a stream."""
        stream.number = next(_numbers)
        self.streams.add(stream)

    def watch(self, visited: Visited, interval: float | None) -> None:
        """Visit every ``interval`` seconds or so (``None``: never), from a random phase on."""
        if interval is not None:
            self._schedule(visited, self.loop.time() + interval * random.uniform(PHASE, 1))

    def discard(self, stream: OpenStream) -> None:
        """Forget a stream."""
        self.streams.discard(stream)

    def unwatch(self, visited: Visited) -> None:
        """Visit it no more."""
        if visited.slot is not None:
            bucket = self._buckets.get(visited.slot)
            if bucket is not None:
                bucket.discard(visited)
            visited.slot = None

    def end_all(self, ending: Ending) -> None:
        """End every stream of this loop; call it on the loop."""
        for stream in tuple(self.streams):
            stream.end(ending)

    def _schedule(self, visited: Visited, due: float) -> None:
        grain = BUCKET if due - self.loop.time() >= FINE_BELOW else FINE_BUCKET
        slot = math.ceil(due / grain) * grain
        bucket = self._buckets.get(slot)
        if bucket is None:
            bucket = self._buckets[slot] = set()
            self.loop.call_at(slot, self._visit, slot, context=contextvars.Context())  # not that of some request
        bucket.add(visited)
        visited.slot = slot

    def _visit(self, slot: float) -> None:
        now = self.loop.time()
        for visited in self._buckets.pop(slot):
            visited.slot = None
            try:
                due = visited.visit(now)
            except Exception:  # the others in the bucket must not lose their heartbeat for it
                logger.exception("a look at %r failed", visited)
                continue
            if due is not None:
                self._schedule(visited, due)
