"""A rolling restart under load: servers with several workers, clients with a ledger, and how many came back in each second."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import warm

from . import servers
from .crowd import Crowd, Member, crowd, in_any_second
from .servers import COMMANDS, ROOT, STOP_SECONDS, Server, environment_of, poll

WITH_WORKERS = {
    "uvicorn": f"{COMMANDS['uvicorn']} --timeout-worker-healthcheck 90 --workers",
    "gunicorn": f"{COMMANDS['gunicorn']} --workers",
    "gunicorn with uvicorn": f"{COMMANDS['gunicorn with uvicorn']} --workers",
    "granian": f"{COMMANDS['granian']} --backpressure 2000 --workers",
    "hypercorn": f"{COMMANDS['hypercorn']} --workers".replace("-w 0 ", ""),
}
"""Servers that start workers, and end and replace each of them at SIGHUP."""
ONE_BY_ONE = {
    "daphne processes": f"daphne --fd {{fd}} -v 0 {servers.APPLICATION}",
    "hypercorn processes": f"hypercorn -w 0 -b fd://{{fd}} --log-level warning {servers.APPLICATION}",
}
"""Servers in one process each: several share a listening socket, and are ended and replaced one after the other."""
KINDS = (*WITH_WORKERS, *ONE_BY_ONE)
TOGETHER = frozenset({"gunicorn", "gunicorn with uvicorn", "hypercorn"})
"""Servers that end all workers at one moment; gunicorn has started the new ones by then."""
PUBLISHER = """
import os, sys, time, django
django.setup()
from django_agent_sse import publish
stop, topics, pause = sys.argv[1], sys.argv[2].split(","), float(sys.argv[3])
number = 0
while not os.path.exists(stop):
    for topic in topics:
        publish(topic, str(number))
    number += 1
    time.sleep(pause)
for topic in topics:
    publish(topic, f"last {number}")
