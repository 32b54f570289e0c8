"""One client against all others, over real sockets: what it takes is bounded, is given back, and others hardly feel it."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.timing import LONG, bound

from .client import Client
from .crowd import crowd
from .servers import Server, poll

pytestmark = pytest.mark.alone
Start = Callable[..., Server]
OTHER = "127.0.0.2"
"""The address of everybody else."""
P99 = bound(0.25, 30.0)
"""Seconds within which 99 of 100 requests of others are answered meanwhile."""


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """As many as the long forms need, of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(count, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def held(server: Server) -> dict[str, int]:
    """What the process holds, seen from outside, and its open streams."""
    state = server.state()
    status = Path(f"/proc/{server.worker}/status").read_text()
    return {
        "streams": state["open_streams"],
        "descriptors": len(state["descriptors"]),
        "threads": state["os_threads"],
        "tasks": len(state["tasks"]),
        "kernel": unsent(server.port),
        "memory": int(status.partition("VmRSS:")[2].split()[0]),
    }


def unsent(port: int) -> int:
    """Bytes that the kernel keeps for clients of this port which have not taken them."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, _, queues, *_ = line.split()
        if int(local.rpartition(":")[2], 16) == port:
            total += int(queues.partition(":")[0], 16)
    return total


def is_back(server: Server, before: dict[str, int]) -> dict[str, int]:
    """Wait until all is given back but memory, which Python keeps; return what it holds then."""

    def back() -> dict[str, int] | None:
        now = held(server)
        kept = {name for name in now if name != "memory" and now[name] > before[name] + (SLACK.get(name, 0))}
        return now if not kept else None

    return dict(poll(f"it is as before: {before}", back, within=60.0, every=0.2))


SLACK = {"descriptors": 2, "threads": 8, "tasks": 3, "kernel": 4_096}
"""Threads and connections that were made in between are kept for half a minute; and there is the request that looks."""


class Others:
    """What everybody else meets: an ordinary request, and a stream, one after the other."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.took: list[float] = []
        self.streams: Counter[str] = Counter()

    async def go_on(self) -> None:
        while True:
            began = time.monotonic()
            status, _ = await self.ask("_ping/", "*/*")
            assert status == 200
            self.took.append(time.monotonic() - began)
            _, body = await self.ask("life/idle/?key=others", "text/event-stream")
            self.streams["in" if b"sse.overloaded" not in body else "refused"] += 1
            await asyncio.sleep(0.02)

    async def ask(self, path: str, accept: str) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port, local_addr=(OTHER, 0))
        try:
            writer.write(f"GET /{path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            return int(head.split()[1]), await reader.read(1_024)
        finally:
            writer.close()

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.took, n=100)[98]


