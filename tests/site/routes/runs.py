"""Runs that a test starts, leaves, stops and kills the process of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable

from django_agent_sse import Context, Event, Router
from django_agent_sse.contrib.wires import AI_SDK
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.runs.run import Run
from django_agent_sse.runs.wire import Wire, plain_headers
from tests.site.watch import notes

LEASE = 15.0
"""Of the run whose process is killed: a test waits for its end, and until then it outlasts a machine that stands still."""


def last(ending: RunEnding, events: Iterable[Event]) -> list[Event]:
    return [Event(f"[{ending}]")]


ENDS = Wire(name="ends", last=last, run_headers=plain_headers)
router = Router(app_name="runs")


@router.run("count/<slug:name>/", csrf_exempt=True, wire=ENDS, control_events=None)
async def count(c: Context, run: AsyncRun, name: str) -> None:
    """Numbers, one each ``pause`` seconds, ``most`` of them."""
    note = notes(c)
    note("started")
    try:
        for number in range(int(c.query.get("most", "1000000"))):
            await run.write(number)
            await asyncio.sleep(float(c.query.get("pause", "0.01")))
    except asyncio.CancelledError:
        note("cancelled")
        raise
    finally:
        await asyncio.sleep(0.05)
        note("finally")


@router.run("chat/<slug:name>/", csrf_exempt=True, wire=AI_SDK, lease=LEASE)
async def chat(c: Context, run: AsyncRun, name: str) -> None:
    """A text that is never ended."""
    for part in ({"type": "start"}, {"type": "text-start", "id": "t"}):
        await run.write(part)
    while True:
        await run.write({"type": "text-delta", "id": "t", "delta": "é"})
        await asyncio.sleep(0.01)


@router.run("block/<slug:name>/", csrf_exempt=True, wire=ENDS)
def block(c: Context, run: Run, name: str) -> None:
    """The same in a plain function."""
    note = notes(c)
    try:
        for number in range(1_000_000):
            run.write(number)
            time.sleep(0.01)
    finally:
        note("finally")


@router.sse("resumable/<slug:name>/", resumable=True)
async def resumable(c: Context, name: str) -> AsyncIterator[int]:
    """The same as a stream that is resumable."""
    for number in range(int(c.query.get("most", "100"))):
        yield number
        await asyncio.sleep(0.005)
