"""A rolling restart of four workers with 1,000 clients on each server that has workers, or of so many of its processes.

``python benchmarks/rolling.py [KIND …]`` prints who came back when, and fails where a client has lost an event or has one twice,
or more came back in a second than may. ``--svg FILE`` draws it. Events are in Redis, which comes with the test extra. Nothing
else should run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["LONG_PROOFS"] = "1"  # the narrow bounds of time

from tests.live import rolling
from tests.live.conftest import seed
from tests.live.rolling import Rolled
from tests.services import running_redis

TITLE = "Clients that come back in each second of a rolling restart; dashed: as many as may"
WIDTH, HEIGHT, LEFT, TOP, GAP = 720, 74, 150, 34, 30


def main() -> int:
    """Return how many of them went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=rolling.KINDS, metavar="KIND", help=", ".join(rolling.KINDS))
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pace", type=int, default=50, help="AGENT_SSE['RECONNECTS'], of each worker")
    parser.add_argument("--drain", type=float, default=20, help="AGENT_SSE['DRAIN_SECONDS']: all of a worker fit into it")
    parser.add_argument("--topics", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two events of a topic")
    parser.add_argument("--svg", type=Path)
    asked = parser.parse_args()
    done: list[Rolled] = []
    with tempfile.TemporaryDirectory(prefix="sse-rolling-") as folder, running_redis() as redis:
        database = str(Path(folder, "seed.sqlite3"))
        seed(database)
        print(f"load {os.getloadavg()[0]:.1f}; {asked.workers} workers, {asked.clients} clients, RECONNECTS={asked.pace}\n")
        print("| server | all replaced after | events | lost, twice | let in again | most in a second | may | cut | sent on |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for number, kind in enumerate(asked.kinds):
            log = {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": {"url": redis, "prefix": f"r{number}"}}
            settings = {"EVENT_LOG": log, "RECONNECTS": asked.pace, "DRAIN_SECONDS": asked.drain}
            settings["LIMITS"] = {"ADDRESS": None, "ADDRESS_CONNECTS": None}
            about = {"clients": asked.clients, "topics": asked.topics, "pause": asked.pause, "pace": asked.pace}
            with rolling.deployed(kind, asked.workers, Path(folder, str(number)), database, agent_sse=settings) as server:
                done.append(rolled := rolling.roll(server, kind, workers=asked.workers, **about))
            print(row(rolled), flush=True)
    for rolled in done:
        print(f"\n{rolled.kind}: came back in each second: {' '.join(map(str, rolled.seconds()))}")
        print("\n".join(rolled.wrong[:5]))
    if asked.svg is not None:
        asked.svg.write_text(drawn(done), encoding="utf-8")
    return sum(bool(rolled.wrong) or rolled.most > limit(rolled) for rolled in done)


def limit(rolled: Rolled) -> float:
    """What may be seen in a second: a tenth more, since a busy machine is late with one wave and in time with the next."""
    return 1.1 * rolled.allowed + 5


def row(rolled: Rolled) -> str:
    """One row of the table."""
    about = (rolled.kind, f"{rolled.took:.1f} s", f"{rolled.events:,}", len(rolled.wrong), f"{len(rolled.back):,}", rolled.most)
    return f"| {' | '.join(map(str, (*about, rolled.allowed, rolled.untold, rolled.refused)))} |"


def drawn(done: Sequence[Rolled]) -> str:
    """The picture: a bar for each second, and a line where the bound is."""
    last = max((len(rolled.seconds()) for rolled in done), default=1)
    step, height = (WIDTH - LEFT - 20) / last, TOP + len(done) * (HEIGHT + GAP) + 16
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" fill="#333">{TITLE}</text>',
    ]
    for number, rolled in enumerate(done):
        bottom = TOP + number * (HEIGHT + GAP) + HEIGHT
        scale = HEIGHT / (1.15 * max(rolled.allowed, *rolled.seconds()))
        line = bottom - rolled.allowed * scale
        lines.append(f'<text x="{LEFT - 34}" y="{bottom - HEIGHT / 2}" text-anchor="end" fill="#333">{rolled.kind}</text>')
        for second, count in enumerate(rolled.seconds()):
            x, tall = LEFT + second * step, count * scale
            about = f'x="{x:.1f}" y="{bottom - tall:.1f}" width="{max(1.0, step - 1):.1f}" height="{tall:.1f}"'
            lines.append(f'<rect {about} fill="#3b6ea8"><title>second {second}: {count}</title></rect>')
        lines += [
            f'<path d="M{LEFT} {bottom}H{WIDTH - 20}" stroke="#888" fill="none"/>',
            f'<path d="M{LEFT} {line:.1f}H{WIDTH - 20}" stroke="#b3261e" stroke-dasharray="5 4" fill="none"/>',
            f'<text x="{LEFT - 6}" y="{line + 4:.1f}" text-anchor="end" fill="#b3261e">{rolled.allowed}</text>',
        ]
        for second in range(0, last, 10):
            lines.append(f'<text x="{LEFT + second * step:.1f}" y="{bottom + 14}" fill="#555">{second} s</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())
