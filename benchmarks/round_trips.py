"""What a user waits for its own message, by way of the log and perhaps another process: the load that Solid Cable measures.

::

    python benchmarks/round_trips.py                                      # 100 and 750 users on SQLite, PostgreSQL and Redis
    python benchmarks/round_trips.py --users 100 --databases sqlite --seconds 30

As ``bench/loadtest.js`` of Solid Cable has it (``ramp``): users come over a third of the time until a quarter are there, then
until all are, and go in the last twelfth. Each opens a stream, sends five messages and reads each back from the stream, waits
half a second to a second after each, and begins anew. A time begins before the message is sent, here a POST, there a frame of
a WebSocket. The server is uvicorn with two workers and Django's default middleware; clients are one process of this machine.
PostgreSQL and Valkey come with the test extra.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.harness.plot import point  # noqa: E402
from tests.services import free_port, running_postgres, running_redis  # noqa: E402

NAMES = {"sqlite": "SQLite", "postgres": "PostgreSQL", "redis": "Redis"}

MESSAGES = 5
LONGEST = 60.0
"""Seconds that a user waits for anything; then it counts as failed."""
DATA = re.compile(rb"data: pong (\d+)")


@dataclass
class Times:
    """Milliseconds that round trips and connects took, and how many users got no answer."""

    trips: list[float] = field(default_factory=list)
    connects: list[float] = field(default_factory=list)
    failed: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", default="100,750")
    parser.add_argument("--databases", default="sqlite,postgres,redis")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}; {asked.seconds:g} s, {asked.workers} workers\n")
    print("| log | users | messages | mean, ms | p50 | p90 | p95 | longest | connect, p50 | p95 | failed | cores, server |")
    print("| --- " * 12 + "|")
    for kind in asked.databases.split(","):
        for users in map(int, asked.users.split(",")):
            with serving(kind, asked.workers) as (port, used):
                before = used()
                times = asyncio.run(load(port, users, asked.seconds))
                point("round-trip", NAMES[kind], users, sorted(times.trips)[len(times.trips) // 2])
                print(row(kind, users, times, (used() - before) / asked.seconds), flush=True)


def row(kind: str, users: int, times: Times, cores: float) -> str:
    """One row of the table."""
    trips, connects = sorted(times.trips), sorted(times.connects)
    mean = sum(trips) / len(trips)
    shares = [trips[int(len(trips) * share)] for share in (0.5, 0.9, 0.95)]
    about = [mean, *shares, trips[-1], connects[len(connects) // 2], connects[int(len(connects) * 0.95)]]
    return (
        f"| {kind} | {users} | {len(trips):,} | {' | '.join(f'{each:,.0f}' for each in about)} | {times.failed} | {cores:.2f} |"
    )


@contextlib.contextmanager
def serving(kind: str, workers: int) -> Iterator[tuple[int, Callable[[], float]]]:
    """A server over a new store. Yield its port, and what tells the seconds of the processor that its processes have used."""
    stores = {"sqlite": tempfile.TemporaryDirectory, "postgres": running_postgres, "redis": running_redis}
    with stores[kind]() as where:
        where = str(where).partition("host=")[2] if kind == "postgres" else where
        environment = {**os.environ, "LOG": kind, "WHERE": where, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
        if kind != "redis":
            subprocess.run([sys.executable, "-m", "round_trips_app", "migrate"], env=environment, check=True)
        port = free_port()
        command = f"-W ignore -m uvicorn round_trips_app:application --workers {workers} --port {port} --log-level error"
        server = subprocess.Popen([sys.executable, *command.split()], env=environment, start_new_session=True)
        try:
            asyncio.run(answers(port))
            yield port, lambda: sum(map(processor_seconds, family(server.pid)))
        finally:
            server.terminate()
            server.wait()


async def answers(port: int) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            await User(port, Times()).round()
            return
        await asyncio.sleep(0.1)
    raise SystemExit("the server does not start")


async def load(port: int, users: int, seconds: float) -> Times:
    """Let so many users come and go."""
    times, began = Times(), time.monotonic()

    def wanted() -> float:
        share = (time.monotonic() - began) / seconds
        if share < 1 / 3:
            return users * (0.1 + 0.15 * share * 3)
        return (
            users * (0.25 + 0.75 * min(1.0, (share - 1 / 3) * 12 / 7)) if share < 11 / 12 else users * max(0.0, 12 * (1 - share))
        )

    async def user(number: int) -> None:
        while time.monotonic() < began + seconds:
            if number >= wanted():
                await asyncio.sleep(0.05)
                continue
            try:
                async with asyncio.timeout(LONGEST):
                    await User(port, times).round(MESSAGES, (0.5, 1.0))
            except (OSError, EOFError, TimeoutError):
                times.failed += 1

    await asyncio.gather(*(user(number) for number in range(users)))
    return times


class User:
    """One of them, with a stream and a connection for what it sends."""

    def __init__(self, port: int, times: Times) -> None:
        self._port, self._times = port, times
        self._topic = f"users.{random.getrandbits(64):x}"

    async def round(self, messages: int = 0, pause: tuple[float, float] = (0.0, 0.0)) -> None:
        """Connect, send so many messages, read each, and go."""
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        answers, sender = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(f"GET /follow/{self._topic}/ HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
            await self._until(reader, lambda line: b"sse.position" in line)
            self._times.connects.append(1000 * (time.monotonic() - began))
            for number in range(messages):
                body = str(number).encode()
                head = f"POST /ping/{self._topic}/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
                sent = time.monotonic()
                sender.write(head.encode() + body)
                await self._until(reader, lambda line, number=number: DATA.match(line) is not None and int(line[11:]) == number)
                self._times.trips.append(1000 * (time.monotonic() - sent))
                await answers.readuntil(b"\r\n\r\n")
                await asyncio.sleep(random.uniform(*pause))
        finally:
            writer.close()
            sender.close()

    async def _until(self, reader: asyncio.StreamReader, wanted: Callable[[bytes], bool]) -> None:
        while not wanted(line := await reader.readline()):
            if not line:
                raise EOFError("the stream has ended")


def family(pid: int) -> list[int]:
    """A process, its children and theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
