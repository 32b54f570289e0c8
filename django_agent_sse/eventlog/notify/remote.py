"""What every way to other processes has in common: what waits to be sent, when it is sent, and what is said where that fails."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from ...runtime.backoff import FailureLog

LOGGER = "django_agent_sse.notify"

SEND_INTERVAL = 0.005
"""Seconds between two messages of a process; what is published meanwhile goes into one."""
MAX_NAMES = 256
"""Topics of one message."""
MAX_PENDING = 10_000
"""Topics that wait to be told of while nothing can be sent; of more, the poll tells."""
RENEW_INTERVAL = 15.0
"""Seconds after which a receiver looks whether it still would receive anything."""
LEAVE_IDLE = 60.0
"""Seconds without anything followed after which nothing is received any more."""


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


class RemoteNotifier(ABC):
    """One way to other processes, on the background loop. Whatever goes wrong is said once, tried again, and left to the poll.

    Args:
        pending: What to send.
        followed: The topics that are followed in this process, at this moment.
        what: What notifications go through, as a part of a sentence.

    Attributes:
        name: What `Notifier.troubles` calls it.
        sends: Whether anything has to be sent: some hear of a commit by themselves.
        loaded: It is ready to send, or cannot be: the end of the process waits for it.
    """

    name: str
    sends = True

    def __init__(self, pending: PendingTopics, followed: Callable[[], set[str]], what: str) -> None:
        self.wake_sender = asyncio.Event()
        self.wake_receiver = asyncio.Event()
        self.loaded = threading.Event()
        self._pending = pending
        self._followed = followed
        late = "Followers in other processes see what is published up to half a second later."
        self._sending = FailureLog(f"notifications cannot be sent through {what}", late, logger=LOGGER)
        late = "What other processes publish is seen up to half a second later."
        self._receiving = FailureLog(f"notifications cannot be received through {what}", late, logger=LOGGER)

    @property
    def trouble(self) -> str:
        """What does not work now; empty where all does."""
        return self._sending.now or self._receiving.now

    @abstractmethod
    async def _send(self, topics: list[str]) -> object:
        """Tell other processes that these have more."""

    @abstractmethod
    async def _listen(self) -> None:
        """Receive, until nothing was followed for a while."""

    def _end(self) -> None:
        """Let go of everything."""
        return

    async def run(self) -> None:
        """Send and receive, for ever."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._receive())
                tasks.create_task(self._send_pending())
        finally:
            self._end()

    async def _send_pending(self) -> None:
        while True:
            self.wake_sender.clear()
            if not (names := self._pending.take()):
                await self.wake_sender.wait()
                continue
            pause = SEND_INTERVAL
            try:
                await self._send(names)
                self._sending.recovered()
            except Exception as error:
                pause = self._sending.failed(error)
            finally:
                self._pending.sent()
            await asyncio.sleep(pause)

    async def _receive(self) -> None:
        while True:
            self.wake_receiver.clear()
            if not self._followed():
                await self.wake_receiver.wait()
                continue
            try:
                await self._listen()
            except Exception as error:
                await asyncio.sleep(self._receiving.failed(error))
