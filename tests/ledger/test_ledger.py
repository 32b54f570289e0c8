"""The ledger: workers are killed, clients come back, several processes publish; afterwards every client has every event, once.

``tox run -e ledger`` is the long form: four workers, 100 clients, 20,000 events over ten topics from four processes, and a worker
killed every two seconds. Here it is less. ``-s`` prints the counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faulty_notifications import counted
from tests.live.servers import LATE_ANSWERS, ROOT
from tests.services import free_port

from .logs import LOGS, environment_of
from .reader import Reader

LONG = "LONG_PROOFS" in os.environ
PATIENCE = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything; ``seconds`` is how long publishing takes, ``every`` the pause between two kills."""

    workers: int = 4
    clients: int = 100
    events: int = 20_000
    topics: int = 10
    publishers: int = 4
    seconds: float = 40.0
    every: float = 2.0


SHORT = Size(workers=2, clients=16, events=1_200, topics=4, publishers=2, seconds=5.0)
SIZES = {
    "postgres": Size() if LONG else SHORT,
    "redis": Size() if LONG else SHORT,
    "sqlite": Size(clients=40, events=4_000, seconds=20.0) if LONG else SHORT,
}


@dataclass
class Ledger:
    """What is counted; everything but the first three must be zero."""

    deliveries: int = 0
    connects: int = 0
    kills: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    unknown: int = 0
    gaps: list[str] = field(default_factory=list)

    def note(self, got: list[str], truth: list[str]) -> None:
        """What one client got of one topic."""
        self.deliveries += len(got)
        self.lost += len({*truth} - {*got})
        self.unknown += len({*got} - {*truth})
        self.doubled += len(got) - len({*got})
        place = {name: number for number, name in enumerate(truth)}
        places = [place[name] for name in got if name in place]
        self.disordered += sum(after < before for before, after in itertools.pairwise(places))


@contextlib.contextmanager
def cluster(environment: dict[str, str], workers: int, log_file: Path) -> Iterator[tuple[str, psutil.Process]]:
    """uvicorn with so many workers, which it starts again when they die; yields where it listens, and the parent."""
    port = free_port()
    options = f"--host 127.0.0.1 --port {port} --workers {workers} {LATE_ANSWERS} --log-level warning"
    command = f"uvicorn {options} tests.site.asgi:application"
    with log_file.open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", *command.split()], cwd=ROOT, env=environment, stdout=log, stderr=log)
    parent = psutil.Process(server.pid)
    children: list[psutil.Process] = []
    try:
        yield f"http://127.0.0.1:{port}/topics/several/", parent
    finally:
        children = parent.children(recursive=True)
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        for process in (*children, parent):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        server.wait(10)


def workers_of(parent: psutil.Process) -> Iterator[psutil.Process]:
    """The server processes that live: not those just killed, nor what Python itself starts beside them."""
    for child in parent.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # so is a zombie
            if "spawn_main" in " ".join(child.cmdline()):
                yield child


@contextlib.asynccontextmanager
async def killing(parent: psutil.Process, every: float) -> AsyncIterator[list[int]]:
    """Kill a worker every so many seconds, without a word: the busiest first, others at random."""
    killed: list[int] = []

    async def kill() -> None:
        while True:
            await asyncio.sleep(every)
            if workers := [*workers_of(parent)]:
                worker = random.choice(workers) if killed else max(workers, key=lambda one: len(one.net_connections("tcp")))
                worker.kill()
                killed.append(worker.pid)

    task = asyncio.create_task(kill())
    try:
        yield killed
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def site_environment(about: dict[str, str], **more: str) -> dict[str, str]:
    """The whole environment of a process of such a site."""
    return {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.site.settings", "PYTHONPATH": str(ROOT), **about, **more}


async def run(module: str, *arguments: object, environment: dict[str, str]) -> Any:
    """Run a module of this folder as a process of its own, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.ledger.{module}", *map(str, arguments)),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, f"{module} ended with {process.returncode}"
    return json.loads(printed)


async def keep(size: Size, environment: dict[str, str], log_file: Path) -> Ledger:
    """Run everything, and count."""
    topics = [f"builds.{number}" for number in range(size.topics)]
    with cluster(environment, size.workers, log_file) as (url, parent):
        several = [random.sample(topics, random.randint(1, size.topics)) for _ in range(size.clients // 2)]
        readers = [Reader(url, some) for some in [*several, *([topic] for _, topic in zip(several, topics * 99, strict=False))]]
        following = [asyncio.create_task(reader.follow()) for reader in readers]
        try:
            await asyncio.wait_for(asyncio.gather(*(reader.opened.wait() for reader in readers)), PATIENCE)
            each = size.events // size.publishers
            async with killing(parent, size.every) as killed:
                publishing = [
                    run("publisher", number, each, *topics, environment=environment) for number in range(size.publishers)
                ]
                acknowledged = await asyncio.gather(*publishing)
            truth = await run("truth", *topics, environment=environment)
            await asyncio.wait_for(asyncio.gather(*following), PATIENCE)
        finally:
            for task in following:
                task.cancel()
    for topic in topics:
        assert sorted(truth[topic]) == sorted(name for some in acknowledged for name in some[topic]), "what was acknowledged"
    ledger = Ledger(connects=sum(reader.connects for reader in readers), kills=len(killed))
    for reader in readers:
        ledger.gaps += reader.gaps
        for topic in reader.topics:
            ledger.note(reader.got[topic], truth[topic])
        assert reader.got.keys() <= {*reader.topics}
    return ledger


@pytest.mark.parametrize("name", LOGS)
def test_nothing_is_lost_doubled_or_out_of_order_though_workers_are_killed(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    balance(name, environment_of(name, request, tmp_path), tmp_path)


@pytest.mark.parametrize("name", ["sqlite", "postgres"])
def test_nor_is_it_whatever_becomes_of_notifications(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Each worker loses a quarter of all notifications, has a quarter twice, and a quarter late."""
    faults = {"SITE_FAULTY_NOTIFICATIONS": str(tmp_path)}
    balance(name, {**environment_of(name, request, tmp_path), **faults}, tmp_path)
    fates = counted(tmp_path)
    print("notifications:", ", ".join(f"{count:,} {fate}" for fate, count in sorted(fates.items())))
    assert fates.total() > 0


def balance(name: str, about: dict[str, str], directory: Path) -> None:
    """Run everything over a log, and hold the ledger against it."""
    size = SIZES[name]
    environment = site_environment(about, SECONDS=str(size.seconds))
    log_file = directory / "server.log"
    ledger = asyncio.run(keep(size, environment, log_file))
    print(
        f"\n{name}: {size.events:,} events over {size.topics} topics from {size.publishers} processes, {size.workers} workers, "
        f"{ledger.kills} of them killed; {size.clients} clients, {ledger.connects} connections, {ledger.deliveries:,} "
        f"deliveries: lost {ledger.lost}, doubled {ledger.doubled}, out of order {ledger.disordered}, gaps {len(ledger.gaps)}"
    )
    assert ledger.kills > 0
    assert ledger.connects > size.clients, "nobody was cut"
    assert (ledger.lost, ledger.doubled, ledger.disordered, ledger.unknown, ledger.gaps) == (0, 0, 0, 0, []), (
        log_file.read_text()[-4000:]
    )
