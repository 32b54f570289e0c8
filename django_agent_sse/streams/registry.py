"""The open streams of this process, over all its event loops."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

from ..runtime.process import on_fork
from .endings import Ending
from .loop_state import LoopStreams, OpenStream

CLOSING_SECONDS = 30.0
"""How long after a shutdown signal new streams are ended at once: a request that was under way may still start one."""


class Registry:
    """Finds the streams of each loop. One per process; ``reset()`` makes it new, also after a fork."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget every loop and stream, without ending them."""
        self._lock = threading.Lock()
        self._loops: dict[asyncio.AbstractEventLoop, LoopStreams] = {}
        self._closing_until = self._drained_until = 0.0

    def here(self) -> LoopStreams:
        """The streams of the running loop."""
        loop = asyncio.get_running_loop()
        mine = self._loops.get(loop)
        if mine is None:
            with self._lock:
                open_loops = {other: its for other, its in self._loops.items() if not other.is_closed()}
                mine = open_loops[loop] = LoopStreams(loop, lambda: self.closing)
                self._loops = open_loops
        return mine

    def loops(self) -> list[LoopStreams]:
        """The loops that have or had streams, and are not closed."""
        # No lock: a signal handler may interrupt the very thread that holds it.
        return [mine for loop, mine in list(self._loops.items()) if not loop.is_closed()]

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
        for mine in self.loops():
            with contextlib.suppress(RuntimeError):  # the loop closed in between
                mine.loop.call_soon_threadsafe(mine.end_all, ending)


registry = Registry()
on_fork(registry.reset)


def open_streams() -> list[OpenStream]:
    """The streams of this process whose handler or transport is not over. From another thread a moment's picture."""
    return [stream for mine in registry.loops() for stream in tuple(mine.streams)]
