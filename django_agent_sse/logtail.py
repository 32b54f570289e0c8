"""The last lines of a log, for a page that is rendered now and goes on from there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.urls import Resolver404, get_script_prefix, resolve

from .eventlog.current import event_log
from .eventlog.now_or_later import refuse_on_a_loop
from .eventlog.position import Position
from .eventlog.trouble import outage
from .exceptions import EventLogUnavailable
from .logs import is_line, part_of_log

_CONTROLS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\r\n])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The last lines of a topic.

    Attributes:
        lines: Their text, without control sequences.
        top: The number of events that the topic has had.
        position: The id of the place after them; ``""`` where the log could not be read.
        closed: Why the topic was closed; ``None`` while it is open, or not there.
    """

    lines: Sequence[str] = ()
    top: int = 0
    position: str = ""
    closed: str | None = None

    @property
    def text(self) -> str:
        """The lines, each with its end."""
        return "".join(f"{line}\n" for line in self.lines)


def log_tail(topic: str, count: int) -> Tail:
    """The last events of a topic that are lines, of ``count`` at most; where the log cannot be read, none.

    Raises:
        TopicNameInvalid: No topic can have such a name.
        AsyncRequired: An event loop runs here.
    """
    refuse_on_a_loop("log_tail", twin=False)
    log = event_log()
    try:
        page = log.read_after(topic, max(0, log.state(topic).top - count), max(1, count))
    except EventLogUnavailable as error:
        outage.failed(error, [topic])
        return Tail()
    outage.over([topic])
    last = page.records[-1].offset if page.records else page.top
    lines = [plain(line) for record in page.records if is_line(record.event) for line in record.event.data.split("\n")]
    return Tail(lines=lines[-count:] if count else (), top=page.top, position=str(Position(page.epoch, last)), closed=page.closed)


def plain(line: str) -> str:
    """A line without its control sequences, and without what a carriage return overwrote."""
    return _CONTROLS.sub("", _OVERWRITTEN.sub("", line))


def served_part(src: str, part: str) -> str:
    """The URL of a part of the log that is streamed at ``src``; ``""`` where the project serves none there."""
    path = urlsplit(src).path
    try:
        resolve("/" + part_of_log(path, part).removeprefix(get_script_prefix()))
    except Resolver404:
        return ""
    return part_of_log(path, part)
