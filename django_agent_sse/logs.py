"""A topic of lines, as ``router.log()`` serves it: its stream, parts of it as JSON, and its text; and its end, for a page."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from django.http.response import HttpResponseBase
from django.urls import Resolver404, get_script_prefix, resolve

from .eventlog.backend import event_log, refuse_on_a_loop
from .eventlog.base import EventLog
from .eventlog.outage import outage
from .eventlog.position import Position
from .eventlog.records import Page, Record
from .eventlog.validation import fields_of, filled
from .exceptions import EventLogUnavailable, RouteError
from .log_parts import MAX_COUNT, RangeView, answer_part
from .log_text import RawView, raw_text
from .streams.context import Context
from .streams.handlers import set_signature
from .streams.stream import Stream
from .streams.topic_source import Map
from .wire import Event
from .wire.log_lines import CONTROLS, is_line, line_text
from .wire.redraws import SOURCES, Source, redraw_of, source_of

LogTopicName: TypeAlias = str | Callable[..., Awaitable[str]]
"""A topic's name with ``{fields}`` of the URL, or ``async (c, …) -> name``."""


LINE_CHARACTERS = 4_096
"""Characters of a line that stand in the page; of a longer one it says how many it has."""
TEXT_CHARACTERS = 262_144
"""Characters of all lines that do."""
READS = 3
"""Pages of the log that are read at most; then its last event alone is."""
_CUT = 4 * LINE_CHARACTERS
"""Characters of a line in which control sequences are looked for."""


def log_views(topic: LogTopicName, show: Map | None = None) -> dict[str, Any]:
    """Return what serves a log, by the last part of the path: a handler for the stream, and two views.

    ``show`` is called with each event and returns the one that is sent for it, or ``None`` for nothing.
    """
    name_of, fields = _named(topic)

    async def topics_of(c: Context, **values: object) -> list[str]:
        return [await name_of(c, **values)]

    async def log(c: Context, stream: Stream, **values: object) -> None:
        await stream.follow(await name_of(c, **values), map=show)

    async def part(c: Context, **values: object) -> HttpResponseBase:
        return await answer_part(c, await name_of(c, **values), show)

    async def raw(c: Context, stream: Stream, **values: object) -> None:
        await raw_text(c, stream, await name_of(c, **values), show)

    public = getattr(topic, "login_required", True)  # what Django's login_not_required marks
    for handler in (log, part, raw):
        vars(handler)["login_required"] = public
    called = f"router.log({topic!r})" if isinstance(topic, str) else f"router.log({getattr(topic, '__qualname__', topic)})"
    taking = partial(set_signature, called=called, topics_of=topics_of)
    return {
        "": taking(log, fields, "c", "stream"),
        "range": type("log_range", (RangeView,), {"handle": staticmethod(taking(part, fields, "c"))}),
        "raw": type("log_raw", (RawView,), {"handle": staticmethod(taking(raw, fields, "c", "stream"))}),
    }


def part_of_log(path: str, part: str) -> str:
    """Return the path or URL of ``range`` or ``raw`` of a log at ``path``; ``path`` itself for ``""``."""
    return f"{path.rstrip('/')}/{part}/".removeprefix("/" if not path.strip("/") else "") if part else path


def _named(topic: LogTopicName) -> tuple[Callable[..., Awaitable[str]], list[str]]:
    if isinstance(topic, str):

        async def name_of(c: Context, **values: object) -> str:
            return filled(topic, values)

        return name_of, sorted(fields_of(topic))
    if not inspect.iscoroutinefunction(topic):
        raise RouteError(f"log(): the topic is a name such as 'builds.{{id}}', or `async def topic(c, …)`, not {topic!r}")
    _, *fields = inspect.signature(topic).parameters

    async def returned_name(c: Context, **values: object) -> str:
        name: object = await topic(c, **values)
        if not isinstance(name, str):
            raise RouteError(
                f"log(): {getattr(topic, '__qualname__', topic)} returned a {type(name).__name__}; it returns a name"
            )
        return name

    return returned_name, fields


# The last lines, for a page that is rendered now and goes on from there


_TURNS = dict.fromkeys(map(ord, "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"), "\ufffd")


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
        """The lines as one text for a page. What would turn other text around is shown as U+FFFD."""
        return "".join(f"{line}\n" for line in self.lines).translate(_TURNS)


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
    lines = _last_lines([record.event for record in reversed(page.records)], count)
    return LogTail(lines=lines, top=page.top, position=str(Position(page.epoch, last)), closed=page.closed)


def _last_page(log: EventLog, topic: str, count: int) -> Page:
    """Return the topic's last events; fewer than ``count`` where they do not fit into a page of the log."""
    state = log.state(topic)
    if not count or not state.top:
        return Page(epoch=state.epoch, floor=state.floor, top=state.top, closed=state.closed)
    before: Sequence[Record] = ()
    for _ in range(READS):
        page = log.read_after(topic, max(0, state.top - count), count)
        if not page.records or page.records[-1].offset >= state.top:
            return page
        if page.records[-1].offset == state.top - 1:  # but for the last one, which is large
            before = page.records
            break
        count = max(1, len(page.records) // 2)  # they were cut by their size: the last ones may be as large
    page = log.read_after(topic, state.top - 1, 1)
    return replace(page, records=[*(before if page.top == state.top else ()), *page.records])


def _last_lines(events: Sequence[Event], count: int) -> list[str]:
    """Return the last lines, in their order, of events that come newest first; the drafts after them are among them."""
    # Backwards, and no further than there is room: an event may hold a million lines of which a hundred are shown.
    lines: list[str] = []
    room = TEXT_CHARACTERS
    for text in _texts(events):
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


def _texts(events: Sequence[Event]) -> Iterator[str]:
    """Yield what events that come newest first have printed, without what later ones have taken back."""
    drafts: dict[Source, str] = {}
    for event in events:
        if (said := redraw_of(event.event, event.data)) is not None:
            drafts.setdefault(said[0], said[1].text)
    yield from (draft for source in reversed(SOURCES) if (draft := drafts.get(source)))
    owed = dict.fromkeys(SOURCES, 0)
    for event in events:
        if (said := redraw_of(event.event, event.data)) is not None:
            owed[said[0]] += said[1].lines
        if not is_line(event):
            continue
        source = source_of(event.event)
        lines = line_text(event).split("\n") if owed[source] else []
        gone = min(owed[source], len(lines))
        owed[source] -= gone
        if not lines:
            yield line_text(event)
        elif gone < len(lines):
            yield "\n".join(lines[: len(lines) - gone])


def plain(line: str) -> str:
    """Return a line without its control sequences, and without what a carriage return overwrote; cut where it is too long."""
    drawn = line.rstrip("\r")
    begin = drawn.rfind("\r") + 1
    length = len(drawn) - begin
    shown = CONTROLS.sub("", drawn[begin : begin + _CUT])
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
