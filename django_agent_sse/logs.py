"""A topic of lines, as ``router.log()`` serves it: its stream, parts of it as JSON, and its text."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from .encoding import SLICE, encode_json, json_slices
from .eventlog.backend import event_log
from .eventlog.base import EventLog
from .eventlog.outage import outage
from .eventlog.position import MAX_OFFSET, Position
from .eventlog.records import Page
from .exceptions import EventLogUnavailable, QueryInvalid, RouteError
from .streams.context import Context
from .streams.error_responses import error_body
from .streams.handlers import TopicNames, set_signature
from .streams.stream import Stream
from .streams.topic_source import Map
from .views import UNREADABLE, SSEView
from .wire import Event
from .wire.log_lines import LINE_EVENTS, line_label

LogTopicName: TypeAlias = str | Callable[..., Awaitable[str]]
"""A topic's name with ``{fields}`` of the URL, or ``async (c, …) -> name``."""

MAX_COUNT = 5000
"""Lines of one answer with a part of a log."""
COUNT = 1000
HEAD = 4_096
"""Bytes of a line in which its level is looked for."""
RETRY_AFTER = 5
"""Seconds after which to ask again where the log cannot be read."""

_FRAME_HEAD = re.compile(rb"(?::[^\n]*\n)*(?:event: ([^\n]*)\n)?(?:retry: [0-9]+\n)?data: ")
"""How a frame of our own begins: comments before it, and its fields in the order of `wire.encoder`."""
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class RangeView(SSEView):
    """Parts of a log as JSON."""

    def _wrap_response(self, response: HttpResponseBase) -> HttpResponseBase:
        response.headers["Content-Type"] = "application/json"
        return response


class RawView(SSEView):
    """The text of a log: what the stream sends, a line for each line. It ends as the stream does."""

    def _wrap_response(self, response: HttpResponseBase) -> HttpResponseBase:
        for name, value in _TEXT.items():
            response.headers[name] = value
        if isinstance(response, StreamingHttpResponse):
            response.streaming_content = _text(response.streaming_content)  # type: ignore[arg-type]
        return response


def log_views(topic: LogTopicName, show: Map | None = None) -> dict[str, Any]:
    """Return what serves a log, by the last part of the path: a handler for the stream, and two views.

    ``show`` is called with each event and returns the one that is sent for it, or ``None`` for nothing.
    """
    name_of, fields = _named(topic)

    async def log(c: Context, stream: Stream, **values: object) -> None:
        await stream.follow(await name_of(c, **values), map=show)

    async def part(c: Context, **values: object) -> HttpResponseBase:
        return await _part(c, await name_of(c, **values), show)

    async def raw(c: Context, stream: Stream, **values: object) -> None:
        await _raw(c, stream, await name_of(c, **values), show)

    public = getattr(topic, "login_required", True)  # what Django's login_not_required marks
    for handler in (log, part, raw):
        vars(handler)["login_required"] = public
    called = f"router.log({topic!r})" if isinstance(topic, str) else f"router.log({getattr(topic, '__qualname__', topic)})"
    return {
        "": set_signature(log, fields, "c", "stream", called=called),
        "range": type("log_range", (RangeView,), {"handle": staticmethod(set_signature(part, fields, "c", called=called))}),
        "raw": type("log_raw", (RawView,), {"handle": staticmethod(set_signature(raw, fields, "c", "stream", called=called))}),
    }


def part_of_log(path: str, part: str) -> str:
    """Return the path or URL of ``range`` or ``raw`` of a log at ``path``; ``path`` itself for ``""``."""
    return f"{path.rstrip('/')}/{part}/".removeprefix("/" if not path.strip("/") else "") if part else path


def _named(topic: LogTopicName) -> tuple[Callable[..., Awaitable[str]], list[str]]:
    if isinstance(topic, str):
        names = TopicNames(topic)

        async def name_of(c: Context, **values: object) -> str:
            return names.of(values)[0]

        return name_of, names.fields
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


