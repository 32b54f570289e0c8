"""Pictures of cost against work: lines over two logarithmic axes, as SVG, with what each line is at its end.

POINTS=points.jsonl python benchmarks/eventlog_cost.py             # each adds what it measures, if it is asked to
python benchmarks/harness/plot.py points.jsonl --to docs/images    # the medians of all of it
"""

from __future__ import annotations

import argparse
import html
import itertools
import json
import math
import os
import pathlib
import statistics

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 700, 300, 60, 210, 40, 46
COLOURS = ("#b3261e", "#3b6ea8", "#2e7d32", "#8a5a00", "#6a3d9a", "#444444", "#00838f")

# file: (title, what grows, what is measured)
PICTURES = {
    "publish": ("Lines of 80 bytes published by one thread", "lines in a call", "µs for each line"),
    "notification": ("From a commit in another process to a client", "events a second", "ms, p50"),
    "large-topic": ("A page of 256 lines out of a large topic", "lines in the topic", "ms"),
    "round-trip": ("Users who wait for their own messages, two workers", "users at once", "ms, p50"),
    "viewer": ("The live log in Chromium, from SQLite", "lines in the log", "seconds"),
}


def point(picture: str, series: str, x: float, y: float) -> None:
    """Add what was measured to the file of ``POINTS``, where there is one."""
    if path := os.environ.get("POINTS"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps([picture, series, x, y]) + "\n")


def lines(title, x_label, y_label, series, colours):
    """Return the picture as text. ``series`` maps names to points, pairs of two positive numbers, ``colours`` to colours."""
    points = [point for each in series.values() for point in each]
    x_of = _scale([x for x, _ in points], LEFT, WIDTH - RIGHT)
    y_of = _scale([y for _, y in points], HEIGHT - BOTTOM, TOP)
    middle = (LEFT + WIDTH - RIGHT) / 2
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" fill="#222" font-weight="bold">{html.escape(title)}</text>',
        f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle" fill="#333">{html.escape(x_label)}</text>',
        f'<text x="{LEFT}" y="{TOP - 6}" fill="#333">{html.escape(y_label)}</text>',
    ]
    for x in sorted({x for x, _ in points}):
        out.append(f'<path d="M{x_of(x):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>')
        out.append(f'<text x="{x_of(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle" fill="#555">{x:,.10g}</text>')
    for y in _ticks([y for _, y in points]):
        out.append(f'<path d="M{LEFT} {y_of(y):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y_of(y) + 4:.1f}" text-anchor="end" fill="#555">{y:,g}</text>')
    ends = _apart({name: y_of(sorted(each)[-1][1]) for name, each in series.items()})
    for name, each in series.items():
        colour = colours[name]
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in sorted(each))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in each:
            about = f"{name}: {y:,.3g} at {x:,g}"
            dot = f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="3" fill="{colour}">'
            out.append(f"{dot}<title>{html.escape(about)}</title></circle>")
        label = f'<text x="{WIDTH - RIGHT + 8}" y="{ends[name] + 4:.1f}" fill="{colour}">'
        out.append(f"{label}{html.escape(name)} {sorted(each)[-1][1]:,.3g}</text>")
    return "\n".join([*out, "</svg>", ""])


def _scale(values, first, last):
    low, high = math.log(min(values)), math.log(max(values))
    if high - low < 0.5:  # a flat line is drawn as one
        low, high = low - 0.5, high + 0.5
    room = (high - low) * 0.05
    return lambda value: first + (math.log(value) - low + room) / (high - low + 2 * room) * (last - first)


def _ticks(values):
    low, high = min(values), max(values)
    if math.log(high / low) < 0.5:
        low, high = low / 1.6, high * 1.6
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**decade for decade in decades for digit in (1, 2, 5) if low <= digit * 10.0**decade <= high]


def _apart(places):
    """Move labels so that none lies on another."""
    moved, last = {}, -math.inf
    for name, y in sorted(places.items(), key=lambda item: item[1]):
        moved[name] = last = max(y, last + 14)
    return moved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--to", required=True, type=pathlib.Path)
    asked = parser.parse_args()
    measured = [json.loads(line) for file in asked.files for line in file.read_text(encoding="utf-8").splitlines()]
    for picture, labels in PICTURES.items():
        series: dict[str, dict[float, list[float]]] = {}
        for _, name, x, y in (each for each in measured if each[0] == picture):
            series.setdefault(name, {}).setdefault(x, []).append(y)
        if series:
            medians = {name: [(x, statistics.median(of)) for x, of in each.items()] for name, each in series.items()}
            path = asked.to / f"cost-{picture}.svg"
            path.write_text(lines(*labels, medians, dict(zip(medians, itertools.cycle(COLOURS)))), encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
