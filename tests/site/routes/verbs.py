"""Handlers for the K rows of the parity table."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

from django_agent_sse import Context, Router, Stream
from django_agent_sse.exceptions import StreamOverflow
from tests.site.gates import passed
from tests.site.watch import notes, watched

router = Router(app_name="verbs")


@router.sse("callbacks/", on_disconnect="continue")
async def callbacks(c: Context, stream: Stream) -> None:
    """Four abort callbacks, sync and async, one of which fails, and a fifth that comes late."""
    note = notes(c)

    @stream.on_abort
    def first() -> None:
        note("first")

    @stream.on_abort
    async def second() -> None:
        await asyncio.sleep(0.01)
        note("second")

    @stream.on_abort
    def failing() -> None:
        note("failing")
        raise RuntimeError("deliberate: a failing on_abort callback")

    stream.on_abort(lambda: note("third"))
    await stream.write("hello")
    if "finish" in c.query:
        return
    await stream.wait_closed()
    await passed(c.query["key"])
    stream.on_abort(lambda: note("late"))
    await asyncio.sleep(0)
    note("over")


@router.sse("flags/", on_disconnect="continue")
async def flags(c: Context, stream: Stream) -> None:
    """Record the flags while open and after the end, however it came."""
    note = notes(c)
    note("open", closed=stream.closed, aborted=stream.aborted)
    await stream.write("hello")
    if "finish" in c.query:
        stream.close()
    else:
        await stream.wait_closed()
    note("over", closed=stream.closed, aborted=stream.aborted)


@router.sse("pipes/")
async def pipes(c: Context, stream: Stream) -> None:
    """Everything that can be piped, then ``sleep`` and ``writeln``."""

    async def tokens() -> AsyncIterator[str]:
        for token in ("a", "b"):
            await asyncio.sleep(0)
            yield token

    await stream.pipe(tokens(), event="token")
    await stream.pipe(iter(["c", "d"]), event="sync")
    await stream.pipe(io.StringIO("line one\nline two\n"), event="file")
    await stream.sleep(0.3)
    await stream.writeln("a line", event="line")


@router.sse("timer/")
async def timer(c: Context, stream: Stream) -> None:
    """A timer writes and closes while the handler waits."""
    loop = asyncio.get_running_loop()
    for number in range(3):
        loop.call_later(0.02 * number, stream.write, f"tick {number}")
    loop.call_later(0.1, stream.close)
    await stream.wait_closed()


@router.sse("tasks/")
async def tasks(c: Context, stream: Stream) -> None:
    """Five tasks write events of several lines, all at once."""

    async def writer(name: str) -> None:
        for number in range(50):
            await stream.write("\n".join([f"{name}{number}"] * 4), event=name)

    await asyncio.gather(*(writer(name) for name in "abcde"))


@router.sse("overflow/")
async def overflow(c: Context, stream: Stream) -> None:
    """Write without awaiting until that is refused."""
    number = 0
    try:
        while number < 10_000:
            stream.write(number)
            number += 1
    except StreamOverflow:
        notes(c)("refused", number=number)


async def apologise(c: Context, stream: Stream, exception: Exception) -> None:
    """A route's ``on_error``: record, and write a last event."""
    notes(c)("route hook", error=repr(exception))
    await stream.write("sorry", event="apology")


async def record_error(c: Context, stream: Stream, exception: Exception) -> None:
    """A router's ``on_error``."""
    notes(c)("router hook", error=repr(exception))


hooked = Router(on_error=record_error)


@router.sse("hooked-route/", on_error=apologise)
@hooked.sse("hooked-router/")
async def breaks(c: Context, stream: Stream) -> None:
    """Raise after the first write."""
    async with watched(c, stream):
        await stream.write("hello")
        raise LookupError("deliberate: for the error hook")


router.include(hooked)
