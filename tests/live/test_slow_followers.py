"""Followers that stop reading: they cost reads of the log, no memory, and lose nothing.

``tox -e long`` has 200 followers at 2,000 events/s, of which 20 stop for 30 s; here it is less. ``-s`` prints what was seen.
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from tests.timing import LONG

from .servers import Server

FOLLOWERS, SLOW = (200, 20) if LONG else (20, 3)
RATE, SECONDS, PAUSE = (2000, 35.0, 30.0) if LONG else (300, 2.0, 1.0)
SIZE = 80 if LONG else 20_000
"""Bytes of an event: what comes while some do not read is more than the kernel takes for them."""
PATIENCE = 180.0
HELD = RATE * PAUSE / 10
"""Events that the server has not sent to who does not read, after the pause or a while later, and to nobody else."""
RING = 2 * 2**20
CONNECTION = 256 * 1024
"""A chunk of ours (64 KiB), what the server's transport takes before it says stop (64 KiB), and as much again for copies."""
SLACK = 8 * 2**20
SITE = {"agent_sse": {"SEND_TIMEOUT": None}, "middleware": "none"}
_EVENT = re.compile(rb"data: (\d+) (\d+)")


@dataclass
class Reader:
    """One connection that reads what it is told to, and checks that numbers follow one another."""

    sock: socket.socket
    seen: int = 0
    rest: bytes = b""
    ended: bool = False
    lags: list[float] = field(default_factory=list)

    def read(self) -> None:
        data = self.sock.recv(262_144)
        now = time.monotonic_ns()
        if not data:
            self.ended = True
            return
        whole, cut, self.rest = (self.rest + data).rpartition(b"\n\n")
        found = _EVENT.findall(whole + cut)
        if found:
            assert [int(number) for number, _ in found] == list(range(self.seen, self.seen + len(found)))
            self.seen += len(found)
            self.lags.append((now - int(found[-1][1])) / 1e6)
        self.ended = self.ended or b"event: sse.end" in whole


def follower(server: Server, topic: str, *, pauses: bool) -> Reader:
    where = urlsplit(server.url)
    sock = socket.socket()
    sock.settimeout(60)
    if pauses:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the kernel's other side still takes up to four megabytes
    sock.connect((where.hostname, where.port))
    sock.sendall(f"GET /topics/follow/{topic}/ HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
    return Reader(sock)


def resident(server: Server) -> int:
    server.state(trim=1)  # what the allocator keeps of a large batch after a stall is nobody's
    with open(f"/proc/{server.worker}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(server: Server, topic: str, slow: int) -> tuple[int, float]:
    """Follow, produce, and read to the end, but for ``slow`` that pause; return how memory grew, and the others' p99 in ms."""
    readers = [follower(server, topic, pauses=number < slow) for number in range(FOLLOWERS)]
    pausing, reading = readers[:slow], readers[slow:]
    with selectors.DefaultSelector() as selector:
        for reader in reading:
            selector.register(reader.sock, selectors.EVENT_READ, reader)
        before = resident(server)
        assert server.get(f"topics/produce/{topic}/", rate=RATE, seconds=SECONDS, size=SIZE).status == 200
        began, grown = time.monotonic(), 0
        while not all(reader.ended for reader in readers):
            assert time.monotonic() - began < PATIENCE, [reader.seen for reader in readers]
            for key, _ in selector.select(0.1):
                key.data.read()
                if key.data.ended:
                    selector.unregister(key.fileobj)
            if pausing and time.monotonic() - began > PAUSE:
                grown = resident(server) - before
                behind = server.state()["behind"]
                if sum(events > HELD for events in behind) != slow:
                    continue  # they have not stopped the server yet, or somebody else reads late
                for reader in pausing:
                    selector.register(reader.sock, selectors.EVENT_READ, reader)
                pausing = []
        grown = grown or resident(server) - before
    assert not pausing, "they have stopped the server, and nobody else has"
    for reader in readers:
        reader.sock.close()
    assert {reader.seen for reader in readers} == {int(RATE * SECONDS)}, "complete, and in order"
    lags = sorted(lag for reader in reading for lag in reader.lags)
    return grown, lags[int(len(lags) * 0.99)]


@pytest.mark.parametrize("wrapper", [0, 1], ids=["plain", "wrapped"])
def test_followers_that_stop_reading_cost_no_memory_and_lose_nothing(start: Callable[..., Server], wrapper: int) -> None:
    server = start("uvicorn", **SITE, wrapper=wrapper)
    run(server, "warm", 0)
    plain, usual = run(server, "plain", 0)
    slow, others = run(server, "slow", SLOW)
    kind = "wrapped, " if wrapper else ""
    print(
        f"\n{kind}{FOLLOWERS} followers, {RATE} events/s for {SECONDS:.0f} s: memory grew by {plain / 2**20:.1f} MiB "
        f"(the log itself), with {SLOW} that stop for {PAUSE:.0f} s by {slow / 2**20:.1f} MiB; "
        f"p99 {usual:.1f} ms, of the others {others:.1f} ms"
    )
    assert slow <= plain + RING + SLOW * CONNECTION + SLACK