# A part


async def _part(c: Context, topic: str, show: Map | None) -> HttpResponseBase:
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
        outage.failed(error, [topic])
        return c.json(error_body(503, UNREADABLE), status=503, headers={"Retry-After": str(RETRY_AFTER)})
    outage.recovered([topic])
    about: dict[str, Any] = {"content_type": "application/json", "headers": {"Cache-Control": "no-store"}}
    if any(len(record.event.data) > SLICE for record in page.records):
        return StreamingHttpResponse(_in_turns(_json_of(page, show)), **about)
    return HttpResponse("".join(_json_of(page, show)), **about)


async def _in_turns(pieces: Iterable[str]) -> AsyncIterator[bytes]:
    """Yield pieces as bytes, and let other tasks run after each long one."""
    for piece in pieces:
        yield piece.encode()
        if len(piece) >= SLICE:
            await asyncio.sleep(0)


def _json_of(page: Page, show: Map | None) -> Iterator[str]:
    """Yield the pieces of a page as JSON: the topic's state, and its records."""
    shown = [(record, record.event if show is None else show(record.event)) for record in page.records]
    about = {"epoch": page.epoch, "floor": page.floor, "top": page.top, "closed": page.closed}
    yield f'{encode_json(about)[:-1]},"records":['
    comma = ""
    for record, event in shown:
        if not isinstance(event, Event):
            continue
        head = {"offset": record.offset, "id": str(Position(page.epoch, record.offset)), "event": event.event}
        yield f'{comma}{encode_json(head)[:-1]},"data":'
        yield from json_slices(event.data)
        yield f',"at":{encode_json(record.at)}}}'
        comma = ","
    yield "]}"


def _number(query: Mapping[str, str], name: str, otherwise: int) -> int:
    text = query.get(name, "")
    if text == "":
        return otherwise
    if not re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) or abs(int(text)) > MAX_OFFSET:
        raise QueryInvalid(f"{name}={text[:40]!r} is not a whole number")
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
    """Yield the events that a topic holds now, and end there."""
    # The end is fixed at the beginning: a log that grows as fast as it is read would never end. Nor does one that begins anew.
    page = await log.aread_after(topic)
    epoch, top = page.epoch, page.top
    while page.records and page.epoch == epoch:
        for record in page.records:
            if record.offset > top:
                return
            yield record.event
        page = await log.aread_after(topic, page.records[-1].offset)


async def _text(frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines in the frames of our own stream. The id of a frame is its last line, and a blank line ends it."""
    # The stream is read as it was encoded, once for all its readers: making Events of it again would cost each reader anew.
    rest = b""
    async for chunk in frames:
        if len(chunk) > SLICE:
            await asyncio.sleep(0)
        *whole, rest = (rest + chunk).split(b"\n\n")
        ready: list[bytes] = []
        for frame in whole:
            head = _FRAME_HEAD.match(frame)
            name = head[1].decode() if head is not None and head[1] is not None else None
            if head is None or name not in LINE_EVENTS:
                continue
            start = head.end()
            last = frame.rfind(b"\n") + 1
            stop = last - 1 if frame.startswith(b"id: ", last) else len(frame)
            label = line_label(name, frame[start : min(start + HEAD, stop)].decode("utf-8", "replace")).encode()
            if len(frame) <= SLICE:
                ready += (label, frame[start:stop].replace(b"\ndata: ", b"\n"), b"\n")
                continue
            yield b"".join([*ready, label])
            ready = [b"\n"]
            while start < stop:  # a long one in steps, between which others have their turn
                end = frame.rfind(b"\n", start + 1, start + SLICE) if stop - start > SLICE else stop
                end = start + SLICE if end < 0 else end
                yield frame[start:end].replace(b"\ndata: ", b"\n")
                start = end
                await asyncio.sleep(0)
        if ready:
            yield b"".join(ready)
