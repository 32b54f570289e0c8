"""The poll: asks a log that other processes write to where the followed topics are, for all event loops of this one at once.

Nobody needs to notify it, so it is what makes a notification that is lost, late or broken cost latency only. It runs on the
background loop, and sleeps while nothing is followed. Where the database says that something was committed, it is hurried: it
asks at once, and what it then finds is what it would have found later.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ...runtime.backoff import FailureLog
from ..base import EventLog
from ..outage import outage
from ..records import Head

SLOWEST = 0.5
"""Seconds between two questions while nothing changes."""
FASTEST = 0.025
"""Seconds to the next question after something changed that no notification had told of."""
LATE = 1.0
"""An answer that takes so many seconds is late."""
SLOWER = 1.5
"""Each question that finds nothing new makes the pause so much longer."""
FRUITLESS = 0.1
"""Seconds that a hurried question costs which brings nothing that was not known; one that does costs ``FASTEST``."""
AT_ONCE = 0.1
"""Seconds that hurried questions may cost together before they have to wait: for an event now and then none does, and a database
that is busy has no more than ten questions a second, or forty where they bring news."""

Heads = Mapping[str, Head | None]
"""Where topics are, by name; ``None`` for those that do not exist."""
Followed = Mapping["FollowedTopics", set[str]]
"""Those that follow anything, each with the topics that it followed when it was asked."""


async def ask_heads(log: EventLog, topics: Iterable[str]) -> Heads:
    """Ask a log where these topics are, by one query, and note whether it can be read."""
    names = sorted(topics)
    try:
        heads = await log.asummaries(names)
    except Exception as error:
        outage.failed(error, names)
        raise
    outage.recovered(names)
    return {name: heads.get(name) for name in names}


@dataclass(slots=True, eq=False, repr=False)
class FollowedTopics:
    """The topics of one log that one event loop follows, and whom to tell where they are."""

    log: EventLog
    loop: asyncio.AbstractEventLoop
    _on_change: Callable[[Heads], object]  # called on the loop with the heads that changed, and once with that of a new topic
    _on_follow: Callable[[FollowedTopics], object] = lambda watch: None  # called with this whenever a topic was added
    _topics: set[str] = field(init=False, default_factory=set)  # changed by the loop's thread only

    def add(self, topic: str) -> None:
        """Follow a topic: read it after that, not before."""
        self._topics.add(topic)
        self._on_follow(self)

    def discard(self, topic: str) -> None:
        self._topics.discard(topic)

    def clear(self) -> None:
        self._topics.clear()

    def topics(self) -> set[str]:
        """Return those that are followed at this moment. From any thread: a copy is one step."""
        return set() if self.loop.is_closed() else self._topics.copy()

    def notify(self, heads: Heads) -> None:
        """Pass on, from any thread, what this loop follows."""
        topics = self.topics()
        mine = {topic: head for topic, head in heads.items() if topic in topics}
        if mine:
            with contextlib.suppress(RuntimeError):  # the loop closed in between
                self.loop.call_soon_threadsafe(self._on_change, mine)


class Poll:
    """Asks while anything is followed, often while there is news, and else every ``SLOWEST`` seconds: for all ``watches()``.

    While that is empty it sleeps. So whoever is not among them, and follows something, has to ``wake`` it.
    """

    def __init__(self, watches: Callable[[], Followed]) -> None:
        self.wake = asyncio.Event()
        self.asks = False
        self._watches = watches
        self._seen: dict[EventLog, Heads] = {}
        self._notified: set[str] = set()
        self._pause = SLOWEST
        self._hurried = asyncio.Event()
        self._paid_until = 0.0
        self._asked_at = 0.0
        self._took = 0.0
        self._failures = FailureLog("the followed topics cannot be looked at", "", longest=5.0, logger=None)  # `outage` says it

    @property
    def trouble(self) -> str:
        """What does not work now, or lags; empty where all is well. From any thread."""
        if self._failures.now:
            return self._failures.now
        since = time.monotonic() - self._asked_at if self._asked_at else 0.0
        slowest = max(since, self._took)
        return f"the log took {slowest:.1f} s to say where the followed topics are" if slowest > LATE else ""

    def notified(self, topic: str) -> None:
        """Note, in any thread, that somebody was notified of a topic: its change is no reason to hurry."""
        if self.asks:
            self._notified.add(topic)

    def hurry(self) -> None:
        """Ask as soon as may be, for what others publish: something was committed. On the background loop."""
        self._hurried.set()

    async def run(self) -> None:
        while True:
            self.wake.clear()
            pause = await self.look()
            if pause is None:
                await self.wake.wait()
            else:
                await self._rest(pause)

    async def _rest(self, pause: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._hurried.wait()
                await asyncio.sleep(self._paid_until - AT_ONCE - time.monotonic())

    async def look(self) -> float | None:
        """Ask once; after how many seconds to ask again, ``None`` where nothing is followed and nothing was asked."""
        followed: dict[EventLog, set[str]] = {}
        for watch, topics in self._watches().items():
            followed.setdefault(watch.log, set()).update(topics)
        self._seen = {log: seen for log, seen in self._seen.items() if log in followed}
        notified, self._notified = self._notified, set()
        hurried = self._hurried.is_set()
        self._hurried.clear()  # what is committed from now on, this question may not see
        self.asks = bool(followed)
        if not followed:
            self._failures.recovered()  # nobody waits any more for what went wrong, or slowly
            self._took = 0.0
            return None
        news = False
        for log, topics in followed.items():  # one, but for the moments when it is replaced
            self._asked_at = began = time.monotonic()
            try:
                heads = await ask_heads(log, topics)
            except Exception as error:
                self._seen.pop(log, None)  # who could not read a topic meanwhile is told again where it is
                pause = max(SLOWEST, self._failures.failed(error))
                self._paid_until = time.monotonic() + pause + AT_ONCE  # nothing hurries it now
                return pause
            finally:
                self._asked_at, self._took = 0.0, time.monotonic() - began
            news |= self._compare(log, heads, notified)
        self._failures.recovered()
        if hurried:
            self._paid_until = max(self._paid_until, time.monotonic()) + (FASTEST if news else FRUITLESS)
        self._pause = FASTEST if news and not hurried else min(SLOWEST, self._pause * SLOWER)
        return self._pause

    def _compare(self, log: EventLog, heads: Heads, notified: set[str]) -> bool:
        """Tell who follows what changed; whether there was a change that no notification had told of."""
        seen: Heads = self._seen.get(log, {})
        self._seen[log] = heads
        changed = {topic: head for topic, head in heads.items() if topic not in seen or seen[topic] != head}
        for watch in self._watches():
            if watch.log is log:
                watch.notify(changed)
        return any(topic in seen and topic not in notified for topic in changed)
