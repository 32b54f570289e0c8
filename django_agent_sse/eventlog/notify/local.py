"""The local bell: tells the event loops of this process that a topic has more. It carries no events."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Protocol

from ..records import Page

Listener = Callable[[frozenset[str]], None]
Taker = Callable[[list[tuple[str, Page]]], None]
EVERY = ""
"""No topic's name: rung for all of them."""
OFFERS = 1_000
"""Pages that wait for a loop; of more it is only told that they are there."""


class Doorbell(Protocol):
    """Rings for the topics that are followed in this process; a log's own. It may lose bells, but not for ever."""

    @property
    def trouble(self) -> str | None:
        """Why it does not ring now, where it should: the kind of the error, which anybody may see."""

    async def follow(self, topic: str) -> None:
        """Ring for a topic; what is read after this misses nothing. Give it back with ``unfollow``."""

    def unfollow(self, topic: str) -> None:
        """Ring no more for it, once as often as it was followed."""


def nobody(topic: str, page: Page | None = None) -> None:
    """Tell nobody."""


class LocalBell:
    """Rings on every loop that listens, from any thread; once per loop tick, however often it was rung."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget who listens, also after a fork."""
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.AbstractEventLoop, Listener] = {}
        self._rung: dict[asyncio.AbstractEventLoop, set[str]] = {}
        self._takers: dict[asyncio.AbstractEventLoop, Taker] = {}
        self._offered: dict[asyncio.AbstractEventLoop, list[tuple[str, Page]]] = {}
        self._only: dict[asyncio.AbstractEventLoop, str] = {}

    def listen(self, listener: Listener, taker: Taker | None = None, *, only: str | None = None) -> None:
        """Call ``listener`` on the running loop with the topics that were rung for. One listener per loop.

        Args:
            listener: What hears.
            taker: Called before it, in the order of the offers, with the log's own records that bells took along; without it,
                the listener hears of them.
            only: Wake the loop for this topic, and for no other one.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            for gone in [other for other in self._listeners if other.is_closed()]:
                del self._listeners[gone]
                for of_loop in (self._rung, self._takers, self._offered, self._only):
                    of_loop.pop(gone, None)
            self._listeners[loop] = listener
            self._takers.pop(loop, None)
            self._only.pop(loop, None)
            if only is not None:
                self._only[loop] = only
            if taker is not None:
                self._takers[loop] = taker

    def ring(self, topic: str) -> None:
        """Say that ``topic`` has more, was closed or deleted. Never raises, never waits."""
        with self._lock:
            for loop in self._listeners:
                self._ring(loop, topic)

    def offer(self, topic: str, page: Page | None) -> None:
        """Ring, and pass on what the log itself has sent along. Never raises, never waits."""
        if page is None:
            return self.ring(topic)
        with self._lock:
            for loop in self._listeners:
                offered = self._offered.setdefault(loop, [])
                if loop not in self._takers or len(offered) >= OFFERS:
                    self._ring(loop, topic)
                elif loop in self._rung or self._wake(loop):
                    self._rung.setdefault(loop, set())
                    offered.append((topic, page))
        return None

    def ring_all(self) -> None:
        """Say that every topic may be another one."""
        self.ring(EVERY)

    def _ring(self, loop: asyncio.AbstractEventLoop, topic: str) -> None:
        if topic not in (EVERY, self._only.get(loop, topic)):
            return
        rung = self._rung.get(loop)
        if rung is not None:
            rung.add(topic)
        elif self._wake(loop):
            self._rung[loop] = {topic}

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
            offered = self._offered.pop(loop, None)
            listener, taker = self._listeners.get(loop), self._takers.get(loop)
        if offered and taker is not None:
            taker(offered)
        if rung and listener is not None:
            listener(frozenset(rung))


bell = LocalBell()
os.register_at_fork(after_in_child=bell.reset)
