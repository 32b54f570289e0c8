"""Handlers that stay: what happens to them when the client leaves, dawdles or the server ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

from django_agent_sse import Context, Router, Stream
from django_agent_sse.exceptions import AgentSSEError
from tests.site.gates import passed
from tests.site.watch import notes, watched

router = Router(app_name="life")


@router.sse("idle/")
async def idle(c: Context, stream: Stream) -> None:
    """One event, then nothing more, for ever."""
    async with watched(c, stream):
        await stream.write("hello")
        await asyncio.Event().wait()


async def takes_its_time(c: Context) -> bool:
    """A guard that lets everybody in, some seconds later."""
    notes(c)("asked")
    await asyncio.sleep(float(c.query["seconds"]))
    return True


@router.sse("guarded/", guards=[takes_its_time])
async def guarded(c: Context, stream: Stream) -> None:
    """The same, for whoever the guard has let in."""
    await idle(c, stream)


@router.sse("silent/", commit_after=60)
async def silent(c: Context, stream: Stream) -> None:
    """Nothing at all: the response does not even begin."""
    async with watched(c, stream):
        await asyncio.Event().wait()


@router.sse("tidies/")
async def tidies(c: Context, stream: Stream) -> None:
    """One event, then nothing; its cleanup takes a second, and what it runs at the end a moment."""

    @stream.on_end
    async def tidy_up() -> None:
        await asyncio.sleep(0.1)

    async with watched(c, stream) as note:
        try:
            await stream.write("hello")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            note("tidied")


@router.sse("outlives/", on_disconnect="continue")
async def outlives(c: Context, stream: Stream) -> None:
    """One event, then work that goes on when the client has left."""
    async with watched(c, stream) as note:
        await stream.write("hello")
        await stream.wait_closed()
        note("goes on")
        await asyncio.Event().wait()


@router.sse("waits/")
async def waits(c: Context, stream: Stream) -> None:
    """Keep the connection open as the reference does it; ``wait_closed()`` returns when the transport is over."""
    async with watched(c, stream) as note:
        await stream.write("hello")
        await stream.wait_closed()
        note("wait_closed", closed=stream.closed, aborted=stream.aborted)


@router.sse("waits-and-continues/", on_disconnect="continue")
async def waits_and_continues(c: Context, stream: Stream) -> None:
    """Outlive the client: writes are dropped and say so."""
    async with watched(c, stream) as note:
        await stream.write("hello")
        await stream.wait_closed()
        note("wait_closed", closed=stream.closed, aborted=stream.aborted, written=await stream.write("nobody reads this"))


@router.sse("slim/", slim=True)
async def slim(c: Context, stream: Stream) -> None:
    """Lets go of the request while it streams."""
    key = c.query["key"]
    async with watched(c, stream):
        await stream.write("hello")
        await passed(key)
        try:
            await stream.write(c.request.path)
        except AgentSSEError:
            await stream.write("let go")
        await stream.wait_closed()


@router.sse("busy/")
async def busy(c: Context, stream: Stream) -> None:
    """An event every 5 ms."""
    async with watched(c, stream):
        number = 0
        while True:
            number += 1
            await stream.write(number)
            await asyncio.sleep(0.005)


@router.sse("ticks/")
async def ticks(c: Context, stream: Stream) -> None:
    """An event every 10 ms, each recorded once its write has returned."""
    async with watched(c, stream) as note:
        number = 0
        while True:
            number += 1
            await stream.write(number)
            note("wrote", number=number)
            await asyncio.sleep(0.01)


@router.sse("forever/")
async def forever(c: Context, stream: Stream) -> None:
    """Write, and await nothing else."""
    async with watched(c, stream):
        number = 0
        while True:
            number += 1
            await stream.write(number)


@router.sse("generates/")
async def generates(c: Context) -> AsyncIterator[str]:
    """An async generator that stays after its first event."""
    note = notes(c)
    note("started")
    try:
        yield "hello"
        await asyncio.Event().wait()
    finally:
        note("finally")


@router.sse("iterates/")
def iterates(c: Context) -> Iterator[str]:
    """A sync generator that stays: it holds a thread."""
    note = notes(c)
    note("started")
    try:
        while True:
            yield "hello"
            time.sleep(0.05)
    finally:
        note("finally")


@router.sse("flood/")
async def flood(c: Context, stream: Stream) -> None:
    """``?megabytes=``: so much data in events of 1 KiB; the progress of each 256 KiB is recorded."""
    line = "x" * 1016
    async with watched(c, stream) as note:
        for number in range(int(c.query["megabytes"]) * 1024):
            await stream.write(f"{number:08}{line}")
            if number % 256 == 0:
                note("progress", number=number)
        note("finished")


@router.sse("beats/", heartbeat=1)
async def beats(c: Context, stream: Stream) -> None:
    """Nothing but heartbeats."""
    async with watched(c, stream):
        await stream.wait_closed()


@router.sse("limited/", max_duration=0.5)
async def limited(c: Context, stream: Stream) -> None:
    """A stream that may be open for half a second."""
    async with watched(c, stream):
        await stream.write("hello")
        await asyncio.Event().wait()


async def apologise(c: Context, stream: Stream, error: BaseException) -> None:
    """The last event of ``fails``, in a dialect of its own."""
    await stream.write("sorry", event="failed")


@router.sse("fails/", methods=["GET", "POST"], csrf_exempt=True, on_error=apologise)
async def fails(c: Context, stream: Stream) -> None:
    """Raise after a first event: ``?exit=1`` what would end the process."""
    async with watched(c, stream):
        await stream.write("hello")
        raise SystemExit(2) if c.query.get("exit") else ValueError("deliberate")


@router.sse("stepwise/")
@router.sse("stepwise-compressed/", compress=True)
async def stepwise(c: Context, stream: Stream) -> None:
    """Four events, each written only after the test has seen the one before."""
    async with watched(c, stream):
        for number in range(1, 5):
            await stream.write(number)
            await passed(f"{c.query['key']}-{number}")
