"""A proxy, on a thread of this process, that breaks answers off where a test says, and remembers what was asked and passed on."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.timing import LONG

TABLE = Path("/proc/net/tcp")
LOOK_SECONDS = 0.02
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where an answer is broken off: after so many whole events, and at a place in the next one."""

    events: int
    place: int = 0

    def within(self, event: bytes) -> int:
        """How many bytes of that event go through."""
        size = len(event)
        sixths = (1 + (size - 2) * part // 6 for part in (1, 2, 4, 5))
        return (0, 1, *sixths, size // 2, size // 2 + 1, event.rfind(b"\nid:") + 1, size - 1)[self.place]


PLACES = range(1, 10)
"""In an event: after its first byte, at its sixths, in its middle twice, before its id, before its last line end."""
HEAD = Cut(-1)
"""The server has answered, and its client gets nothing of that."""


def cuts(events: int, inside: int = 1) -> list[Cut]:
    """All cuts of an answer of so many events: the last one is between the last event and the end of the body.

    In the short form each event is cut before it and at ``inside`` places in it, at others in the next one.
    """
    found = []
    for event in range(events):
        some = PLACES if LONG else (PLACES[(event * inside + number) % len(PLACES)] for number in range(inside))
        found += [Cut(event, place) for place in (0, *some)]
    return [*found, Cut(events)]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its method, its path with the query, its ``Last-Event-ID``, and the status of its answer."""

    method: str
    path: str
    last_event_id: str | None
    status: int


@dataclass(slots=True, kw_only=True)
class Plan:
    """What becomes of the requests of one client, and what has become of them.

    Attributes:
        cut: Where the next answer is broken off.
        every: Each answer is, and not the next one alone.
        clean: As if the answer ended there.
        first: The address of another server, which gets the next request.
        asked: Its requests.
        bodies: What it got of each streamed body.
    """

    cut: Cut | None = None
    every: bool = False
    clean: bool = False
    first: str | None = None
    asked: list[Asked] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def passed(self) -> bytes:
        """What it got of the first one, which is the one that was cut."""
        return self.bodies[0]


class Proxy:
    """A proxy before a server. Requests belong to the plan that they name by ``X-Plan``, or somewhere in their path or query.

    Attributes:
        url: Its own address.
        origin: That of the server.
        plans: By their names.
    """

    def __init__(self, origin: str) -> None:
        self.url, self.origin = "", origin
        self.plans = {"": Plan()}
        self._table = (b"", 0.0)

    def plan(self, name: str, **about: Any) -> Plan:
        """Plan what becomes of the next requests with this name."""
        plan = self.plans[name] = Plan(**about)
        return plan

    def _plan_of(self, headers: Mapping[str, str], path: str) -> Plan:
        names = [headers.get("x-plan", ""), *re.split("[/?&=]", path)]
        return self.plans[next((name for name in names if name and name in self.plans), "")]

    async def serve(self, client: Streams) -> None:
        """Pass one request on."""
        head, _, body = (await client[0].readuntil(b"\r\n\r\n")).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        body += await client[0].readexactly(int(headers.get("content-length", "0")))
        plan = self._plan_of(headers, lines[0].split(" ")[1])
        where, plan.first = urlsplit(plan.first or self.origin), None
        theirs, ours = await asyncio.open_connection(where.hostname, where.port)
        try:
            # What a test cuts and counts are events; others have what they take.
            dropped = ("connection:", "accept-encoding:") if plan is not self.plans[""] else ("connection:",)
            kept = [line for line in lines if not line.lower().startswith(dropped)]
            ours.write("\r\n".join([*kept, "Connection: close", "", ""]).encode("latin-1") + body)
            answer = await theirs.readuntil(b"\r\n\r\n")
            plan.asked.append(Asked(*lines[0].split(" ")[:2], headers.get("last-event-id"), int(answer.split(b" ")[1])))
            cut, plan.cut = plan.cut, plan.cut if plan.every else None
            if cut == HEAD:
                return
            client[1].write(answer)
            if b"transfer-encoding: chunked" in answer.lower():
                await self._pass(plan, cut, theirs, client[1])
            else:
                client[1].write(await theirs.read())
        finally:
            ours.close()

    async def _pass(self, plan: Plan, cut: Cut | None, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on each event as a chunk, up to the cut; the end of the coding is told of what was not cut, or cleanly."""
        plan.bodies.append(b"")
        place, number = len(plan.bodies) - 1, 0
        if cut != Cut(0):
            async for event in _events(theirs):
                part = event[: cut.within(event)] if cut and number == cut.events else event
                plan.bodies[place] += part
                size = len(part if plan.clean else event)
                if part:
                    writer.write(b"%x\r\n%b" % (size, part) + (b"\r\n" if size == len(part) else b""))
                await writer.drain()
                number += 1
                if cut and (number > cut.events or Cut(number) == cut):
                    break
            else:
                writer.write(b"0\r\n\r\n")
                return
        if plan.clean:
            writer.write(b"0\r\n\r\n")
        await self._until_read(writer)

    async def _until_read(self, writer: asyncio.StreamWriter) -> None:
        """Wait until a client has what was sent, or has left: Node.js drops what it has not read when it sees the cut."""
        (_, theirs), (_, ours) = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        row = re.compile(rb": 0100007F:%04X 0100007F:%04X \w\w \w{8}:(\w{8})" % (theirs, ours))
        clock = asyncio.get_running_loop().time
        written = clock()
        while True:
            if self._table[1] <= written:  # one look is for all that wait for it
                now = clock()
                self._table = TABLE.read_bytes(), now
            found = row.search(self._table[0])
            if found is None or int(found[1], 16) == 0:
                return
            written = clock()
            await asyncio.sleep(LOOK_SECONDS)


async def _events(theirs: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the events of a chunked body, and what comes after the last one; one that is broken off has no end here either."""
    rest = b""
    while size := int((await theirs.readuntil(b"\n")).strip(), 16):
        *events, rest = (rest + (await theirs.readexactly(size + 2))[:-2]).split(b"\n\n")
        for event in events:
            yield event + b"\n\n"
    if rest:
        yield rest


async def _run(proxy: Proxy, ready: Future[Callable[[], object]]) -> None:
    over, tasks = asyncio.Event(), set[asyncio.Task[None]]()

    async def serve(client: Streams) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await proxy.serve(client)
        finally:
            client[1].close()

    def connected(*client: Any) -> None:
        """Begin no task once it is over: nobody would wait for it."""
        if over.is_set():
            client[1].transport.abort()
            return
        tasks.add(task := asyncio.create_task(serve(client)))
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    ready.set_result(partial(asyncio.get_running_loop().call_soon_threadsafe, over.set))
    await over.wait()
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def proxying(origin: str) -> Iterator[Proxy]:
    """Run the proxy."""
    proxy, ready = Proxy(origin), Future[Callable[[], object]]()
    thread = threading.Thread(target=lambda: asyncio.run(_run(proxy, ready)))
    thread.start()
    end = ready.result(30)
    try:
        yield proxy
    finally:
        end()
        thread.join()
