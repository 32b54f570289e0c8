"""The open streams of one event loop, and the one clock that looks after them.

Everything that has a future or a timer belongs to one event loop. What is due is kept in buckets of a second (finer for
short intervals), each stream at its own phase, so that heartbeats of many streams never go out all at once.
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
"""The first tick comes after this share of the interval at least: a random phase spreads streams that came together."""

_numbers = itertools.count(1)


class OpenStream(Protocol):
    """What the registry knows of a stream."""

    number: int
    """Unique in the process."""

    @property
    def route(self) -> str:
        """The route's URL pattern."""

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
        """Return its numbers, at that time of its loop. From any thread, as all above: what holds at one moment."""

    def info(self) -> StreamInfo:
        """Return what does not change about it."""

    @property
    def outlives_client(self) -> bool:
        """Whether its handler goes on though the transport is over."""

    def end(self, ending: Ending, *, retry: int | None = None) -> bool:
        """End the stream; call it on its loop. False where it had ended."""


class Scheduled(Protocol):
    """Something with a due time of its own, such as a transport."""

    due_slot: float | None

    def tick(self, now: float) -> float | None:
        """Do what is due at ``now`` (loop time, seconds); return when to come again, or ``None`` for never."""


class LoopState:
    """What belongs to one event loop: its open streams, its clock, and the futures that they share.

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
        self._buckets: dict[float, set[Scheduled]] = {}

    def add(self, stream: OpenStream) -> None:
        """Add a stream, and number it."""
        stream.number = next(_numbers)
        self.streams.add(stream)

    def watch(self, item: Scheduled, interval: float | None) -> None:
        """Tick every ``interval`` seconds or so (``None``: never), from a random phase on."""
        if interval is not None:
            self._schedule(item, self.loop.time() + interval * random.uniform(PHASE, 1))

    def discard(self, stream: OpenStream) -> None:
        """Forget a stream."""
        self.streams.discard(stream)

    def unwatch(self, item: Scheduled) -> None:
        """Stop item it."""
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
