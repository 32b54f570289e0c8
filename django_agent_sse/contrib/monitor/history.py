"""The last five minutes of every process, from its reports: points of the sparklines, and rates."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from ...streams.snapshot import Snapshot

BUCKET = 5.0
"""Seconds of one point of a sparkline."""
POINTS = 60
PROCESSES = 2_000
"""The most processes whose past is kept."""
GAUGES = ("open", "slow")
COUNTERS = ("events", "bytes", "refused", "errors")
HELD_BUCKETS = 2
"""A gauge holds for so many buckets after the one in which it was reported."""
YOUNG_SECONDS = 2 * BUCKET
"""The first report of a process that is younger counts what happened just now."""
RECENT = 5.0
"""Seconds over which the rates of this moment are taken."""


@dataclass(slots=True)
class _Past:
    recent: deque[Snapshot] = field(default_factory=lambda: deque(maxlen=16))
    gauges: dict[int, tuple[int, ...]] = field(default_factory=dict)
    counters: dict[int, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0] * len(COUNTERS)))


class History:
    """Takes snapshots: those of one process in the order of their times, those of several in any order."""

    def __init__(self) -> None:
        self._pasts: dict[str, _Past] = {}

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
        bucket = int(snapshot.at // BUCKET)
        if snapshot.last:
            past.gauges = {other: gauges for other, gauges in past.gauges.items() if other < bucket}
        else:
            past.gauges |= dict.fromkeys(range(bucket, bucket + HELD_BUCKETS + 1), tuple(snapshot.total(name) for name in GAUGES))
        if before is not None or snapshot.at - snapshot.process.since < YOUNG_SECONDS:
            sums = past.counters[bucket]
            for place, name in enumerate(COUNTERS):
                sums[place] += max(0, snapshot.total(name) - (before.total(name) if before is not None else 0))
        past.recent.append(snapshot)

    def latest(self) -> list[Snapshot]:
        return [past.recent[-1] for past in self._pasts.values() if past.recent]

    def forget(self, now: float) -> None:
        """Drop what is too old to be drawn."""
        oldest = int(now // BUCKET) - POINTS
        for id, past in [*self._pasts.items()]:
            past.gauges = {bucket: gauges for bucket, gauges in past.gauges.items() if bucket >= oldest}
            for bucket in [bucket for bucket in past.counters if bucket < oldest]:
                del past.counters[bucket]
            if not past.gauges and past.recent and past.recent[-1].at < now - BUCKET * POINTS:
                del self._pasts[id]

    def series(self, now: float) -> dict[str, list[float]]:
        """Return ``POINTS`` numbers by name, the newest last: gauges, counters a second, and how many refusals and errors.

        The bucket that is still being filled is left out: it would look like a fall.
        """
        first = int(now // BUCKET) - POINTS
        series: dict[str, list[float]] = {name: [0.0] * POINTS for name in (*GAUGES, *COUNTERS, "processes")}
        for past in self._pasts.values():
            for bucket, gauges in past.gauges.items():
                if first <= bucket < first + POINTS:
                    for name, gauge in zip((*GAUGES, "processes"), (*gauges, 1), strict=True):
                        series[name][bucket - first] += gauge
            for bucket, sums in past.counters.items():
                if first <= bucket < first + POINTS:
                    for name, value in zip(COUNTERS, sums, strict=True):
                        series[name][bucket - first] += value if name in ("refused", "errors") else value / BUCKET
        return series

    def rate(self, id: str, name: str) -> float:
        """Return how much a counter of a process grew a second, over the last ``RECENT`` seconds of its reports."""
        recent = self._pasts[id].recent
        if len(recent) < 2:
            return 0.0
        last = recent[-1]
        first = next(each for each in reversed(recent) if each is recent[0] or last.at - each.at >= RECENT)
        return max(0.0, last.total(name) - first.total(name)) / max(last.at - first.at, 0.001)
