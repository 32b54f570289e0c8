"""A Redis that has lost what it had acknowledged, as after a failover: everybody is told, who follows and who returns.

What a replica has that missed writes is what the server had before them: its keys are dumped then, and put back after them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from django_agent_sse.eventlog.position import Position
from django_agent_sse.eventlog.redis import RedisEventLog
from django_agent_sse.topics.batch import Batch
from django_agent_sse.topics.feed import RING_EVENTS, Feed
from django_agent_sse.topics.follower import Follower, Gap
from django_agent_sse.wire.event import Event

from ..topics.reading import read, texts_until

TOPIC = "builds.42"


class Replica:
    """What the server has of a topic now, and will have again."""

    def __init__(self, log: RedisEventLog) -> None:
        self.client = log.servers[0].client
        self.kept = {key: self.client.dump(key) for key in log.keys.topic(TOPIC)}

    def promote(self) -> None:
        for key, value in self.kept.items():
            self.client.restore(key, 0, value, replace=True)  # type: ignore[arg-type]


@pytest.fixture
def log(redis_url: str) -> RedisEventLog:
    return RedisEventLog(url=redis_url, prefix=f"t{secrets.token_hex(6)}")


@pytest.fixture
async def feed(log: RedisEventLog) -> AsyncIterator[Feed]:
    """Of a topic with three events."""
    publish(log, "1", "2", "3")
    made = Feed(TOPIC, log)
    await made.refresh()
    yield made
    made.close()


def publish(log: RedisEventLog, *texts: str) -> None:
    log.append(TOPIC, [Event(text) for text in texts])


async def gap_of(follower: Follower) -> Gap:
    found = await read(follower)
    assert isinstance(found, Gap), found
    return found


@pytest.mark.parametrize("since", [(), ("x",), ("x", "y"), ("x", "y", "z", "w")], ids=["nothing", "less", "as much", "more"])
async def test_who_follows_is_told_whatever_was_published_since(log: RedisEventLog, feed: Feed, since: tuple[str, ...]) -> None:
    replica, follower = Replica(log), Follower(feed)
    publish(log, "4", "5")
    await feed.refresh()
    assert await texts_until(follower, 5) == ["1", "2", "3", "4", "5"]
    before = follower.position
    replica.promote()
    if since:
        publish(log, *since)
    await feed.refresh()
    gap = await gap_of(follower)
    assert (gap.reason, gap.asked, gap.missed) == ("fork", str(before), None)
    assert gap.id.partition(".")[0] not in ("0", before.epoch), "no position of before means anything now"
    assert await texts_until(follower, 3 + len(since)) == ["1", "2", "3", *since]
    publish(log, "next")
    await feed.refresh()
    assert await texts_until(follower, 1) == ["next"], "it is told once"


@pytest.mark.parametrize("looked", [True, False], ids=["a process that knew", "a process that did not"])
@pytest.mark.parametrize("since", [(), ("x",), ("x", "y", "z")], ids=["nothing", "less", "more"])
async def test_who_returns_with_what_was_lost_is_told(
    log: RedisEventLog, feed: Feed, since: tuple[str, ...], looked: bool
) -> None:
    replica, follower = Replica(log), Follower(feed)
    publish(log, "4", "5")
    await feed.refresh()
    await texts_until(follower, 5)
    sent = follower.position
    replica.promote()
    if since:
        publish(log, *since)
    if not looked:
        feed = Feed(TOPIC, log)
    await feed.refresh()
    returned = Follower(feed)
    assert await returned.resume(Position.parse(str(sent))) == "fork"
    assert await texts_until(returned, 3 + len(since)) == ["1", "2", "3", *since]


async def test_who_returns_with_what_was_kept_is_not_told_by_a_process_that_knew_nothing_of_it(
    log: RedisEventLog, feed: Feed
) -> None:
    replica, follower = Replica(log), Follower(feed)
    await texts_until(follower, 3)
    publish(log, "lost")
    replica.promote()
    publish(log, "4")
    new = Feed(TOPIC, log)
    await new.refresh()
    returned = Follower(new)
    assert await returned.resume(Position.parse(str(follower.position))) is None
    assert await texts_until(returned, 1) == ["4"]


async def test_a_notification_with_the_number_that_was_lost_is_not_taken_for_its_event(log: RedisEventLog, feed: Feed) -> None:
    replica, follower = Replica(log), Follower(feed)
    publish(log, "4")
    await feed.refresh()
    await texts_until(follower, 4)
    replica.promote()
    publish(log, "x", "y")
    other = log.read_after(TOPIC, 4)
    assert other.records[0].offset == 5
    feed.offer(other)  # it would be the next one, but follows another event
    gap = await gap_of(follower)
    assert gap.reason == "fork"
    assert await texts_until(follower, 5) == ["1", "2", "3", "x", "y"]


async def test_who_is_behind_the_ring_is_told_too(log: RedisEventLog, feed: Feed) -> None:
    replica = Replica(log)
    publish(log, *map(str, range(4, 2 * RING_EVENTS)))
    await feed.refresh()
    late, later = Follower(feed), Follower(feed)
    first = await read(late)
    assert isinstance(first, Batch), first
    replica.promote()
    publish(log, "x")
    await feed.refresh()
    assert {(await gap_of(late)).reason, (await gap_of(later)).reason} == {"fork"}
    for follower in (late, later):
        assert await texts_until(follower, 4) == ["1", "2", "3", "x"]


async def test_two_processes_that_find_out_at_once_agree(log: RedisEventLog, feed: Feed, redis_url: str) -> None:
    other = Feed(TOPIC, RedisEventLog(url=redis_url, prefix=log.keys.prefix))
    replica = Replica(log)
    publish(log, "4")
    for one in (feed, other):
        await one.refresh()
    followers = [Follower(feed), Follower(other)]
    for follower in followers:
        await texts_until(follower, 4)
    replica.promote()
    publish(log, "x")
    feed.request_refresh()
    other.request_refresh()
    gaps = [await gap_of(follower) for follower in followers]
    assert {gap.reason for gap in gaps} == {"fork"}
    assert len({gap.id.partition(".")[0] for gap in gaps}) == 1
    other.close()
