"""Leases of the followed topics of one event loop: whose runs out, its topic is closed by whoever looks first."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection

from ..eventlog.base import EventLog
from ..eventlog.outage import outage
from ..exceptions import EventLogError
from ..runtime.backoff import FailureLog

CHECK = 15.0
"""Seconds between two looks, at most, where no lease runs out before; less by up to a half, by chance."""
PAUSE = 0.25
"""Seconds between two looks, at least: topics that are opened meanwhile are looked at together."""
LATER = 0.01
"""Seconds after a deadline at which it is looked at, so that it has passed by the log's clock too."""


class LeaseLooks:
    """The same for one topic that sync code follows: it asks while it waits for events."""

    def __init__(self, log: EventLog, topic: str) -> None:
        self._log = log
        self._topic = topic
        self._next = float("-inf")

    def soon(self) -> None:
        """There was an event: perhaps of a run that is not known yet."""
        self._next = float("-inf")

    def look(self) -> None:
        """Look if it is time.

        Raises:
            EventLogUnavailable: The log cannot be asked.
        """
        now = time.monotonic()
        if now < self._next:
            return
        lease = self._log.lease(self._topic)
        if lease is not None and lease.expired:
            self._log.expire(self._topic)
        self._next = now + (min(CHECK, lease.left + LATER) if lease is not None and lease.alive else CHECK)


class LeaseWatch:
    """Looks when topics are opened, when the next lease runs out unless it is renewed, and now and then.

    A process that dies renews nothing: its readers, wherever they are, find out at the deadline, all at about the same moment,
    and the log lets one of them close the topic.

    Args:
        log: Where the leases are.
        followed: Returns the names of the topics that are followed now.
    """

    def __init__(self, log: EventLog, followed: Callable[[], Collection[str]]) -> None:
        self._log = log
        self._followed = followed
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0  # kept here: uvloop returns a plain Handle, which cannot tell, where the time has come already
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")
        self._trouble = FailureLog(
            "leases of topics cannot be looked at",
            "Whoever follows a run whose process has died learns of it later.",
            logger="django_agent_sse.notify",
        )

    @property
    def resting(self) -> bool:
        """Whether nothing is being looked at, or will be in a moment."""
        return self._looking is None and (self._timer is None or self._timer_at > self._loop.time() + PAUSE)

    def look(self) -> None:
        """Look soon: there may be a lease that is not known yet."""
        self._look_in(max(0.0, self._looked_at + PAUSE - self._loop.time()))

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None and not self._loop.is_closed():
            self._looking.cancel()

    def _look_in(self, seconds: float) -> None:
        at = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._look_now), at

    def _look_now(self) -> None:
        self._timer, self._looked_at = None, self._loop.time()
        if self._looking is not None:
            self._look_in(PAUSE)
        elif followed := [*self._followed()]:
            self._looking = self._loop.create_task(self._look(followed))

    async def _look(self, followed: list[str]) -> None:
        wait = CHECK * random.uniform(0.5, 1)
        try:
            for topic, lease in (await self._log.aleases(followed)).items():
                if lease.expired:
                    await self._log.aexpire(topic)
                elif lease.alive:
                    wait = min(wait, lease.left + LATER)
        except EventLogError as error:
            self._trouble.failed(error, quietly=outage.lasts)
        else:
            self._trouble.recovered()
        self._looking = None
        self._look_in(wait)
