"""A server that somebody takes much from: what it holds meanwhile and afterwards, and what everybody else feels of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.timing import LONG

from .client import PATIENCE
from .servers import ROOT, Server, poll

OTHER = "127.0.0.2"
"""The address of everybody else."""
FEWEST = 100 if LONG else 30
"""So many of their requests, at least, fall into each attack."""
SLACK = {"streams": 1, "descriptors": 4, "threads": 8, "tasks": 4, "kernel": 4_096, "sockets": 4, "memory": 60_000}
"""Threads and connections that were made in between are kept for half a minute; who looks asks too, and others go on.
Of memory, in KiB, what is loaded for the first stream of a process stays, and so does a MiB where one object is left in it."""
MOST_THREADS = 100
"""Beyond those at the beginning: ``REQUEST_THREADS`` and ``THREADS``, and what a server and the cache have."""
ESTABLISHED_OR_LEFT = frozenset({"01", "03", "04", "05", "08", "09", "0B"})
"""States of a connection that takes memory (``include/net/tcp_states.h``): all but listening and TIME_WAIT."""


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """As many as the long forms need, of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def held(server: Server) -> dict[str, int]:
    """What the process holds, seen from inside and from outside: its streams and tasks, and the rest as ``outside`` has it."""
    state = server.state()
    return {"streams": state["open_streams"], "tasks": len(state["tasks"]), **outside(server)}


def outside(server: Server) -> dict[str, int]:
    """What the process holds, without asking it: memory is in KiB, the kernel's in bytes that clients have not taken."""
    status = Path(f"/proc/{server.worker}/status").read_text()
    sockets, unsent = connections(server.port)
    return {
        "descriptors": len(os.listdir(f"/proc/{server.worker}/fd")),
        "threads": server.os_threads(),
        "memory": int(status.partition("VmRSS:")[2].split()[0]),
        "sockets": sockets,
        "kernel": unsent,
    }


def connections(port: int) -> tuple[int, int]:
    """Connections of this port's server, also those that no process has any more, and bytes that are kept for their clients."""
    count = total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if int(local.rpartition(":")[2], 16) == port and state in ESTABLISHED_OR_LEFT:
            count += 1
            total += int(queues.partition(":")[0], 16)
    return count, total


def is_back(server: Server, before: dict[str, int], within: float = PATIENCE) -> dict[str, int]:
    """Wait until all is given back; return what it holds then."""

    def back() -> dict[str, int] | None:
        server.state(trim=1)
        now = held(server)
        kept = {name for name in now if now[name] > before[name] + SLACK[name]}
        return now if not kept else None

    return dict(poll(f"it is as before: {before}", back, within=within, every=0.2))


class Others:
    """What everybody else meets: see ``tests.live.others``.

    Attributes:
        took: Seconds, of ordinary requests (``request``) and up to the first events of streams (``stream``).
        wrong: Answers that they should not have had.
    """

    def __init__(self, server: Server) -> None:
        self.took: dict[str, list[float]] = {"request": [], "stream": []}
        self.wrong: list[str] = []
        command = [sys.executable, "-m", "tests.live.others", str(server.port), OTHER]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, seconds, wrong = line.rstrip("\n").split(" ", 2)
            self.took[kind].append(float(seconds))
            if wrong:
                self.wrong.append(f"{kind}: {wrong}")

    @property
    def enough(self) -> bool:
        """Whether there were so many that the attack cannot have passed between them."""
        return len(self.took["stream"]) >= FEWEST or self._process.poll() is not None

    def stop(self) -> None:
        """Let them finish what they are at."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(2 * PATIENCE)
        self._reading.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def figures(self) -> dict[str, str]:
        """How many there were, and how long 99 of 100 took at most."""
        names = {"request": "requests of others", "stream": "first events of others"}
        return {names[kind]: f"{len(took):,}, p99 {quantile(took)}" for kind, took in self.took.items()}


def quantile(seconds: list[float]) -> str:
    """Return the 99th of 100, in words."""
    return f"{statistics.quantiles(seconds, n=100)[98] * 1_000:,.0f} ms"


@contextlib.contextmanager
def others(server: Server) -> Iterator[Others]:
    """They go on meanwhile. In the end each of their requests was answered, and none of their streams refused."""
    them = Others(server)
    try:
        yield them
        poll("enough of theirs are answered", lambda: them.enough, within=2 * PATIENCE)
    finally:
        them.stop()
    assert not them.wrong
    assert len(them.took["stream"]) >= FEWEST


async def eventually(probe: Callable[[], Any], about: Callable[[], Any] = dict, within: float = PATIENCE) -> None:
    """Wait until something holds; fail, and show what it is about, after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not probe():
        assert time.monotonic() < deadline, about()
        await asyncio.sleep(0.05)


@dataclass(eq=False)
class Watch:
    """Looks at a server's process from outside, again and again.

    Attributes:
        most: The most that it had of each thing.
    """

    server: Server
    most: dict[str, int]

    def look(self) -> None:
        self.most = {name: max(value, self.most.get(name, 0)) for name, value in outside(self.server).items()}


@contextlib.contextmanager
def watched(server: Server) -> Iterator[Watch]:
    """Watch it for as long as the block takes."""
    watch, over = Watch(server, {}), threading.Event()

    def go_on() -> None:
        while not over.wait(0.25):
            watch.look()

    thread = threading.Thread(target=go_on)
    watch.look()
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def tell(what: str, before: dict[str, int], most: dict[str, int], after: dict[str, int], **more: Any) -> None:
    """Print the figures of a long form: ``tox run -e limits`` shows them."""
    if LONG:
        load = os.getloadavg()[0]
        table = {name: f"{before.get(name, '')} → {most.get(name, '')} → {value}" for name, value in after.items()}
        print(f"\n{what} (load {load:.1f}):", *(f"  {name}: {value}" for name, value in {**more, **table}.items()), sep="\n")
