"""The past of all processes, from their snapshots: points of the sparklines, rates, and what each route did in that time."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
PROCESS_ROUTES = 10_000
"""The most routes of one process; of one that has more, what it has told of last."""
COUNTED_ROUTES = 200_000
"""The most routes in the last reports of all processes together, about a kilobyte each; the oldest of these reports go first."""
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
MOST_WORDS = 200
"""The most words of a kind that are kept of a route: processes of one version know fewer."""

Trouble = tuple[str, str, str]
"""What went wrong: a route, ``endings``, ``refused`` or ``causes``, and the word."""


@dataclass(slots=True)
class _Past:
    """One process: its last report, of those before it the sums, and its gauges by buckets."""

    latest: Snapshot | None = None
    recent: deque[tuple[float, dict[str, int]]] = field(default_factory=lambda: deque(maxlen=16))
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
        self._counted = 0

    def take(self, snapshot: Snapshot) -> None:
        """Take one snapshot.

        Raises:
            ValueError: More processes have reported than are kept.
        """
        if len(self._pasts) >= PROCESSES and snapshot.process.id not in self._pasts:
            raise ValueError(f"more than {PROCESSES:,} processes have reported")
        past = self._pasts.get(snapshot.process.id) or _Past()
        before = past.latest
        if before is not None and snapshot.at <= before.at:
            return
        self._pasts[snapshot.process.id] = past
        told, snapshot = snapshot.routes, _completed(snapshot, before)
        self._counted += len(snapshot.routes) - (len(before.routes) if before is not None else 0)
        while self._counted > COUNTED_ROUTES and self._let_go(past):
            pass
        sums = sums_of(snapshot)
        bucket = int(snapshot.at // self.bucket)
        if snapshot.last:
            past.gauges = {other: gauges for other, gauges in past.gauges.items() if other < bucket}
        else:
            held = int((IDLE_HELD_SECONDS if snapshot.idle else HELD_SECONDS) // self.bucket) or 1
            past.gauges |= dict.fromkeys(range(bucket, bucket + held + 1), tuple(sums[name] for name in GAUGES))
        if before is not None or snapshot.at - snapshot.process.since < YOUNG_SECONDS:
            then = past.recent[-1][1] if past.recent else {}
            for place, name in enumerate(COUNTERS):
                self._buckets[bucket].sums[place] += max(0, sums[name] - then.get(name, 0))
            if self._with_routes:
                self._add(self._buckets[bucket], snapshot, told, before)
        past.latest = snapshot
        past.recent.append((snapshot.at, sums))

    def _let_go(self, kept: _Past) -> bool:
        """Forget the last report of the process that has been silent for the longest: its next one begins anew."""
        others = [past for past in self._pasts.values() if past.latest is not None and past.latest.routes and past is not kept]
        oldest = min(others, key=lambda past: past.latest.at if past.latest is not None else 0.0, default=None)
        if oldest is None or oldest.latest is None:
            return False
        self._counted -= len(oldest.latest.routes)
        oldest.latest = None
        oldest.recent.clear()
        return True

    def _add(self, bucket: _Bucket, snapshot: Snapshot, told: Mapping[str, RouteCounts], before: Snapshot | None) -> None:
        seconds = max(1, round(snapshot.at - before.at)) if before is not None else 1
        _grow(bucket.arrivals, snapshot.arrivals, before.arrivals if before is not None else ())
        knows_all = before is None or len(before.routes) >= before.sums.get("routes", 0)
        for route, counts in told.items():
            old = before.routes.get(route) if before is not None else None
            if old is None and not knows_all:
                continue  # it may have counted for long: what it does from now on is known
            if counts.open or old != counts:
                self._add_route(bucket, route, counts, old or _NOTHING, snapshot.at, seconds)

    def _add_route(self, bucket: _Bucket, route: str, counts: RouteCounts, old: RouteCounts, at: float, seconds: int) -> None:
        mine = bucket.routes.get(route)
        if mine is None:
            if route not in self._known and len(self._known) >= ROUTES:
                return
            self._known.add(route)
            mine = bucket.routes[route] = RouteCounts()
        for name in SUMS:
            if more := getattr(counts, name) - getattr(old, name):
                setattr(mine, name, getattr(mine, name) + max(0, more))
        for name in HISTOGRAMS:
            if (new := getattr(counts, name)) != (then := getattr(old, name)):
                _grow(getattr(mine, name), new, then)
        for name in WORDS:
            if (new := getattr(counts, name)) != (then := getattr(old, name)):
                self._add_words(getattr(mine, name), route, name, new, then, at)
        _grow(mine.behind, [count * seconds for count in counts.behind], ())  # that of a minute counts for more than of 5 s

    def _add_words(
        self, words: dict[str, int], route: str, kind: str, new: Mapping[str, int], old: Mapping[str, int], at: float
    ) -> None:
        for word, count in new.items():
            more = count - old.get(word, 0)
            if more > 0 and (word in words or len(words) < MOST_WORDS):
                words[word] = words.get(word, 0) + more
                trouble = route, kind, word
                self._last[trouble] = max(at, self._last.get(trouble, 0.0))

    def latest(self) -> list[Snapshot]:
        return [past.latest for past in self._pasts.values() if past.latest is not None]

    def forget(self, now: float) -> None:
        """Drop what is too old to be drawn."""
        oldest = int(now // self.bucket) - POINTS
        for id, past in [*self._pasts.items()]:
            past.gauges = {bucket: gauges for bucket, gauges in past.gauges.items() if bucket >= oldest}
            if not past.gauges and (past.latest is None or past.latest.at < now - self.bucket * POINTS):
                self._counted -= len(past.latest.routes) if past.latest is not None else 0
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
        at, last = recent[-1]
        since, first = next(each for each in reversed(recent) if each is recent[0] or at - each[0] >= RECENT)
        return max(0.0, last[name] - first[name]) / max(at - since, 0.001)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What all processes did in the last hour.

    Attributes:
        open: The streams that are open now, by routes.
        routes: What was done, likewise.
        last: When what went wrong was counted last.
        arrivals: See ``topics.arrivals``.
    """

    open: Mapping[str, int]
    routes: Mapping[str, RouteCounts]
    last: Mapping[Trouble, float]
    arrivals: list[int]

    @property
    def names(self) -> set[str]:
        """All routes that any process knows of."""
        return {*self.open, *self.routes}


_NOTHING: Final = RouteCounts()


def _completed(snapshot: Snapshot, before: Snapshot | None) -> Snapshot:
    """Return a report with what is known of the routes that it leaves out."""
    if not snapshot.sums or before is None:
        return snapshot
    routes = {**before.routes, **snapshot.routes}
    most = min(snapshot.sums.get("routes", 0), PROCESS_ROUTES)
    return replace(snapshot, routes=routes) if len(routes) <= most else snapshot


def sums_of(snapshot: Snapshot) -> dict[str, int]:
    """Return the sums over all routes, each looked at once: a page that opens does so for the reports of an hour."""
    sums = dict.fromkeys((*GAUGES, *COUNTERS, "opened"), 0)
    if snapshot.sums:
        return sums | snapshot.sums
    for counts in snapshot.routes.values():
        sums["opened"] += counts.opened
        sums["open"] += counts.open
        sums["slow"] += counts.slow
        sums["events"] += counts.events
        sums["bytes"] += counts.bytes
        sums["errors"] += counts.errors
        if counts.refused:
            sums["refused"] += sum(counts.refused.values())
    return sums


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
