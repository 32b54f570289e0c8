"""Notifications within this process: tell its event loops that a topic has more. They carry no events of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

from ...runtime.process import on_fork
from ..records import Page

OnTopics = Callable[[frozenset[str]], None]
OnPages = Callable[[list[tuple[str, Page]]], None]
EVERY_TOPIC = ""
"""No topic's name: a notification for all of them."""
MAX_PAGES = 1_000
"""Pages that wait for a loop; of more it is only told that they are there."""


class LogNotifier(Protocol):
    """What an event log has that is told of changes by its own store. It may lose notifications, but not for ever."""

    @property
    def trouble(self) -> str | None:
        """Why no notifications come in, where they should: the kind of the error, which anybody may see."""

    async def follow(self, topic: str) -> None:
        """Have a topic's notifications; what is read after this misses nothing. Give it back with ``unfollow``."""

    def unfollow(self, topic: str) -> None:
        """Have no more of them, once as often as it was followed."""


def nobody(topic: str, page: Page | None = None) -> None:
    """Notify nobody."""


class LocalNotifier:
    """Notifies every loop that listens, from any thread; once per loop tick, however many changes there were."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget who listens, also after a fork."""
        self._lock = threading.Lock()
        self._on_topics: dict[asyncio.AbstractEventLoop, OnTopics] = {}
        self._on_pages: dict[asyncio.AbstractEventLoop, OnPages] = {}
        self._topics: dict[asyncio.AbstractEventLoop, set[str]] = {}
        self._pages: dict[asyncio.AbstractEventLoop, list[tuple[str, Page]]] = {}
        self._only: dict[asyncio.AbstractEventLoop, str] = {}

    def listen(self, on_topics: OnTopics, on_pages: OnPages | None = None, *, only: str | None = None) -> None:
        """Call ``on_topics`` on the running loop with the topics that changed. A loop has one listener: the last.

        Args:
            on_topics: What is called.
            on_pages: Called before it, in the order in which they came, with the log's own records that notifications took along;
                without it, ``on_topics`` is told of those topics.
            only: Wake the loop for this topic, and for no other one.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            for closed in [other for other in self._on_topics if other.is_closed()]:
                self._forget(closed)
            self._on_topics[loop] = on_topics
            self._on_pages.pop(loop, None)
            self._only.pop(loop, None)
            if only is not None:
                self._only[loop] = only
            if on_pages is not None:
                self._on_pages[loop] = on_pages

    def _forget(self, loop: asyncio.AbstractEventLoop) -> None:
        del self._on_topics[loop]
        for of_loop in (self._on_pages, self._topics, self._pages, self._only):
            of_loop.pop(loop, None)

    def notify(self, topic: str) -> None:
        """Say that ``topic`` has more, was closed or deleted. Never raises, never waits."""
        with self._lock:
            for loop in self._on_topics:
                self._notify(loop, topic)

    def notify_with(self, topic: str, page: Page | None) -> None:
        """Notify, and pass on what the log itself has sent along. Never raises, never waits."""
        if page is None:
            return self.notify(topic)
        with self._lock:
            for loop in self._on_topics:
                pages = self._pages.setdefault(loop, [])
                if loop not in self._on_pages or len(pages) >= MAX_PAGES:
                    self._notify(loop, topic)
                elif loop in self._topics or self._wake(loop):
                    self._topics.setdefault(loop, set())
                    pages.append((topic, page))
        return None

    def notify_all(self) -> None:
        """Say that every topic may be another one."""
        self.notify(EVERY_TOPIC)

    def _notify(self, loop: asyncio.AbstractEventLoop, topic: str) -> None:
        if topic not in (EVERY_TOPIC, self._only.get(loop, topic)):
            return
        waiting = self._topics.get(loop)
        if waiting is not None:  # it is woken already
            waiting.add(topic)
        elif self._wake(loop):
            self._topics[loop] = {topic}

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
            topics = self._topics.pop(loop, None)
            pages = self._pages.pop(loop, None)
            on_topics, on_pages = self._on_topics.get(loop), self._on_pages.get(loop)
        if pages and on_pages is not None:
            on_pages(pages)
        if topics and on_topics is not None:
            on_topics(frozenset(topics))


local_notifier = LocalNotifier()
on_fork(local_notifier.reset)
