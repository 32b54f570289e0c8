"""A proxy between the log and its server that loses, doubles, delays, cuts and stalls. It knows bytes, and where a reply ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PUSHED = b"*3\r\n$7\r\nmessage\r\n"
"""How a reply begins that nobody has asked for."""


def frame_end(data: bytes | bytearray, start: int = 0) -> int | None:
    """Where the reply that begins at ``start`` ends; ``None`` where it is not whole yet."""
    line = data.find(b"\r\n", start)
    if line < 0:
        return None
    kind, end = data[start : start + 1], line + 2
    if kind == b"$":
        size = int(data[start + 1 : line])
        end += size + 2 if size >= 0 else 0
        return end if end <= len(data) else None
    for _ in range(int(data[start + 1 : line]) if kind == b"*" else 0):
        inner = frame_end(data, end)
        if inner is None:
            return None
        end = inner
    return end


@dataclass
class Faults:
    """What to do, in shares of the pushed messages; changed while it runs.

    Attributes:
        lose: Dropped.
        double: Sent twice.
        delay: Sent after others that came later, up to ``late`` seconds.
        lost, doubled, delayed, cuts: How often that was done.
    """

    lose: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    late: float = 0.2
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    lost: int = 0
    doubled: int = 0
    delayed: int = 0
    cuts: int = 0


class Proxy:
    """Listens on ``port``, and speaks to a server on ``target``; any thread may use it.

    Attributes:
        commands: The client's bytes so far, by connection: nothing is done to them.
    """

    def __init__(self, port: int, target: int) -> None:
        self.faults = Faults()
        self.port, self.target = port, target
        self.stalled_until = 0.0
        self.refuses = False
        self._pushed: set[asyncio.StreamWriter] = set()
        self._all: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self, *, everything: bool = False) -> None:
        """Close the connections that have been pushed to, or that subscribed; or all of them."""
        self._loop.call_soon_threadsafe(self._cut, everything)

    def stall(self, seconds: float) -> None:
        """Pass nothing on that is pushed, for so long; everything comes after that."""
        self.stalled_until = time.monotonic() + seconds

    def close(self) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _cut(self, everything: bool) -> None:
        for writer in tuple(self._all if everything else self._pushed):
            self.faults.cuts += 1
            writer.transport.abort()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in tuple(self._all):
            writer.transport.abort()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        self._all.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
            try:
                sides = (self._up(reader, up_writer, writer), self._down(up_reader, writer))
                _, rest = await asyncio.wait([asyncio.ensure_future(side) for side in sides], return_when="FIRST_COMPLETED")
                for task in rest:
                    task.cancel()
                await asyncio.gather(*rest, return_exceptions=True)
            finally:
                up_writer.transport.abort()
        except OSError:
            pass
        finally:
            self._all.discard(writer)
            self._pushed.discard(writer)
            writer.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, up: asyncio.StreamWriter, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if b"SUBSCRIBE" in data:
                    self._pushed.add(writer)
                up.write(data)
                await up.drain()

    async def _down(self, up: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held = bytearray()
        with contextlib.suppress(OSError):
            while data := await up.read(65_536):
                held += data
                start = 0
                while start < len(held) and (end := frame_end(held, start)) is not None:
                    await self._pass(bytes(held[start:end]), writer)
                    start = end
                del held[:start]
                await writer.drain()

    async def _pass(self, frame: bytes, writer: asyncio.StreamWriter) -> None:
        faults = self.faults
        if not frame.startswith(PUSHED):
            writer.write(frame)
            return
        self._pushed.add(writer)
        if (wait := self.stalled_until - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        dice = faults.chance.random()
        if dice < faults.lose:
            faults.lost += 1
        elif dice < faults.lose + faults.double:
            faults.doubled += 1
            writer.write(frame + frame)
        elif dice < faults.lose + faults.double + faults.delay:
            faults.delayed += 1
            self._loop.call_later(faults.chance.uniform(0, faults.late), writer.write, frame)
        else:
            writer.write(frame)


@contextmanager
def proxy(port: int, target: int) -> Iterator[Proxy]:
    """A proxy until the test is over."""
    made = Proxy(port, target)
    try:
        yield made
    finally:
        made.close()
