"""The doorbells of the followed topics, wherever these are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..records import Page
from .keys import Keys
from .pubsub import Line
from .server import Server

PATIENCE = 2.0
"""Seconds that a follower waits for its doorbell before it reads without: when it comes, the topic is looked at again."""


class RedisDoorbell:
    """See ``Doorbell``.

    Args:
        servers: Where topics are kept.
        place: Which of them keeps a topic.
        keys: The names.
        heard: See `Line`.
    """

    def __init__(
        self, servers: Sequence[Server], place: Callable[[str], int], keys: Keys, heard: Callable[[str, Page | None], object]
    ) -> None:
        self.lines = [Line(server, keys, heard) for server in servers]
        self._place = place

    async def follow(self, topic: str) -> None:
        """Have a topic's doorbell; give it back with ``unfollow``. What is read after this misses nothing."""
        waiting = self.lines[self._place(topic)].follow(topic)
        if waiting is not None:
            await asyncio.wait({asyncio.wrap_future(waiting)}, timeout=PATIENCE)

    def unfollow(self, topic: str) -> None:
        """Have it no more."""
        self.lines[self._place(topic)].unfollow(topic)

    def hears(self, topic: str) -> bool:
        """Whether what is published to a topic comes in here by itself, as far as that can be known."""
        line = self.lines[self._place(topic)]
        return line.up and line.trouble is None

    @property
    def trouble(self) -> str | None:
        """Why some doorbells do not come in, where they should."""
        return next((line.trouble for line in self.lines if line.trouble), None)
