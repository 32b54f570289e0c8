"""Notifications in one process: who listens is told once per tick, on its own loop, from any thread."""

from __future__ import annotations

import asyncio
import threading

import pytest

from django_agent_sse.eventlog.notify.local import EVERY_TOPIC, LocalNotifier, local_notifier


@pytest.fixture
def own() -> LocalNotifier:
    return LocalNotifier()


async def test_many_notifications_of_a_tick_are_told_once(own: LocalNotifier) -> None:
    heard: list[frozenset[str]] = []
    own.listen(heard.append)
    for _ in range(100):
        own.notify("a")
    own.notify("b")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert heard == [{"a", "b"}]
    own.notify("a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert heard == [{"a", "b"}, {"a"}]


async def test_a_notification_from_a_thread_is_heard_on_the_loop(own: LocalNotifier) -> None:
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[tuple[frozenset[str], int]] = loop.create_future()
    own.listen(lambda topics: heard.set_result((topics, threading.get_ident())))
    await asyncio.to_thread(own.notify, "a")
    assert await asyncio.wait_for(heard, 60) == ({"a"}, threading.get_ident())


async def test_every_listening_loop_hears(own: LocalNotifier) -> None:
    heard: list[str] = []
    own.listen(lambda topics: heard.append("here"))

    async def elsewhere(ready: threading.Event, stop: asyncio.Event) -> None:
        own.listen(lambda topics: (heard.append("there"), stop.set()))  # type: ignore[func-returns-value]
        ready.set()
        await asyncio.wait_for(stop.wait(), 60)

    ready = threading.Event()
    other = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(elsewhere(ready, asyncio.Event()))))
    assert await asyncio.to_thread(ready.wait, 60)
    own.notify("a")
    await other
    await asyncio.sleep(0)
    assert sorted(heard) == ["here", "there"]
    own.notify("a")  # the other loop is closed by now
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(heard) == ["here", "here", "there"]


async def test_a_loop_that_listens_for_one_topic_is_not_woken_for_others(own: LocalNotifier) -> None:
    heard: list[frozenset[str]] = []
    own.listen(heard.append, only="a")
    own.notify("b")
    own.notify("c", None)
    await asyncio.sleep(0)
    assert heard == []
    own.notify("a")
    await asyncio.sleep(0)
    own.notify(EVERY_TOPIC)
    await asyncio.sleep(0)
    assert heard == [frozenset({"a"}), frozenset({EVERY_TOPIC})]


async def test_one_loop_may_listen_for_several_topics_each_for_itself(own: LocalNotifier) -> None:
    heard: list[tuple[str, frozenset[str]]] = []
    for name in ("a", "b"):
        own.listen(lambda topics, name=name: heard.append((name, topics)), only=name)  # type: ignore[misc]
    own.listen(lambda topics: heard.append(("all", topics)))
    own.notify("b")
    await asyncio.sleep(0)
    assert heard == [("b", {"b"}), ("all", {"b"})]


async def test_without_listeners_and_after_a_reset_nobody_hears(own: LocalNotifier) -> None:
    own.notify("a")
    heard: list[frozenset[str]] = []
    own.listen(heard.append)
    own.notify("b")
    own.reset()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert heard == []


def test_the_process_has_one() -> None:
    assert isinstance(local_notifier, LocalNotifier)
