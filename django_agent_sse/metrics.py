"""Metrics of streams, for any system: see ``contrib.prometheus`` and ``contrib.opentelemetry``.

Labels have few values: a route's pattern, the word of an ending, the reason of a refusal. Never a user, a topic, a stream or an
address. Nothing is counted for metrics alone: each call reads what streams hold anyhow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias

from .streams.counters import DURATIONS, RouteCounts
from .streams.snapshot import Snapshot, Snapshots

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
    samples: Mapping[Labels, float | Durations]


@dataclass(frozen=True, slots=True)
class _Counted:
    """How a metric is read from the counts of a route: a number, or numbers by one more label."""

    name: str
    kind: Kind
    help: str
    read: Callable[[RouteCounts], float | Durations | Mapping[str, int]]
    label: str = ""


def _durations(counts: RouteCounts) -> Durations:
    each = counts.durations or (0,) * (len(DURATIONS) + 1)
    bounds = [*(f"{bound}.0" for bound in DURATIONS), "+Inf"]
    return Durations(buckets=tuple(zip(bounds, accumulate(each), strict=True)), total=counts.seconds)


_FAMILIES = (
    _Counted("streams_open", "gauge", "Streams whose response is under way.", lambda counts: counts.open),
    _Counted("streams_slow", "gauge", "Open streams whose client takes nothing.", lambda counts: counts.slow),
    _Counted("streams_starting", "gauge", "Requests whose stream has not begun.", lambda counts: counts.starting),
    _Counted("streams_lingering", "gauge", "Handlers that go on without their client.", lambda counts: counts.lingering),
    _Counted("streams_opened", "counter", "Streams that have begun.", lambda counts: counts.opened),
    _Counted("streams_closed", "counter", "Streams that are over, by how they ended.", lambda counts: counts.endings, "ending"),
    _Counted("requests_refused", "counter", "Requests that got no stream, by why.", lambda counts: counts.refused, "reason"),
    _Counted("events_sent", "counter", "Events sent to clients.", lambda counts: counts.events),
    _Counted("bytes_sent", "counter", "Bytes sent to clients.", lambda counts: counts.bytes),
    _Counted("stream_duration_seconds", "histogram", "How long streams were open that are over.", _durations),
)


def families(snapshots: Iterable[Snapshot] | None = None, *, by_process: bool = False) -> list[Family]:
    """Return every metric.

    Args:
        snapshots: Those of several processes; this one's where not given.
        by_process: Put a label ``process``, ``host:pid``, first. Numbers of several processes need it to be right.
    """
    these = [_snapshots.snapshot()] if snapshots is None else [*snapshots]
    first = ("process",) if by_process else ()
    metrics = []
    for counted in _FAMILIES:
        samples: dict[Labels, float | Durations] = {}
        for snapshot in these:
            for route, counts in snapshot.routes.items():
                where = (*((snapshot.process.name,) if by_process else ()), route)
                value = counted.read(counts)
                if isinstance(value, Mapping):
                    samples |= {(*where, word): number for word, number in value.items()}
                else:
                    samples[where] = value
        labels = (*first, "route", *([counted.label] if counted.label else []))
        metrics.append(Family(name=counted.name, kind=counted.kind, help=counted.help, labels=labels, samples=samples))
    return [*metrics, *_of_processes(these, by_process)]


def _of_processes(snapshots: list[Snapshot], by_process: bool) -> list[Family]:
    """Return the metrics of processes, not of routes."""
    first: Labels = ("process",) if by_process else ()
    draining: dict[Labels, float | Durations] = {}
    problems: dict[Labels, float | Durations] = {}
    for snapshot in snapshots:
        where = (snapshot.process.name,) if by_process else ()
        draining[where] = int(snapshot.draining)
        problems |= {(*where, problem): 1 for problem in snapshot.problems}
    about = "What is wrong with the process, such as bell, poll or heartbeat; see the banner of the monitor."
    return [
        Family(name="draining", kind="gauge", help="1 while no new streams are taken.", labels=first, samples=draining),
        Family(name="problem", kind="gauge", help=about, labels=(*first, "problem"), samples=problems),
    ]


_snapshots = Snapshots()
