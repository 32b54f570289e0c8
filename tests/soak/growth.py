"""Whether something grows: a line through what was measured, with its error; and the table that shows it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BLOCKS = 12
"""Means of so many pieces are looked at: samples depend on those before them, and would promise too small an error."""
T = 2.228
"""Student's t for 95 % on both sides, and ``BLOCKS - 2`` degrees of freedom."""
SMALLEST = 16.0
"""Bytes of the smallest object of Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The slope of a line per unit of x, and the half of its interval of 95 %."""

    slope: float
    error: float

    @property
    def most(self) -> float:
        return self.slope + self.error

    @property
    def least(self) -> float:
        return self.slope - self.error


def means(xs: Sequence[float], ys: Sequence[float], count: int = BLOCKS) -> list[tuple[float, float]]:
    """The mean point of each of so many equal pieces of x."""
    first, last = min(xs), max(xs)
    pieces: list[list[tuple[float, float]]] = [[] for _ in range(count)]
    for x, y in zip(xs, ys, strict=True):
        pieces[min(count - 1, int((x - first) / (last - first) * count))].append((x, y))
    return [(statistics.fmean(x for x, _ in piece), statistics.fmean(y for _, y in piece)) for piece in pieces if piece]


def line(xs: Sequence[float], ys: Sequence[float]) -> Line:
    """Fit a line by least squares."""
    points = means(xs, ys)
    assert len(points) == BLOCKS, f"{len(points)} pieces have samples"
    middle = statistics.fmean(x for x, _ in points)
    height = statistics.fmean(y for _, y in points)
    width = sum((x - middle) ** 2 for x, _ in points)
    slope = sum((x - middle) * (y - height) for x, y in points) / width
    left = sum((y - height - slope * (x - middle)) ** 2 for x, y in points)
    return Line(slope=slope, error=T * (left / (BLOCKS - 2) / width) ** 0.5)


@dataclass(slots=True, kw_only=True)
class Sample:
    """What was measured at one moment."""

    at: float
    connects: int
    rss: int
    held: Mapping[str, Any] = field(default_factory=dict)


# Quiet: nobody is connected

SLACK = {"tasks": 1, "threads": 2, "descriptors": 2, "connections": 1}
"""What the request that looks may have, and threads that rest."""
ENTRIES = (100, 0.001)
"""Objects, and entries of each table, that may be more: what is remembered for some seconds, and one in a thousand connects."""
BLOCKS_OF_MEMORY = (3_000, 0.02)
"""Likewise for those that Python has allocated: its own caches fill, by some hundreds in a few hundred connects."""


def left_behind(before: Mapping[str, Any], after: Mapping[str, Any], connects: int) -> dict[str, str]:
    """What is more after so many connects, though everybody has gone, and should not be."""
    found = {}
    for name, slack in SLACK.items():
        if after[name] > before[name] + slack:
            found[name] = f"{before[name]} → {after[name]}"
    if after["streams"]:
        found["streams"] = str(after["streams"])
    tables = {name: (before["tables"].get(name, 0), count) for name, count in after["tables"].items()}
    counts = {name: (before[name], after[name]) for name in ("objects", "blocks")}
    for name, (then, now) in (counts | tables).items():
        spare, share = BLOCKS_OF_MEMORY if name == "blocks" else ENTRIES
        if now - then > spare + share * connects:
            found[name] = f"{then} → {now}"
    return found


# While clients come and go

BYTES = ("memory", "heap", "glibc", "python")
"""Bytes: all that the process has; what is allocated by way of glibc; what glibc has of the system; and the other anonymous
memory, which is Python's own arenas but for some MiB of stacks."""
COUNTS = ("tasks", "threads", "descriptors", "connections", "streams", "objects", "blocks")


def lines(samples: Sequence[Sample]) -> dict[str, Line]:
    """A line for each of what was measured, by connects; memory and heap in bytes."""
    xs = [float(sample.connects) for sample in samples]
    found = {"memory": line(xs, [float(sample.rss) for sample in samples])}
    looked = [sample for sample in samples if sample.held]
    xs = [float(sample.connects) for sample in looked]
    for name in (*BYTES[1:], *COUNTS):
        found[name] = line(xs, [float(sample.held[name]) for sample in looked])
    found["tables"] = line(xs, [float(sum(sample.held["tables"].values())) for sample in looked])
    return found


def table(samples: Sequence[Sample], began: float) -> str:
    """What was measured, a line for each two minutes, with the memory as a bar; ``BYTES`` in MiB."""
    count = max(1, round((samples[-1].at - samples[0].at) / 120))
    first, last = samples[0].at, samples[-1].at
    low = min(sample.rss for sample in samples) - 4 * 2**20
    high = max(sample.rss for sample in samples)
    heads = ["minute", "connects", *BYTES, *COUNTS[:5], "tables", "objects"]
    rows = [f"| {' | '.join(heads)} | |", "| ---: " * len(heads) + "| --- |"]
    for number in range(count):
        piece = [s for s in samples if number <= (s.at - first) / (last - first) * count <= number + 1]
        looked = [s.held for s in piece if s.held]
        if not looked:
            continue
        rss = statistics.fmean(s.rss for s in piece)
        mean = {name: statistics.fmean(one[name] for one in looked) for name in COUNTS}
        tables = statistics.fmean(sum(one["tables"].values()) for one in looked)
        bar = "█" * max(1, round(30 * (rss - low) / (high - low)))
        cells = [f"{(piece[-1].at - began) / 60:.0f}", f"{piece[-1].connects:,}", f"{rss / 2**20:.1f}"]
        cells += [f"{statistics.fmean(one[name] for one in looked) / 2**20:.1f}" for name in BYTES[1:]]
        cells += [f"{mean[name]:.0f}" for name in ("tasks", "threads", "descriptors", "connections", "streams")]
        cells += [f"{tables:,.0f}", f"{mean['objects']:,.0f}", bar]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)
