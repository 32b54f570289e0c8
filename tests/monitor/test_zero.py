"""What is counted comes back to exactly zero: 1,000 connections that end in every way, 10,000 with ``LONG_PROOFS=1``."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from django_agent_sse.contrib.monitor.commands import Close, execute
from django_agent_sse.contrib.monitor.inspector import StreamInspector
from django_agent_sse.streams.counters import counters
from django_agent_sse.streams.snapshot import Snapshot
from tests.inprocess import Client, Site, eventually, serve

CONNECTS = 10_000 if "LONG_PROOFS" in os.environ else 1_000
AT_ONCE = 50
PATIENCE = 120.0
OPEN_GAUGES = ("open", "starting", "lingering", "slow")


@pytest.fixture(autouse=True)
def from_zero() -> Iterator[None]:
    counters.reset()
    yield
    counters.reset()


async def everything(c: Any, stream: Any, number: int) -> None:
    """Ends in a way of its own."""
    way = number % 5
    if way == 3:
        raise RuntimeError("before it began")
    for _ in range(way + 1):
        await stream.write("hello")
    if way == 4:
        raise RuntimeError("as asked")
    if way:
        await stream.wait_closed()


async def refuse(c: Any) -> bool:
    return int(c.params["number"]) % 7 > 0


async def come_and_go(site: Site, begin: int) -> None:
    some = [site.connect(f"/stream/{number}/") for number in range(begin, begin + AT_ONCE)]
    for client in random.sample(some, AT_ONCE // 5):
        client.leave()  # perhaps before anything has begun
    await eventually("all have begun", lambda: all(client.status or client.task.done() for client in some), PATIENCE)
    if begin % 3 == 0:
        execute(Close(route="stream/<int:number>/", retry=random.choice([None, 5])), StreamInspector())
    for client in some:
        client.leave()
    await asyncio.wait([client.task for client in some], timeout=PATIENCE)
    for client in some:
        _heed(client)
        site.clients.remove(client)


def _heed(client: Client) -> None:
    assert client.task.done()
    if not client.task.cancelled():
        client.task.exception()


async def test_counters_are_exactly_zero_after_so_many_connections() -> None:
    looker, seen = StreamInspector(), list[int]()
    async with serve(everything, guards=[refuse]) as site:
        for begin in range(0, CONNECTS, AT_ONCE):
            await come_and_go(site, begin)
            seen.append(looker.snapshot().total("open"))
        last = await eventually("nothing is left", lambda: _empty(looker.snapshot()), PATIENCE)
    counts = next(iter(last.routes.values()))
    assert {name: last.total(name) for name in OPEN_GAUGES} == dict.fromkeys(OPEN_GAUGES, 0)
    assert counts.opened == sum(counts.endings.values()) == sum(counts.durations), "each that began is over, once"
    refused = len([number for number in range(CONNECTS) if number % 7 == 0])
    assert 0 < counts.refused["guard"] <= refused, "of those that did not leave before they were asked"
    told = dict(Counter(counts.endings))
    print(f"\n{CONNECTS:,} connections: {counts.opened:,} streams, {told}, refused {dict(counts.refused)}; open afterwards: 0")
    assert {"completed", "client_disconnect", "handler_error", "kicked"} <= set(told)


def _empty(snapshot: Snapshot) -> Snapshot | None:
    return snapshot if not any(snapshot.total(name) for name in OPEN_GAUGES) else None
