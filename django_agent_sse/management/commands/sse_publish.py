"""``manage.py sse_publish``: publish to a topic from a terminal, a script or cron."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO

from django.core.management.base import CommandError, CommandParser

from ...exceptions import AgentSSEError, EventTooLarge, InvalidEvent, TopicClosed
from ...runtime.safe_text import printable
from ...wire.event import Event
from ..arguments import event_name, reason, topic
from ..batches import batches_of
from ..command import SSECommand, shared_log

COMPLETED = "completed"
SPACES = 4
"""A line may have so many times the bytes of an event: JSON may have spaces, which go."""
_SPACE = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+"?)|\s++')
"""A string, or what stands between values. Possessive, and without a string's end too: nothing is looked at twice."""


class Command(SSECommand):
    help = (
        "Publish events to a topic: one event with DATA, or one for each line of standard input as it comes. Followers get them "
        "at once. Prints the id of each."
    )
    takes = "TOPIC [DATA]"
    examples = """examples:
  manage.py sse_publish news 'We are open'
  manage.py sse_publish prices '{"eur": 42}' --json --event tick
  tail -F app.log | manage.py sse_publish logs.app --quiet
                              each line, within 50 ms
  manage.py sse_publish builds.42 --close
                              end a topic
  manage.py sse_publish builds.42 'exit 1' --close=failed
                              one last event, and why the topic ends
  manage.py sse_publish invoices 'no. 17' --key invoice-17
                              once, however often this is run
  manage.py sse_publish numbers -- -1
                              data that begins with a dash

exit codes:
  0    all was published
  1    something was not: stderr says which line, and why
  2    wrong arguments
  130  Ctrl-C
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("topic", metavar="TOPIC", type=topic, help="the topic's name; the first event makes it")
        parser.add_argument(
            "data", metavar="DATA", nargs="?", help="the event's data; - or nothing: each line of standard input is an event"
        )
        parser.add_argument("--event", metavar="NAME", type=event_name, help="the events' name")
        parser.add_argument("--json", action="store_true", help="the data must be JSON, and is published without its spaces")
        parser.add_argument(
            "--key",
            metavar="KEY",
            help="publish an event with the same key only once. Lines have the keys KEY:1, KEY:2 …, and are appended one by one",
        )
        parser.add_argument(
            "--close",
            nargs="?",
            metavar="REASON",
            const=COMPLETED,
            type=reason,
            help=f"end the topic afterwards; followers are told why (default: {COMPLETED}). Without DATA nothing is read",
        )
        parser.add_argument("--quiet", action="store_true", help="do not print the ids")

    def handle(self, *args: Any, topic: str, data: str | None, close: str | None, **options: Any) -> None:
        self._topic, self._options = topic, options
        self._log = shared_log()
        refused = 0
        if data not in (None, "-"):
            self._append([self._event(str(data))], options["key"])
        elif data == "-" or close is None:
            refused = self._lines(self._stdin(explicit=data == "-"))
        if close is not None and not self._log.close(topic, close):
            self.tell(f"the topic {topic!r} was closed before: {self._log.state(topic).closed}")
        if refused:
            raise CommandError(f"{refused:,} line{'s were' if refused > 1 else ' was'} not published")

    def _stdin(self, *, explicit: bool) -> BinaryIO:
        if sys.stdin is None or (sys.stdin.isatty() and not explicit):
            raise CommandError(
                "there is nothing to publish: give DATA, or lines on standard input (- takes them from the terminal)"
            )
        buffer = getattr(sys.stdin, "buffer", None)
        return buffer if buffer is not None else io.BytesIO(sys.stdin.read().encode())

    def _lines(self, source: BinaryIO) -> int:
        """Publish each line; how many could not be.

        Raises:
            CommandError: Neither this line nor those after it can be published.
        """
        refused, longest = 0, SPACES * self._log.limits.max_event_bytes
        for batch in batches_of(source, longest):
            events: list[tuple[int, Event]] = []
            for number, line in batch:
                try:
                    if len(line) > longest:
                        raise CommandError(f"it has over {longest:,} bytes, which no event may have (MAX_EVENT_BYTES)")
                    events.append((number, self._event_of_line(line)))
                except (CommandError, InvalidEvent) as error:
                    refused += 1
                    self.tell(f"line {number:,} was not published: {error}")
            for part in [[line] for line in events] if self._options["key"] else [events] if events else []:
                refused += self._part(part)
        return refused

    def _part(self, part: Sequence[tuple[int, Event]]) -> int:
        """Append what belongs together, without what is too large; how many were."""
        key, first = self._options["key"], part[0][0]
        try:
            self._append([event for _, event in part], f"{key}:{first}" if key else None)
        except EventTooLarge as error:
            if len(part) > 1:
                return sum(self._part([line]) for line in part)
            self.tell(f"line {first:,} was not published: {error}")
            return 1
        except AgentSSEError as error:
            raise CommandError(f"line {first:,} and those after it were not published: {error}") from error
        return 0

    def _append(self, events: Iterable[Event], key: str | None) -> None:
        try:
            appended = self._log.append(self._topic, events, key=key)
        except TopicClosed as error:
            raise TopicClosed(f"{error} (sse_trim {self._topic} --delete deletes it)") from error
        if not self._options["quiet"]:
            self.stdout.write("".join(f"{printable(position)}\n" for position in appended), ending="")
            self.stdout.flush()

    def _event_of_line(self, text: bytes) -> Event:
        if not self._options["json"]:
            return self._event(text.decode("utf-8", "replace"))
        try:
            return self._event(text.decode())
        except UnicodeDecodeError as error:
            raise CommandError(f"it is not UTF-8 ({error.reason}), as JSON must be") from error

    def _event(self, data: str) -> Event:
        return Event(_compact(data) if self._options["json"] else data, event=self._options["event"])


def _compact(text: str) -> str:
    """JSON without its spaces; numbers and strings stay as they are written.

    Raises:
        CommandError: It is none.
    """
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise CommandError(f"it is not JSON: {error} (without --json any text will do)") from error
    return _SPACE.sub(r"\1", text)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not in the standard (RFC 8259)")
