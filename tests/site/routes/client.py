"""For the JavaScript client: streams that go on after the last id, whatever has happened in between."""

from __future__ import annotations

import asyncio

from django_agent_sse import Context, Router, Stream
from tests.site.watch import notes, watched

router = Router(app_name="client")


@router.sse("numbers/", retry=100)
async def numbers(c: Context, stream: Stream) -> None:
    """The numbers up to ``?to=``, each with itself as its id, one in 10 ms."""
    async with watched(c, stream):
        for number in range(int(c.last_event_id or 0) + 1, int(c.query["to"]) + 1):
            await stream.write({"number": number}, event="number", id=str(number))
            await asyncio.sleep(0.01)


async def nobody(c: Context) -> bool:
    """A guard that lets nobody in."""
    notes(c)("guard")
    return False


@router.sse("forbidden/", guards=[nobody])
async def forbidden(c: Context, stream: Stream) -> None:
    """Never runs."""


@router.sse("headers/")
async def headers(c: Context, stream: Stream) -> None:
    """What the client sent."""
    await stream.write({"accept": c.header("Accept"), "token": c.header("X-Token"), "cookies": bool(c.request.COOKIES)})
