"""What a connection follows, in every loop of every process: several loops, a fork, a log that is replaced, one that is away."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from django_agent_sse import publish
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.position import Position
from django_agent_sse.exceptions import EventLogUnavailable, TopicNameInvalid
from django_agent_sse.topics import feed as feed_module
from django_agent_sse.topics import feeds as feeds_module
from django_agent_sse.topics import subscription as subscription_module
from django_agent_sse.topics.batch import Batch
from django_agent_sse.topics.feeds import feeds_here
from django_agent_sse.topics.follower import Gap
from django_agent_sse.topics.subscription import Part, Subscription

PATIENCE = 60.0
TOPIC = "builds.42"


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    backend.reset()
    yield
    backend.reset()


class Following:
    """A subscription, and its wake-ups."""

    def __init__(self, *topics: str) -> None:
        self.woken = asyncio.Event()
        self.subscription = Subscription(topics or (TOPIC,), "oldest", self.woken.set)

    async def open(self, asked: str | None = None) -> Following:
        assert await self.subscription.open(asked, malformed=False) is None
        return self

    async def next(self) -> Batch | Part | Gap:
        while (found := self.subscription.pull()) is None:
            await asyncio.wait_for(self.woken.wait(), PATIENCE)
            self.woken.clear()
        return found

    async def texts(self, count: int) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            batch = await self.next()
            assert isinstance(batch, Batch), batch
            found += [entry.event.data for entry in batch.entries]
        return found


async def follow_in_this_loop(ready: threading.Barrier, count: int) -> list[str]:
    following = await Following().open()
    await asyncio.to_thread(ready.wait, PATIENCE)
    texts = await following.texts(count)
    following.subscription.close()
    feeds_here().close()
    return texts


def test_a_publish_from_a_thread_reaches_every_loop_of_the_process() -> None:
    loops, count = 3, 200
    ready = threading.Barrier(loops + 1)
    with ThreadPoolExecutor(loops) as pool:
        results = [pool.submit(asyncio.run, follow_in_this_loop(ready, count)) for _ in range(loops)]
        ready.wait(PATIENCE)
        for number in range(count):
            publish(TOPIC, str(number))
        assert [result.result(PATIENCE) for result in results] == [[str(number) for number in range(count)]] * loops


def test_a_loop_that_is_closed_is_forgotten_with_its_memory() -> None:
    async def follow() -> None:
        publish_here = asyncio.to_thread(publish, TOPIC, "x" * 10_000)
        await publish_here
        await (await Following().open()).texts(1)

    before = feed_module.budget.used
    asyncio.run(follow())
    assert feed_module.budget.used > before

    async def another() -> int:
        feeds_here()
        return len(feeds_module._by_loop)

    assert asyncio.run(another()) == 1
    assert feed_module.budget.used == before


def test_after_a_fork_the_child_has_a_log_and_feeds_of_its_own() -> None:
    publish(TOPIC, "in the parent")

    async def follow(text: str) -> list[str]:
        following = await Following().open()
        await asyncio.to_thread(publish, TOPIC, text)
        found = await following.texts(1)
        following.subscription.close()
        feeds_here().close()
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests have left threads, which the child does not need
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if asyncio.run(follow("in the child")) == ["in the child"] else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + PATIENCE
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert done == (child, 0)
    assert asyncio.run(follow("later"))[0] == "in the parent"


async def test_across_a_reset_it_goes_on_after_one_gap() -> None:
    old = await asyncio.to_thread(publish, TOPIC, "old")
    following = await Following().open()
    assert await following.texts(1) == ["old"]
    backend.reset()
    lost = await following.next()
    assert lost == Gap("epoch", str(old), None, "0")
    await asyncio.to_thread(publish, TOPIC, "new")
    assert await following.texts(1) == ["new"]
    following.subscription.close()


async def test_a_log_that_is_away_while_it_is_reopened_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "RETRY", 0.01)
    await asyncio.to_thread(publish, TOPIC, "old")
    following = await Following().open()
    await following.texts(1)
    backend.reset()
    log = backend.event_log()
    tries = 0
    real = log._run

    async def away(body: object) -> object:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise EventLogUnavailable("away")
        return await real(body)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "_run", away)
    assert isinstance(await following.next(), Gap)
    assert tries >= 4
    following.subscription.close()


async def test_topics_take_turns() -> None:
    for name in ("a", "b", "c"):
        for number in range(3):
            await asyncio.to_thread(publish, name, f"{name}{number}")
    following = await Following("a", "b", "c").open()
    parts = [await following.next() for _ in range(3)]
    assert [part.batch.entries[0].event.data for part in parts if isinstance(part, Part)] == ["a0", "b0", "c0"]
    following.subscription.close()


async def test_where_one_topic_cannot_be_opened_none_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds_module, "LINGER", 0.001)
    with pytest.raises(TopicNameInvalid):
        await Following("a", "ü", "b").open()
    async with asyncio.timeout(PATIENCE):
        while len(feeds_here()):  # noqa: ASYNC110  a timer of the loop ends it
            await asyncio.sleep(0.005)


async def test_a_closed_subscription_is_woken_no_more() -> None:
    following = await Following().open()
    assert following.subscription.pull() is None
    following.subscription.close()
    await asyncio.to_thread(publish, TOPIC, "late")
    await asyncio.sleep(0.02)
    assert not following.woken.is_set()


def test_the_position_of_nothing_is_before_the_first_event() -> None:
    assert str(Position("", 0)) == "0"
    assert Position.parse("0") == Position("", 0)


@pytest.mark.parametrize("topics", [(TOPIC,), (TOPIC, "builds.43", "builds.44")], ids=["one topic", "three"])
async def test_a_cancel_at_any_moment_of_opening_keeps_no_feed(topics: tuple[str, ...]) -> None:
    """Also when every feed is open and whoever waits for them was not told yet, as when a client leaves at once."""
    for turns in range(30):
        opening = asyncio.create_task(Following(*topics).open())
        for _ in range(turns):
            await asyncio.sleep(0)
        if opening.done():
            break
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert not feeds_here()._followers, f"after {turns} turns"
    assert 2 < turns < 29, "it was cancelled at moments of all kinds"
    opening.result().subscription.close()
    feeds_here().close()
