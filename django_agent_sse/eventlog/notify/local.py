"""Notifications within this process: tell its event loops that a topic has more. They carry no events of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ...runtime.process import PerProcess
from ..records import Page

OnTopics = Callable[[frozenset[str]], None]
_Key = tuple[asyncio.AbstractEventLoop, str | None]
"""Whose loop a listener is on, and the topic that it listens for alone."""
OnPages = Callable[[list[tuple[str, Page]]], None]
EVERY_TOPIC = ""
"""No topic's name: a notification that every topic may be another one."""
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


class OnChange(Protocol):
    """See `EventLog`."""

    def __call__(self, topic: str, page: Page | None = None, /) -> object: ...


def nobody(topic: str, page: Page | None = None) -> None:
    return


@dataclass(slots=True)
class _Listener:
    """What one loop listens for, and what it has not been told yet."""

    on_topics: OnTopics
    on_pages: OnPages | None
    topics: set[str] = field(default_factory=set)
    pages: list[tuple[str, Page]] = field(default_factory=list)
    woken: bool = False


class LocalNotifier(PerProcess):
    """Notifies every loop that listens, from any thread; once per loop tick, however many changes there were."""

    def reset(self) -> None:
        """Forget who listens, also after a fork."""
        self._lock = threading.Lock()
        self._listeners: dict[_Key, _Listener] = {}

    def listen(self, on_topics: OnTopics, on_pages: OnPages | None = None, *, only: str | None = None) -> None:
        """Call ``on_topics`` on the running loop with the topics that changed. A loop has one for each ``only``: the last.

        Args:
            on_topics: What is called.
            on_pages: Called before it, in the order in which they came, with the log's own records that notifications took along;
                without it, ``on_topics`` is told of those topics.
            only: Wake the loop for this topic, and for no other one.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            self._listeners = {key: listener for key, listener in self._listeners.items() if not key[0].is_closed()}
            self._listeners[loop, only] = _Listener(on_topics, on_pages)

    def notify(self, topic: str, page: Page | None = None) -> None:
        """Say that ``topic`` has more, was closed or deleted, and pass on what the log sent along. Never raises, never waits."""
        with self._lock:
            for key, listener in self._listeners.items():
                if key[1] is not None and topic not in (EVERY_TOPIC, key[1]):
                    continue
                if not listener.woken:
                    listener.woken = self._wake(key)
                if not listener.woken:
                    continue
                if page is None or listener.on_pages is None or len(listener.pages) >= MAX_PAGES:
                    listener.topics.add(topic)
                else:
                    listener.pages.append((topic, page))

    def _wake(self, key: _Key) -> bool:
        loop = key[0]
        try:
            if asyncio._get_running_loop() is loop:
                loop.call_soon(self._deliver, key)
            else:
                loop.call_soon_threadsafe(self._deliver, key)
        except RuntimeError:  # it is closed
            return False
        return True

    def _deliver(self, key: _Key) -> None:
        with self._lock:
            listener = self._listeners.get(key)
            if listener is None:
                return
            topics, listener.topics = listener.topics, set()
            pages, listener.pages = listener.pages, []
            listener.woken = False
        if pages and listener.on_pages is not None:
            listener.on_pages(pages)
        if topics:
            listener.on_topics(frozenset(topics))


local_notifier = LocalNotifier()
