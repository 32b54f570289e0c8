"""Clients come and go in every way for half an hour, in short for some seconds: a process holds no more than before."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.live.conftest import no_client_stays, pytest_runtest_makereport, seed, sqlite, start, terminable
from tests.live.servers import ROOT, Server, poll
from tests.timing import LONG

from .churn import ADDRESS_LIMIT, TOPICS, Churn, people, watched
from .growth import BYTES, COUNTS, SMALLEST, Sample, left_behind, line, lines, table

__all__ = ["no_client_stays", "pytest_runtest_makereport", "sqlite", "start", "terminable"]  # fixtures

pytestmark = pytest.mark.alone
WARM_UP, SECONDS, RATE = (600.0, 1_200.0, 130.0) if LONG else (0.0, 0.0, 100.0)
FIRST, CONNECTS = (75_000, 125_000) if LONG else (200, 300)
"""Connects of the warm-up, in which pools, caches and the allocator's arenas fill, and after it.

Both take longer than half an hour where the machine has other work.
"""
ADDRESSES = 20_000 if LONG else 100
"""In the long form more than the process remembers the rates of; in the short one all of them have come in the warm-up."""
QUIET = 5 if LONG else 4
"""Looks in a row at which nothing has changed, while nobody is connected."""
SAMPLE, LOOK = 2.0, 15.0
PAGE = os.sysconf("SC_PAGE_SIZE")
LOG = {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {"MAX_EVENTS": 50}}
OFTEN = {} if LONG else {"HEARTBEAT": 2, "RECHECK": 2}
"""What is due later stands in a table until then, and a short soak cannot wait for a minute."""
FORGET = {} if LONG else {"forget": 1}
"""The monitor's past, eight minutes here, is full after the long form's warm-up, and must stay so: else it fills once more."""
AGENT_SSE = {"EVENT_LOG": LOG, "LIMITS": {"ADDRESS": ADDRESS_LIMIT}, **OFTEN}
PUBLISHER = f"""
import os, sys, time, django
django.setup()
from django.db import OperationalError
from django_agent_sse import publish, publish_many
number = 0
while not os.path.exists(sys.argv[1]):
    for topic in range({TOPICS}):
        publish(f"soak-{{topic}}", str(number))
    publish_many("log.soak", [f"line {{number}}: " + ("error: it failed" if number % 7 == 0 else "compiled")] * 2)
    number += 1
    time.sleep(0.5)
