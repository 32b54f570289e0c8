"""Notifications through real channel layers: they hasten, and whatever happens to them loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from channels.layers import channel_layers
from django.test import override_settings

from django_agent_sse.eventlog.notify import channel_layer as layer_module
from django_agent_sse.eventlog.notify import poll as poll_module
from django_agent_sse.eventlog.notify import remote as remote_module
from django_agent_sse.eventlog.notify.channel_layer import GROUP
from django_agent_sse.eventlog.notify.local import LocalNotifier
from django_agent_sse.eventlog.notify.notifier import Notifier
from django_agent_sse.eventlog.notify.remote import PendingTopics
from django_agent_sse.runtime.loop import BackgroundLoop
from django_agent_sse.topics.feeds import Feeds
from django_agent_sse.topics.follower import Follower
from django_agent_sse.wire.event import Event
from tests.inprocess import eventually
from tests.topics.reading import texts_until

from ..layers import CORE, PUBSUB, Redis, through
from ..processes import PATIENCE, run, shared
from ..shared import SharedEventLog

BACKENDS = pytest.mark.parametrize("backend", [PUBSUB, CORE], ids=["pubsub", "core"])


class Process:
    """What a process has one of each of; several of them are here in one."""

    def __init__(self, file: Path) -> None:
        self.local = LocalNotifier()
        self.notifier = Notifier(self.local, BackgroundLoop())
        self.log = SharedEventLog(str(file))
        self.log.on_change = self.notifier.notify
        self.heard: set[str] = set()
        self.rings = 0

    def follow(self, *topics: str) -> None:
        self.local.listen(self._hear)
        watch = self.notifier.watch(self.log, lambda _: None)
        for topic in topics:
            watch.add(topic)

    def _hear(self, topics: frozenset[str]) -> None:
        self.heard |= topics
        self.rings += 1


@pytest_asyncio.fixture
async def process(tmp_path: Path) -> AsyncIterator[Callable[[], Process]]:
    made: list[Process] = []

    def make() -> Process:
        made.append(Process(tmp_path / "log"))
        return made[-1]

    yield make
    for one in made:
        await asyncio.to_thread(one.notifier.reset)


@pytest.fixture
def no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is heard comes through the layer."""
    monkeypatch.setattr(poll_module, "SLOWEST", 3600.0)
    monkeypatch.setattr(poll_module, "FASTEST", 3600.0)


@pytest.fixture
def redis() -> Iterator[Redis]:
    server = Redis()
    server.start()
    yield server
    server.stop()


async def until_heard(here: Process, there: Process, topic: str = "a") -> None:
    """Ring there until it is heard here: whoever has just begun to listen may miss the first ones."""
    here.heard.discard(topic)
    async with asyncio.timeout(PATIENCE):
        while topic not in here.heard:
            there.notifier.notify(topic)
            with contextlib.suppress(AssertionError):  # not again and again: what comes late would be taken for another one
                await eventually("it is heard", lambda: topic in here.heard, 0.3)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "django_agent_sse.notify"]


@BACKENDS
async def test_a_notification_is_heard_by_another_process_that_follows(
    backend: str, redis_url: str, process: Callable[[], Process], no_poll: None
) -> None:
    with override_settings(CHANNEL_LAYERS=through(redis_url, backend)):
        here, there = process(), process()
        here.follow("a", "b")
        await until_heard(here, there)
        there.notifier.notify("b")
        there.notifier.notify("c")
        await eventually("it is heard", lambda: "b" in here.heard, PATIENCE)
        await until_heard(here, there)
        assert "c" not in here.heard, "nobody here follows it"


@BACKENDS
async def test_the_notification_of_a_script_that_ends_at_once_is_not_lost(
    backend: str, redis_url: str, process: Callable[[], Process], no_poll: None, tmp_path: Path
) -> None:
    code = """
    from django_agent_sse.eventlog.notify import notifier as module
    module.FLUSH_TIMEOUT = 60.0  # the end of a script waits for a second, in which a busy machine may not import the layer
    publish("b", "1")
    """
    layers = through(redis_url.replace("127.0.0.1", "localhost"), backend)  # a name: to look it up takes an executor
    with override_settings(CHANNEL_LAYERS=layers):
        here, there = process(), process()
        here.follow("a", "b")
        await until_heard(here, there)
        here.heard.clear()
        assert await run(code, AGENT_SSE=shared(tmp_path / "log"), CHANNEL_LAYERS=layers) == ""
        await eventually("it is heard", lambda: "b" in here.heard, PATIENCE)


