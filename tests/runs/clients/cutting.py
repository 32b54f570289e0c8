"""A proxy, on a thread of this process, that cuts responses after so many bytes of their body, and remembers what was asked."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

READ_SECONDS = 0.05
"""Within which a client reads what was sent before a cut: Node.js drops what it has not read when it sees the cut."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its line, its ``Last-Event-ID``, and the status of its answer."""

    line: str
    last_event_id: str | None
    status: int


@dataclass(slots=True)
class Proxy:
    """A proxy before a server. What it shall do is told by a name that stands somewhere in the path or its query.

    Attributes:
        url: Its own address.
        cuts: The bytes of the body, without frames of the coding, after which the next response is cut, by the name.
        first: Another server that gets the next request, by the name.
        asked: What was asked, by the name.
        bodies: What went through before the cut.
    """

    url: str = ""
    cuts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    asked: defaultdict[str, list[Asked]] = field(default_factory=lambda: defaultdict(list))
    bodies: dict[str, bytes] = field(default_factory=dict)

    def name_of(self, path: str) -> str:
        """The part of a path that was planned with."""
        return next((part for part in re.split("[/?&=]", path) if part in self.asked), "")

    def plan(self, name: str, *, cut: int | None = None, first: str | None = None) -> None:
        """Remember what is asked with this name; cut its next response, or let another server answer that."""
        self.asked[name].clear()
        if cut is not None:
            self.cuts[name] = cut
        if first is not None:
            self.first[name] = first


async def _serve(proxy: Proxy, origin: str, client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    reader, writer = client
    head, _, body = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    name = proxy.name_of(lines[0].split(" ")[1])
    body += await reader.readexactly(int(headers.get("content-length", "0")))
    kept = [line for line in lines if not line.lower().startswith("connection:")]
    where = urlsplit(proxy.first.pop(name, origin))
    theirs, ours = await asyncio.open_connection(where.hostname, where.port)
    try:
        ours.write("\r\n".join([*kept, "Connection: close", "", ""]).encode("latin-1") + body)
        answer = await theirs.readuntil(b"\r\n\r\n")
        proxy.asked[name].append(Asked(lines[0], headers.get("last-event-id"), int(answer.split(b" ")[1])))
        writer.write(answer)
        cut = proxy.cuts.pop(name, None)
        chunked = b"transfer-encoding: chunked" in answer.lower()
        await (_cut(proxy, name, cut, theirs, writer) if chunked and cut is not None else _whole(theirs, writer))
    finally:
        ours.close()


async def _whole(theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await theirs.read(65536):
        writer.write(data)
        await writer.drain()


async def _cut(proxy: Proxy, name: str, left: int, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on so many bytes of the body; the end of the coding is never told."""
    sent = b""
    while left and (size := int((await theirs.readline()).strip() or b"0", 16)):
        data = (await theirs.readexactly(size + 2))[:size][:left]
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await writer.drain()
        left -= len(data)
        sent += data
    proxy.bodies[name] = sent
    await asyncio.sleep(READ_SECONDS)


@contextmanager
def proxying(origin: str) -> Iterator[Proxy]:
    """Run the proxy."""
    proxy = Proxy()
    ready, over = threading.Event(), asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await _serve(proxy, origin, (reader, writer))
        finally:
            writer.close()

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await over.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(30)
        yield proxy
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join()
