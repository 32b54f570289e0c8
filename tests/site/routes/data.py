"""Handlers that use the ORM, a session and the user, before and after the response has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from asgiref.sync import sync_to_async
from django.contrib.auth.models import User

from django_agent_sse import Context, Router, Stream
from tests.site.gates import passed
from tests.site.watch import watched

router = Router(app_name="data")
CHUNK = 50
"""Rows of one fetch: far fewer than there are, so that the cursor must stay open between events."""


@router.sse("around/")
async def around(c: Context, stream: Stream) -> None:
    """Query before the response has begun, after it, and in a function run by ``sync_to_async``."""
    before = await User.objects.aget(username="user-000")
    await stream.write(before.username, event="before")
    await passed(c.query["key"])
    await stream.write(await User.objects.acount(), event="after")
    last = await sync_to_async(lambda: User.objects.order_by("pk").last())()
    await stream.write(last.username if last else None, event="sync")


@router.sse("aiterator/")
async def aiterator(c: Context, stream: Stream) -> None:
    """Every user, written while the rows are read."""
    async for user in User.objects.order_by("pk").aiterator(chunk_size=CHUNK):
        await stream.write(user.username)


@router.sse("iterator/")
def iterator(c: Context) -> Iterator[str]:
    """Every user, from a sync generator."""
    for user in User.objects.order_by("pk").iterator(chunk_size=CHUNK):
        yield user.username


@router.sse("paused/")
async def paused(c: Context, stream: Stream) -> None:
    """Read every user, with one pause of ``?seconds=`` on the way, and tell their number: no verb of the stream until then."""
    rows = 0
    async for _ in User.objects.order_by("pk").aiterator(chunk_size=CHUNK):
        rows += 1
        if rows == CHUNK:
            await asyncio.sleep(float(c.query["seconds"]))
    await stream.write(rows)


@router.sse("load/")
async def load(c: Context, stream: Stream) -> None:
    """A session and the ORM at the start, the ORM again behind a gate that many streams wait at, then idle."""
    async with watched(c, stream):
        user = await User.objects.aget(pk=c.user.pk)
        colour = await c.request.session.aget("colour")
        await stream.write({"user": user.username, "colour": colour})
        await passed(c.query["key"])
        await stream.write(await User.objects.acount())
        await stream.wait_closed()
