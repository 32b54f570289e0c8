"""The notifier: tasks on one background thread, made when they are needed, that other loops and other processes are heard by."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import dedent

import pytest
import pytest_asyncio
from django.test import override_settings

from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.eventlog.notify import notifier as notifier_module
from django_agent_sse.eventlog.notify.local import LocalNotifier, local_notifier
from django_agent_sse.eventlog.notify.notifier import Notifier
from django_agent_sse.eventlog.notify.poll import FollowedTopics, Heads
from django_agent_sse.runtime.loop import BackgroundLoop, background
from django_agent_sse.wire.event import Event
from tests.inprocess import eventually

from ..processes import PATIENCE, run, shared
from ..shared import SharedEventLog


@pytest_asyncio.fixture
async def notifier() -> AsyncIterator[Notifier]:
    notifier_module.notifier.reset()  # the process's own, which another test may have used
    _before.clear()
    _before.update(threading.enumerate())
    made = Notifier(LocalNotifier(), BackgroundLoop())
    yield made
    made.reset()
    assert made.loop.thread is None


@pytest.fixture
def log(tmp_path: Path) -> SharedEventLog:
    return SharedEventLog(str(tmp_path / "log"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> SharedEventLog:
    """The log as another process has it."""
    return SharedEventLog(str(tmp_path / "log"))


_before: set[threading.Thread] = set()
"""Threads of the tests before."""


def threads() -> int:
    new = [thread for thread in threading.enumerate() if thread not in _before]
    return sum(thread.name == "sse-background" and thread is not background.thread for thread in new)


async def next_of(told: asyncio.Queue[Heads]) -> Heads:
    return await asyncio.wait_for(told.get(), PATIENCE)


async def test_it_finds_what_another_process_publishes(
    notifier: Notifier, log: SharedEventLog, elsewhere: SharedEventLog
) -> None:
    told: asyncio.Queue[Heads] = asyncio.Queue()
    notifier.watch(log, told.put_nowait).add("a")
    assert await next_of(told) == {"a": None}
    appended = await elsewhere.aappend("a", Event("1"))
    assert await next_of(told) == {"a": (appended.epoch, 0, 1, None)}
    assert threads() == 1


async def test_many_loops_share_one_thread_and_one_question(
    notifier: Notifier, log: SharedEventLog, elsewhere: SharedEventLog
) -> None:
    heard: list[tuple[str, Heads]] = []
    follow = threading.Barrier(4, timeout=PATIENCE)
    done = threading.Event()

    async def loop_of(name: str) -> None:
        notifier.watch(log, lambda heads: heard.append((name, heads))).add(name)
        await asyncio.to_thread(follow.wait)
        await asyncio.to_thread(done.wait, PATIENCE)

    loops = [threading.Thread(target=lambda name=name: asyncio.run(loop_of(name))) for name in ("a", "b", "c")]
    for thread in loops:
        thread.start()
    try:
        await asyncio.to_thread(follow.wait)
        await eventually("all are asked for at once", lambda: ["a", "b", "c"] in log.asked, PATIENCE)
        await eventually("each was told", lambda: len(heard) >= 3, PATIENCE)
        heard.clear()
        elsewhere.append("b", Event("1"))
        await eventually("one is told", lambda: heard, PATIENCE)
        assert [(name, [*heads]) for name, heads in heard] == [("b", ["b"])]
        assert threads() == 1
    finally:
        done.set()
        for thread in loops:
            await asyncio.to_thread(thread.join, PATIENCE)
    before = len(log.asked)
    notifier.watch(log, lambda _: None).add("d")
    await eventually("it goes on for the loops that live", lambda: ["d"] in log.asked[before:], PATIENCE)


async def test_while_nothing_is_followed_the_loop_sleeps(notifier: Notifier, log: SharedEventLog) -> None:
    watch = notifier.watch(log, lambda _: None)
    assert notifier.loop.thread is None
    watch.add("a")
    await eventually("it asks", lambda: log.asked, PATIENCE)
    watch.discard("a")
    thread = notifier.loop.thread
    assert thread is not None
    assert notifier.watches() == {}
    await eventually("it sleeps", lambda: not notifier.poll.asks, PATIENCE)
    asked, used = len(log.asked), os.times()
    await asyncio.sleep(1.2)
    assert len(log.asked) == asked
    assert os.times().user - used.user < 1
    assert not notifier._tasks[0]._worker.loop._scheduled  # type: ignore[attr-defined]  # no timer: nothing wakes it but a call
    watch.add("b")
    await eventually("it wakes", lambda: ["b"] in log.asked, PATIENCE)
    assert notifier.loop.thread is thread


async def test_a_last_topic_that_is_let_go_while_it_looks_leaves_it_awake_for_the_next_one(
    notifier: Notifier, log: SharedEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    lets_go = threading.Event()
    topics = FollowedTopics.topics

    def topics_before_it_is_let_go(watch: FollowedTopics) -> set[str]:
        followed = topics(watch)
        if lets_go.is_set() and threading.current_thread().name == "sse-background" and followed == {"a"}:
            watch.discard("a")  # what the stream's own thread does, between two steps of this one
        return followed

    monkeypatch.setattr(FollowedTopics, "topics", topics_before_it_is_let_go)
    watch = notifier.watch(log, lambda _: None)
    watch.add("a")
    await eventually("it asks", lambda: log.asked, PATIENCE)
    lets_go.set()
    await eventually("it is let go", lambda: not topics(watch), PATIENCE)
    await asyncio.sleep(0.1)  # less than a pause
    watch.add("b")
    await eventually("it asks for the next one", lambda: ["b"] in log.asked, PATIENCE)


async def test_a_log_of_one_process_needs_no_thread(notifier: Notifier) -> None:
    notifier.watch(MemoryEventLog(), lambda _: None).add("a")
    assert notifier.loop.thread is None
    assert notifier.watches() == {}


async def test_who_only_publishes_needs_no_thread_where_there_is_no_channel_layer(notifier: Notifier) -> None:
    for number in range(100):
        notifier.notify(f"topic.{number}")
    assert notifier.loop.thread is None
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}):
        notifier.reset()
        notifier.notify("a")
        assert notifier.loop.thread is None, "it reaches no other process"
    with override_settings(CHANNEL_LAYERS={"other": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer"}}):
        notifier.reset()
        notifier.notify("a")
        assert notifier.loop.thread is None, "only the entry 'default' is used"
    assert notifier.flush()


async def test_a_change_here_notifies_here(notifier: Notifier) -> None:
    heard: asyncio.Future[frozenset[str]] = asyncio.get_running_loop().create_future()
    notifier._local.listen(heard.set_result)
    await asyncio.to_thread(notifier.notify, "a")
    assert await asyncio.wait_for(heard, PATIENCE) == {"a"}


async def test_after_a_reset_it_begins_anew(notifier: Notifier, log: SharedEventLog) -> None:
    watch = notifier.watch(log, lambda _: None)
    watch.add("a")
    await eventually("it asks", lambda: log.asked, PATIENCE)
    first = notifier.loop.thread
    assert first is not None
    notifier.reset()
    assert not first.is_alive()
    assert notifier.followed() == set()
    log.asked.clear()
    watch.add("b")
    await eventually("it asks again", lambda: ["a", "b"] in log.asked, PATIENCE)
    assert notifier.loop.thread is not first


async def test_after_a_restart_it_goes_on(notifier: Notifier, log: SharedEventLog) -> None:
    notifier.watch(log, lambda _: None).add("a")
    await eventually("it asks", lambda: log.asked, PATIENCE)
    first = notifier.loop.thread
    notifier.restart()
    log.asked.clear()
    await eventually("it asks again", lambda: ["a"] in log.asked, PATIENCE)
    assert notifier.loop.thread is not first
    assert threads() == 1


async def test_where_no_thread_can_be_had_publishing_goes_on(
    notifier: Notifier, log: SharedEventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    watch = notifier.watch(log, lambda _: None)
    watch.add("a")
    assert notifier.loop.thread is None
    assert "can't start new thread" in caplog.text
    monkeypatch.undo()
    watch.add("b")
    await eventually("it asks", lambda: ["a", "b"] in log.asked, PATIENCE)


def test_the_log_of_the_process_notifies_here_or_everywhere(tmp_path: Path) -> None:
    assert backend.event_log().on_change == local_notifier.notify
    with override_settings(AGENT_SSE=shared(tmp_path / "log")):
        assert backend.event_log().on_change == notifier_module.notifier.notify


async def test_a_process_that_follows_ends_like_any_other(tmp_path: Path) -> None:
    code = """
    async def main():
        notifier.watch(event_log(), lambda heads: told.set()).add("a")
        await asyncio.wait_for(asyncio.to_thread(told.wait), 60)
    told = threading.Event()
    asyncio.run(main())
    publish("a", "1")
    print(threading.active_count(), notifier.loop.thread.name)
    """
    began = time.monotonic()
    count, _, name = (await run(code, AGENT_SSE=shared(tmp_path / "log"))).strip().partition(" ")
    assert name == "sse-background"
    assert int(count) <= 4, "this one, that one, and an executor's"
    assert time.monotonic() - began < PATIENCE


async def test_after_a_fork_parent_and_child_have_a_thread_each(tmp_path: Path) -> None:
    code = """
    async def follow(topic, count):
        seen, news = [], asyncio.Event()
        def tell(heads):
            seen.append(heads)
            news.set()
        watch = notifier.watch(event_log(), tell)
        watch.add(topic)
        async with asyncio.timeout(30):
            while not any(heads[topic] and heads[topic].top >= count for heads in seen):
                news.clear()
                await news.wait()
        watch.clear()

    publish("a", "1")
    asyncio.run(follow("a", 1))
    mine = notifier.loop.thread
    child = os.fork()
    if not child:
        assert notifier.loop.thread is None and notifier.watches() == {}
        publish("a", "2")
        asyncio.run(follow("a", 2))
        assert notifier.loop.thread is not mine
        notifier.reset()
        os._exit(0)
    asyncio.run(follow("a", 2))
    assert os.waitpid(child, 0)[1] == 0
    assert notifier.loop.thread is mine and mine.is_alive()
    publish("a", "3")
    asyncio.run(follow("a", 3))
    print("fine")
    """
    fork_is_meant = "import warnings; warnings.simplefilter('ignore')\n"
    assert await run(fork_is_meant + dedent(code), AGENT_SSE=shared(tmp_path / "log")) == "fine\n"
