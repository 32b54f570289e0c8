"""One client against all others, over real sockets: what it takes is bounded, is given back, and others hardly feel it."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.timing import LONG

from .attacked import MOST_THREADS, connections, descriptors, eventually, held, is_back, others, tell, watched
from .client import Client
from .crowd import Member, crowd
from .servers import Server, poll

pytestmark = pytest.mark.alone
Start = Callable[..., Server]

# Ten thousand connects from one address

CONNECTS = 10_000 if LONG else 400
ADDRESS = 1_000 if LONG else 50
AT_ONCE = 1_000
"""More of them unanswered than a server's listen queue holds (uvicorn: 2,048) would show what the kernel does, and not this."""
ANSWERED = 300.0
"""Seconds in which all of an attack are answered."""


@pytest.mark.parametrize("wrapper", [0, 1])
def test_ten_thousand_connects_from_one_address(start: Start, wrapper: int) -> None:
    limits = {} if LONG else {"ADDRESS": ADDRESS, "ADDRESS_CONNECTS": 25}
    server = start("uvicorn", wrapper=wrapper, quiet_seconds=0, agent_sse={"LIMITS": limits})
    before = held(server)
    with descriptors(2 * CONNECTS + 500), others(server) as them, watched(server) as watch:
        seconds, let_in = asyncio.run(flood(server))
        after = is_back(server, before)
    assert ADDRESS * 0.9 <= let_in <= ADDRESS, "as many streams as the address may have, and no more"
    if wrapper:  # else Django itself makes a thread for each request that is there at once, before anything is asked
        assert watch.most["threads"] - before["threads"] <= MOST_THREADS
    assert watch.most["memory"] - before["memory"] < 200_000, "KiB"
    tell(f"{CONNECTS} connects, wrapper {wrapper}", before, watch.most, after, let_in=let_in, seconds=seconds, **them.figures())


async def flood(server: Server) -> tuple[float, int]:
    """Connect so often at once. Return in what time all were answered, and how many were let in."""
    began = time.monotonic()
    async with crowd() as attackers:
        unanswered: list[Member] = []
        while len(attackers) < CONNECTS or unanswered:
            if len(attackers) < CONNECTS and len(unanswered) < AT_ONCE:
                unanswered += attackers.join(server.port, "life/idle/?key=attack", 100, comes_back=False)
            await asyncio.sleep(0.01)
            unanswered = [one for one in unanswered if not one.events]
            assert time.monotonic() < began + ANSWERED, f"{len(unanswered)} of {len(attackers)} are not answered"
        took = time.monotonic() - began
        what = "no more are open than the address may have, and one of somebody else, of whom the one before may be ending"
        await asyncio.to_thread(poll, what, lambda: server.state()["open_streams"] <= ADDRESS + 1)
    reasons = {reason for one in attackers for reason in one.refused}
    assert reasons <= {
        '{"reason":"too many connects from your network; come back later"}',
        '{"reason":"too many streams are open from your network; come back later"}',
        '{"reason":"too many requests from your network wait to be looked at"}',  # where the machine is slow
    }
    assert all(one.told is None or one.told >= 5_000 for one in attackers if one.refused), "each is told when to come back"
    return round(took, 1), sum(not one.refused for one in attackers)


# Clients that stop reading

STALLED = 1_000 if LONG else 40


def test_a_thousand_clients_that_stop_reading(start: Start) -> None:
    limits = {"ADDRESS": STALLED, "ADDRESS_CONNECTS": None}
    server = start("uvicorn", agent_sse={"SEND_TIMEOUT": 30 if LONG else 8, "LIMITS": limits})
    before = held(server)
    with descriptors(3 * STALLED + 500), others(server) as them, watched(server) as watch:
        clients = stalled(server)
        poll("what they do not take is in the kernel", lambda: connections(server.port)[1])
        after = is_back(server, before, within=120.0)
        for client in clients:
            client.close()
    assert watch.most["kernel"] < STALLED * 4_194_304, "no more than the kernel lets each connection have (tcp_wmem)"
    assert watch.most["threads"] - before["threads"] <= MOST_THREADS
    assert watch.most["memory"] - before["memory"] < 60_000 + 400 * STALLED, "KiB: two buffers of 64 KiB each, and what it is"
    tell(f"{STALLED} that stop reading", before, watch.most, after, **them.figures())


def stalled(server: Server) -> list[Client]:
    return [server.open("life/flood/", key="stalled", receive_buffer=4_096, megabytes=64) for _ in range(STALLED)]


# Replays

REPLAYS = 100 if LONG else 12
EVENTS = 10_000 if LONG else 2_000
SIZE = 1_000


