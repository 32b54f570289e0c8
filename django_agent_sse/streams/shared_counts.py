"""Counts of open streams over all processes, in the Django cache that ``AGENT_SSE["CACHE"]`` names.

Each process counts what it has itself. One that has only a few of a user is believed without asking: so few that all processes
together overdraw the limit by a quarter at most, which costs no round trip. From there on a process writes what it has, and what
it claims for those who wait, into an entry of its own *before* it reads those of the others, and lets in so many of them as the
sum allows. Of two that ask at one moment at least one sees the other, so never both are let in to one place. Where claims stand
in each other's way, the process with the lowest id keeps its own and all others withdraw, so that a crowd that comes at one
moment gets every place that is free. What is written says nothing of whom it is about, and goes out of date by itself: the
counts of a process that died are gone after ``LEASE`` seconds.

Where processes do not share the cache (local memory, which is Django's default), and while it cannot be reached, each process
counts for itself, and the limits hold in each of them. A check says the first, the log the second. A cache that answers late
holds up nobody for longer than ``PATIENCE``: what was last known of the others counts then.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Set
from functools import partial

from django.core.cache import caches

from .. import conf
from ..runtime.backoff import FailureLog
from ..runtime.per_loop import PerLoop
from ..runtime.pools import Pool
from ..runtime.process import PerProcess
from .kv import is_per_process

PATIENCE = 1.0
"""Seconds that a connect waits for the cache, at most."""
LEASE = 30
"""Seconds for which an entry holds. A process that lives writes it three times in that time."""
RENEW = 10.0
LOOK = 1.0
"""Seconds after which the others learn at the latest that a process has fewer of somebody."""
PLACES = 128
"""So many processes can count together; a further one counts for itself, and says so."""
BEYOND = 8
"""Places beyond the last one that is taken which are read too: a new process takes one of so many that are free."""
PREFIX = "sse.limits:"
MOST_WRITTEN = 5_000
"""Counts in one entry, the largest first: 200 KB."""
ROUNDS = 12
"""Exchanges in which one who waits is let in or refused. Three do for one process, and two more for each that claims as well."""
STEP_BACK = 0.01
"""Seconds that a process waits which has withdrawn a claim, half of them to all by chance: others decide meanwhile."""
FREE_SHARE = 4
"""All processes together have a quarter of a limit open, at most, of which the others do not know."""


class SharedCounts(PerProcess):
    """What this process has open, by keys such as ``user:<digest>``, and what it last knew of the others."""

    def reset(self) -> None:
        """Count from zero; also after a fork, in a child that has none of these streams."""
        self._lock = threading.RLock()
        self._mine = Counter[str]()
        self._claims = Counter[str]()
        self._limits: dict[str, int] = {}
        self._others: Mapping[str, int] = {}
        self._claimed: Mapping[str, int] = {}
        self._ahead: Set[str] = frozenset()
        self._written: frozenset[str] = frozenset()
        self._process = secrets.token_hex(8)
        self._place: int | None = None
        self._reach = BEYOND
        self._processes = 1
        self._asked_at = self._retry_at = -LEASE * 2.0
        self._began: float | None = None
        self._fewer = False
        self._exchanges = PerLoop(partial(_Exchanges, self.exchange))
        self._looking: asyncio.AbstractEventLoop | None = None
        self._failures = FailureLog(
            "the streams of other processes cannot be counted",
            "Each process counts for itself meanwhile.",
            logger="django_agent_sse.stream",
        )

    def counts(self) -> dict[str, int]:
        """Return what is open here, with what was last known of other processes."""
        with self._lock:
            return {key: count + self._others.get(key, 0) for key, count in self._mine.items()}

    def own_counts(self) -> dict[str, int]:
        """Return what is open here."""
        with self._lock:
            return {**self._mine}

    async def take(self, kind: str, of: str, limit: int) -> str | None:
        """Count one more, if the limit allows one more. Return the key to give it back by; else nothing is counted.

        Args:
            kind: Of limit.
            of: A digest of whom it is about.
            limit: How many there may be, in all processes.
        """
        key = f"{kind}:{of}"
        alone = is_per_process(conf.setting("CACHE"))
        if not alone:
            self._look()  # also for who is let in without asking: an entry that nobody renews is gone
        with self._lock:
            self._limits[kind] = limit
            fresh = time.monotonic() < self._asked_at + 2 * RENEW
            if alone or (fresh and self._mine[key] < self._free(limit) and self._taken(key) < limit):
                return self._count(key) if self._taken(key) < limit else None
            if self._mine[key] >= limit:
                return None
        for number in range(ROUNDS):
            if self._unreachable(time.monotonic()):
                with self._lock:
                    return self._count(key) if self._taken(key) < limit else None
            # Nobody steps back at last: what a process claimed that died stands for a while.
            claimed = self._claim(key, limit, steps_back=0 < number < ROUNDS - 1)
            try:
                await self._exchanged()
            except BaseException:
                self._withdraw(key, claimed)
                raise
            with self._lock:
                self._withdraw(key, claimed)
                if claimed and self._taken(key) < limit:
                    self._look()  # the clock may have come to rest meanwhile
                    return self._count(key)
                if self._taken(key) - self._claimed.get(key, 0) >= limit:
                    return None
            await asyncio.sleep(STEP_BACK * random.uniform(0.5, 1.0))
        return None

    def _claim(self, key: str, limit: int, *, steps_back: bool) -> bool:
        """Claim a place, unless a process that goes first claims some, or all places are claimed here already."""
        with self._lock:
            if (steps_back and key in self._ahead) or self._mine[key] + self._claims[key] >= limit:
                return False
            self._claims[key] += 1
            return True

    def _withdraw(self, key: str, claimed: bool) -> None:
        with self._lock:
            if claimed:
                _less(self._claims, key)
                self._fewer = self._fewer or key in self._written

    def _taken(self, key: str) -> int:
        """How many there are, with what other processes claim."""
        return self._mine[key] + self._others.get(key, 0)

    def _count(self, key: str) -> str:
        self._mine[key] += 1
        return key

    def _unreachable(self, now: float) -> bool:
        """Whether nobody should wait for the cache: it has failed a moment ago, or owes an answer for long."""
        began = self._began
        return now < self._retry_at or (began is not None and now >= began + PATIENCE)

    def give_back(self, key: str) -> int:
        """Count one less. Return how many are left."""
        with self._lock:
            self._fewer = self._fewer or key in self._written
            return _less(self._mine, key)

    def _free(self, limit: int) -> int:
        """How many of somebody a process may have without telling the others."""
        return limit // (FREE_SHARE * self._processes)

    # Between processes

    async def _exchanged(self) -> None:
        """Write what is counted, then read what others have, both after this call."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._exchanges.here().next()
        except TimeoutError:
            self._late()

    def _late(self) -> None:
        if (now := time.monotonic()) >= self._retry_at:
            self._retry_at = now + self._failures.failed(TimeoutError(f"no answer within {PATIENCE:g} s"))

    def exchange(self) -> None:
        """Write and read; on a thread that may wait for the cache."""
        self._began = began = time.monotonic()
        try:
            self._exchange()
        except Exception as error:  # every cache has errors of its own
            self._others, self._claimed, self._ahead, self._processes = {}, {}, frozenset(), 1
            self._retry_at = time.monotonic() + self._failures.failed(error)
        else:
            self._asked_at = time.monotonic()
            if self._asked_at > began + PATIENCE:
                self._late()
            else:
                self._failures.recovered()
        finally:
            self._began = None

    def _exchange(self) -> None:
        cache = caches[conf.setting("CACHE")]
        names = [f"{PREFIX}{number}" for number in range(PLACES)]
        reach = names[: self._reach]
        # Another process may have this place, if this one slept for longer than its lease, or somebody has cleared the cache.
        if self._place is not None and cache.get(names[self._place], [self._process])[0] != self._process:
            self._place = None
        if self._place is None:
            self._place = self._new_place(names)
        with self._lock:
            told = Counter({key: count for key, count in self._mine.items() if count > self._untold(key)})
            for key in self._claims:
                told[key] = self._mine[key] + self._claims[key]
            claims = dict(self._claims)
            self._fewer = False
        written = dict(told.most_common(MOST_WRITTEN))
        cache.set(names[self._place], [self._process, written, claims], LEASE)
        self._written = frozenset(written)
        found: dict[str, tuple[str, dict[str, int], dict[str, int]]] = cache.get_many({*reach, names[self._place]})
        self._reach = 1 + BEYOND + max(map(names.index, found), default=0)
        others, claimed, ahead = Counter[str](), Counter[str](), set[str]()
        for process, counts, claims in found.values():
            if process != self._process:
                others.update(counts)
                claimed.update(claims)
                if process < self._process:
                    ahead.update(claims)
        self._others, self._claimed, self._ahead, self._processes = others, claimed, ahead, max(1, len(found))

    def _untold(self, key: str) -> int:
        return self._free(self._limits[key.partition(":")[0]]) // 2

    def _new_place(self, names: list[str]) -> int:
        cache = caches[conf.setting("CACHE")]
        taken = cache.get_many(names)
        free = [number for number, name in enumerate(names) if name not in taken]
        # By chance among the first: a cache whose add() is not atomic, as that of files, could give one place to two that begin
        # at one moment. Whoever finds another one there later takes a new place.
        near = free[:BEYOND]
        for number in [*random.sample(near, len(near)), *free[BEYOND:]]:
            if cache.add(names[number], [self._process, {}, {}], LEASE):
                return number
        raise RuntimeError(f"{PLACES} processes count together already, and this is one more")

    # The clock, of the loop that asked first

    def _look(self) -> None:
        if self._looking is None or self._looking.is_closed():
            self._looking = loop = asyncio.get_running_loop()
            loop.call_later(LOOK, self._tick, loop, context=contextvars.Context())

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep the entry while there are streams, and tell soon of those that are over."""
        if self._looking is not loop:
            return
        due = self._fewer or time.monotonic() >= max(self._asked_at + RENEW, self._retry_at)
        if due and self._began is None:  # else one is on its way, however long it takes
            _pool.submit(self.exchange)
        if self._mine or self._fewer:
            loop.call_later(LOOK, self._tick, loop, context=contextvars.Context())
        else:
            self._looking = None


def _less(counts: Counter[str], key: str) -> int:
    counts[key] -= 1
    left = counts[key]
    if left <= 0:
        del counts[key]
    return left


class _Exchanges:
    """One exchange after another, on one event loop. Those who come during one share the next."""

    def __init__(self, exchange: Callable[[], object], loop: asyncio.AbstractEventLoop) -> None:
        self._exchange = exchange
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None

    async def next(self) -> None:
        """Wait for an exchange that begins after this call."""
        waiter = self._loop.create_future()
        self._waiting.append(waiter)
        if self._task is None:
            self._task = self._loop.create_task(self._run(), context=contextvars.Context())
        await waiter

    async def _run(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                await asyncio.wrap_future(_pool.submit(self._exchange))
                for waiter in waiting:
                    if not waiter.done():
                        waiter.set_result(None)
        finally:
            self._task = None


shared = SharedCounts()
_pool = Pool("sse-limits", 1)
