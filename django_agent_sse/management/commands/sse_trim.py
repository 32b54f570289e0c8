"""``manage.py sse_trim``: drop old events, or forget topics."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...eventlog.base import EventLog
from ...eventlog.records import TopicState
from ...eventlog.validation import size_of
from ...runtime import formatting
from ...runtime.safe_text import printable
from ..arguments import count, duration, size, topic
from ..command import SSECommand, several, shared_log, topics_of


class Command(SSECommand):
    help = (
        "Delete the oldest events of one topic or of many, beyond the bounds given here, or delete whole topics. The limits in "
        "AGENT_SSE['EVENT_LOG']['OPTIONS'] hold without this command. Readers are told what they missed."
    )
    takes = "TOPIC | --prefix P | --all"
    examples = """examples:
  manage.py sse_trim builds.42 --max-events 1000
                              keep the last 1,000 events
  manage.py sse_trim --prefix builds. --max-age 12h
                              drop what is older than 12 hours
  manage.py sse_trim --all --max-bytes 10M --dry-run
                              say what would be dropped
  manage.py sse_trim --all --delete --closed-only --max-age 3d
                              each night: forget what ended 3 days ago
  manage.py sse_trim builds.42 --delete
                              forget one topic

With --delete, --max-age is the age of a topic's newest event: topics with a
younger one stay, and one without events counts as old.

exit codes:
  0    done, also where there was nothing to do
  1    it cannot be done: stderr says why
  2    wrong arguments
  130  Ctrl-C
"""

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("topic", metavar="TOPIC", nargs="?", type=topic, help="one topic")
        which.add_argument("--prefix", metavar="P", help="every topic whose name begins so")
        which.add_argument("--all", action="store_true", help="every topic")
        parser.add_argument("--max-events", type=count, metavar="N", help="keep at most N events of each topic")
        parser.add_argument("--max-bytes", type=size, metavar="SIZE", help="keep at most SIZE of each, as in 500000, 64k or 10M")
        parser.add_argument(
            "--max-age", type=duration, metavar="AGE", help="keep events that are younger, as in 90s, 15m, 12h, 30d or 2w"
        )
        parser.add_argument("--delete", action="store_true", help="delete whole topics; followers are told that they ended")
        parser.add_argument("--closed-only", action="store_true", help="leave open topics as they are")
        parser.add_argument("--dry-run", action="store_true", help="change nothing; print what would be done")
        parser.add_argument(
            "--no-input", "--noinput", action="store_true", help="do not ask before many topics are deleted whatever their age"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        bounds = {name: options[name] for name in ("max_events", "max_bytes", "max_age")}  # see EventLog.trim
        _check(bounds, delete=options["delete"])
        log = shared_log()
        chosen = self._chosen(log, options)
        if options["delete"]:
            self._delete(log, chosen, bounds["max_age"], options)
        else:
            self._trim(log, chosen, bounds, dry=options["dry_run"])

    def _chosen(self, log: EventLog, options: dict[str, Any]) -> Iterator[tuple[str, TopicState]]:
        name = options["topic"]
        if name is None:
            if options["prefix"] == "":
                raise CommandError("--prefix '' is every topic: write --all if you mean that")
            topics = topics_of(log, options["prefix"] or "")
        else:
            state = log.state(name)
            if not state.exists:
                raise CommandError(f"there is no topic {name!r}; sse_topics lists those there are")
            topics = iter([(name, state)])
        return ((name, state) for name, state in topics if state.closed is not None or not options["closed_only"])

    def _trim(self, log: EventLog, chosen: Iterator[tuple[str, TopicState]], bounds: dict[str, Any], *, dry: bool) -> None:
        total = topics = 0
        for name, state in chosen:
            dropped = surplus(log, name, state, **bounds) if dry else log.trim(name, **bounds)
            if dropped:
                self.stdout.write(f"{printable(name)}: {several(dropped, 'event')}")
            total += dropped
            topics += dropped > 0
        self.stdout.write(f"{several(total, 'event')} of {several(topics, 'topic')} {_done(total, 'dropped', dry)}")

    def _delete(
        self, log: EventLog, chosen: Iterator[tuple[str, TopicState]], max_age: float | None, options: dict[str, Any]
    ) -> None:
        oldest = None if max_age is None else time.time() - max_age
        doomed = [(name, state) for name, state in chosen if oldest is None or (state.newest_at or 0) < oldest]
        dry = options["dry_run"]
        if options["topic"] is None and oldest is None and doomed and not dry and not options["no_input"]:
            self._ask([name for name, _ in doomed])
        total = topics = size = 0
        for name, state in doomed:
            if dry or log.delete(name):
                self.stdout.write(f"{printable(name)}: {several(state.events, 'event')}, {formatting.size(state.bytes)}")
                total, topics, size = total + state.events, topics + 1, size + state.bytes
        with_events = f"{several(topics, 'topic')} with {several(total, 'event')} ({formatting.size(size)})"
        self.stdout.write(f"{with_events} {_done(topics, 'forgotten', dry)}")

    def _ask(self, names: list[str]) -> None:
        first, last = printable(names[0]), printable(names[-1])
        what = f"{several(len(names), 'topic')}, from {first} to {last}" if len(names) > 1 else first
        if sys.stdin is None or not sys.stdin.isatty():
            raise CommandError(f"this forgets {what}, whatever their age: say --no-input if you mean it, or give --max-age")
        self.stderr.write(f"This forgets {what}. Type 'yes' to go on: ", self.style.WARNING, ending="")
        self.stderr.flush()
        if sys.stdin.readline().strip() != "yes":
            raise CommandError("nothing was forgotten")


def surplus(
    log: EventLog, name: str, state: TopicState, *, max_events: int | None, max_bytes: int | None, max_age: float | None
) -> int:
    """How many events ``trim`` would drop now."""
    most = state.events if max_events is None else max_events
    oldest = None if max_age is None else time.time() - max_age
    dropped, left, offset = max(0, state.events - most), state.bytes, state.floor
    while offset < state.top:
        records = log.read_after(name, offset).records
        if not records:
            break
        for record in records:
            fits = max_bytes is None or left <= max_bytes or record.offset == state.top
            if record.offset - state.floor > dropped and fits and (oldest is None or record.at > oldest):
                return record.offset - 1 - state.floor
            left -= size_of(record.event)
            offset = record.offset
    return offset - state.floor


def _check(bounds: dict[str, Any], *, delete: bool) -> None:
    if delete and (bounds["max_events"] is not None or bounds["max_bytes"] is not None):
        raise CommandError("--delete forgets whole topics: with it only --max-age says which")
    if not delete and all(bound is None for bound in bounds.values()):
        raise CommandError("nothing says what to drop: give --max-events, --max-bytes or --max-age, or --delete for whole topics")


def _done(number: int, what: str, dry: bool) -> str:
    return f"would be {what}: this was a dry run" if dry else f"{'was' if number == 1 else 'were'} {what}"
