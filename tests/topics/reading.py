"""Reading from a follower as the transport does: pull, and wait only where there is nothing."""

from __future__ import annotations

import asyncio

from django_agent_sse.eventlog.position import Position
from django_agent_sse.topics.batch import Batch
from django_agent_sse.topics.feed import Feed
from django_agent_sse.topics.follower import Finished, Follower, Gap, Start
from django_agent_sse.wire.decoder import Decoder
from django_agent_sse.wire.event import Event

PATIENCE = 60.0


async def after(feed: Feed, id: str, start: Start = "oldest") -> Follower:
    """A follower that comes back with an id, which is honoured."""
    follower = Follower(feed, start)
    assert await follower.resume(Position.parse(id)) is None
    return follower


class Taker:
    """Waits for one follower."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()

    def wake(self) -> None:
        self.woken.set()


def decoded(data: bytes) -> list[Event]:
    return list(Decoder().feed(data))


async def pulled(follower: Follower) -> Batch | Gap | Finished:
    """What comes next, however long that takes."""
    taker = Taker()
    while (found := follower.pull_shared() or follower.pull(taker)) is None:
        await taker.woken.wait()
        taker.woken.clear()
    return found


async def read(follower: Follower, within: float = PATIENCE) -> Batch | Gap | Finished:
    return await asyncio.wait_for(pulled(follower), within)


async def texts_until(follower: Follower, count: int) -> list[str]:
    """The next events, of which the ids must be contiguous."""
    found: list[str] = []
    while len(found) < count:
        batch = await read(follower)
        assert isinstance(batch, Batch), batch
        for event in decoded(batch.data):
            found.append(event.data)
        assert event.id == str(follower.position)
    return found


async def waits(follower: Follower) -> bool:
    """Whether nothing is there to read."""
    reading = asyncio.create_task(pulled(follower))
    for _ in range(20):
        await asyncio.sleep(0)
    if reading.done():
        return False
    reading.cancel()
    return True
