"""What many processes ask of one Redis: as much for one stream as for a hundred, and each page of a storm once.

A hub here is what a process has: a log with its own connections, a local, and feeds. The server itself counts the commands.
``tox run -e redis`` has 50 hubs on 1,000 topics, ``-s`` prints the counts.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from django_agent_sse.eventlog.notify.local import LocalNotifier
from django_agent_sse.eventlog.position import Position
from django_agent_sse.eventlog.redis import RedisEventLog
from django_agent_sse.eventlog.redis import pubsub as line
from django_agent_sse.topics import feeds as feeds_module
from django_agent_sse.topics import lease_watch
from django_agent_sse.topics.batch import Batch
from django_agent_sse.topics.feeds import Feeds
from django_agent_sse.topics.follower import Follower
from django_agent_sse.wire.event import Event
from tests.services import running_redis

LONG = "LONG_PROOFS" in os.environ
HUBS, TOPICS, EVENTS = (50, 1_000, 2_000) if LONG else (5, 40, 200)
STORM = 2_000
PATIENCE = 300.0 if LONG else 60.0


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A server of this file's own: all its commands are counted, and logs of other tests may still ask the session's."""
    with running_redis() as url:
        yield url


class Hub:
    """What one process has."""

    def __init__(self, url: str, prefix: str) -> None:
        self.log = RedisEventLog(url=url, prefix=prefix)
        local = LocalNotifier()
        self.log.on_change = local.notify
        self.feeds = Feeds(self.log, local)
        self.streams: list[Stream] = []

    async def add(self, topic: str, after: Position | None = None) -> None:
        """One more stream, which has come back if ``after`` is given."""
        follower = Follower(await self.feeds.open(topic), "live")
        if after is not None:
            assert await follower.resume(after) is None
        stream = Stream(follower)
        self.streams.append(stream)
        stream.wake()


class Stream:
    """Takes what comes, at once."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        self.expected = follower.position.offset
        self.count = 0

    def wake(self) -> None:
        while (found := self.follower.pull_shared() or self.follower.pull(self)) is not None:
            assert isinstance(found, Batch), found
            for entry in found.entries:
                self.expected += 1
                assert entry.offset == self.expected
            self.count += len(found.entries)


class Commands:
    """The commands that the server counts, those inside scripts too."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url, protocol=2)

    def __call__(self) -> Counter[str]:
        told: dict[str, Any] = self._client.info("commandstats")
        return Counter({name.removeprefix("cmdstat_"): int(about["calls"]) for name, about in told.items()})

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """The commands of a block, filled in at its end."""
        found, before = Counter[str](), self()
        yield found
        found.update(self() - before)
        del found["info"]

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def commands(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """Nothing else is asked meanwhile: position checks and probes, which go by time, wait."""
    monkeypatch.setattr(line, "CHECK_INTERVAL", 3600.0)
    monkeypatch.setattr(line, "PROBE_IDLE", 3600.0)
    monkeypatch.setattr(lease_watch, "CHECK", 3600.0)
    monkeypatch.setattr(feeds_module, "CHECK", 3600.0)  # which tidies pages away, and notes what is followed
    made = Commands(redis_url)
    yield made
    made.close()


async def until(what: str, probe: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not probe():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


def rests(hub: Hub) -> bool:
    """Whether what is followed has been noted, and leases were looked for."""
    return not (hub.feeds._noting or hub.feeds._to_note) and hub.feeds._leases.resting


async def publish_all(hubs: list[Hub], topics: list[str]) -> None:
    """Publish an event at a time to all topics in turn, and wait until every stream has its own."""
    before = [stream.count for hub in hubs for stream in hub.streams]
    for number in range(EVENTS):
        await hubs[number % len(hubs)].log.aappend(topics[number % len(topics)], Event(str(number)))
    each = EVENTS // len(topics)
    await until(
        "every stream has everything",
        lambda: all(s.count == n + each for s, n in zip((s for h in hubs for s in h.streams), before, strict=True)),
    )


async def test_more_streams_ask_the_server_for_nothing_more(redis_url: str, commands: Commands) -> None:
    prefix, topics = f"t{secrets.token_hex(6)}", [f"builds.{number}" for number in range(TOPICS)]
    hubs = [Hub(redis_url, prefix) for _ in range(HUBS)]
    try:
        for topic in topics:
            await hubs[0].log.aappend(topic, Event("first"))
        for hub in hubs:
            await asyncio.gather(*map(hub.add, topics))
        await publish_all(hubs, topics)
        await until("it is noted what is followed", lambda: all(map(rests, hubs)))
        with commands.counted() as few:
            await publish_all(hubs, topics)
        for hub in hubs:
            hub.streams += [Stream(Follower(await hub.feeds.open(topic), "live")) for topic in topics for _ in range(9)]
            for stream in hub.streams:
                stream.wake()
        await until("it is noted what is followed", lambda: all(map(rests, hubs)))
        with commands.counted() as many:
            await publish_all(hubs, topics)
        connections = [sum(one.connections for one in hub.log.notifier.connections) for hub in hubs]  # type: ignore[union-attr]
    finally:
        for hub in hubs:
            hub.feeds.close()
    streams = sum(len(hub.streams) for hub in hubs)
    print(
        f"\n{HUBS} hubs on {TOPICS} topics: {sum(few.values()) / EVENTS:.2f} commands an event with {streams // 10:,} streams, "
        f"{sum(many.values()) / EVENTS:.2f} with {streams:,}; of clients {few['evalsha'] / EVENTS:.2f} and "
        f"{many['evalsha'] / EVENTS:.2f}: {dict(sorted(many.items()))}"
    )
    assert few["evalsha"] == many["evalsha"] == EVENTS, "one script for each event, whoever reads"
    assert few == many
    assert connections == [1] * HUBS, "one connection carries the notifications of all topics"


async def test_a_storm_of_clients_reads_each_page_once_for_a_process(redis_url: str, commands: Commands) -> None:
    prefix, topic = f"t{secrets.token_hex(6)}", "builds.1"
    log = RedisEventLog(url=redis_url, prefix=prefix)
    places = [*log.append(topic, [Event(f"line {number}") for number in range(10_000)])][-1_500:]
    hubs = [Hub(redis_url, prefix) for _ in range(2)]
    chance = random.Random(7)
    began = time.monotonic()
    try:
        with commands.counted() as found:
            await asyncio.gather(*(hub.add(topic, chance.choice(places)) for hub in hubs for _ in range(STORM // 2)))
            await until("all have all", lambda: all(s.expected == 10_000 for hub in hubs for s in hub.streams))
        took = time.monotonic() - began
    finally:
        for hub in hubs:
            hub.feeds.close()
    pages = 1 + (10_000 - places[0].offset) // 256 + 1
    print(f"\n{STORM:,} streams come back to 2 hubs: {found['evalsha']} scripts, {pages} pages, {took:.2f} s")
    assert found["evalsha"] <= 2 * (pages + 3), "each page once, a look or two at the end of the topic, and one for a lease"