"""


class Fleet(Server):
    """Processes of a server that has no workers of its own. The first of them stands for all."""

    count = 1

    def _spawn(self, port: int | None = None) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port = self.listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[Any]] = []
        for _ in range(self.count):
            self._begin()

    @property
    def process(self) -> subprocess.Popen[Any]:  # type: ignore[override]
        return self.processes[0]

    @property
    def pid(self) -> int:  # type: ignore[override]
        return int(self.processes[0].pid)

    def _begin(self) -> subprocess.Popen[Any]:
        number = self.listening.fileno()
        command = [sys.executable, "-m", *ONE_BY_ONE[self.kind].format(fd=number).split()]
        with self.log_file.open("ab") as log:
            options: dict[str, Any] = {"cwd": ROOT, "env": self.environment, "stdout": log, "stderr": subprocess.STDOUT}
            process = warm.Popen(command, pass_fds=[number], start_new_session=True, **options)
        self.processes.append(process)
        return process

    def replace_all(self) -> None:
        """Start a new process and end an old one when that answers, as often as there are old ones."""
        for old in list(self.processes):
            new = self._begin()
            poll("the new process answers", lambda new=new: self.state()["pid"] == new.pid, within=90.0)
            old.send_signal(signal.SIGTERM)
            old.wait(90.0)
            self.processes.remove(old)

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(STOP_SECONDS)

    def stop(self) -> None:
        self.kill()
        self.listening.close()


@dataclass
class Rolled:
    """What came of a rolling restart.

    Attributes:
        back: When clients came back and were let in, in seconds after its beginning.
        took: Seconds until all processes were others.
        allowed: How many may come back in a second.
        untold: Connections that ended without a word of when to come back.
        refused: Connects that met a process which ends.
        wrong: Clients whose ledger is not each event once and in order, and how it differs.
    """

    kind: str
    clients: int
    workers: int
    allowed: int
    took: float = 0.0
    back: list[float] = field(default_factory=list)
    events: int = 0
    untold: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def most(self) -> int:
        """The most that came back within one second, wherever it begins."""
        return in_any_second(self.back)

    def seconds(self) -> list[int]:
        """How many came back in each second."""
        counts = Counter(map(int, self.back))
        return [counts[second] for second in range(max(counts, default=-1) + 1)]


@contextmanager
def deployed(kind: str, workers: int, directory: Path, database: str, **site: Any) -> Iterator[Server]:
    """A server with so many workers, or so many of its processes."""
    if kind in WITH_WORKERS:
        name = f"{kind} {workers}"
        COMMANDS[name] = f"{WITH_WORKERS[kind]} {workers}"
        with servers.running(name, directory, database, **site) as server:
            yield server
        return
    directory.mkdir(parents=True, exist_ok=True)
    fleet = type(kind, (Fleet,), {"count": workers})(kind, directory, environment_of(site, database))
    try:
        yield fleet
    finally:
        fleet.stop()


@contextmanager
def publishing(server: Server, topics: list[str], pause: float) -> Iterator[Callable[[], None]]:
    """A process that publishes numbers until it is told to say a last word."""
    stop = server.directory / "stop"
    command = [sys.executable, "-m", "tests.program", PUBLISHER, str(stop), ",".join(topics), str(pause)]
    with warm.Popen(command, cwd=ROOT, env=server.environment) as publisher:
        try:
            yield stop.touch
            assert publisher.wait(60) == 0
        finally:
            publisher.kill()


def roll(server: Server, kind: str, *, workers: int, clients: int, topics: int, pause: float, pace: int) -> Rolled:
    """Replace every worker while so many clients listen, on so many topics with an event each ``pause`` seconds."""
    names = [f"news-{number}" for number in range(topics)]
    rolled = Rolled(kind, clients, workers, allowed=pace * (workers if kind in TOGETHER else 1))
    with publishing(server, names, pause) as last_word:
        asyncio.run(_roll(server, rolled, names, last_word))
    return rolled


async def _roll(server: Server, rolled: Rolled, topics: list[str], last_word: Callable[[], None]) -> None:
    async with crowd() as clients:
        for topic in topics:
            clients.join(server.port, f"topics/follow/{topic}/", rolled.clients // len(topics))
            await until("all have an event", lambda: all(client.events for client in clients))
        began = time.monotonic()
        if isinstance(server, Fleet):
            await asyncio.to_thread(server.replace_all)
        else:
            before = set(children(server.pid))
            server.signal(signal.SIGHUP)
            await until("all workers are others", lambda: not before & set(children(server.pid)), within=180.0)
        rolled.took = time.monotonic() - began
        await until("all have come back", lambda: settled(clients, began))
        last_word()
        await until("all have the last event", lambda: all(client.events[-1].data.startswith("last") for client in clients))
        rolled.back = [at - began for client in clients for at in client.connects[1:] if at not in client.turned_away]
        for client in clients:
            _add(rolled, client)


def settled(clients: Crowd, began: float) -> bool:
    """Whether each client has a connection, and one that was asked for since."""
    return all(len(client.connects) > len(client.ended) and client.connects[-1] > began for client in clients)


def _add(rolled: Rolled, client: Member) -> None:
    rolled.events += sum(not event.name.startswith("sse.") for event in client.events)
    rolled.untold += client.untold
    rolled.refused += sum(times for data, times in client.refused.items() if "shutdown" not in data)
    rolled.wrong += [wrong] if (wrong := differs(client)) else []


def differs(client: Member) -> str:
    """How the ledger of a client is not each event once and in order."""
    got = [event.data for event in client.events if not event.name.startswith("sse.")]
    wanted = [*map(str, range(int(got[-1].removeprefix("last ")))), got[-1]]
    gaps = [event.data for event in client.events if event.name == "sse.gap"]
    if got == wanted and not gaps:
        return ""
    lost, twice = Counter(wanted) - Counter(got), Counter(got) - Counter(wanted)
    return f"{client.path}: lost {sorted(lost)[:5]}, twice {sorted(twice)[:5]}, gaps {gaps[:2]}"


def children(pid: int) -> list[int]:
    """The children of a process, and theirs: whatever answers."""
    found, look = [], [pid]
    while look:
        try:
            with open(f"/proc/{look[0]}/task/{look[0]}/children", encoding="ascii") as file:
                below = [int(pid) for pid in file.read().split()]
        except OSError:
            below = []
        found += below
        look = [*look[1:], *below]
    return [pid for pid in found if listens(pid)]


def listens(pid: int) -> bool:
    """Whether a process is one of those that serve, not a helper of Python's."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read()
    except OSError:
        return False
    return bool(words) and b"resource_tracker" not in words


async def until(what: str, probe: Callable[[], Any], within: float = 120.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + within
    while not probe():
        assert time.monotonic() < deadline, f"{what}: not within {within} s"
        await asyncio.sleep(0.05)