def test_a_hundred_replays_of_ten_megabytes_at_once(start: Start) -> None:
    rate = 134_217_728 if LONG else 8_388_608
    log = {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "OPTIONS": {"MAX_EVENTS": 20_000, "MAX_BYTES": 1 << 26}}
    limits = {"REPLAYS": 16 if LONG else 4, "REPLAY_BYTES": rate, "ADDRESS": None, "ADDRESS_CONNECTS": None}
    server = start("uvicorn", wrapper=1, agent_sse={"EVENT_LOG": log, "LIMITS": limits})
    server.get("topics/produce/large/", rate=EVENTS * 10, seconds=0.1, size=SIZE, close=0)
    with server.open("topics/follow/large/") as client:
        client.take(EVENTS)
    before = held(server)
    with others(server) as them, watched(server) as watch:
        seconds = asyncio.run(replay(server))
        after = is_back(server, before)
    most = REPLAYS * EVENTS * SIZE
    assert seconds >= (most - 0.25 * rate - REPLAYS * 300_000) / rate, "not faster than it may"
    assert watch.most["threads"] - before["threads"] <= MOST_THREADS
    assert watch.most["memory"] - before["memory"] < 200_000, "KiB"
    speed = f"{most / seconds / 1e6:,.0f} MB"
    tell(f"{REPLAYS} replays", before, watch.most, after, seconds=round(seconds, 1), a_second=speed, **them.figures())


async def replay(server: Server) -> float:
    """Have all of it replayed to so many at once. Return in what time."""
    async with crowd() as clients:
        began = time.monotonic()
        clients.join(server.port, "topics/follow/large/", REPLAYS, comes_back=False)
        await eventually(lambda: all(len(one.events) >= EVENTS for one in clients), within=ANSWERED)
        took = time.monotonic() - began
        for one in clients:
            assert [int(event.data.split()[0]) for event in one.events] == list(range(EVENTS))
    return took


# Descriptors


def test_a_share_of_the_descriptors_is_left_to_others(start: Start, key: str) -> None:
    server = start("uvicorn", agent_sse={"LIMITS": {"ADDRESS": None, "ADDRESS_CONNECTS": None}})
    with server.open("life/idle/", key=key) as first:  # what it opens for all of them is open then
        first.next()
    resource.prlimit(server.worker, resource.RLIMIT_NOFILE, (256, 256))
    clients: list[Client] = []
    names: Counter[str] = Counter()
    for _ in range(230):  # one after the other: who waits to be asked has a descriptor, too
        clients.append(server.open("life/idle/", key=key))
        names[clients[-1].next().name] += 1
    assert 120 <= names["message"] <= 192
    assert names["sse.overloaded"] == 230 - names["message"]
    assert server.get("_ping/").status == 200, "others have theirs"
    for client in clients:
        client.close()
    poll("all are over", lambda: server.state()["open_streams"] == 0)
    with server.open("life/idle/", key=key) as client:
        assert client.next().name == "message"


# Clients that open and close quickly


def test_who_opens_and_closes_quickly_gives_every_place_back(start: Start, key: str) -> None:
    limits = {"ADDRESS": 5, "ADDRESS_CONNECTS": None, "CONNECTS": None}
    server = start("uvicorn", agent_sse={"LIMITS": limits})
    before = held(server)
    for number in range(120):
        client = server.open("life/idle/", key="quick")
        if number % 4 == 1:
            client.next()
        client.reset() if number % 2 else client.close()
    is_back(server, before)
    poll("none of them is left", lambda: server.state()["open_streams"] == 0 and connections(server.port)[0] == 0)
    clients = [server.open("life/idle/", key=key) for _ in range(6)]
    names = Counter(client.next().name for client in clients)
    assert names == {"message": 5, "sse.overloaded": 1}, "no place is lost, and none is given twice"
    for client in clients:
        client.close()


# Several processes


def test_an_address_has_its_limit_over_all_workers(
    start: Start, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from . import servers

    command = f"{servers.COMMANDS['uvicorn']} --workers 3 {servers.LATE_ANSWERS}"
    monkeypatch.setitem(servers.COMMANDS, "uvicorn", command)
    server = start("uvicorn", cache=tmp_path, patience=60, agent_sse={"LIMITS": {"ADDRESS": 9, "ADDRESS_CONNECTS": None}})
    clients = [server.open("life/idle/", key=key) for _ in range(30)]
    names = Counter(client.next().name for client in clients)
    assert set(names) == {"message", "sse.overloaded"}
    most = "a quarter of the limit is what processes may have that do not know of one another yet"
    assert names["message"] <= 11, most
    assert names["message"] >= 9, "whoever comes at one moment gets every place that there is"
    for client in clients:
        client.close()

    def again() -> bool:
        with server.open("life/idle/", key=key) as client:
            return client.next().name == "message"

    poll("the places are free again", again, every=0.5)
