"""The local bell: tells the event loops of this process that a topic has more. It carries no events."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

Listener = Callable[[frozenset[str]], None]
EVERY = ""
"""No topic's name: rung for all of them."""


class LocalBell:
    """Rings on every loop that listens, from any thread; once per loop tick, however often it was rung."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget who listens, also after a fork."""
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.AbstractEventLoop, Listener] = {}
        self._rung: dict[asyncio.AbstractEventLoop, set[str]] = {}

    def listen(self, listener: Listener) -> None:
        """Call ``listener`` on the running loop with the topics that were rung for. One listener per loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            for gone in [other for other in self._listeners if other.is_closed()]:
                del self._listeners[gone]
                self._rung.pop(gone, None)
            self._listeners[loop] = listener

    def ring(self, topic: str) -> None:
        """Say that ``topic`` has more, was closed or deleted. Never raises, never waits."""
        with self._lock:
            for loop in self._listeners:
                rung = self._rung.get(loop)
                if rung is not None:
                    rung.add(topic)
                elif self._wake(loop):
                    self._rung[loop] = {topic}

    def ring_all(self) -> None:
        """Say that every topic may be another one."""
        self.ring(EVERY)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> bool:
        try:
            if asyncio._get_running_loop() is loop:
                loop.call_soon(self._deliver, loop)
            else:
                loop.call_soon_threadsafe(self._deliver, loop)
        except RuntimeError:  # it is closed
            return False
        return True

    def _deliver(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            rung = self._rung.pop(loop, None)
            listener = self._listeners.get(loop)
        if rung and listener is not None:
            listener(frozenset(rung))


bell = LocalBell()
os.register_at_fork(after_in_child=bell.reset)
