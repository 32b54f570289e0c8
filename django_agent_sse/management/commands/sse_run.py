"""``manage.py sse_run``: run a command, and publish what it prints."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from io import RawIOBase
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...encoding import encode_json
from ...eventlog.base import EventLog
from ...exceptions import AgentSSEError, EventLogUnavailable, TopicClosed
from ...topics.buffered_publisher import CAPACITY, BufferedPublisher
from ...wire.drawing import Change, DrawnLines
from ...wire.event import Event
from ...wire.redraws import Redraw
from ..arguments import duration, topic
from ..command import SSECommand, SSEParser, several, shared_log
from ..subprocess_runner import OUTPUT_TIMEOUT, CommandResult, Signals, Source, run

BATCH_SECONDS = 0.05
"""Between the beginnings of two appends, unless a full batch waits."""
DROPPED = "dropped"
"""The event that stands where events are missing."""
EXIT = "exit"
ROOM_FOR_NAME = 16
"""Bytes of an event that its name may take."""
_LIKE = "sse_run builds.42 -- make -j4"
TOPIC_VARIABLE = "SSE_TOPIC"


class _Parser(SSEParser):
    """Takes what follows the first ``--`` as the command, whatever it looks like."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        split = words.index("--") if "--" in words else len(words)
        own, command = words[:split], words[split + 1 :]
        parsed, unknown = self.parse_known_args(own, namespace)
        if unknown:
            self.error(f"{' '.join(unknown)!r}: give the command after --, as in {_LIKE}")
        if not command:
            self.error(f"there is no command to run: give it after --, as in {_LIKE}")
        parsed.command = command
        return parsed


class Command(SSECommand):
    help = (
        "Run a command and publish each line it prints as an event of a topic: stdout or stderr. The last event is exit; then "
        "the topic is closed. The exit code is the command's."
    )
    parser_class = _Parser
    takes = "TOPIC -- COMMAND [ARGUMENT ...]"
    examples = """examples:
  manage.py sse_run builds.42 -- make -j4
  manage.py sse_run nightly --replace -- ./backup.sh /var/lib
                              in cron: forget what the last run has printed
  manage.py sse_run deploys.7 --keep-open -- ./migrate.sh
  manage.py sse_run deploys.7 -- ./restart.sh
                              two commands, one topic
  manage.py sse_run counts -- sh -c 'ls | wc -l'
                              a pipeline needs a shell

The last event is exit, as in {"code":0,"signal":null,"seconds":12.3}. The topic
is closed as completed (code 0), failed (another code), or cancelled (ended after
a signal that sse_run got, and passed on). The command finds the topic's name in
$SSE_TOPIC, so that what it starts can publish there too.

exit codes:
  that of the command, or
  128 + n  signal n ended the command
  127      the command was not found
  126      it cannot be executed
  1        the topic cannot be published to: the command was not run
  2        wrong arguments: the command was not run
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("topic", metavar="TOPIC", type=topic, help="the topic's name")
        parser.add_argument(
            "--replace",
            action="store_true",
            help="delete the topic's events first; otherwise a closed topic is refused, and an open one is continued",
        )
        parser.add_argument("--keep-open", action="store_true", help="do not close the topic at the end")
        parser.add_argument(
            "--kill-after",
            type=duration,
            metavar="DURATION",
            help="leave nothing running: send SIGKILL to what is left of the command's process group this long (10s, 1m) after a "
            "signal, or after the SIGTERM that is sent when the command ends, or sse_run itself in any way",
        )
        parser.add_argument("--quiet", action="store_true", help="do not print here what the command prints")

    def handle(self, *args: Any, topic: str, command: Sequence[str], **options: Any) -> None:
        self._quiet = options["quiet"]
        log = shared_log()
        if not options["replace"]:
            self._check(log, topic)
        signals = Signals()
        with signals.taken():
            publisher = LinePublisher(log, topic, tell=self.tell)
            if options["replace"]:
                publisher.submit(partial(log.delete, topic))
            pump = _Pump(publisher, log.limits.max_event_bytes - ROOM_FOR_NAME, self._echo)
            # Python programs print line by line into a pipe only where they are told to.
            environment = {"PYTHONUNBUFFERED": "1", **os.environ, TOPIC_VARIABLE: topic}
            ended = run(command, environment, pump.take, signals, options["kill_after"], pump.due)
            self._end(ended, command[0], pump)
            came = len(signals.received)
            reason = "completed" if ended.code == 0 else "cancelled" if signals.received else "failed"
            close = None if options["keep_open"] else partial(log.close, topic, reason)
            publisher.finish(lambda: len(signals.received) > came, last=close)
        if publisher.lost:
            self.tell(f"{several(publisher.lost, 'event')} of this command could not be published")
        if ended.code:
            sys.exit(ended.code)

    def _check(self, log: EventLog, topic: str) -> None:
        try:
            state = log.state(topic)
        except EventLogUnavailable:
            return  # the publisher tells, and tries again: a log that is away keeps no backup from being made
        if state.closed is not None:
            raise CommandError(
                f"the topic {topic!r} is closed ({state.closed}): it has the events of an earlier run. --replace forgets them, "
                "or take another name. The command was not run"
            )

    def _end(self, ended: CommandResult, program: str, pump: _Pump) -> None:
        last = []
        if ended.refused:
            text = f"{program}: {ended.refused}"
            self.tell(text)
            last.append(Event(text, event="stderr"))
        if ended.left_behind:
            self.tell(
                "something that the command started still holds its output: what it prints after "
                f"{OUTPUT_TIMEOUT:g} s is not published"
            )
        payload = {"code": ended.code, "signal": ended.signal, "seconds": round(ended.seconds, 3)}
        pump.end([*last, Event(encode_json(payload), event=EXIT)])

    def _echo(self, source: Source, data: bytes) -> None:
        """Print what the command printed, as it was."""
        if self._quiet:
            return
        out = self.stdout if source == "stdout" else self.stderr
        buffer = getattr(out, "buffer", None)
        try:
            if buffer is None:
                out.write(data.decode("utf-8", "replace"), lambda text: text, ending="")
            else:
                _write(getattr(buffer, "raw", buffer), data)
        except (OSError, ValueError):  # nobody reads it any more; those who follow the topic do
            self._quiet = source == "stdout" or self._quiet


def _write(raw: RawIOBase, data: bytes) -> None:
    """Write past the buffer: Python aborts at its end where a thread that waits for a reader holds the buffer's lock."""
    rest = memoryview(data)
    while rest:
        written = raw.write(rest)
        if written is None:
            raise BlockingIOError("nobody reads")
        rest = rest[written:]


