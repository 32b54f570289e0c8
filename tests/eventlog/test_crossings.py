"""The seam between history and live, over every log, where notifications get lost, come twice, and come late.

Publishers append from threads of their own, and their notifications are dropped, doubled and delayed at random. Followers begin
at random offsets, fall behind and catch up. A crossing is a chunk that came from the ring of what is live after one that was
read from the log, or the other way round; ``LONG_PROOFS`` has 100,000 of them on each log, and ``-s`` prints what happened.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import connections

from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.notify.local import LocalNotifier
from django_agent_sse.eventlog.notify.notifier import Notifier
from django_agent_sse.eventlog.position import Position
from django_agent_sse.eventlog.redis import pubsub
from django_agent_sse.topics import feed as feed_module
from django_agent_sse.topics import feeds as feeds_module
from django_agent_sse.topics.batch import Batch
from django_agent_sse.topics.feed import Feed
from django_agent_sse.topics.feeds import Feeds
from django_agent_sse.topics.follower import Finished
from django_agent_sse.wire.event import Event
from tests.faulty_notifications import Faults
from tests.timing import LONG
from tests.topics.reading import after, decoded, pulled

TOPIC = "builds.42"
CROSSINGS = 100_000 if LONG else 300
READERS = 40
PUBLISHERS = 2
TIMEOUT = 3_000 if LONG else 240
PATIENCE = 60.0
SEED = 7


class Crossings:
    """Publishers, a feed that hears of them as fate will have it, and readers that check every event."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.count = self.deliveries = 0
        self.seen: dict[int, str] = {}
        self.acknowledged: dict[int, str] = {}
        self._failed = threading.Event()
        self._closed = False
        self._local = LocalNotifier()
        self._notifier = Notifier(self._local)

    async def run(self) -> Faults:
        """Until there were enough of them; then the topic is closed, and everybody reads to its end."""
        loop = asyncio.get_running_loop()
        faults = Faults(SEED, lambda seconds, call: asyncio.get_running_loop().call_later(seconds, call), latest=0.05)
        if self.log.notifier is None:
            self.log.on_change = lambda *change: loop.call_soon_threadsafe(faults, partial(self._local.notify, *change))
        else:  # what comes from its server gets lost there; what has come in does not, and is not asked for again
            self.log.on_change = self._local.notify
            _lose_messages(self.log.notifier, faults)
        feeds = Feeds(self.log, self._local, self._notifier)
        await self.log.aappend(TOPIC, Event("begins"))
        feed = await feeds.open(TOPIC)
        try:
            async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as tasks:
                for number in range(READERS):
                    tasks.create_task(self._read(feed, number))
                publishing = [asyncio.to_thread(self._publish, number) for number in range(PUBLISHERS)]
                await asyncio.gather(*publishing)
                await self.log.aclose(TOPIC)
                self._closed = True
        finally:
            self._failed.set()
            feeds.release(feed)
            feeds.close()
            self._notifier.reset()
        return faults

    def _publish(self, worker: int) -> None:
        chance, number = random.Random(f"{SEED} publisher {worker}"), 0
        while self.count < CROSSINGS and not self._failed.is_set():
            texts = [f"{worker}.{number + one}" for one in range(chance.randint(1, 4))]
            appended = self.log.append(TOPIC, [*map(Event, texts)])
            self.acknowledged |= {place.offset: text for place, text in zip(appended, texts, strict=True)}
            number += len(texts)
            if chance.random() < 0.3:
                self._failed.wait(chance.uniform(0, 0.02))
        connections.close_all()

    async def _read(self, feed: Feed, number: int) -> None:
        chance = random.Random(f"{SEED} reader {number}")
        while True:
            offset = chance.randint(max(1, feed.top - 40), feed.top)
            follower, before, batches = await after(feed, str(Position(feed.epoch, offset))), None, chance.randint(2, 8)
            while batches or self._closed:
                batches = max(0, batches - 1)
                if chance.random() < 0.5:  # it falls behind
                    await asyncio.sleep(chance.uniform(0, 0.005))
                from_ring = offset >= feed.top - len(feed._ring)
                found = await asyncio.wait_for(pulled(follower), PATIENCE)
                if isinstance(found, Finished):
                    assert offset == len(self.acknowledged) + 1, "it has everything"
                    return
                assert isinstance(found, Batch), found
                for event in decoded(found.data):
                    offset += 1
                    epoch, place, *_ = str(event.id).split(".")  # in Redis a nonce follows
                    assert (epoch, place) == (feed.epoch, str(offset)), "none is lost, none comes twice"
                    assert self.seen.setdefault(offset, event.data) == event.data
                    self.deliveries += 1
                self.count += before is not None and before != from_ring
                before = from_ring


def _lose_messages(notifier: Any, faults: Faults) -> None:
    """Have each message of a Redis server meet its fate before anybody knows of it."""
    for connection in notifier.connections:

        def take_perhaps(message: Any, take: Callable[[Any], None] = connection._take) -> None:
            call = partial(take, message)
            faults(call) if bytes(message[0]) == b"message" else call()

        connection._take = take_perhaps


async def test_nothing_is_lost_or_doubled_at_the_seam_whatever_becomes_of_notifications(
    new_log: Callable[..., EventLog], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "RING_EVENTS", 8)
    monkeypatch.setattr(feeds_module, "CHECK", 2.0)  # else the last one may be missed for 15 s, and in Redis for 30
    monkeypatch.setattr(pubsub, "CHECK_INTERVAL", 2.0)
    crossings = Crossings(new_log(MAX_EVENTS=100_000_000, MAX_BYTES=100_000_000_000))
    faults = await crossings.run()
    assert crossings.count >= CROSSINGS
    assert {**crossings.seen, **crossings.acknowledged} == crossings.acknowledged, "what was read is what was published"
    assert [*sorted(crossings.acknowledged)] == [*range(2, len(crossings.acknowledged) + 2)]
    assert all(faults.counts[fate] > 0 for fate in ("lost", "doubled", "late", "passed"))
    fates = ", ".join(f"{count:,} {fate}" for fate, count in sorted(faults.counts.items()))
    events = f"{len(crossings.acknowledged):,} events, {crossings.deliveries:,} deliveries"
    log = request.node.callspec.params["new_log"]
    print(f"\n{log}: {crossings.count:,} crossings, {events}; of notifications {fates}")
