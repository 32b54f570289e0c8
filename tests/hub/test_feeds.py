"""The feeds of a loop: shared, rung, looked at by a timer, and gone some time after their last follower."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from django_agent_sse.eventlog.bell import LocalBell
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.exceptions import EventLogUnavailable, TopicNameInvalid
from django_agent_sse.hub import feed as feed_module
from django_agent_sse.hub import feeds as feeds_module
from django_agent_sse.hub.batch import Batch
from django_agent_sse.hub.feed import Budget, Feed
from django_agent_sse.hub.feeds import Feeds
from django_agent_sse.hub.follower import Follower
from django_agent_sse.wire.event import Event

from .reading import read
from .test_feed import Watched

PATIENCE = 20.0


@pytest.fixture
def log() -> Watched:
    return Watched()


@pytest.fixture
def bell() -> LocalBell:
    return LocalBell()


@pytest_asyncio.fixture
async def feeds(log: Watched, bell: LocalBell) -> AsyncIterator[Feeds]:
    feeds = Feeds(log, bell)
    yield feeds
    feeds.close()


async def next_data(feed: Feed, follower: Follower) -> bytes:
    found = await read(follower)
    assert isinstance(found, Batch)
    return found.data


async def until_gone(feeds: Feeds) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(feeds):  # noqa: ASYNC110  a timer of the loop ends it
            await asyncio.sleep(0.005)


async def test_followers_of_a_topic_share_a_feed(feeds: Feeds) -> None:
    first, second = await asyncio.gather(feeds.open("a"), feeds.open("a"))
    assert first is second
    assert await feeds.open("b") is not first
    assert len(feeds) == 2


async def test_the_bell_rung_from_a_thread_wakes_a_follower(feeds: Feeds, log: Watched, bell: LocalBell) -> None:
    feed = await feeds.open("a")
    follower = Follower(feed)
    reading = asyncio.create_task(next_data(feed, follower))

    def publish() -> None:
        MemoryEventLog.append(log, "a", Event("one"))
        bell.ring("a")

    await asyncio.to_thread(publish)
    assert b"data: one\n\n" in await reading


async def test_what_was_published_without_a_bell_is_found_by_the_timer(
    feeds: Feeds, log: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "CHECK", 0.02)
    feed = await feeds.open("a")
    follower = Follower(feed)
    log.append("a", Event("one"))
    assert b"data: one" in await next_data(feed, follower)


async def test_a_feed_lingers_and_then_gives_its_memory_back(feeds: Feeds, log: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "budget", budget := Budget())
    feed = await feeds.open("a")
    log.append("a", Event("x" * 1000))
    await feed.look()
    assert budget.used > 1000
    feeds.release(feed)
    assert await feeds.open("a") is feed, "who comes back finds it"
    feeds.release(feed)
    monkeypatch.setattr(feeds_module, "LINGER", 0.01)
    again = await feeds.open("a")
    feeds.release(again)
    await until_gone(feeds)
    assert budget.used == 0


async def test_who_comes_back_to_a_lingering_feed_gets_what_came_meanwhile(feeds: Feeds, log: Watched) -> None:
    feed = await feeds.open("a")
    feeds.release(feed)
    log.append("a", Event("meanwhile"))
    again = await feeds.open("a")
    assert b"data: meanwhile" in await next_data(again, Follower(again))


async def test_rings_together_keep_to_the_budget(feeds: Feeds, log: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "budget", budget := Budget(50_000))
    for name in ("a", "b", "c", "d"):
        feed = await feeds.open(name)
        for _ in range(20):
            log.append(name, [Event("x" * 1000)] * 5)
            await feed.look()
    assert budget.used <= 50_000 + 4 * 1_100, "but for the newest event of each, which always stays"
    whole = await feeds.open("d")
    follower = Follower(whole)
    count = 0
    while count < 100:
        count += (await next_data(whole, follower)).count(b"data: ")
    assert count == 100, "what the ring gave up is in the log"


async def test_a_log_that_cannot_be_read_opens_nothing(feeds: Feeds, log: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds_module, "LINGER", 0.01)
    log.fails = True
    with pytest.raises(EventLogUnavailable):
        await feeds.open("a")
    with pytest.raises(TopicNameInvalid):
        await feeds.open("ü")
    await until_gone(feeds)


async def test_a_follower_that_is_cancelled_while_it_opens_is_not_counted(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds_module, "LINGER", 0.01)
    opening = asyncio.create_task(feeds.open("a"))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await until_gone(feeds)