async def test_a_script_whose_layer_is_down_publishes_and_ends(tmp_path: Path) -> None:
    layers = through("redis://127.0.0.1:1/0")
    code = """
    import logging
    logging.getLogger("django_agent_sse.notify").addHandler(logging.StreamHandler(sys.stdout))
    began = time.monotonic()
    for number in range(20):
        publish("a", str(number))
    while not notifier.troubles():  # a busy machine takes more than the second that the end waits for, to import the layer
        time.sleep(0.01)
    import atexit
    atexit.register(lambda: print(time.monotonic() - began < 30))
    """
    printed = await run(code, AGENT_SSE=shared(tmp_path / "log"), CHANNEL_LAYERS=layers)
    assert SharedEventLog(str(tmp_path / "log")).state("a").top == 20
    assert printed.count("notifications cannot be sent") == 1
    assert printed.endswith("True\n")


async def test_its_own_notifications_are_not_heard_again(redis_url: str, process: Callable[[], Process], no_poll: None) -> None:
    with override_settings(CHANNEL_LAYERS=through(redis_url)):
        here, there = process(), process()
        here.follow("a", "b")
        await until_heard(here, there)
        rings = here.rings
        here.notifier.notify("b")
        await eventually("it is heard once", lambda: here.rings > rings, PATIENCE)
        assert await asyncio.to_thread(here.notifier.flush, PATIENCE)
        there.notifier.notify("a")
        await eventually("another one's is heard", lambda: here.rings == rings + 2, PATIENCE)


async def test_what_is_published_fast_is_told_of_in_few_messages(
    redis_url: str, process: Callable[[], Process], no_poll: None
) -> None:
    with override_settings(CHANNEL_LAYERS=through(redis_url)):
        here, there = process(), process()
        topics = [f"topic.{number}" for number in range(1000)]
        here.follow("a", *topics)
        await until_heard(here, there)
        rings = here.rings
        for topic in topics * 5:
            there.notifier.notify(topic)
        await eventually("all are heard", lambda: here.heard >= {*topics}, PATIENCE)
        assert here.rings - rings < 1000


