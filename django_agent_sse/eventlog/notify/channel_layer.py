"""Notifications through a channel layer: tell other processes at once that topics have more. They carry names, no events.

Nothing depends on them: the poll finds what no notification told of. So whatever goes wrong here is said once, and tried again.
The layer is one of our own with the project's configuration: in the core layer of ``channels_redis`` one event loop can receive,
and that is for consumers.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

from .remote import LEAVE_IDLE, LOGGER, RENEW_INTERVAL, PendingTopics, RemoteNotifier

logger = logging.getLogger(LOGGER)

ALIAS = "default"
"""The entry of ``CHANNEL_LAYERS`` that is used."""
GROUP = "django_agent_sse.notify"
IN_MEMORY = "channels.layers.InMemoryChannelLayer"

LAYER_TIMEOUT = 5.0
"""Seconds that the layer may take for a message or to join."""
RECEIVE_IDLE = 1.0
"""Seconds after which a time-out of ``receive()`` says that nothing came, and not that the layer is down."""


def layer_configured() -> bool:
    """Return whether there is a channel layer that reaches other processes. Imports nothing."""
    layers = getattr(settings, "CHANNEL_LAYERS", None)
    entry = layers.get(ALIAS) if isinstance(layers, Mapping) else None
    if not isinstance(entry, Mapping) or entry.get("BACKEND") == IN_MEMORY:
        return False
    return importlib.util.find_spec("channels") is not None


class ChannelLayerNotifier(RemoteNotifier):
    """Sends the names of topics to a group, and receives them from it.

    Args:
        pending: What to send.
        followed: The topics that are followed in this process, at this moment.
        on_notify: Called with those of them of which another process has said that they changed.
    """

    name = "channel_layer"

    def __init__(self, pending: PendingTopics, followed: Callable[[], set[str]], on_notify: Callable[[set[str]], object]) -> None:
        super().__init__(pending, followed, f"CHANNEL_LAYERS[{ALIAS!r}]")
        self._on_notify = on_notify
        self._me = secrets.token_hex(8)
        self._made: Any = None
        self._hinted = False

    async def _send(self, topics: list[str]) -> None:
        await self._in_time(self._layer().group_send(GROUP, self._message(topics)))

    async def _listen(self) -> None:
        """Join, receive until nothing was followed for a while, leave."""
        layer = self._layer()
        # The pub/sub layer keeps a queue for each channel that it could not make: first see whether it is up.
        await self._in_time(layer.group_send(GROUP, self._message([])))
        channel: str = await self._in_time(layer.new_channel())
        await self._in_time(layer.group_add(GROUP, channel))
        receiving: asyncio.Future[Any] | None = None
        began = renewed = needed = time.monotonic()
        try:
            while needed > time.monotonic() - LEAVE_IDLE:
                if receiving is None:
                    began, receiving = time.monotonic(), asyncio.ensure_future(layer.receive(channel))
                # Not cancelled by a time-out: a channel of the pub/sub layer ends with the one who is cancelled waiting for it.
                done, _ = await asyncio.wait({receiving}, timeout=RENEW_INTERVAL)
                if done:
                    self._take(receiving, began)
                    receiving = None
                self._receiving.recovered()
                if time.monotonic() - renewed >= RENEW_INTERVAL:
                    await self._in_time(layer.group_add(GROUP, channel))
                    renewed = time.monotonic()
                if self._followed():
                    needed = time.monotonic()
        finally:
            if receiving is not None:
                receiving.cancel()
                await asyncio.wait({receiving}, timeout=RECEIVE_IDLE)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(RECEIVE_IDLE):
                    await layer.group_discard(GROUP, channel)

    async def _in_time(self, work: Awaitable[Any]) -> Any:
        async with asyncio.timeout(LAYER_TIMEOUT):
            return await work

    def _take(self, receiving: asyncio.Future[Any], began: float) -> None:
        """What ``receive()`` returned: messages of anybody who reaches the layer."""
        try:
            message = receiving.result()
        except Exception as error:
            if "Timeout" not in type(error).__name__ or time.monotonic() - began < RECEIVE_IDLE:
                raise
            if not self._hinted:
                self._hinted = True
                logger.warning(
                    "CHANNEL_LAYERS[%r] gives up waiting when nothing comes (%s: %s): redis-py 8 does after 5 s. Write its host "
                    'as {"address": "redis://…", "socket_timeout": None}, or use channels_redis.pubsub.RedisPubSubChannelLayer',
                    *(ALIAS, type(error).__name__, error),
                )
            return
        names = message.get("topics") if isinstance(message, Mapping) and message.get("from") != self._me else None
        if isinstance(names, list | tuple):
            followed = self._followed()
            if mine := {name for name in names if isinstance(name, str) and name in followed}:
                self._on_notify(mine)

    def _message(self, names: list[str]) -> dict[str, Any]:
        return {"type": GROUP, "from": self._me, "topics": names}

    def _layer(self) -> Any:
        # Imported on the background loop, though it takes a while, once: a script that publishes and ends can have no new thread.
        if self._made is None:
            try:
                from channels.layers import channel_layers

                self._made = channel_layers.make_backend(ALIAS)
            finally:
                self.loaded.set()
        return self._made
