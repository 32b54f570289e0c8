"""The log of one build: a topic, in which line 17 is the event at offset 17."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Literal

from django_agent_sse import Event, Topic, event_log

PREFIX = "builds."
BATCH = 0.05
"""Seconds between two appends: what is printed meanwhile goes into one."""
MOST = 2000
"""Lines that wait for an append; a build that prints faster is held up."""

Source = Literal["stdout", "stderr"]


class BuildLog:
    """Publishes what a build prints, in order.

    Attributes:
        top: How many lines it printed.
    """

    def __init__(self, build_id: int) -> None:
        self.topic = topic_of(build_id)
        self.top = 0
        self._waiting: list[Event] = []
        self._publishing = asyncio.Lock()
        self._later: asyncio.Task[None] | None = None

    async def extend(self, source: Source, texts: Sequence[str]) -> None:
        """Publish these lines soon; waits where too many wait already."""
        self._waiting += [Event(text, event=source) for text in texts]
        self.top += len(texts)
        if len(self._waiting) >= MOST:
            await self.flush()
        elif self._waiting and (self._later is None or self._later.done()):
            self._later = asyncio.create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await self.flush()
        await asyncio.sleep(BATCH)  # the first line goes at once, what comes behind it together
        await self.flush()

    async def flush(self) -> None:
        """Publish what waits."""
        async with self._publishing:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await self.topic.apublish_many(batch)


def topic_of(build_id: int) -> Topic:
    """The topic of a build's lines, and of nothing else."""
    return Topic(f"{PREFIX}{build_id}")


async def lines_of(topic: str) -> AsyncIterator[tuple[int, str]]:
    """The number and the text of each line that is kept."""
    log, after = event_log(), 0
    while records := (await log.aread_after(topic, after)).records:
        for record in records:
            yield record.offset, record.event.data
        after = records[-1].offset