async def test_messages_that_nobody_should_send_change_nothing(
    redis_url: str, process: Callable[[], Process], no_poll: None, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(CHANNEL_LAYERS=through(redis_url)):
        here, there = process(), process()
        here.follow("a", "b")
        await until_heard(here, there)
        here.heard.clear()
        stranger: Any = channel_layers.make_backend("default")
        worthless: list[Any] = [None, "a", 5, {"a": 1}, [None, 5, ["a"], {"b": 2}, "", "x" * 100_000, "nobody.follows"], [[]]]
        messages: list[Any] = [*({"topics": topics} for topics in worthless), {}, {"type": GROUP}, [], "a", 5, None]
        for message in messages * 2:
            await stranger.group_send(GROUP, message)
        await stranger.group_send(GROUP, {"topics": ["a", 5, "b"]})
        await eventually("what is right in them is heard", lambda: here.heard >= {"a", "b"}, PATIENCE)
        assert here.heard == {"a", "b"}
        assert said(caplog) == []
        await stranger._get_layer()._shards[0]._redis.publish(stranger._get_layer()._get_group_channel_name(GROUP), b"\xc1\x00")
        await until_heard(here, there)
        assert [text.partition(" through")[0] for text in said(caplog)][:1] == ["notifications cannot be received"]
        await stranger.flush()


@BACKENDS
async def test_a_layer_that_is_stopped_and_started_loses_nothing(
    backend: str, redis: Redis, process: Callable[[], Process], caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(CHANNEL_LAYERS=through(redis.url, backend)):
        here, there = process(), process()
        feeds = Feeds(here.log, here.local, here.notifier)
        feed = await feeds.open("a")
        follower = Follower(feed)
        numbers = iter(range(10_000))

        async def publish(count: int) -> list[str]:
            texts = [str(next(numbers)) for _ in range(count)]
            for text in texts:
                await there.log.aappend("a", Event(text))
            return texts

        before = await publish(10)
        assert await texts_until(follower, 10) == before
        await asyncio.to_thread(redis.stop)
        while_down = await publish(10)
        assert await texts_until(follower, 10) == while_down
        await eventually("that is said", lambda: any("cannot be sent" in text for text in said(caplog)), PATIENCE)
        await asyncio.to_thread(redis.start)
        again = await publish(10)
        assert await texts_until(follower, 10) == again
        feeds.close()

        other = process()
        other.follow("b")
        await until_heard(other, there, "b")  # it rings again
        for trouble in ("notifications cannot be sent", "notifications cannot be received"):
            begun = [text for text in said(caplog) if text.startswith(trouble)]
            assert len(begun) <= 3, begun  # once for each of the processes that are here together


async def test_of_a_layer_that_loses_and_doubles_messages_nothing_is_lost(redis_url: str, process: Callable[[], Process]) -> None:
    with override_settings(CHANNEL_LAYERS=through(redis_url, "tests.eventlog.layers.Lossy")):
        here, publishers = process(), [process(), process()]
        feeds = Feeds(here.log, here.local, here.notifier)
        followers = {topic: Follower(await feeds.open(topic)) for topic in ("a", "b", "c")}

        async def publish(number: int) -> None:
            log = publishers[number % 2].log
            for topic in followers:
                await log.aappend(topic, Event(str(number)))
            await asyncio.sleep(random.uniform(0, 0.02))

        async def publish_all() -> None:
            for number in range(60):
                await publish(number)

        publishing = asyncio.create_task(publish_all())
        for follower in followers.values():
            assert await texts_until(follower, 60) == [str(number) for number in range(60)]
        await publishing
        feeds.close()


async def test_a_redis_that_has_forgotten_the_group_is_told_again(
    redis: Redis, process: Callable[[], Process], no_poll: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_module, "RENEW_INTERVAL", 0.1)
    with override_settings(CHANNEL_LAYERS=through(redis.url, CORE)):
        here, there = process(), process()
        here.follow("a")
        await until_heard(here, there)
        stranger: Any = channel_layers.make_backend("default")
        await stranger.connection(0).flushall()
        await until_heard(here, there)
        await stranger.close_pools()


async def test_a_redis_client_that_gives_up_waiting_is_explained_once_and_heard(
    redis_url: str, process: Callable[[], Process], no_poll: None, caplog: pytest.LogCaptureFixture
) -> None:
    with override_settings(CHANNEL_LAYERS=through(redis_url, CORE, socket_timeout=1.2)):
        here, there = process(), process()

        def hints() -> list[str]:  # a server that stands still for as long is said besides
            return [text for text in said(caplog) if "gives up waiting" in text]

        here.follow("a")
        await until_heard(here, there)
        await eventually("it is explained", hints, PATIENCE)
        await until_heard(here, there)
        await asyncio.sleep(2.6)
        await until_heard(here, there)
        (hint,) = hints()
        assert '"socket_timeout": None' in hint


async def test_consumers_of_the_project_receive_beside_it(redis_url: str, process: Callable[[], Process], no_poll: None) -> None:
    with override_settings(CHANNEL_LAYERS=through(redis_url, CORE)):
        here, there = process(), process()
        here.follow("a")
        await until_heard(here, there)
        consumer: Any = channel_layers["default"]
        channel = await consumer.new_channel()
        receiving = asyncio.create_task(consumer.receive(channel))
        await consumer.send(channel, {"type": "chat"})
        assert await asyncio.wait_for(receiving, PATIENCE) == {"type": "chat"}
        await until_heard(here, there)
        await consumer.close_pools()


async def test_the_group_is_left_where_nothing_is_followed(
    redis_url: str, process: Callable[[], Process], no_poll: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_module, "RENEW_INTERVAL", 0.05)
    monkeypatch.setattr(layer_module, "LEAVE_IDLE", 0.1)
    with override_settings(CHANNEL_LAYERS=through(redis_url, CORE)):
        here, there = process(), process()
        here.follow("a")
        await until_heard(here, there)
        stranger: Any = channel_layers.make_backend("default")

        async def members() -> int:
            found: int = await stranger.connection(0).zcard(stranger._group_key(GROUP))
            return found

        assert await members() == 1, "who only publishes is no member"
        for watch in here.notifier.watches():
            watch.clear()
        async with asyncio.timeout(PATIENCE):
            while await members():  # noqa: ASYNC110  it is in Redis
                await asyncio.sleep(0.02)
        here.follow("a")
        await until_heard(here, there)
        await asyncio.to_thread(here.notifier.reset)
        assert await members() == 0, "nor is who has ended"
        await stranger.close_pools()


async def test_a_layer_that_does_not_exist_is_said_once(
    process: Callable[[], Process], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "nowhere.Layer"}}):
        here, there = process(), process()
        here.follow("a")
        appended = await there.log.aappend("a", Event("1"))
        assert len(appended) == 1
        await eventually("both are said", lambda: len(said(caplog)) == 2, PATIENCE)
        assert all("Cannot import BACKEND 'nowhere.Layer'" in text for text in said(caplog))
        own = [record for record in caplog.records if record.name.startswith("django_agent_sse")]
        assert {record.levelno for record in own} == {logging.WARNING}


