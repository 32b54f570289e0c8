"""The last lines of a log, for a page that is rendered now and goes on from there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.urls import Resolver404, get_script_prefix, resolve

from .eventlog.backend import event_log, refuse_on_a_loop
from .eventlog.base import EventLog
from .eventlog.outage import outage
from .eventlog.position import Position
from .eventlog.records import Page
from .exceptions import EventLogUnavailable
from .logs import MAX_COUNT, part_of_log
from .wire import Event
from .wire.log_lines import is_line, line_text

LINE_CHARACTERS = 4_096
"""Characters of a line that stand in the page; of a longer one it says how many it has."""
TEXT_CHARACTERS = 262_144
"""Characters of all lines that do."""
READS = 3
"""Pages of the log that are read at most; then its last event alone is."""
_CUT = 4 * LINE_CHARACTERS
"""Characters of a line in which control sequences are looked for."""

_CONTROLS = re.compile(
    r"\x1b\[[0-?]*[ -/]*(?:[@-~]|\Z)"  # CSI
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTail:
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
        """The lines as one text."""
        return "".join(f"{line}\n" for line in self.lines)


def log_tail(topic: str, count: int) -> LogTail:
    """Return the last lines of a topic, of its last ``count`` events; where the log cannot be read, none.

    What it costs is bounded, whatever stands in the topic: ``MAX_COUNT`` lines, ``LINE_CHARACTERS`` of each and
    ``TEXT_CHARACTERS`` of all, the newest first; ``READS`` pages of the log (1 MiB each) and its last event.
    A ``count`` of 0 reads no event.

    Raises:
        TopicNameInvalid: No topic can have such a name.
        AsyncRequired: An event loop runs here.
    """
    refuse_on_a_loop("log_tail", twin=False)
    count = min(max(count, 0), MAX_COUNT)
    log = event_log()
    try:
        page = _last_page(log, topic, count)
    except EventLogUnavailable as error:
        outage.failed(error, [topic])
        return LogTail()
    outage.recovered([topic])
    last = page.records[-1].offset if page.records else page.top
    lines = _last_lines((record.event for record in reversed(page.records)), count)
    return LogTail(lines=lines, top=page.top, position=str(Position(page.epoch, last)), closed=page.closed)


def _last_page(log: EventLog, topic: str, count: int) -> Page:
    """Return the topic's last events; fewer than ``count`` where they do not fit into a page of the log."""
    state = log.state(topic)
    if not count or not state.top:
        return Page(epoch=state.epoch, floor=state.floor, top=state.top, closed=state.closed)
    for _ in range(READS):
        page = log.read_after(topic, max(0, state.top - count), count)
        if not page.records or page.records[-1].offset >= state.top:
            return page
        count = max(1, len(page.records) // 2)  # they were cut by their size: the last ones may be as large
    return log.read_after(topic, state.top - 1, 1)


def _last_lines(events: Iterable[Event], count: int) -> list[str]:
    """Return the last lines, in their order, of events that come newest first."""
    # Backwards, and no further than there is room: an event may hold a million lines of which a hundred are shown.
    lines: list[str] = []
    room = TEXT_CHARACTERS
    for event in filter(is_line, events):
        text = line_text(event)
        end = len(text)
        while end >= 0:
            start = text.rfind("\n", 0, end) + 1
            line = plain(text[start:end])
            room -= len(line)
            if len(lines) == count or room < 0:
                return lines[::-1]
            lines.append(line)
            end = start - 1
    return lines[::-1]


def plain(line: str) -> str:
    """Return a line without its control sequences, and without what a carriage return overwrote; cut where it is too long."""
    drawn = line.rstrip("\r")
    begin = drawn.rfind("\r") + 1
    length = len(drawn) - begin
    shown = _CONTROLS.sub("", drawn[begin : begin + _CUT])
    if length <= _CUT and len(shown) <= LINE_CHARACTERS:
        return shown
    return f"{shown[:LINE_CHARACTERS]}… [cut: the line has {length:,} characters]"


def served_part(src: str, part: str) -> str:
    """Return the URL of a part of the log that is streamed at ``src``; ``""`` where the project does not serve it."""
    path = urlsplit(src).path
    try:
        resolve("/" + part_of_log(path, part).removeprefix(get_script_prefix()))
    except Resolver404:
        return ""
    return part_of_log(path, part)
