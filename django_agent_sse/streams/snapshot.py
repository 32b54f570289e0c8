"""All streams of this process at one moment: sums by route, of those that are open and of those that are over."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..eventlog.backend import event_log
from ..eventlog.notify.notifier import notifier
from ..exceptions import AgentSSEError
from .counters import RouteCounters, counters
from .identity import Process, this_process
from .loop_state import OpenStream
from .registry import registry
from .state import SLOWEST_HEARTBEAT, State, StreamStats


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCounts:
    """One route in one process.

    Attributes:
        open: Streams whose response is under way.
        starting: Requests whose response has not begun.
        lingering: Handlers that go on without a client.
        slow: Open ones whose client takes nothing.
        opened: Streams since the process began.
        endings: Those that are over, by how they ended.
        refused: Requests that got no stream, by why.
        events: Sent since the process began.
        bytes: Likewise.
        seconds: How long those that are over were open, together.
        durations: How many of them lasted up to each of ``counters.DURATIONS``, and longer.
    """

    open: int = 0
    starting: int = 0
    lingering: int = 0
    slow: int = 0
    opened: int = 0
    endings: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    events: int = 0
    bytes: int = 0
    seconds: float = 0.0
    durations: tuple[int, ...] = ()

    @property
    def errors(self) -> int:
        """Handlers that failed, before or after the response had begun."""
        return self.endings.get("handler_error", 0) + self.refused.get("error", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One process at one moment.

    Attributes:
        process: Which.
        at: When, in seconds since 1970.
        routes: By their patterns.
        problems: What is wrong with it: keys of the health banner, with a detail each.
        draining: It ends its streams and takes no new ones.
        last: It will not report again soon: it ends, or has no streams.
    """

    process: Process
    at: float
    routes: Mapping[str, RouteCounts]
    problems: Mapping[str, str] = field(default_factory=dict)
    draining: bool = False
    last: bool = False

    def total(self, name: str) -> int:
        """Return the sum of a number over all routes: ``open``, ``events``, …; of ``refused`` and ``endings``, of all kinds."""
        values = (getattr(counts, name) for counts in self.routes.values())
        return sum(sum(value.values()) if isinstance(value, Mapping) else value for value in values)


class Snapshots:
    """Takes snapshots of this process, one after another, from any thread. Sums of what was sent never go down."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, int]] = {}

    def snapshot(self, *, last: bool = False) -> Snapshot:
        """Return the process as it is now."""
        sums: dict[str, list[int]] = {}
        slowest: dict[str, float | None] = {}
        for _, stream, stats in open_stats():
            route = sums.get(stream.route)
            if route is None:
                route = sums[stream.route] = [0] * 6
            route[0] += stats.state.connected
            route[1] += stats.state is State.STARTING
            route[2] += stats.state is State.LINGERING
            route[3] += stats.state is State.SLOW
            route[4] += stats.events
            route[5] += stats.bytes
            if not stream.heartbeat or stream.heartbeat > SLOWEST_HEARTBEAT:
                slowest[stream.route] = stream.heartbeat
        counted = counters.copy()
        routes = {route: self._counts(route, counted.get(route), sums.get(route)) for route in sorted({*counted, *sums})}
        problems = _problems_of_the_log()
        if slowest:
            name, seconds = next(iter(slowest.items()))
            problems["heartbeat"] = f"{name}: {f'{seconds:g} s' if seconds else 'none'}"
        about = {"draining": registry.draining, "last": last}
        return Snapshot(process=this_process(), at=time.time(), routes=routes, problems=problems, **about)

    def _counts(self, route: str, over: RouteCounters | None, now: list[int] | None) -> RouteCounts:
        over, now = over or RouteCounters(), now or [0] * 6
        # A stream that ends just now may be in neither sum, and a counter that goes down looks like a restart to Prometheus.
        before = self._before.get(route, (0, 0))
        events, size = max(before[0], over.events + now[4]), max(before[1], over.bytes + now[5])
        self._before[route] = events, size
        return RouteCounts(
            open=now[0],
            starting=now[1],
            lingering=now[2],
            slow=now[3],
            opened=over.opened,
            endings=dict(over.endings),
            refused=dict(over.refused),
            events=events,
            bytes=size,
            seconds=round(over.seconds, 3),
            durations=tuple(over.durations),
        )


def open_stats() -> Iterator[tuple[float, OpenStream, StreamStats]]:
    """Yield each open stream of each loop, with the loop's time."""
    for mine in registry.loops():
        now = mine.loop.time()
        for stream in tuple(mine.streams):
            yield now, stream, stream.stats(now)


def _problems_of_the_log() -> dict[str, str]:
    """Return what keeps news from coming in, by what it is."""
    problems = {**notifier.troubles()}
    with contextlib.suppress(AgentSSEError):  # a check says it
        own = event_log().notifier
        if own is not None and own.trouble:
            problems["doorbell"] = own.trouble
    return problems