async def test_a_forked_child_has_a_layer_of_its_own_and_leaves_the_parents_alone(
    redis_url: str, process: Callable[[], Process], no_poll: None, tmp_path: Path
) -> None:
    code = """
    import gc, warnings
    warnings.simplefilter("ignore")
    from django_agent_sse.eventlog.notify import notifier as module, poll
    from django_agent_sse.eventlog.notify.local import local_notifier
    poll.SLOWEST = poll.FASTEST = 3600.0
    module.FLUSH_TIMEOUT = 60.0

    async def hear(topic, times):
        heard = asyncio.Queue()
        local_notifier.listen(heard.put_nowait)
        watch = notifier.watch(event_log(), lambda _: None)
        watch.add(topic)
        for _ in range(times):
            await asyncio.wait_for(heard.get(), 60)
        watch.clear()

    asyncio.run(hear("a", 3))
    child = os.fork()
    if not child:
        gc.collect()
        asyncio.run(hear("a", 3))
        notifier.notify("b")
        assert notifier.flush(10)
        notifier.reset()
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    asyncio.run(hear("a", 3))
    publish("c", "1")
    print("fine")
    """
    layers = through(redis_url)
    with override_settings(CHANNEL_LAYERS=layers):
        here, there = process(), process()
        here.follow("b", "c")
        running = asyncio.create_task(run(code, AGENT_SSE=shared(tmp_path / "log"), CHANNEL_LAYERS=layers))
        while not running.done():
            there.notifier.notify("a")
            await asyncio.sleep(0.02)
        assert await running == "fine\n"
        await eventually("child and parent were heard", lambda: here.heard >= {"b", "c"}, PATIENCE)


def test_a_layer_without_channels_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(CHANNEL_LAYERS=through("redis://127.0.0.1:1/0")):
        assert layer_module.layer_configured()
        monkeypatch.setattr(layer_module.importlib.util, "find_spec", lambda name: None)
        assert not layer_module.layer_configured()


async def test_there_is_one_thread_however_often_it_is_used(redis_url: str, process: Callable[[], Process]) -> None:
    with override_settings(CHANNEL_LAYERS=through(redis_url)):
        here = process()
        here.follow("a")
        here.notifier.notify("a")
        assert await asyncio.to_thread(here.notifier.flush, PATIENCE)
        thread, count = here.notifier.loop.thread, threading.active_count()
        for number in range(200):
            here.notifier.notify(f"topic.{number}")
            here.follow(f"topic.{number}")
        assert await asyncio.to_thread(here.notifier.flush, PATIENCE)
        assert here.notifier.loop.thread is thread
        assert threading.active_count() <= count + 2, "but for those of executors"


def test_names_wait_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "MAX_PENDING", 3)
    monkeypatch.setattr(remote_module, "MAX_NAMES", 2)
    outbox = PendingTopics()
    assert outbox.put("a")
    assert not outbox.put("b")
    for name in ("c", "d", "a"):
        outbox.put(name)
    assert not outbox.wait_empty(0)
    first = outbox.take()
    assert not outbox.wait_empty(0)
    assert sorted([*first, *outbox.take()]) == ["a", "b", "c"]
    assert not outbox.wait_empty(0), "they are not sent yet"
    outbox.sent()
    assert outbox.wait_empty(0)
