"""Metrics of streams and runs, for any system: see ``contrib.prometheus`` and ``contrib.opentelemetry``.

Labels have few values: a route's pattern, the word of an ending, the reason of a refusal. Never a user, a topic, a stream or an
address. Nothing is counted for metrics alone: each call reads what streams hold anyhow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias

from .streams.counters import DURATIONS, STARTS
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


_Read: TypeAlias = Callable[[Snapshot], Iterable[tuple[Labels, float | Durations]]]


def _by_route(name: str) -> _Read:
    return lambda snapshot: [((route,), getattr(counts, name)) for route, counts in snapshot.routes.items()]


def _by_word(name: str) -> _Read:
    return lambda snapshot: [
        ((route, word), number) for route, counts in snapshot.routes.items() for word, number in getattr(counts, name).items()
    ]


def _durations(snapshot: Snapshot) -> Iterator[tuple[Labels, Durations]]:
    for route, counts in snapshot.routes.items():
        yield (route,), _histogram(DURATIONS, counts.durations, counts.seconds)


def _starts(snapshot: Snapshot) -> Iterator[tuple[Labels, Durations]]:
    for route, counts in snapshot.routes.items():
        yield (route,), _histogram(STARTS, counts.starts, counts.start_seconds)


def _histogram(bounds: Sequence[float], counts: Sequence[int], total: float) -> Durations:
    whole = len(counts) == len(bounds) + 1  # else another version of the package has counted, or nothing was
    each = accumulate(counts if whole else (0,) * (len(bounds) + 1))
    return Durations(buckets=tuple(zip([*map(str, map(float, bounds)), "+Inf"], each, strict=True)), total=total)


def _runs(snapshot: Snapshot) -> Iterator[tuple[Labels, int]]:
    return (((ending,), number) for ending, number in snapshot.runs.items())


def _limits(snapshot: Snapshot) -> Iterator[tuple[Labels, float]]:
    return (((limit,), share) for limit, share in snapshot.limits.items())


_LIMIT = "The most that anybody has of a limit, as a share of it: 1 where it is met."
_PROBLEM = "What is wrong with the process, such as channel_layer, poll or heartbeat; see the banner of the monitor."
_FAMILIES: tuple[tuple[str, Kind, str, Labels, _Read], ...] = (
    ("streams_open", "gauge", "Streams whose response is under way.", ("route",), _by_route("open")),
    ("streams_slow", "gauge", "Open streams whose client takes nothing.", ("route",), _by_route("slow")),
    ("streams_starting", "gauge", "Requests whose stream has not begun.", ("route",), _by_route("starting")),
    ("streams_lingering", "gauge", "Handlers that go on without their client.", ("route",), _by_route("lingering")),
    ("streams_opened", "counter", "Streams that have begun.", ("route",), _by_route("opened")),
    ("streams_closed", "counter", "Streams that are over, by how they ended.", ("route", "ending"), _by_word("endings")),
    ("requests_refused", "counter", "Requests that got no stream, by why.", ("route", "reason"), _by_word("refused")),
    ("events_sent", "counter", "Events sent to clients.", ("route",), _by_route("events")),
    ("bytes_sent", "counter", "Bytes sent to clients.", ("route",), _by_route("bytes")),
    ("stream_duration_seconds", "histogram", "How long streams were open that are over.", ("route",), _durations),
    ("stream_start_seconds", "histogram", "From the request to the first byte.", ("route",), _starts),
    ("runs_ended", "counter", "Runs that are over, by how they ended.", ("ending",), _runs),
    ("limit_used", "gauge", _LIMIT, ("limit",), _limits),
    ("draining", "gauge", "1 while no new streams are taken.", (), lambda snapshot: [((), int(snapshot.draining))]),
    ("problem", "gauge", _PROBLEM, ("problem",), lambda snapshot: [((problem,), 1) for problem in snapshot.problems]),
)
"""The name, kind and help of each metric, its labels, and how it is read."""


def families(snapshots: Iterable[Snapshot] | None = None, *, by_process: bool = False) -> list[Family]:
    """Return every metric.

    Args:
        snapshots: Those of several processes; this one's where not given.
        by_process: Put a label ``process``, ``host:pid``, first. Numbers of several processes need it to be right.
    """
    these = [_snapshots.snapshot()] if snapshots is None else [*snapshots]
    metrics = []
    for name, kind, about, labels, read in _FAMILIES:
        samples: dict[Labels, float | Durations] = {}
        for snapshot in these:
            process = (snapshot.process.name,) if by_process else ()
            samples |= {(*process, *values): value for values, value in read(snapshot)}
        names = ("process", *labels) if by_process else labels
        metrics.append(Family(name=name, kind=kind, help=about, labels=names, samples=samples))
    return metrics


_snapshots = Snapshots()
