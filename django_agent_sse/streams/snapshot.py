"""A process at one moment, and where to ask about all of them: sums by route, of open streams and of those that are over."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..eventlog.backend import event_log
from ..eventlog.notify.notifier import notifier
from ..exceptions import AgentSSEError
from ..topics.arrivals import arrivals
from .admission import admission
from .counters import BEHIND, RouteCounts, counters
from .registry import SLOWEST_HEARTBEAT, OpenStream, State, StreamStats, registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process that serves streams.

    Attributes:
        id: Random, so that no two processes share one, not even where a pid comes back.
        host: The machine's name.
        pid: The process id on that machine.
        since: When it began to count, in seconds since 1970.
    """

    id: str
    host: str
    pid: int
    since: float

    @property
    def name(self) -> str:
        return f"{self.host}:{self.pid}"


def this_process() -> Process:
    """Return this process; after a fork the child is another one."""
    global _this
    if _this is None or _this.pid != os.getpid():
        _this = Process(id=secrets.token_hex(5), host=socket.gethostname()[:60], pid=os.getpid(), since=time.time())
    return _this


_this: Process | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One process at one moment.

    Attributes:
        process: Which.
        at: When, in seconds since 1970.
        routes: By their patterns.
        sums: Over all routes, where ``routes`` has only some of them, and how many there are as ``routes``; else empty.
        runs: Those that it had and that are over, by how they ended.
        running: Those that go on.
        arrivals: How many reads of topics found events that were appended within each of ``ARRIVALS``, and longer ago.
        problems: What is wrong with it: keys of the health banner, with a detail each.
        draining: It ends its streams and takes no new ones.
        idle: It has no streams, and reports seldom.
        last: It will not report again: it ends.
        limits: By the names of limits, the most that anybody has of one, as a share of it; see ``Admission.used``.
    """

    process: Process
    at: float
    routes: Mapping[str, RouteCounts]
    sums: dict[str, int] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    running: int = 0
    arrivals: list[int] = field(default_factory=list)
    problems: Mapping[str, str] = field(default_factory=dict)
    draining: bool = False
    idle: bool = False
    last: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)

    def total(self, name: str) -> int:
        """Return the sum of a number over all routes: ``open``, ``events``, …; of ``refused`` and ``endings``, of all kinds."""
        if name in self.sums:
            return self.sums[name]
        values = (getattr(counts, name) for counts in self.routes.values())
        return sum(sum(value.values()) if isinstance(value, Mapping) else value for value in values)


class Snapshots:
    """Takes snapshots of this process, one after another, from any thread. Sums of what was sent never go down."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, int]] = {}

    def snapshot(self, *, idle: bool = False, last: bool = False) -> Snapshot:
        """Return the process as it is now."""
        problems = {**notifier.troubles()}
        with contextlib.suppress(AgentSSEError):  # a check says it
            log_notifier = event_log().notifier
            if log_notifier is not None and log_notifier.trouble:
                problems["log_notifications"] = log_notifier.trouble
        used: Mapping[str, float] = {}
        with contextlib.suppress(AgentSSEError):
            used = admission.used()
        # Before the counters: a stream that ends in between is in both sums rather than in none.
        open_now = [(stream, stats) for _, stream, stats in open_stats()]
        routes = defaultdict(RouteCounts, counters.copy())
        for stream, stats in open_now:
            counts, state = routes[stream.route], stats.state
            if state is State.STARTING:
                counts.starting += 1
            else:
                counts.open += state is not State.LINGERING
                counts.lingering += state is State.LINGERING
                counts.slow += state is State.SLOW
                counts.behind[bisect_left(BEHIND, stats.lag) if stats.lag else 0] += 1
            counts.events += stats.events
            counts.bytes += stats.bytes
            if "heartbeat" not in problems and (not stream.heartbeat or stream.heartbeat > SLOWEST_HEARTBEAT):
                problems["heartbeat"] = f"{stream.route}: {f'{stream.heartbeat:g} s' if stream.heartbeat else 'none'}"
        for route, counts in routes.items():
            # No sum may be less than in the snapshot before: a counter that goes down looks like a restart to Prometheus.
            events, size = self._before.get(route, (0, 0))
            self._before[route] = counts.events, counts.bytes = max(events, counts.events), max(size, counts.bytes)
            counts.seconds, counts.start_seconds = round(counts.seconds, 3), round(counts.start_seconds, 4)
        return Snapshot(
            process=this_process(),
            at=time.time(),
            routes=dict(sorted(routes.items())),
            runs=counters.runs(),
            problems=problems,
            arrivals=arrivals.copy(),
            draining=registry.draining,
            idle=idle,
            last=last,
            limits=used,
        )


def open_stats() -> Iterator[tuple[float, OpenStream, StreamStats]]:
    """Yield each open stream of each loop, with the loop's time."""
    for mine in registry.loops():
        now = mine.loop.time()
        for stream in tuple(mine.streams):
            yield now, stream, stream.stats(now)


# What an app tells the rest of the package of all processes; nobody does, unless one is installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """How many streams follow topics.

    Attributes:
        counts: Of each process: the counts, and whether these are of all topics that it has readers of.
        missing: Processes that have not answered in time.
        limit: Topics of which one process tells at most.
    """

    counts: tuple[tuple[Mapping[str, int], bool], ...] = ()
    missing: int = 0
    limit: int = 0

    def of(self, topic: str) -> int | None:
        """Return those of one topic; ``None`` where a process may have more than it told of."""
        if self.missing or any(not whole and topic not in counts for counts, whole in self.counts):
            return None
        return sum(counts.get(topic, 0) for counts, _ in self.counts)


class Cluster(Protocol):
    """What knows of the streams of all processes."""

    async def processes(self) -> tuple[Sequence[Snapshot], Mapping[str, int]]:
        """Return every process that counts, this one as it is now, and how many are in which state."""

    async def readers(self, prefix: str) -> Readers:
        """Return how many streams of all processes follow each topic whose name begins so.

        Raises:
            EventLogError: The log that processes talk through cannot be used.
        """


_installed: Cluster | None = None


def install(cluster: Cluster | None) -> None:
    """Have the rest of the package ask this from now on; ``None``: nobody."""
    global _installed
    _installed = cluster


def cluster() -> Cluster | None:
    return _installed
