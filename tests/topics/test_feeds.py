"""The feeds of a loop: shared, rung, looked at by a timer, and gone some time after their last follower."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.eventlog.notify.local import LocalNotifier
from django_agent_sse.eventlog.notify.notifier import Notifier
from django_agent_sse.eventlog.records import Page
from django_agent_sse.exceptions import EventLogUnavailable, TopicNameInvalid
from django_agent_sse.runtime.loop import BackgroundLoop
from django_agent_sse.topics import feed as feed_module
from django_agent_sse.topics import feeds as feeds_module
from django_agent_sse.topics.batch import Batch, Budget
from django_agent_sse.topics.feed import Feed
from django_agent_sse.topics.feeds import Feeds
from django_agent_sse.topics.follower import Finished, Follower, Gap
from django_agent_sse.wire.event import Event
from tests.eventlog.shared import SharedEventLog

from .reading import read, texts_until
from .test_feed import Watched

PATIENCE = 60.0


@pytest.fixture
def log() -> Watched:
    return Watched()


@pytest.fixture
def local() -> LocalNotifier:
    return LocalNotifier()


@pytest_asyncio.fixture
async def feeds(log: Watched, local: LocalNotifier) -> AsyncIterator[Feeds]:
    feeds = Feeds(log, local)
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


async def test_the_notification_from_a_thread_wakes_a_follower(feeds: Feeds, log: Watched, local: LocalNotifier) -> None:
    feed = await feeds.open("a")
    follower = Follower(feed)
    reading = asyncio.create_task(next_data(feed, follower))

    def publish() -> None:
        MemoryEventLog.append(log, "a", Event("one"))
        local.notify("a")

    await asyncio.to_thread(publish)
    assert b"data: one\nid: " in await reading


async def test_the_timer_comes_every_seven_to_fifteen_seconds_and_lingering_is_thirty(
    feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (feeds_module.CHECK, feeds_module.LINGER) == (15.0, 30.0)
    asked: list[float] = []
    with monkeypatch.context() as patched:
        patched.setattr(feeds, "_loop", types.SimpleNamespace(call_later=lambda seconds, _: asked.append(seconds)))
        for _ in range(200):
            feeds._check_later()
    assert 7.5 <= min(asked) < 9
    assert 13.5 < max(asked) <= 15


async def test_what_was_published_without_a_notification_is_found_by_the_timer(
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
    await feed.refresh()
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
            await feed.refresh()
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


async def test_whatever_a_log_raises_a_topic_that_could_not_be_opened_has_no_follower(
    feeds: Feeds, log: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "LINGER", 0.01)

    def no_thread(*_: Any) -> Page:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(log, "_read_after", no_thread)
    with pytest.raises(RuntimeError, match="new thread"):
        await feeds.open("a")
    await until_gone(feeds)


async def test_a_follower_that_is_cancelled_while_it_opens_is_not_counted(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds_module, "LINGER", 0.01)
    opening = asyncio.create_task(feeds.open("a"))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await until_gone(feeds)


class Counted(Watched):
    """Notes the topics that events are read of."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    def _read_after(self, topic: str, *about: Any) -> Page:
        self.read.append(topic)
        return super()._read_after(topic, *about)


async def test_the_timer_asks_once_for_all_topics_and_reads_those_that_changed(
    local: LocalNotifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "CHECK", 0.02)
    log = Counted()
    for topic in "abc":
        log.append(topic, Event("0"))
    feeds = Feeds(log, local)
    followers = {topic: Follower(await feeds.open(topic)) for topic in "abcd"}
    for topic in "abc":
        await texts_until(followers[topic], 1)
    log.read.clear()
    log.reads = 0
    async with asyncio.timeout(PATIENCE):
        while log.reads < 5 or feeds._asking is None or not feeds._asking.done():  # noqa: ASYNC110  a timer of the loop does
            await asyncio.sleep(0.005)
    assert log.read == [], "nothing has changed"
    monkeypatch.setattr(feeds_module, "CHECK", 3600.0)  # the timer that runs asks once more, and no other
    log.append("a", Event("1"))
    log.close("b", "done")
    log.delete("c")
    log.append("d", Event("1"))
    assert await texts_until(followers["a"], 1) == ["1"]
    assert isinstance(await read(followers["b"]), Finished)
    assert isinstance(await read(followers["c"]), Finished)
    assert await texts_until(followers["d"], 1) == ["1"]
    assert sorted(log.read) == ["a", "b", "c", "d"], "each once"
    log.delete("a")
    log.append("a", Event("of another one"))
    monkeypatch.setattr(feeds_module, "CHECK", 0.02)
    feeds._check.cancel()  # type: ignore[union-attr]
    feeds._check_later()
    assert isinstance(await read(followers["a"]), Gap), "of the same length, and yet another one"
    feeds.close()


async def test_a_question_of_the_timer_that_fails_is_asked_again(
    feeds: Feeds, log: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(feeds_module, "CHECK", 0.02)
    follower = Follower(await feeds.open("a"))
    log.fails = True
    log.append("a", Event("one"))
    async with asyncio.timeout(PATIENCE):
        while "cannot be read" not in caplog.text:  # noqa: ASYNC110  a timer of the loop does
            await asyncio.sleep(0.005)
    log.fails = False
    assert await texts_until(follower, 1) == ["one"]


async def test_what_another_process_publishes_is_found_without_a_notification(local: LocalNotifier, tmp_path: Path) -> None:
    log, elsewhere = (SharedEventLog(str(tmp_path / "log")) for _ in range(2))
    notifier = Notifier(local, BackgroundLoop())
    feeds = Feeds(log, local, notifier)
    followers = {topic: Follower(await feeds.open(topic)) for topic in ("a", "b")}
    for number in range(3):
        await elsewhere.aappend("a", Event(str(number)))
        assert await texts_until(followers["a"], 1) == [str(number)]
    await elsewhere.aclose("a")
    assert isinstance(await read(followers["a"]), Finished)
    await elsewhere.aappend("b", Event("1"))
    assert await texts_until(followers["b"], 1) == ["1"]
    await elsewhere.adelete("b")
    assert isinstance(await read(followers["b"]), Finished)
    assert log.read.count("a") <= 1 + 4 + 1, "at the beginning, and where something had changed"
    feeds.close()
    assert notifier.watches() == {}
    await asyncio.to_thread(notifier.reset)


async def test_five_hundred_idle_streams_on_fifty_topics_cost_a_few_questions(local: LocalNotifier, tmp_path: Path) -> None:
    log = SharedEventLog(str(tmp_path / "log"))
    notifier = Notifier(local, BackgroundLoop())
    feeds = Feeds(log, local, notifier)
    followers = [Follower(await feeds.open(f"topic.{number % 50}")) for number in range(500)]
    assert len(feeds) == 50
    loop = asyncio.get_running_loop()
    log.read.clear()
    began, before = loop.time(), len(log.asked)
    await asyncio.sleep(3)
    took = loop.time() - began
    assert 1 <= len(log.asked) - before <= 2 * took + 2
    assert log.read == []
    assert len(followers) == 500
    feeds.close()
    await asyncio.to_thread(notifier.reset)
