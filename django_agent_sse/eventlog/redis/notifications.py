"""The notifications of the followed topics, wherever these are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ..records import Page
from .keys import Keys
from .pubsub import PubSubConnection
from .server import Server

FOLLOW_TIMEOUT = 2.0
"""Seconds that a follower waits for its subscription before it reads without: when it comes, the topic is looked at again."""


class RedisNotifier:
    """See ``LogNotifier``.

    Args:
        servers: Where topics are kept.
        place: Which of them keeps a topic.
        keys: The names.
        on_notify: See `PubSubConnection`.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        place: Callable[[str], int],
        keys: Keys,
        on_notify: Callable[[str, Page | None], object],
    ) -> None:
        self.connections = [PubSubConnection(server, keys, on_notify) for server in servers]
        self._place = place

    async def follow(self, topic: str) -> None:
        """Have a topic's notifications; give them back with ``unfollow``. What is read after this misses nothing."""
        waiting = self.connections[self._place(topic)].follow(topic)
        if waiting is not None:
            await asyncio.wait({asyncio.wrap_future(waiting)}, timeout=FOLLOW_TIMEOUT)

    def unfollow(self, topic: str) -> None:
        """Have them no more."""
        self.connections[self._place(topic)].unfollow(topic)

    def notifies(self, topic: str) -> bool:
        """Return whether what is published to a topic comes in here by itself, as far as that can be known."""
        connection = self.connections[self._place(topic)]
        return connection.up and connection.trouble is None

    @property
    def trouble(self) -> str | None:
        """Why some notifications do not come in, where they should."""
        return next((connection.trouble for connection in self.connections if connection.trouble), None)
