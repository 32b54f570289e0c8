"""For the JavaScript client: streams that go on after the last id, whatever has happened in between."""

from __future__ import annotations

import asyncio
import uuid

from django.http import HttpRequest, JsonResponse

from django_agent_sse import Context, Router, Stream, aclose_topic, apublish_many
from tests.site.gates import passed
from tests.site.watch import notes, watched

router = Router(app_name="client")
TICK = 0.02
talking: set[asyncio.Task[None]] = set()


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


@router.sse("private/")
async def private(c: Context, stream: Stream) -> None:
    """Numbers whose ids no other connection has, and which cannot be gone on with."""
    mine, number = uuid.uuid4().hex, 0
    while True:
        number += 1
        await stream.write(number, id=f"{mine}.{number}")
        await asyncio.sleep(TICK)


async def talk(request: HttpRequest, topic: str) -> JsonResponse:
    """Publish numbers, one each ``TICK``, until the gate of the topic's name is opened; close it with how many there were."""
    task = asyncio.create_task(_talk(topic))
    talking.add(task)
    task.add_done_callback(talking.discard)
    return JsonResponse({})


async def _talk(topic: str) -> None:
    gate = asyncio.create_task(passed(topic))
    count = 0
    while not gate.done():
        await apublish_many(topic, [str(count)])
        count += 1
        await asyncio.sleep(TICK)
    await aclose_topic(topic, str(count))
