"""``manage.py sse_publish``: publish to a topic from a terminal, a script or cron."""

from __future__ import annotations

import io
import json
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Final

from django.core.management.base import CommandError, CommandParser

from ...exceptions import AgentSSEError, EventTooLarge, InvalidEvent, TopicClosed
from ...runtime.safe_text import printable
from ...wire.event import Event
from ..arguments import event_name, reason, topic
from ..command import SSECommand, shared_log

COMPLETED = "completed"
SPACES = 4
"""A line may have so many times the bytes of an event: JSON may have spaces, which go."""
BATCH_SECONDS: Final = 0.05
"""How long a line waits for others to be appended with."""
BATCH_LINES: Final = 256
BATCH_BYTES: Final = 1_048_576
CHUNK_BYTES: Final = 65_536
CHUNKS_AHEAD: Final = 16
"""Chunks that are read ahead: whoever writes faster than the log takes is held by a full pipe."""
_SPACE = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+"?)|\s++')
"""A string, or what stands between values. Possessive, and without a string's end too: nothing is looked at twice."""

Line = tuple[int, bytes]
"""Its number, from 1, and its bytes without the line end."""


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


# Standard input, line by line, in batches that wait no longer than a moment


class _Cutter:
    """Cuts chunks into lines, in linear time. Of a line it holds ``longest`` bytes and a chunk, and drops the rest."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that ``chunk`` completes; an empty one, which is the end, completes the last line."""
        *ended, rest = chunk.split(b"\n") if chunk else ([b""] if not self._rest else [b"", b""])
        if ended:
            ended[0] = bytes(self._rest) + ended[0]
            self._rest.clear()
        if len(self._rest) <= self._longest:
            self._rest += rest
        return ended


def batches_of(source: BinaryIO, longest: int) -> Iterator[list[Line]]:
    """The lines of ``source`` as they come: those that come within ``BATCH_SECONDS`` in one batch, up to ``BATCH_LINES``.

    ``BATCH_BYTES`` end a batch too. A line of more than ``longest`` bytes is cut short, to more than that: the caller refuses it.
    """
    chunks: queue.Queue[bytes] = queue.Queue(CHUNKS_AHEAD)
    threading.Thread(target=_read, args=(source, chunks), name="sse-publish-stdin", daemon=True).start()
    batch: list[Line] = []
    cutter = _Cutter(longest + len(b"\r"))
    number, size, deadline = 1, 0, 0.0
    while True:
        try:
            chunk = chunks.get(timeout=max(0.0, deadline - time.monotonic()) if batch else None)
        except queue.Empty:
            yield batch
            batch, size = [], 0
            continue
        ended = cutter.feed(chunk)
        if ended and not batch:
            deadline = time.monotonic() + BATCH_SECONDS
        for line in ended:
            batch.append((number, line.removesuffix(b"\r")))
            number += 1
            size += len(line)
            if len(batch) == BATCH_LINES or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
                deadline = time.monotonic() + BATCH_SECONDS
        if not chunk or (batch and time.monotonic() >= deadline):
            if batch:
                yield batch
            batch, size = [], 0
        if not chunk:
            return


def _read(source: BinaryIO, chunks: queue.Queue[bytes]) -> None:
    """To the end, which is an empty chunk; a terminal's line is a chunk of its own."""
    try:
        number = source.fileno()
        while chunk := os.read(number, CHUNK_BYTES):
            chunks.put(chunk)
    except (OSError, AttributeError, ValueError):  # no file of the system's
        chunks.put(source.read() if not source.closed else b"")
    chunks.put(b"")
