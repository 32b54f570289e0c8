"""The past of all processes, from their snapshots: points of the sparklines, rates, and what each route did in that time."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ...streams.counters import BEHIND, DURATIONS, STARTS, RouteCounts
from ...streams.snapshot import Snapshot
from ...topics.arrivals import ARRIVALS

POINTS = 60
"""Points of a sparkline."""
BUCKET = 5.0
"""Seconds of one of them."""
LONG_BUCKET = 60.0
"""The same of the longer past."""
PROCESSES = 2_000
"""The most processes whose past is kept."""
ROUTES = 1_000
"""The most routes whose past is kept; what others did is in the sums only."""
GAUGES = ("open", "slow")
COUNTERS = ("events", "bytes", "refused", "errors")
HELD_SECONDS = 10.0
"""A gauge holds for so long after the bucket in which it was reported."""
IDLE_HELD_SECONDS = 60.0
"""The same of a process that reports seldom."""
YOUNG_SECONDS = 10.0
"""The first report of a process that is younger counts what happened just now."""
RECENT = 5.0
"""Seconds over which the rates of this moment are taken."""
SUMS = ("opened", "events", "bytes", "seconds", "start_seconds")
HISTOGRAMS = ("durations", "starts")
WORDS = ("endings", "refused", "causes")

Trouble = tuple[str, str, str]
"""What went wrong: a route, ``endings``, ``refused`` or ``causes``, and the word."""


@dataclass(slots=True)
class _Past:
    recent: deque[Snapshot] = field(default_factory=lambda: deque(maxlen=16))
    gauges: dict[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class _Bucket:
    """What all processes did in one stretch of time."""

    sums: list[float] = field(default_factory=lambda: [0.0] * len(COUNTERS))
    routes: dict[str, RouteCounts] = field(default_factory=dict)
    arrivals: list[int] = field(default_factory=lambda: [0] * (len(ARRIVALS) + 1))


class History:
    """Takes snapshots: those of one process in the order of their times, those of several in any order.

    Args:
        bucket: Seconds of one of the ``POINTS``.
        routes: Also keep what each route did.
    """

    def __init__(self, bucket: float = BUCKET, *, routes: bool = False) -> None:
        self.bucket = bucket
        self._with_routes = routes
        self._pasts: dict[str, _Past] = {}
        self._buckets = defaultdict[int, _Bucket](_Bucket)
        self._last: dict[Trouble, float] = {}
        self._known: set[str] = set()

    def take(self, snapshot: Snapshot) -> None:
        """Take one snapshot.

        Raises:
            ValueError: More processes have reported than are kept.
        """
        if len(self._pasts) >= PROCESSES and snapshot.process.id not in self._pasts:
            raise ValueError(f"more than {PROCESSES:,} processes have reported")
        past = self._pasts.setdefault(snapshot.process.id, _Past())
        before = past.recent[-1] if past.recent else None
        if before is not None and snapshot.at <= before.at:
            return
        bucket = int(snapshot.at // self.bucket)
        if snapshot.last:
            past.gauges = {other: gauges for other, gauges in past.gauges.items() if other < bucket}
        else:
            held = int((IDLE_HELD_SECONDS if snapshot.idle else HELD_SECONDS) // self.bucket) or 1
            past.gauges |= dict.fromkeys(range(bucket, bucket + held + 1), tuple(snapshot.total(name) for name in GAUGES))
        if before is not None or snapshot.at - snapshot.process.since < YOUNG_SECONDS:
            self._add(self._buckets[bucket], snapshot, before)
        past.recent.append(snapshot)

    def _add(self, bucket: _Bucket, snapshot: Snapshot, before: Snapshot | None) -> None:
        for place, name in enumerate(COUNTERS):
            bucket.sums[place] += max(0, snapshot.total(name) - (before.total(name) if before is not None else 0))
        if not self._with_routes:
            return
        seconds = max(1, round(snapshot.at - before.at)) if before is not None else 1
        _grow(bucket.arrivals, snapshot.arrivals, before.arrivals if before is not None else ())
        for route, counts in snapshot.routes.items():
            old = before.routes.get(route) if before is not None else None
            if old != counts or counts.open:
                self._add_route(bucket, route, counts, old or RouteCounts(), seconds)
                for kind in WORDS:
                    then = getattr(old, kind) if old is not None else {}
                    for word, count in getattr(counts, kind).items():
                        if count > then.get(word, 0):
                            self._last[route, kind, word] = max(snapshot.at, self._last.get((route, kind, word), 0.0))

    def _add_route(self, bucket: _Bucket, route: str, counts: RouteCounts, old: RouteCounts, seconds: int) -> None:
        if route not in bucket.routes and len(self._known | {route}) > ROUTES:
            return
        self._known.add(route)
        mine = bucket.routes.setdefault(route, RouteCounts())
        for name in SUMS:
            setattr(mine, name, getattr(mine, name) + max(0, getattr(counts, name) - getattr(old, name)))
        for name in HISTOGRAMS:
            _grow(getattr(mine, name), getattr(counts, name), getattr(old, name))
        for name in WORDS:
            words, then = getattr(mine, name), getattr(old, name)
            for word, count in getattr(counts, name).items():
                if count > then.get(word, 0):
                    words[word] += count - then.get(word, 0)
        _grow(mine.behind, [count * seconds for count in counts.behind], ())  # that of a minute counts for more than of 5 s

    def latest(self) -> list[Snapshot]:
        return [past.recent[-1] for past in self._pasts.values() if past.recent]

    def forget(self, now: float) -> None:
        """Drop what is too old to be drawn."""
        oldest = int(now // self.bucket) - POINTS
        for id, past in [*self._pasts.items()]:
            past.gauges = {bucket: gauges for bucket, gauges in past.gauges.items() if bucket >= oldest}
            if not past.gauges and past.recent and past.recent[-1].at < now - self.bucket * POINTS:
                del self._pasts[id]
        for bucket in [bucket for bucket in self._buckets if bucket < oldest]:
            del self._buckets[bucket]
        self._last = {trouble: at for trouble, at in self._last.items() if at >= now - self.bucket * POINTS}
        if len(self._known) >= ROUTES:
            self._known = {route for bucket in self._buckets.values() for route in bucket.routes}

    def series(self, now: float) -> dict[str, list[float]]:
        """Return ``POINTS`` numbers by name, the newest last: gauges, counters a second, and how many refusals and errors.

        The bucket that is still being filled is left out: it would look like a fall.
        """
        first = int(now // self.bucket) - POINTS
        series: dict[str, list[float]] = {name: [0.0] * POINTS for name in (*GAUGES, *COUNTERS, "processes")}
        for past in self._pasts.values():
            for bucket, gauges in past.gauges.items():
                if first <= bucket < first + POINTS:
                    for name, gauge in zip((*GAUGES, "processes"), (*gauges, 1), strict=True):
                        series[name][bucket - first] += gauge
        for bucket, done in self._buckets.items():
            if first <= bucket < first + POINTS:
                for name, value in zip(COUNTERS, done.sums, strict=True):
                    series[name][bucket - first] += value if name in ("refused", "errors") else value / self.bucket
        return series

    def rate(self, id: str, name: str) -> float:
        """Return how much a counter of a process grew a second, over the last ``RECENT`` seconds of its reports."""
        past = self._pasts.get(id)
        if past is None or len(past.recent) < 2:
            return 0.0
        recent = past.recent
        last = recent[-1]
        first = next(each for each in reversed(recent) if each is recent[0] or last.at - each.at >= RECENT)
        return max(0.0, last.total(name) - first.total(name)) / max(last.at - first.at, 0.001)

    def routes(self) -> dict[str, RouteCounts]:
        """Return what each route did in all that time, of all processes."""
        found: dict[str, RouteCounts] = {}
        for bucket in self._buckets.values():
            for route, counts in bucket.routes.items():
                sums = found.setdefault(route, RouteCounts())
                for name in SUMS:
                    setattr(sums, name, getattr(sums, name) + getattr(counts, name))
                for name in (*HISTOGRAMS, "behind"):
                    _grow(getattr(sums, name), getattr(counts, name), ())
                for name in WORDS:
                    getattr(sums, name).update(getattr(counts, name))
        return found

    def arrivals(self) -> list[int]:
        """Return how long after their append events were known, of all processes."""
        found = [0] * (len(ARRIVALS) + 1)
        for bucket in self._buckets.values():
            _grow(found, bucket.arrivals, ())
        return found

    def last(self) -> dict[Trouble, float]:
        """Return when a word of ``endings``, ``refused`` or ``causes`` was counted last."""
        return {**self._last}


def _grow(sums: list[int], new: Sequence[int], old: Sequence[int]) -> None:
    """Add what histogram *new* has more than *old*; another version may have other bounds, and is left out then."""
    if len(new) == len(sums):
        before = old if len(old) == len(new) else (0,) * len(new)
        sums[:] = [total + max(0, count - then) for total, count, then in zip(sums, new, before, strict=True)]


class Percentile(NamedTuple):
    """A percentile of what a histogram counts: at most ``value``, or more than that, the largest bound."""

    value: float
    more: bool = False


BOUNDS: Final = {"durations": DURATIONS, "starts": STARTS, "behind": BEHIND, "arrivals": ARRIVALS}


def percentiles(name: str, counts: Sequence[int], shares: Iterable[float] = (0.5, 0.95, 0.99)) -> list[Percentile | None]:
    """Return percentiles of a histogram, each between the bounds of its bucket; ``None`` where nothing was counted."""
    bounds: Sequence[float] = BOUNDS[name]
    return [_percentile(bounds, counts, share) for share in shares]


def _percentile(bounds: Sequence[float], counts: Sequence[int], share: float) -> Percentile | None:
    wanted, passed = share * sum(counts), 0
    if not wanted:
        return None
    for place, count in enumerate(counts):
        if count and passed + count >= wanted:
            if place == len(bounds):
                return Percentile(bounds[-1], more=True)
            low = bounds[place - 1] if place else 0.0
            return Percentile(low + (bounds[place] - low) * (wanted - passed) / count)
        passed += count
    return Percentile(bounds[-1], more=True)  # rounding


def problems_of(routes: dict[str, RouteCounts], good: Iterable[str]) -> Counter[Trouble]:
    """Return how often what went wrong, of endings all but the good ones."""
    left_out, found = frozenset(good), Counter[Trouble]()
    for route, counts in routes.items():
        for word, count in counts.refused.items():
            found[route, "refused", word] += count
        for word, count in counts.endings.items():
            if word not in left_out:
                found[route, "endings", word] += count
    return found
