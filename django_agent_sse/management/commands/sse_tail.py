"""``manage.py sse_tail``: follow a topic, or the event stream of any server."""

from __future__ import annotations

import contextlib
import json
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from django.core.management.base import CommandError, CommandParser

from ...eventlog.base import EventLog
from ...eventlog.line_matcher import LineQuery, levels_from
from ...eventlog.position import MAX_ID, Position
from ...eventlog.records import TopicState
from ...eventlog.search import MOST_CONTEXT
from ...runtime.suggestions import nearest
from ...wire.line_levels import ALL
from ...wire.log_lines import RECORD
from ...wire.redraws import REPLACE, Settled
from ..arguments import count
from ..arguments import topic as valid_topic
from ..command import SSECommand, shared_log
from ..filtering import Begin, FilteredTail
from ..following import Tail
from ..output import Pause, Printer, Received

LINES = 10
"""Events that are shown before what comes, as ``tail`` does."""
ABOUT = 4
"""Times as many events as are to be printed in which these are looked for."""
EXIT = "exit"
"""The name of the event that ``sse_run`` ends with."""
NEAR = 1000
"""Topics that are looked through for one with a similar name."""


class Command(SSECommand):
    help = (
        "Follow a topic of this project, or the event stream of any server over HTTP: print its events as they come, until it is "
        "closed. Begins with a topic's last 10 events, as tail does. Reconnects and resumes by itself, and says so on stderr."
    )
    takes = "TOPIC|URL"
    examples = """examples:
  manage.py sse_tail builds.42
                              the last 10 events, then what comes
  manage.py sse_tail builds.42 --from-start
                              everything that is kept, then what comes
  manage.py sse_tail builds.42 -n 100 --no-follow
                              the last 100, and no more
  manage.py sse_tail builds.42 --after 1500
                              what follows event 1500
  manage.py sse_tail builds.42 --json | jq -r .data
                              for programs
  manage.py sse_tail builds.42 --errors -C 3
                              errors, each with three events before and after
  manage.py sse_tail builds.42 --grep timeout -n 5 --no-follow
                              the last five lines with a word
  manage.py sse_tail builds.42 --exit-code
                              ends as the command of sse_run did
  manage.py sse_tail https://example.org/events/ -H 'Authorization: Bearer x'

exit codes:
  0    the topic or stream is over, or nobody reads the output
  1    it cannot be followed: stderr says why
  2    wrong arguments
  130  Ctrl-C
"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("target", metavar="TOPIC|URL", help="a topic's name, or an address that begins with http")
        start = parser.add_mutually_exclusive_group()
        start.add_argument("-n", "--lines", type=count, metavar="N", help=f"begin with the last N events (default: {LINES})")
        start.add_argument("--from-start", action="store_true", help="begin with the oldest event that is kept")
        start.add_argument("--live", action="store_true", help="begin with what comes now; the same as -n 0")
        start.add_argument(
            "--after", type=_position, metavar="ID", help="begin after an event: its id, or for a topic its number (an offset)"
        )
        lines = parser.add_argument_group("only some lines of a topic; -n then counts these, and all that is kept is looked at")
        lines.add_argument("--grep", metavar="TEXT", help="lines with this text, in capitals or not")
        lines.add_argument("-E", "--regex", action="store_true", help="the text of --grep is a regular expression of Python")
        lines.add_argument("--case", action="store_true", help="capitals count")
        level = lines.add_mutually_exclusive_group()
        level.add_argument("--level", choices=ALL, help="lines of this level, or worse")
        level.add_argument("--errors", action="store_const", dest="level", const="error", help="the same as --level error")
        lines.add_argument("-C", "--context", type=count, default=0, metavar="N", help="with N events before and after each")
        parser.add_argument("--no-follow", action="store_true", help="print what is there, and end; of a URL, one connection")
        parser.add_argument("--json", action="store_true", help="one object a line: id, event, data, retry, at")
        parser.add_argument(
            "--exit-code",
            action="store_true",
            help="end with the code of the topic's exit event, which sse_run publishes; without one, 0 where the topic was "
            "closed as completed, and 1 otherwise",
        )
        parser.add_argument(
            "-H", "--header", action="append", default=[], type=_header, metavar="'NAME: VALUE'", help="send a header (URL)"
        )
        parser.add_argument("--cookie", type=_cookie, metavar="'NAME=VALUE'", help="send cookies (URL)")

    def handle(self, *args: Any, target: str, **options: Any) -> None:
        colour = True if options["force_color"] else False if options["no_color"] else None
        self._printer = Printer(self.stdout, colour=colour, as_json=options["json"])
        if target.startswith(("http://", "https://")):
            self._print(self._remote(target, options), lambda: False)
            return
        if (options["regex"] or options["case"]) and not options["grep"]:
            raise CommandError("-E and --case are about --grep TEXT")
        if options["context"] > MOST_CONTEXT or (options["context"] and not (options["grep"] or options["level"])):
            raise CommandError(f"-C is for --grep, --level and --errors, and {MOST_CONTEXT} at most")
        if options["header"] or options["cookie"]:
            raise CommandError(f"--header and --cookie are sent to a URL, and {target!r} is a topic")
        try:
            topic = valid_topic(target)
        except ArgumentTypeError as error:
            raise CommandError(str(error)) from error
        log = shared_log()
        tail = self._tail(log, topic, options)
        if options["grep"] or options["level"]:
            tail = self._filtered(log, topic, tail, options)
        else:
            self._print(tail.batches(follow=not options["no_follow"]), lambda: tail.behind)
        if tail.ended is not None:
            self.tell("the topic was deleted" if tail.deleted else f"the topic is closed: {tail.ended}")
        if options["exit_code"] and (code := _exit_code(log, topic, tail)):
            sys.exit(code)

    def _filtered(self, log: EventLog, topic: str, tail: Tail, options: dict[str, Any]) -> Tail:
        """Print the lines that are asked for. Return what followed the topic."""
        levels = levels_from(options["level"]) if options["level"] else frozenset()
        query = LineQuery(text=options["grep"] or "", regex=options["regex"], case=options["case"], levels=levels)
        begin = Begin(tail.offset if options["after"] is not None else 0, 0 if options["live"] else options["lines"])

        def follower(after: Position) -> Tail:
            nonlocal tail
            tail = Tail(log, topic, after, tell=self._say, pause=Pause(self.stdout))
            return tail

        filtered = FilteredTail(log, topic, query, options["context"])
        for batch in filtered.batches(begin, follower, follow=not options["no_follow"]):
            self._printer.show(batch)
        return tail

    def _print(self, batches: Iterator[list[Received]], is_behind: Callable[[], bool]) -> None:
        """Print events: of lines that were drawn again the end, and on a terminal what is being drawn."""
        printer = self._printer
        settled: Settled[Received] = Settled()
        for batch in batches:
            if printer.as_json:
                printer.show(batch)
                continue
            rows = [row for received in batch for row in settled.feed(received.event, received)]
            rows += [] if is_behind() else settled.rest()  # what follows is shown at once, and cannot be taken back
            printer.show([replace(row, event=event) for event, row in rows], settled.drafts.values())
        printer.show([replace(row, event=event) for event, row in settled.rest()], settled.drafts.values())
        printer.end(settled.drafts.values())

    def _say(self, text: str) -> None:
        self._printer.keep_drafts()
        self.tell(text)

    def _remote(self, url: str, options: dict[str, Any]) -> Iterator[list[Received]]:
        if options["lines"] is not None or options["from_start"] or options["live"]:
            raise CommandError(
                "-n, --from-start and --live are for topics: of a URL the server decides where to begin; or --after ID"
            )
        if options["exit_code"]:
            raise CommandError("--exit-code is for topics")
        if options["grep"] or options["level"]:
            raise CommandError("--grep, --level and --errors are for topics")
        if find_spec("httpx") is None:
            raise CommandError("to follow a URL, install httpx: pip install 'django-agent-sse[tail]'. Topics need none")
        from ..remote import RemoteTail

        headers = dict(options["header"])
        if options["cookie"]:
            headers["Cookie"] = options["cookie"]
        pause = Pause(self.stdout)
        tail = RemoteTail(url, headers, last_event_id=options["after"] or "", tell=self._say, pause=pause)
        return tail.batches(follow=not options["no_follow"])

    def _tail(self, log: EventLog, topic: str, options: dict[str, Any]) -> Tail:
        state = log.state(topic)
        after = _start(options, state)
        if not options["json"] and after.offset not in (state.floor, state.top) and options["after"] is None:
            after = Position(state.epoch, _before_the_last(log, topic, state, state.top - after.offset))
        if after.epoch == state.epoch and after.offset > state.top:
            raise CommandError(
                f"the topic {topic!r} ends at {state.top}, which is before {options['after']}: -n 0 waits for what comes"
            )
        if not state.exists:
            self._unknown(log, topic, follow=not options["no_follow"])
        return Tail(log, topic, after, tell=self._say, pause=Pause(self.stdout))

    def _unknown(self, log: EventLog, topic: str, *, follow: bool) -> None:
        names = log.topics(limit=NEAR)
        near = nearest(topic, names)
        hint = (
            f" Did you mean {near!r}?"
            if near
            else " sse_topics lists those there are."
            if names
            else " There are no topics at all yet."
        )
        if not follow:
            raise CommandError(f"there is no topic {topic!r}.{hint}")
        self.tell(f"there is no topic {topic!r} yet: waiting for its first event.{hint}")


def _start(options: dict[str, Any], state: TopicState) -> Position:
    """Where to begin in a topic of this state."""
    if (text := options["after"]) is not None:
        after = Position.parse(text) or (Position("", int(text)) if text.isascii() and text.isdigit() else None)
        if after is None:
            raise CommandError(
                f"--after {text!r} is not a position in a topic: give an event's id, as in FvyLkmab.17, or its number, 17"
            )
        return Position(after.epoch or state.epoch, after.offset)
    lines = 0 if options["live"] else LINES if options["lines"] is None else options["lines"]
    return Position(state.epoch, state.floor if options["from_start"] else max(state.floor, state.top - lines))


def _before_the_last(log: EventLog, topic: str, state: TopicState, lines: int) -> int:
    """The offset after which so many events are printed: those about other lines are not."""
    begin = max(state.floor, state.top - ABOUT * lines)
    last = log.read_after(topic, begin, ABOUT * lines).records
    if not last or last[-1].offset < state.top:
        return state.top - lines  # too large to be looked through
    printed = [record.offset for record in last if record.event.event not in (RECORD, REPLACE)]
    return printed[-lines] - 1 if len(printed) >= lines else begin


def _position(text: str) -> str:
    if not text or len(text) > MAX_ID or not text.isprintable():
        raise ArgumentTypeError(f"{text[:40]!r} is not the id of an event")
    return text


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not (name.isascii() and text.isprintable()) or " " in name.strip():
        raise ArgumentTypeError(f"{text!r} is not a header: write 'Name: value'")
    return name.strip(), value.strip()


def _cookie(text: str) -> str:
    if "=" not in text or not text.isprintable():
        raise ArgumentTypeError(f"{text!r} is not a cookie: write 'name=value', and ; between several")
    return text


def _exit_code(log: EventLog, topic: str, tail: Tail) -> int:
    """That of the topic's last event, where it is the one of ``sse_run``."""
    last = log.read_after(topic, max(0, log.state(topic).top - 1)).records
    if tail.ended is not None and last and last[-1].event.event == EXIT:
        with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, RecursionError):
            code = int(json.loads(last[-1].event.data)["code"])
            return code if 0 <= code <= 255 else 1  # the system would take 256 for 0
    return 0 if tail.ended == "completed" else 1
