"""The open streams of this process, over all its event loops."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from typing import Protocol

from ..runtime.process import on_fork
from .endings import Ending
from .loop_state import LoopState, OpenStream

CLOSING_SECONDS = 30.0
"""How long after a shutdown signal new streams are ended at once: a request that was under way may still start one."""
LAST_EVENTS_SECONDS = 4.8
"""How long a stream may wait then for the end of what it follows: servers are held up for 5."""
LAST_EVENTS_INTERVAL = 0.05


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


class Registry:
    """The event loops of this process with their streams. One per process; ``reset()`` makes it new, also after a fork.

    Attributes:
        companions: What else is told when the process ends.
    """

    def __init__(self) -> None:
        self.companions: list[Companion] = []
        self.reset()

    def reset(self) -> None:
        """Forget every loop and stream, without ending them."""
        self._lock = threading.Lock()
        self._loops: dict[asyncio.AbstractEventLoop, LoopState] = {}
        self._closing_until = self._drained_until = 0.0

    def loop_state(self) -> LoopState:
        """Return the state of the running loop, made at its first stream."""
        loop = asyncio.get_running_loop()
        loop_state = self._loops.get(loop)
        if loop_state is None:
            with self._lock:
                open_loops = {other: state for other, state in self._loops.items() if not other.is_closed()}
                loop_state = open_loops[loop] = LoopState(loop, lambda: self.closing)
                self._loops = open_loops
        return loop_state

    def loops(self) -> list[LoopState]:
        """Return the loops that have or had streams, and are not closed."""
        # No lock: a signal handler may interrupt the very thread that holds it.
        return [loop_state for loop, loop_state in list(self._loops.items()) if not loop.is_closed()]

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

    def end_all(self, ending: Ending) -> None:
        """End every stream of every loop, from any thread or signal handler."""
        if ending is Ending.SHUTDOWN:
            self._closing_until = time.monotonic() + CLOSING_SECONDS
            for companion in self.companions:
                companion.shut_down()
        for loop_state in self.loops():
            with contextlib.suppress(RuntimeError):  # the loop closed in between
                loop_state.loop.call_soon_threadsafe(
                    self._end_streams, loop_state, ending, time.monotonic() + LAST_EVENTS_SECONDS
                )

    def _end_streams(self, loop_state: LoopState, ending: Ending, until: float) -> None:
        """End the streams of a loop: those that follow what gets its end just now when they have had it."""
        waits = ending is Ending.SHUTDOWN and time.monotonic() < until
        topics = frozenset[str]().union(*(companion.ending_topics for companion in self.companions)) if waits else frozenset()
        if not topics:
            loop_state.end_all(ending)
            return
        waiting = [stream for stream in loop_state.streams if not topics.isdisjoint(stream.topics)]
        for stream in loop_state.streams.difference(waiting):
            stream.end(ending)
        if waiting:
            loop_state.loop.call_later(
                LAST_EVENTS_INTERVAL, self._end_streams, loop_state, ending, until, context=contextvars.Context()
            )


registry = Registry()
on_fork(registry.reset)


def open_streams() -> list[OpenStream]:
    """Return the streams of this process whose handler or transport is not over. From another thread a moment's picture."""
    return [stream for loop_state in registry.loops() for stream in tuple(loop_state.streams)]