"""


@pytest.fixture
def database(request: pytest.FixtureRequest, sqlite: tuple[str, Any]) -> str:
    """PostgreSQL in the long form, where connections can be counted."""
    if not LONG:
        return sqlite[0]
    import psycopg

    url: str = request.getfixturevalue("postgres_url")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE soak")
    url = url.replace("/postgres?", "/soak?")
    seed(url)
    return url


@pytest.fixture
def server(start: Callable[..., Server], database: str) -> Server:
    return start(
        "uvicorn", database=database, urlconf="tests.soak.urls", journal=os.devnull, quiet_seconds=0.5, agent_sse=AGENT_SSE
    )


@contextmanager
def publishing(server: Server) -> Iterator[None]:
    """A process that publishes meanwhile."""
    stop = server.directory / "stop"
    with warm.Popen([sys.executable, "-m", "tests.program", PUBLISHER, str(stop)], cwd=ROOT, env=server.environment) as process:
        try:
            poll("there is something to read", lambda: server.get("soak/log/soak/raw/", follow=0).body.count(b"\n") >= 5)
            yield
            stop.touch()
            assert process.wait(60) == 0
        finally:
            process.kill()


def rss(server: Server) -> int:
    return int(Path(f"/proc/{server.worker}/statm").read_text().split()[1]) * PAGE


def look(server: Server, **query: Any) -> dict[str, Any]:
    held = server.get("_holding/", **query).json()
    status = Path(f"/proc/{server.worker}/status").read_text()
    anonymous = int(re.findall(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024
    return {**held, "memory": rss(server), "python": anonymous - held["glibc"]}


def quiet(server: Server) -> dict[str, Any]:
    """Wait until nobody is connected and nothing changes any more, or for three minutes; return what is held then."""
    seen: list[tuple[int, ...]] = []
    until = time.monotonic() + 180.0

    def settled() -> dict[str, Any] | None:
        held = look(server, collect=1, **FORGET)
        counts = [held[name] for name in ("streams", "tasks", "threads", "descriptors", "connections", "objects")]
        seen.append((*counts, sum(held["tables"].values())))
        still = len(set(seen[-QUIET:])) == 1 and len(seen) >= QUIET
        return held if held["streams"] == 0 and (still or time.monotonic() > until) else None

    return dict(poll("nobody is there", settled, within=240.0, every=3.0 if LONG else 0.5))


@asynccontextmanager
async def sampling(server: Server, churn: Churn, samples: list[Sample]) -> AsyncIterator[None]:
    async def sample() -> None:
        looked = 0.0
        while True:
            held = {}
            if time.monotonic() - looked >= LOOK:
                looked = time.monotonic()
                held = await asyncio.to_thread(look, server)
            samples.append(Sample(at=time.monotonic(), connects=churn.total, rss=rss(server), held=held))
            await asyncio.sleep(SAMPLE)

    task = asyncio.create_task(sample())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextmanager
def many_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(8_192, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def visitors(server: Server) -> Churn:
    """With sessions, of which one may see the monitor."""
    sessions = server.get("access/people/", people=people()).json()
    boss = sessions.pop("boss")
    return Churn(server.port, sessions, boss, addresses=ADDRESSES)


def test_whoever_comes_and_goes_leaves_nothing_behind(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with many_descriptors(), publishing(server):
        churn = visitors(server)
        before, after, first, samples = asyncio.run(soak(server, churn))
    if LONG:
        with capsys.disabled():
            tell(churn, before, after, first, samples)
    assert churn.wrong == [], Counter(churn.wrong).most_common(20)
    assert "Traceback" not in server.log(), server.log()[-4000:]
    connects = samples[-1].connects - samples[0].connects
    left = left_behind(before, after, connects)
    assert left == {}, left
    if LONG:
        found = lines(samples)
        for name in ("heap", "memory"):
            assert found[name].most < SMALLEST, f"{name}: bytes a connect, which is less than one object"
        for name in COUNTS:
            assert found[name].least * connects < 1 + SMALL.get(name, 0), f"{name} grow"


SMALL = {"objects": 500, "blocks": 5_000}


async def soak(server: Server, churn: Churn) -> tuple[dict[str, Any], dict[str, Any], list[Sample], list[Sample]]:
    first, samples = list[Sample](), list[Sample]()
    async with watched(churn, 60.0 if LONG else 2.0), sampling(server, churn, first):
        await churn.go_on(FIRST, WARM_UP, RATE)
    before = await asyncio.to_thread(quiet, server)
    async with watched(churn, 60.0 if LONG else 2.0), sampling(server, churn, samples):
        await churn.go_on(CONNECTS, SECONDS, RATE)
    samples.append(Sample(at=time.monotonic(), connects=churn.total, rss=rss(server)))
    return before, await asyncio.to_thread(quiet, server), first, samples


def mean(tables: list[dict[str, int]], name: str) -> int:
    return round(sum(one.get(name, 0) for one in tables) / len(tables))


def tell(churn: Churn, before: dict[str, Any], after: dict[str, Any], first: list[Sample], samples: list[Sample]) -> None:
    """The figures of the long form: the table with the warm-up, slopes without it."""
    began = first[0].at
    per_minute = (samples[-1].connects - samples[0].connects) / (samples[-1].at - samples[0].at) * 60
    about = f"load {os.getloadavg()}, MALLOC_ARENA_MAX={os.environ.get('MALLOC_ARENA_MAX')}"
    print(f"\n{churn.total:,} connects in {(samples[-1].at - began) / 60:.1f} minutes, {about}")
    print(json.dumps(churn.connects))
    print(table(first + samples, began))
    print(f"wrong: {Counter(churn.wrong).most_common(5)}")
    half = [sample for sample in samples if sample.connects > (samples[0].connects + samples[-1].connects) / 2]
    for name, found in lines(half).items():
        if name in BYTES:
            print(f"{name} in the second half: {found.slope:+.1f} ± {found.error:.1f} bytes a connect")
    for name, found in lines(samples).items():
        unit, scale = ("KiB", 1 / 1024) if name in BYTES else ("", 1.0)
        print(
            f"{name}: {found.slope * scale * per_minute:+.3f} ± {found.error * scale * per_minute:.3f} {unit} a minute, "
            f"{found.slope * 1000:+.3f} ± {found.error * 1000:.3f} a thousand connects"
        )
    looked = [sample.held["tables"] for sample in samples if sample.held]
    more = {name: mean(looked[-9:], name) - mean(looked[:9], name) for name in looked[-1]}
    print(f"tables that grew while clients came and went: {sorted(more.items(), key=lambda one: -one[1])[:12]}")
    for name in (*COUNTS, "collected", *BYTES):
        print(f"quiet: {name} {before[name]:,} → {after[name]:,}")
    for what in ("tables", "kinds"):
        changed = {name: (before[what].get(name, 0), n) for name, n in after[what].items() if n != before[what].get(name, 0)}
        print(f"{what} that changed: {changed}")


# The proof itself


LEAKS = 250


def test_what_stays_of_each_client_is_seen(server: Server) -> None:
    with many_descriptors():
        churn = visitors(server)
        asyncio.run(churn.go_on(LEAKS, 0.0, RATE, {churn.leaks: 1}))
        before, connects = quiet(server), churn.total
        asyncio.run(churn.go_on(LEAKS, 0.0, RATE, {churn.leaks: 1}))
        found = left_behind(before, quiet(server), churn.total - connects)
    assert churn.wrong == []
    assert {"objects", "blocks"} <= found.keys(), found


def test_a_slope_is_told_from_noise() -> None:
    chance = random.Random(2)
    xs = [float(number) for number in range(0, 180_000, 250)]
    noise = [chance.gauss(90e6, 5e5) for _ in xs]
    flat = line(xs, noise)
    assert flat.least < 0 < flat.most < SMALLEST
    grows = line(xs, [y + SMALLEST * x for x, y in zip(xs, noise, strict=True)])
    assert grows.most >= SMALLEST
    assert grows.least > 0
    assert abs(grows.slope - SMALLEST) < grows.error
