"""``manage.py sse_topics``: what topics there are."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from ...eventlog.records import TopicState
from ...runs.state import RunState
from ...runtime.formatting import size, span
from ...runtime.safe_text import printable
from ..command import SSECommand, several, shared_log, topics_of, with_runs
from ..output import instant

HEADINGS = ("TOPIC", "STATE", "EVENTS", "BYTES", "OLDEST", "NEWEST", "REASON")
RUN_HEADINGS = ("RUN", "LEASE")
NUMBERS = range(2, 6)
"""The columns that are set to the right."""


class Command(SSECommand):
    help = (
        "List the topics: whether each is open, how many events it keeps, from when, and why it was closed; and which run writes "
        "it, how long its lease lasts unless its process renews it, and whether it was asked to stop."
    )
    takes = "[PREFIX]"
    examples = """examples:
  manage.py sse_topics
  manage.py sse_topics builds.
                              those whose names begin with builds.
  manage.py sse_topics --json | jq -r 'select(.state == "open") | .topic'

exit codes:
  0    listed, also where there are none
  1    the event log cannot be read
  2    wrong arguments
  130  Ctrl-C
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix", metavar="PREFIX", nargs="?", default="", help="only topics whose names begin so")
        parser.add_argument(
            "--internal",
            action="store_true",
            help="the package's own topics instead, which no other command and no page shows (sse.monitor.reports and so on)",
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="one object a line: topic, state, reason, epoch, first, last, events, bytes, oldest_at, newest_at, and run: id, "
            "left (seconds), stopping, ending",
        )

    def handle(self, *args: Any, prefix: str, **options: Any) -> None:
        log = shared_log()
        listing = topics_of(log, prefix, internal=options["internal"])
        found = ((*topic, None) for topic in listing) if options["internal"] else with_runs(log, listing)
        if options["json"]:
            for topic in found:
                self.stdout.write(json.dumps(_json(*topic), separators=(",", ":")))
            return
        topics = [*found]
        if not topics:
            self.stdout.write(f"No topic's name begins with {prefix!r}." if prefix else "There are no topics.")
            return
        now = time.time()
        rows = [(HEADINGS, RUN_HEADINGS), *((_row(name, state, now), _run(run)) for name, state, run in topics)]
        has_runs = any(run is not None for _, _, run in topics)
        heading, *lines = _table([(*row[:-1], *(about if has_runs else ()), row[-1]) for row, about in rows])
        self.stdout.write(heading, self.style.MIGRATE_LABEL)
        for (_, state, _), line in zip(topics, lines, strict=True):
            self.stdout.write(line, self.style.SUCCESS if state.closed is None else None)
        events, bytes_ = (sum(getattr(state, what) for _, state, _ in topics) for what in ("events", "bytes"))
        self.stdout.write(f"{several(len(topics), 'topic')}, {several(events, 'event')}, {size(bytes_)}")


def _row(name: str, state: TopicState, now: float) -> tuple[str, ...]:
    return (
        printable(name),
        "open" if state.closed is None else "closed",
        f"{state.events:,}",
        size(state.bytes),
        age(state.oldest_at, now),
        age(state.newest_at, now),
        printable(state.closed or ""),
    )


def _run(run: RunState | None) -> tuple[str, ...]:
    if run is None:
        return "", ""
    lease = "" if run.ending is not None else f"{span(run.left)}{', asked to stop' if run.stopping else ''}"
    return printable(run.id), lease


def age(at: float | None, now: float) -> str:
    """``4 s ago``; ``-`` where there is no moment."""
    return "-" if at is None else f"{span(max(0.0, now - at))} ago"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines whose columns are as wide as they must be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [f"{{:{'>' if at in NUMBERS else '<'}{width}}}" for at, width in enumerate(widths)]
    return ["  ".join(cells).format(*row).rstrip() for row in rows]


def _json(name: str, state: TopicState, run: RunState | None) -> dict[str, object]:
    return {
        "topic": name,
        "state": "open" if state.closed is None else "closed",
        "reason": state.closed,
        "epoch": state.epoch,
        "first": state.floor + 1 if state.events else None,
        "last": state.top,
        "events": state.events,
        "bytes": state.bytes,
        "oldest_at": None if state.oldest_at is None else instant(state.oldest_at),
        "newest_at": None if state.newest_at is None else instant(state.newest_at),
        "run": None if run is None else asdict(run),
    }
