"""Handlers for the A rows of the parity table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from django_agent_sse import Context, Event, Router, Stream
from tests.site.gates import passed
from tests.site.watch import notes, watched

router = Router(app_name="parity")


@router.sse("async-work/")
async def async_work(c: Context, stream: Stream) -> None:
    """Consume another async stream, then tell its result."""

    async def upstream() -> AsyncIterator[str]:
        for word in ("async", "work", "done"):
            await asyncio.sleep(0.005)
            yield word

    await stream.write(" ".join([word async for word in upstream()]))


@router.sse("order/")
async def order(c: Context, stream: Stream) -> None:
    """Record each step; between the two events, wait until the test has seen the first."""
    note = notes(c)
    note("start")
    await asyncio.sleep(0)
    note("work")
    await stream.write("first")
    note("write")
    await passed(c.query["key"])
    await stream.write("last")
    note("close")
    stream.close()


@router.sse("fails/")
async def fails(c: Context, stream: Stream) -> None:
    """Raise after the first write."""
    async with watched(c, stream):
        await stream.write("started", event="start")
        raise ValueError("a secret of the server")


@router.sse("returns/")
def returns(c: Context) -> Callable[[Stream], Awaitable[None]]:
    """The reference's spelling: a factory whose handler returns without ``close()``."""

    async def handler(stream: Stream) -> None:
        async with watched(c, stream):
            await stream.write("only")

    return handler


@router.sse("closes/")
async def closes(c: Context, stream: Stream) -> None:
    """Close as often as the query says; the code after it still runs."""
    async with watched(c, stream) as note:
        note("before-write")
        await stream.write("only")
        note("after-write")
        for _ in range(int(c.query.get("times", "1"))):
            stream.close()
        await asyncio.sleep(0.02)
        note("after-close")


@router.sse("closes-and-stays/", close_grace=0.2)
async def closes_and_stays(c: Context, stream: Stream) -> None:
    """Wait for ever after ``close()``."""
    async with watched(c, stream):
        await stream.write("only")
        stream.close()
        await asyncio.Event().wait()


@router.sse("deferred/")
async def deferred(c: Context, stream: Stream) -> None:
    """Defer two jobs to the end, one of them async; raise if the query says so."""
    note = notes(c)

    async def save() -> None:
        await asyncio.sleep(0)
        note("saved", error=repr(stream.error))

    stream.on_end(save)
    async with watched(c, stream):
        await stream.write("only")
        if "raise" in c.query:
            raise RuntimeError("deliberate")


@router.sse("values/")
async def values(c: Context, stream: Stream) -> None:
    """Write one value of each kind."""
    for value in ("hello", 42, True, None, {"a": [1, "ü"]}, ["x", 2.5], b"bytes"):
        await stream.write(value)
    await stream.write(Event("from an Event", event="typed", id="e1"))
    await stream.write("named", event="label", id="e2")


@router.sse("lines/")
async def lines(c: Context, stream: Stream) -> None:
    """One event with every field."""
    await stream.write_sse(data="one\ntwo", event="update", id="7", retry=5000)


@router.sse("variables/")
async def variables(c: Context, stream: Stream) -> None:
    """Tell what a middleware set."""
    await stream.write(c.var.stamp)


@router.sse("count/")
async def count(c: Context, stream: Stream) -> None:
    """``?count=&delay=``: so many JSON events, so many seconds apart."""
    for number in range(1, int(c.query["count"]) + 1):
        await stream.write({"n": number})
        await asyncio.sleep(float(c.query.get("delay", "0")))


@router.sse("named/")
async def named(c: Context, stream: Stream) -> None:
    """Three named events with JSON data."""
    for number, name in enumerate(("start", "update", "complete")):
        await stream.write_sse(event=name, data=json.dumps({"step": number}))


@router.sse("burst/")
async def burst(c: Context, stream: Stream) -> None:
    """Write 200 events without awaiting one, and return."""
    for number in range(200):
        stream.write(number)