class LinePublisher(BufferedPublisher):
    """Publishes the lines of a command, and tells what goes wrong."""

    def __init__(self, log: EventLog, topic: str, *, tell: Callable[[str], object], capacity: int = CAPACITY) -> None:
        super().__init__("sse-publisher", partial(log.append, topic), capacity=capacity, pace=BATCH_SECONDS, tell=tell)

    def dropped(self, count: int) -> Event:
        return Event(encode_json({"events": count}), event=DROPPED)

    def refused(self, error: AgentSSEError) -> bool:
        closed = isinstance(error, TopicClosed)
        self.tell(f"{error}. The command goes on; nothing more of it is published" if closed else f"not published: {error}")
        return closed


class _Pump:
    """From what a command prints to events."""

    def __init__(self, publisher: LinePublisher, limit: int, echo: Any) -> None:
        self._publisher = publisher
        self._echo = echo
        self._lock = threading.Lock()
        self._over = False
        self._outputs: dict[Source, DrawnLines] = {"stdout": DrawnLines(limit), "stderr": DrawnLines(limit)}

    def take(self, source: Source, data: bytes) -> None:
        """Echo it, and publish the lines that it completes; without data, what is due."""
        output = self._outputs[source]
        if data:
            self._echo(source, data)
        self._put(_events(source, output.feed(data) if data else output.tick()))

    def due(self, source: Source) -> float | None:
        """Return when ``take`` is to be called though nothing is printed."""
        return self._outputs[source].due

    def end(self, last: Sequence[Event]) -> None:
        """Publish lines without an end, and ``last``; nothing that comes later."""
        rest = [event for source, output in self._outputs.items() for event in _events(source, output.finish())]
        self._put([*rest, *last])
        with self._lock:
            self._over = True

    def _put(self, events: list[Event]) -> None:
        with self._lock:
            if events and not self._over:
                self._publisher.put(events)


def _events(source: Source, changes: Sequence[Change]) -> list[Event]:
    return [change.event(source) if isinstance(change, Redraw) else Event(change, event=source) for change in changes]
