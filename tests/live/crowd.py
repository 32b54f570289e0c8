"""Many clients in one process that behave as an ``EventSource``: they come back with their last id, after what they were told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from .client import PATIENCE, _Body
from .parser import Parser, Received

AGAIN = 0.3
"""Seconds after which a client that was told nothing tries again."""


@dataclass(eq=False, slots=True)
class Member:
    """One client.

    Attributes:
        events: What it has had, of all its connections.
        connects: When each of its connections was asked for.
        ended: When each ended.
        refused: How often it was told to come back later, and by what.
        turned_away: When it asked for those of its connections that had nothing but that.
        untold: How many of its connections ended without a word of when to come back.
    """

    port: int
    path: str
    headers: dict[str, str]
    local: str = "127.0.0.1"
    comes_back: bool = True
    events: list[Received] = field(default_factory=list)
    connects: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    turned_away: list[float] = field(default_factory=list)
    untold: int = 0
    status: int | None = None
    told: int | None = None
    task: asyncio.Task[None] | None = None
    last_id: str = ""

    async def run(self) -> None:
        while True:
            self.connects.append(time.monotonic())
            self.told = None
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._listen()
            self.ended.append(time.monotonic())
            self.untold += self.told is None
            if not self.comes_back:
                return
            await asyncio.sleep(AGAIN if self.told is None else self.told / 1000)

    async def _listen(self) -> None:
        before = len(self.events)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.local, 0))
        try:
            sent = {"Host": "127.0.0.1", "Accept": "text/event-stream", **self.headers}
            if self.last_id:
                sent["Last-Event-ID"] = self.last_id
            lines = [f"GET /{self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
            writer.write("\r\n".join(lines).encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            self.status = int(head[0].split()[1])
            body = _Body({name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])})
            parser = Parser(_id=self.last_id)
            while not body.complete and (data := await reader.read(65_536)):
                for event in parser.feed(body.feed(data)):
                    self.last_id, self.told = event.id, parser.retry
                    if event.name == "sse.overloaded":
                        self.refused[event.data] += 1
                        if len(self.events) == before:
                            self.turned_away.append(self.connects[-1])
                    self.events.append(event)
        finally:
            writer.close()


class Crowd(list[Member]):
    """Clients of one server."""

    def join(self, port: int, path: str, count: int, **about: object) -> list[Member]:
        """Let so many more come, all at once."""
        headers = about.pop("headers", {})
        new = [Member(port, path, dict(headers), **about) for _ in range(count)]  # type: ignore[arg-type, call-overload]
        for member in new:
            member.task = asyncio.create_task(member.run())
        self += new
        return new

    def reconnects(self, after: float) -> Counter[int]:
        """How many came back in each second after a moment."""
        return Counter(int(at - after) for member in self for at in member.connects[1:] if at >= after)

    async def leave(self, members: Iterable[Member] | None = None) -> None:
        """All go, or these."""
        tasks = [member.task for member in (self if members is None else members) if member.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)


@asynccontextmanager
async def crowd() -> AsyncIterator[Crowd]:
    """Nobody stays when the block is left."""
    members = Crowd()
    try:
        yield members
    finally:
        await members.leave()


def in_any_second(times: Iterable[float]) -> int:
    """The most of these that fall into one second, wherever it begins."""
    ordered, most, first = sorted(times), 0, 0
    for number, at in enumerate(ordered):
        while ordered[first] <= at - 1:
            first += 1
        most = max(most, number - first + 1)
    return most
