"""The text of a log, a line for each line: what ``raw/`` sends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import ClassVar

from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase

from .encoding import SLICE
from .eventlog.backend import event_log
from .eventlog.base import REPLAY_EVENTS, EventLog
from .eventlog.position import Position
from .log_parts import flag
from .streams.context import Context
from .streams.replays import replays_here
from .streams.stream import Stream
from .streams.topic_access import check_follow_access
from .streams.topic_source import Map
from .streams.transport import UNFINISHED
from .views import SSEView
from .wire import Event
from .wire.log_lines import LINE_EVENTS, line_label
from .wire.redraws import REPLACE, Redraw, Settled, Source, redraw_of

HEAD = 4_096
"""Bytes of a line in which its level is looked for."""
_FRAME_HEAD = re.compile(rb"(?::[^\n]*\n)*(?:event: ([^\n]*)\n)?(?:retry: [0-9]+\n)?data: ")
"""How a frame of our own begins: comments before it, and its fields in the order of `wire.encoder`."""
_TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}


class RawView(SSEView):
    """The text of a log: what the stream sends, a line for each line. It ends as the stream does."""

    opens_in_tab: ClassVar[bool] = True

    def _wrap_response(self, response: HttpResponseBase) -> HttpResponseBase:
        for name, value in _TEXT.items():
            response.headers[name] = value
        if isinstance(response, StreamingHttpResponse):
            response.streaming_content = _text(response.streaming_content)  # type: ignore[arg-type]
        return response


async def raw_text(c: Context, stream: Stream, topic: str, show: Map | None) -> None:
    download = flag(c.query, "download", False)
    follows = flag(c.query, "follow", not download)
    if download:
        c.set_header("Content-Disposition", f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]+", "-", topic)}.log"')
    await check_follow_access(c, [topic])
    place = None
    if not (follows and c.last_event_id):
        settled: Settled[None] = Settled()  # what was drawn again stands here once
        async for event, place in _until_now(event_log(), topic):  # noqa: B007
            if isinstance(shown := event if show is None else show(event), Event):
                for line, _ in settled.feed(shown, None):
                    await stream.write(line)
        for line, _ in settled.rest():
            await stream.write(line)
        for source, draft in settled.drafts.items():
            await stream.write(Redraw(0, draft).event(source))
    if follows:
        await stream.follow(topic, map=show, after=place)


async def _until_now(log: EventLog, topic: str) -> AsyncIterator[tuple[Event, str]]:
    """Yield the events that a topic holds now, each with the position after it, and end there."""
    # The end is fixed at the beginning: a log that grows as fast as it is read would never end. Nor does one that begins anew.
    page = await log.aread_after(topic, 0, REPLAY_EVENTS)
    epoch, top = page.epoch, page.top
    while page.records and page.epoch == epoch:
        await replays_here().paced(sum(len(record.event.data) for record in page.records))
        for record in page.records:
            if record.offset > top:
                return
            yield record.event, str(Position(epoch, record.offset, record.nonce))
        page = await log.aread_after(topic, page.records[-1].offset, REPLAY_EVENTS)


async def _text(frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines in the frames of our own stream, and at its end a draft that was never finished."""
    drafts: dict[Source, str] = {}
    try:
        async for piece in _lines(frames, drafts):
            yield piece
    except (Exception, UNFINISHED):  # the response is broken off
        task = asyncio.current_task()
        if (left := _left(drafts)) and task is not None and not task.cancelling():  # not by its client
            yield left
        raise
    if left := _left(drafts):
        yield left


def _left(drafts: dict[Source, str]) -> bytes:
    return "".join(f"{draft}\n" for draft in drafts.values() if draft).encode()


async def _lines(frames: AsyncIterator[bytes], drafts: dict[Source, str]) -> AsyncIterator[bytes]:
    """Yield the lines in frames. The id of a frame is its last line, and a blank line ends it."""
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
            if name == REPLACE and head is not None and (said := _redraw(frame, head.end())) is not None:
                drafts[said[0]] = said[1].text
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


def _redraw(frame: bytes, start: int) -> tuple[Source, Redraw] | None:
    data, _, last = frame[start:].rpartition(b"\nid: ")
    return redraw_of(REPLACE, (data or last).decode("utf-8", "replace"))
