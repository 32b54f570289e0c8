"""A topic of lines, as ``router.log()`` serves it: its stream, parts of it as JSON, and its text."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from .eventlog.base import EventLog
from .eventlog.current import event_log
from .eventlog.position import MAX_OFFSET, Position
from .eventlog.records import Page
from .exceptions import EventLogUnavailable, QueryInvalid, RouteError
from .streams.context import Context
from .streams.following import Map
from .streams.stream import Stream
from .streams.topics import TopicNames, taking
from .views import SSEView
from .wire import Decoder, Event

LogTopic: TypeAlias = str | Callable[..., Awaitable[str]]
"""A topic's name with ``{fields}`` of the URL, or ``async (c, …) -> name``."""

LINE_EVENTS = frozenset({None, "", "message", "log", "stdout", "stderr"})
"""Events that are lines. What else a log holds, an ``exit`` for one, is no text of it."""
MAX_COUNT = 5000
"""Lines of one answer with a part of a log."""
COUNT = 1000
RETRY_AFTER = 5
"""Seconds after which to ask again where the log cannot be read."""

_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class RangeView(SSEView):
    """Parts of a log as JSON."""

    def _dressed(self, response: HttpResponseBase) -> HttpResponseBase:
        response.headers["Content-Type"] = "application/json"
        return response


class RawView(SSEView):
    """The text of a log: what the stream sends, a line for each line. It ends as the stream does."""

    def _dressed(self, response: HttpResponseBase) -> HttpResponseBase:
        for name, value in _TEXT.items():
            response.headers[name] = value
        if isinstance(response, StreamingHttpResponse):
            response.streaming_content = _text(response.streaming_content)  # type: ignore[arg-type]
        return response


def log_views(topic: LogTopic, show: Map | None = None) -> dict[str, Any]:
    """What a route serves of a log, by the last part of its path: a handler, and views.

    Args:
        topic: Which log.
        show: Called with each event, returns the one that is sent for it, or ``None`` for nothing.

    Raises:
        RouteError: ``topic`` is neither a name nor such a function.
    """
    name_of, fields = _named(topic)

    async def log(c: Context, stream: Stream, **values: object) -> None:
        await stream.follow(await name_of(c, **values), map=show)

    async def part(c: Context, **values: object) -> HttpResponse:
        return await _part(c, await name_of(c, **values), show)

    async def raw(c: Context, stream: Stream, **values: object) -> None:
        await _raw(c, stream, await name_of(c, **values), show)

    public = getattr(topic, "login_required", True)  # what Django's login_not_required marks
    for handler in (log, part, raw):
        vars(handler)["login_required"] = public
    return {
        "": taking(log, fields, "c", "stream"),
        "range": type("log_range", (RangeView,), {"handle": staticmethod(taking(part, fields, "c"))}),
        "raw": type("log_raw", (RawView,), {"handle": staticmethod(taking(raw, fields, "c", "stream"))}),
    }


def part_of_log(path: str, part: str) -> str:
    """The path, or URL, of ``range`` or ``raw`` of a log that is served at ``path``; ``path`` itself for no part."""
    return f"{path.rstrip('/')}/{part}/".removeprefix("/" if not path.strip("/") else "") if part else path


def is_line(event: Event) -> bool:
    """Whether an event of a log is one of its lines, or several."""
    return event.event in LINE_EVENTS


def _named(topic: LogTopic) -> tuple[Callable[..., Awaitable[str]], list[str]]:
    if isinstance(topic, str):
        names = TopicNames(topic)

        async def name_of(c: Context, **values: object) -> str:
            return names.of(values)[0]

        return name_of, names.fields
    if not inspect.iscoroutinefunction(topic):
        raise RouteError(f"log(): the topic is a name such as 'builds.{{id}}', or `async def topic(c, …)`, not {topic!r}")
    _, *fields = inspect.signature(topic).parameters

    async def told_by(c: Context, **values: object) -> str:
        name: object = await topic(c, **values)
        if not isinstance(name, str):
            raise RouteError(
                f"log(): {getattr(topic, '__qualname__', topic)} returned a {type(name).__name__}; it returns a name"
            )
        return name

    return told_by, fields


# A part


async def _part(c: Context, topic: str, show: Map | None) -> HttpResponse:
    first = _number(c.query, "from", 1)
    count = _number(c.query, "count", COUNT)
    if not first or not 1 <= count <= MAX_COUNT:
        raise QueryInvalid(
            f"from={first}&count={count}: from is the number of an event, from 1, or how many from the end as -100; count is 1 "
            f"to {MAX_COUNT}"
        )
    log = event_log()
    try:
        after = first - 1 if first > 0 else max(0, (await log.astate(topic)).top + first)
        page = await log.aread_after(topic, after, count)
    except EventLogUnavailable as error:
        return c.json({"error": str(error)}, status=503, headers={"Retry-After": str(RETRY_AFTER)})
    return c.json(told(page, show), headers={"Cache-Control": "no-store"})


def told(page: Page, show: Map | None = None) -> dict[str, Any]:
    """A page as JSON has it: the topic's state, and records."""
    shown = [(record, record.event if show is None else show(record.event)) for record in page.records]
    records = [
        {
            "offset": record.offset,
            "id": str(Position(page.epoch, record.offset)),
            "event": event.event,
            "data": event.data,
            "at": record.at,
        }
        for record, event in shown
        if isinstance(event, Event)
    ]
    return {"epoch": page.epoch, "floor": page.floor, "top": page.top, "closed": page.closed, "records": records}


def _number(query: Mapping[str, str], name: str, otherwise: int) -> int:
    text = query.get(name, "")
    if text == "":
        return otherwise
    if not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) or abs(int(text)) > MAX_OFFSET:
        raise QueryInvalid(f"{name}={text[:40]!r} is no whole number")
    return int(text)


# The text


async def _raw(c: Context, stream: Stream, topic: str, show: Map | None) -> None:
    download = _flag(c.query, "download", False)
    follows = _flag(c.query, "follow", not download)
    if download:
        c.set_header("Content-Disposition", f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]+", "-", topic)}.log"')
    if follows:
        await stream.follow(topic, map=show)
        return
    async for event in _until_now(event_log(), topic):
        if (shown := event if show is None else show(event)) is not None:
            await stream.write(shown)


def _flag(query: Mapping[str, str], name: str, otherwise: bool) -> bool:
    text = query.get(name, "")
    if text not in ("", "0", "1"):
        raise QueryInvalid(f"{name}={text[:40]!r} is neither 0 nor 1")
    return text == "1" if text else otherwise


async def _until_now(log: EventLog, topic: str) -> AsyncIterator[Event]:
    """What a topic holds now."""
    page = await log.aread_after(topic)
    epoch, top = page.epoch, page.top
    while page.records and page.epoch == epoch:
        for record in page.records:
            if record.offset > top:
                return
            yield record.event
        page = await log.aread_after(topic, page.records[-1].offset)


async def _text(frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    decoder = Decoder()
    async for chunk in frames:
        if lines := "".join(f"{event.data}\n" for event in decoder.feed(chunk) if is_line(event)):
            yield lines.encode()
