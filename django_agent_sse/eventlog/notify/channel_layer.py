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
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.conf import settings

from ...runtime.backoff import FailureLog

LOGGER = "django_agent_sse.notify"
logger = logging.getLogger(LOGGER)

ALIAS = "default"
"""The entry of ``CHANNEL_LAYERS`` that is used."""
GROUP = "django_agent_sse.notify"
IN_MEMORY = "channels.layers.InMemoryChannelLayer"

SEND_INTERVAL = 0.005
"""Seconds between two messages of a process; what is published meanwhile goes into one."""
MAX_NAMES = 256
"""Topics of one message."""
MAX_PENDING = 10_000
"""Topics that wait to be told of while the layer is down; of more, the poll tells."""
RENEW_INTERVAL = 15.0
"""Seconds after which the group is joined again: a Redis that was emptied has forgotten it."""
LEAVE_IDLE = 60.0
"""Seconds without anything followed after which the group is left."""
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


class PendingTopics:
    """The topics that other processes are to be notified of: put in by any thread, taken out on the background loop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._names: set[str] = set()
        self._sending = False

    def put(self, topic: str) -> bool:
        """Queue a name; whether the sender must be woken for it."""
        with self._changed:
            if len(self._names) < MAX_PENDING:
                self._names.add(topic)
            return len(self._names) == 1

    def take(self) -> list[str]:
        """Some names, until ``sent()`` under way."""
        with self._changed:
            names = [self._names.pop() for _ in range(min(MAX_NAMES, len(self._names)))]
            self._sending = bool(names)
            return names

    def sent(self) -> None:
        with self._changed:
            self._sending = False
            self._changed.notify_all()

    def wait_empty(self, seconds: float) -> bool:
        """Wait until everything is sent, for so long at most; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._names or self._sending), seconds)


class ChannelLayerNotifier:
    """Sends and receives on the background loop.

    Args:
        pending: What to send.
        followed: The topics that are followed in this process, at this moment.
        on_notify: Called with those of them of which another process has said that they changed.

    Attributes:
        loaded: The layer's modules are imported, which takes long beside what a message takes; or cannot be.
    """

    def __init__(self, pending: PendingTopics, followed: Callable[[], set[str]], on_notify: Callable[[set[str]], object]) -> None:
        self.wake_sender = asyncio.Event()
        self.wake_receiver = asyncio.Event()
        self.loaded = threading.Event()
        self._pending = pending
        self._followed = followed
        self._on_notify = on_notify
        self._me = secrets.token_hex(8)
        self._made: Any = None
        late = "Followers in other processes see what is published up to half a second later."
        self._sending = FailureLog(f"notifications cannot be sent through CHANNEL_LAYERS[{ALIAS!r}]", late, logger=LOGGER)
        self._receiving = FailureLog(
            f"notifications cannot be received through CHANNEL_LAYERS[{ALIAS!r}]",
            "What other processes publish is seen up to half a second later.",
            logger=LOGGER,
        )
        self._hinted = False

    @property
    def trouble(self) -> str:
        """What does not work now; empty where all does."""
        return self._sending.now or self._receiving.now

    async def send(self) -> None:
        """Send for ever what is queued."""
        while True:
            self.wake_sender.clear()
            if not (names := self._pending.take()):
                await self.wake_sender.wait()
                continue
            pause = SEND_INTERVAL
            try:
                await self._in_time(self._layer().group_send(GROUP, self._message(names)))
                self._sending.recovered()
            except Exception as error:
                pause = self._sending.failed(error)
            finally:
                self._pending.sent()
            await asyncio.sleep(pause)

    async def receive(self) -> None:
        """Be in the group while anything is followed, for ever, and pass on what comes."""
        while True:
            self.wake_receiver.clear()
            if not self._followed():
                await self.wake_receiver.wait()
                continue
            try:
                await self._listen(self._layer())
            except Exception as error:
                await asyncio.sleep(self._receiving.failed(error))

    async def _listen(self, layer: Any) -> None:
        """Join, receive until nothing was followed for a while, leave."""
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
