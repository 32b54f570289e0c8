"""Metrics of streams, for any system: see ``contrib.prometheus`` and ``contrib.opentelemetry``.

Labels have few values: a route's pattern, the word of an ending, the reason of a refusal. Never a user, a topic, a stream or an
address. Nothing is counted for metrics alone: each call reads what streams hold anyhow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias

from .streams.counters import DURATIONS
from .streams.snapshot import RouteCounts, Snapshot, Snapshots

Kind: TypeAlias = Literal["gauge", "counter", "histogram"]
Labels: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """The value of a histogram.

    Attributes:
        buckets: Upper bounds in seconds as text, the last one ``+Inf``, each with how many lasted no longer.
        total: Seconds, of all together.
    """

    buckets: tuple[tuple[str, int], ...]
    total: float


Value: TypeAlias = float | Durations


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric.

    Attributes:
        name: Without a prefix and without ``_total``.
        kind: A ``gauge`` goes up and down, a ``counter`` up from the process's start, a ``histogram`` likewise.
        help: What it is, in a sentence.
        labels: The names of the labels.
        samples: By the values of the labels, in that order.
    """

    name: str
    kind: Kind
    help: str
    labels: Labels
    samples: Mapping[Labels, Value]


Read: TypeAlias = Callable[[Snapshot], Mapping[Labels, Value]]
"""How a metric is read from what one process counts, by the values of its labels."""


def _durations(counts: RouteCounts) -> Durations:
    each = counts.durations or (0,) * (len(DURATIONS) + 1)
    bounds = [*(f"{bound}.0" for bound in DURATIONS), "+Inf"]
    return Durations(buckets=tuple(zip(bounds, accumulate(each), strict=True)), total=counts.seconds)


def _routes(read: Callable[[RouteCounts], Value]) -> Read:
    """Read a number from the counts of each route."""
    return lambda snapshot: {(route,): read(counts) for route, counts in snapshot.routes.items()}


def _words(read: Callable[[RouteCounts], Mapping[str, int]]) -> Read:
    """Read numbers by one more label from the counts of each route."""
    return lambda snapshot: {
        (route, word): number for route, counts in snapshot.routes.items() for word, number in read(counts).items()
    }


_PROBLEM = "What is wrong with the process, such as bell, poll or heartbeat; see the banner of the monitor."
_FAMILIES: tuple[tuple[str, Kind, str, Read], ...] = (
    ("streams_open", "gauge", "Streams whose response is under way.", _routes(lambda counts: counts.open)),
    ("streams_slow", "gauge", "Open streams whose client takes nothing.", _routes(lambda counts: counts.slow)),
    ("streams_starting", "gauge", "Requests whose stream has not begun.", _routes(lambda counts: counts.starting)),
    ("streams_lingering", "gauge", "Handlers that go on without their client.", _routes(lambda counts: counts.lingering)),
    ("streams_opened", "counter", "Streams that have begun.", _routes(lambda counts: counts.opened)),
    ("streams_closed", "counter", "Streams that are over, by how they ended.", _words(lambda counts: counts.endings)),
    ("requests_refused", "counter", "Requests that got no stream, by why.", _words(lambda counts: counts.refused)),
    ("events_sent", "counter", "Events sent to clients.", _routes(lambda counts: counts.events)),
    ("bytes_sent", "counter", "Bytes sent to clients.", _routes(lambda counts: counts.bytes)),
    ("stream_duration_seconds", "histogram", "How long streams were open that are over.", _routes(_durations)),
    ("draining", "gauge", "1 while no new streams are taken.", lambda snapshot: {(): int(snapshot.draining)}),
    ("problem", "gauge", _PROBLEM, lambda snapshot: {(problem,): 1 for problem in snapshot.problems}),
)
_LABELS: Mapping[str, Labels] = {
    "streams_closed": ("route", "ending"),
    "requests_refused": ("route", "reason"),
    "draining": (),
    "problem": ("problem",),
}
"""Of the families whose labels are not the route alone."""


def families(snapshots: Iterable[Snapshot] | None = None, *, by_process: bool = False) -> list[Family]:
    """Return every metric.

    Args:
        snapshots: Those of several processes; this one's where not given.
        by_process: Put a label ``process``, ``host:pid``, first. Numbers of several processes need it to be right.
    """
    these = [_snapshots.snapshot()] if snapshots is None else [*snapshots]
    metrics = []
    for name, kind, about, read in _FAMILIES:
        samples: dict[Labels, Value] = {}
        for snapshot in these:
            process = (snapshot.process.name,) if by_process else ()
            samples |= {(*process, *values): value for values, value in read(snapshot).items()}
        labels = (*(("process",) if by_process else ()), *_LABELS.get(name, ("route",)))
        metrics.append(Family(name=name, kind=kind, help=about, labels=labels, samples=samples))
    return metrics


_snapshots = Snapshots()
