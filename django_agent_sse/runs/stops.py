"""Requests to stop, as the runs of a process learn of them: at once where the log or a channel layer says so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from ..eventlog.base import EventLog
from ..eventlog.leases import STOPS
from ..eventlog.notify.channel_layer import layer_configured
from ..eventlog.notify.local import local_notifier
from ..eventlog.notify.notifier import notifier


class StopListener:
    """Wakes the running loop when any run is asked to stop, in this process or elsewhere. Whose it is, the leases say."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._follows: dict[EventLog, Callable[[], object]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        local_notifier.listen(lambda _: self._asked.set(), only=STOPS)

    def follow(self, logs: Iterable[EventLog]) -> None:
        """Hear of those in these logs, from a moment later on, if they can be heard of."""
        for log in logs:
            if log not in self._follows:
                self._follows[log] = self._follow(log)

    def _follow(self, log: EventLog) -> Callable[[], object]:
        """Follow what every stop notifies. Return what ends that."""
        if (own := log.notifier) is not None:
            task = asyncio.get_running_loop().create_task(own.follow(STOPS))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return lambda: own.unfollow(STOPS)
        if not (log.crosses_processes and layer_configured()):
            return lambda: None
        watch = notifier.watch(log, lambda heads: None)
        watch.add(STOPS)
        return lambda: watch.discard(STOPS)

    async def wait(self, seconds: float) -> None:
        """Wait until a stop was asked for, or for so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        self._asked.clear()

    async def close(self) -> None:
        """Hear of none any more."""
        if self._tasks:
            await asyncio.wait({*self._tasks})
        for end in self._follows.values():
            end()