@contextlib.asynccontextmanager
async def others(server: Server) -> AsyncIterator[Others]:
    """They go on meanwhile."""
    them = Others(server)
    task = asyncio.create_task(them.go_on())
    try:
        yield them
        await _eventually(lambda: len(them.took) >= 100 or task.done())
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Print the figures of the long form."""

    def told(what: str, **figures: Any) -> None:
        with capsys.disabled() if LONG else contextlib.nullcontext():
            print(f"\n{what}:", ", ".join(f"{name} {value}" for name, value in figures.items()))

    return told


# Ten thousand connects from one address

CONNECTS = 10_000 if LONG else 400
ADDRESS = 1_000 if LONG else 50


@pytest.mark.parametrize("wrapper", [0, 1])
def test_ten_thousand_connects_from_one_address(start: Start, tell: Callable[..., None], wrapper: int) -> None:
    limits = {} if LONG else {"ADDRESS": ADDRESS, "ADDRESS_CONNECTS": 25}
    server = start("uvicorn", wrapper=wrapper, quiet_seconds=0, agent_sse={"LIMITS": limits})
    with descriptors(2 * CONNECTS + 500):
        asyncio.run(flood(server, tell))


async def flood(server: Server, tell: Callable[..., None]) -> None:
    before = await asyncio.to_thread(held, server)
    async with others(server) as them, crowd() as attackers:
        began = time.monotonic()
        for _ in range(CONNECTS // 100):
            attackers.join(server.port, "life/idle/?key=attack", 100, comes_back=False)
            await asyncio.sleep(0)
        answers = lambda: Counter((one.status, len(one.events)) for one in attackers)  # noqa: E731
        await _eventually(lambda: all(one.events for one in attackers), answers)
        took = time.monotonic() - began
        let_in = sum(not one.refused for one in attackers)
        meanwhile = await asyncio.to_thread(held, server)
    assert let_in <= ADDRESS, "no more streams than the address may have"
    assert let_in >= ADDRESS * 0.9
    reasons = {reason for one in attackers for reason in one.refused}
    assert reasons <= {
        '{"reason":"too many connects from your network; come back later"}',
        '{"reason":"too many streams are open from your network; come back later"}',
        '{"reason":"too many clients connect at this moment; come back later"}',
    }
    assert all(one.told is None or one.told >= 5_000 for one in attackers if one.refused), "each is told when to come back"
    assert meanwhile["streams"] <= ADDRESS + 1
    assert them.p99 < P99
    after = await asyncio.to_thread(is_back, server, before)
    tell(f"{CONNECTS} connects", let_in=let_in, seconds=round(took, 1), p99=them.p99, others=dict(them.streams), before=before,
         meanwhile=meanwhile, after=after)  # fmt: skip


async def _eventually(probe: Callable[[], Any], about: Callable[[], Any] = dict, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not probe():
        assert time.monotonic() < deadline, about()
        await asyncio.sleep(0.05)


# Clients that stop reading

STALLED = 1_000 if LONG else 40


def test_a_thousand_clients_that_stop_reading(start: Start, tell: Callable[..., None]) -> None:
    server = start("uvicorn", agent_sse={"SEND_TIMEOUT": 2, "LIMITS": {"ADDRESS": STALLED // 2, "USER": None}})
    before = held(server)
    with descriptors(3 * STALLED + 500):
        asyncio.run(stall(server, before, tell))


async def stall(server: Server, before: dict[str, int], tell: Callable[..., None]) -> None:
    async with others(server) as them:
        clients = await asyncio.to_thread(stalled, server)
        meanwhile = await asyncio.to_thread(held, server)
        after = await asyncio.to_thread(is_back, server, before)
        for client in clients:
            client.close()
    assert meanwhile["streams"] <= STALLED // 2 + 1
    assert them.p99 < P99
    assert after["memory"] - before["memory"] < 60_000, "kilobytes"
    tell(f"{STALLED} that stop reading", p99=them.p99, before=before, meanwhile=meanwhile, after=after)


def stalled(server: Server) -> list[Client]:
    return [server.open("life/flood/", key="stalled", receive_buffer=4_096, megabytes=64) for _ in range(STALLED)]


# Replays

REPLAYS = 100 if LONG else 12
EVENTS = 10_000 if LONG else 2_000
SIZE = 1_000


def test_a_hundred_replays_of_ten_megabytes_at_once(start: Start, tell: Callable[..., None]) -> None:
    rate = 134_217_728 if LONG else 8_388_608
    log = {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "OPTIONS": {"MAX_EVENTS": 20_000, "MAX_BYTES": 1 << 26}}
    limits = {"REPLAYS": 16 if LONG else 4, "REPLAY_BYTES": rate, "ADDRESS": None, "ADDRESS_CONNECTS": None}
    server = start("uvicorn", agent_sse={"EVENT_LOG": log, "LIMITS": limits})
    server.get("topics/produce/large/", rate=EVENTS * 10, seconds=0.1, size=SIZE, close=0)
    with server.open("topics/follow/large/") as client:
        client.take(EVENTS)
    asyncio.run(replay(server, rate, tell))


async def replay(server: Server, rate: int, tell: Callable[..., None]) -> None:
    before = await asyncio.to_thread(held, server)
    async with others(server) as them, crowd() as clients:
        began = time.monotonic()
        clients.join(server.port, "topics/follow/large/", REPLAYS, comes_back=False)
        await _eventually(lambda: all(len(one.events) >= EVENTS for one in clients))
        took = time.monotonic() - began
        for one in clients:
            assert [int(event.data.split()[0]) for event in one.events] == list(range(EVENTS))
    most = REPLAYS * EVENTS * SIZE
    assert took >= (most - 0.25 * rate - REPLAYS * 300_000) / rate, "not faster than it may"
    assert them.p99 < P99
    after = await asyncio.to_thread(is_back, server, before)
    tell(f"{REPLAYS} replays", seconds=round(took, 1), megabytes_a_second=round(most / took / 1e6), p99=them.p99, after=after)


# Descriptors


def test_a_share_of_the_descriptors_is_left_to_others(start: Start, key: str) -> None:
    server = start("uvicorn", agent_sse={"LIMITS": {"ADDRESS": None, "ADDRESS_CONNECTS": None}})
    with server.open("life/idle/", key=key) as first:  # what it opens for all of them is open then
        first.next()
    resource.prlimit(server.worker, resource.RLIMIT_NOFILE, (256, 256))
    clients = [server.open("life/idle/", key=key) for _ in range(230)]
    names = Counter(client.next().name for client in clients)
    assert 120 <= names["message"] <= 192
    assert names["sse.overloaded"] == 230 - names["message"]
    assert server.get("_ping/").status == 200, "others have theirs"
    for client in clients:
        client.close()
    poll("all are over", lambda: server.state()["open_streams"] == 0)
    with server.open("life/idle/", key=key) as client:
        assert client.next().name == "message"


# Several processes


def test_an_address_has_its_limit_over_all_workers(
    start: Start, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from . import servers

    command = f"{servers.COMMANDS['uvicorn']} --workers 3 {servers.LATE_ANSWERS}"
    monkeypatch.setitem(servers.COMMANDS, "uvicorn", command)
    server = start("uvicorn", cache=tmp_path, agent_sse={"LIMITS": {"ADDRESS": 9, "ADDRESS_CONNECTS": None}})
    clients = [server.open("life/idle/", key=key) for _ in range(30)]
    names = Counter(client.next().name for client in clients)
    assert set(names) == {"message", "sse.overloaded"}
    assert 9 <= names["message"] <= 11, "a quarter of the limit is what processes may have that do not know of one another yet"
    for client in clients:
        client.close()

    def again() -> bool:
        with server.open("life/idle/", key=key) as client:
            return client.next().name == "message"

    poll("the places are free again", again, every=0.5)
