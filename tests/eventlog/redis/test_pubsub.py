"""The one connection on which notifications come in, and how it finds out what it was not told."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from django_agent_sse.eventlog.records import Page
from django_agent_sse.eventlog.redis import RedisEventLog, pubsub
from django_agent_sse.wire.event import Event

from ...faults import Proxy, proxy
from ...inprocess import eventually
from ...services import free_port
from ...valkeys import Valkey, valkey

PATIENCE = 60.0
TOPIC = "builds.42"


@pytest.fixture
def server() -> Iterator[Valkey]:
    with valkey() as made:
        yield made


@pytest.fixture
def through(server: Valkey) -> Iterator[Proxy]:
    with proxy(free_port(), server.port) as made:
        yield made


class Heard:
    """A line to a server, and what it heard."""

    def __init__(self, url: str, prefix: str = "sse") -> None:
        self.log = RedisEventLog(url=url, prefix=prefix)
        self.heard: list[tuple[str, Page | None]] = []
        self.connection = pubsub.PubSubConnection(self.log.servers[0], self.log.keys, lambda *heard: self.heard.append(heard))

    def follow(self, topic: str) -> None:
        waiting = self.connection.follow(topic)
        if waiting is not None:
            waiting.result(PATIENCE)


@pytest.fixture
def lines(through: Proxy) -> Iterator[Callable[..., Heard]]:
    made: list[tuple[Heard, list[str]]] = []

    def make(*topics: str, url: str = "") -> Heard:
        heard = Heard(url or through.url)
        made.append((heard, [*topics]))
        for topic in topics:
            heard.follow(topic)
        return heard

    yield make
    for heard, topics in made:
        for topic in topics:
            heard.connection.unfollow(topic)


def until(what: str, probe: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not probe():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def texts(heard: Heard) -> list[str]:
    return [record.event.data for _, page in heard.heard if page for record in page.records]


def test_what_is_published_after_following_is_heard_with_its_events(lines: Callable[..., Heard], server: Valkey) -> None:
    heard = lines(TOPIC)
    RedisEventLog(url=server.url).append(TOPIC, [Event("1"), Event("2")])
    until("it notifies", lambda: texts(heard) == ["1", "2"])


def test_a_thousand_topics_come_in_on_one_connection(lines: Callable[..., Heard], server: Valkey) -> None:
    topics = [f"builds.{number}" for number in range(1_000)]
    heard = lines(*topics)
    log = RedisEventLog(url=server.url)
    for topic in topics[::100]:
        log.append(topic, Event(topic))
    until("all notify", lambda: texts(heard) == topics[::100])
    assert heard.connection.connections == 1
    assert sum("P" in client["flags"] for client in server.client().client_list()) == 1


def test_a_topic_notifies_once_for_all_who_follow_it_until_the_last_one_leaves(
    lines: Callable[..., Heard], server: Valkey
) -> None:
    heard = lines("other", TOPIC)
    heard.follow(TOPIC)
    heard.connection.unfollow(TOPIC)
    log = RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    until("it notifies once", lambda: texts(heard) == ["1"])
    heard.connection.unfollow(TOPIC)
    channel = log.keys.channel(TOPIC)
    until("it is given back", lambda: server.client().pubsub_numsub(channel) == [(channel.encode(), 0)])


def test_what_a_lost_notification_did_not_say_is_asked_for(
    lines: Callable[..., Heard], through: Proxy, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pubsub, "CHECK_INTERVAL", 0.2)
    monkeypatch.setattr(pubsub, "TICK", 0.05)
    heard = lines(TOPIC, "quiet")
    until("the first looks are over", lambda: {(TOPIC, None), ("quiet", None)} <= {*heard.heard})
    heard.heard.clear()
    through.faults.lose = 1.0
    RedisEventLog(url=server.url).append(TOPIC, Event("1"))
    until("it is found out", lambda: (TOPIC, None) in heard.heard)
    assert ("quiet", None) not in heard.heard, "of one that is where it was nothing is said"
    through.faults.lose = 0.0


def test_a_connection_that_stands_and_carries_nothing_is_made_anew(
    lines: Callable[..., Heard], through: Proxy, server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PROBE_IDLE", 0.2), ("PROBE_TIMEOUT", 0.1), ("TICK", 0.05)):
        monkeypatch.setattr(pubsub, name, value)
    heard = lines(TOPIC)
    through.stall(PATIENCE)
    until("it starves", lambda: heard.connection.stalls > 0)
    through.stalled_until = 0.0
    log = RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    until("it is told", lambda: heard.heard)
    until("it is up", lambda: heard.connection.up and heard.connection.trouble is None)


def test_a_connection_that_sends_to_itself_in_silence_lives_on(
    lines: Callable[..., Heard], monkeypatch: pytest.MonkeyPatch, server: Valkey
) -> None:
    for name, value in (("PROBE_IDLE", 0.1), ("TICK", 0.02)):
        monkeypatch.setattr(pubsub, name, value)
    heard = lines(TOPIC)

    def rung() -> int:
        return int(server.client().info("commandstats").get("cmdstat_publish", {"calls": 0})["calls"])

    until("it sends to itself several times", lambda: rung() >= 5)
    assert (heard.connection.connections, heard.connection.stalls) == (1, 0)


def test_nobody_waits_for_a_server_that_is_away_and_all_are_told_when_it_is_back(
    lines: Callable[..., Heard], through: Proxy, server: Valkey
) -> None:
    heard = lines(TOPIC)
    server.end()
    until("it is noticed", lambda: heard.connection.trouble)
    assert heard.connection.follow("another") is None
    assert not heard.connection.up or heard.connection.trouble
    server.start()
    RedisEventLog(url=server.url).append("another", Event("1"))
    until("who followed meanwhile is told to look", lambda: ("another", None) in heard.heard or "1" in texts(heard))
    heard.connection.unfollow("another")


async def test_who_reads_before_its_subscription_has_come_is_told_to_look_when_it_has(
    server: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would not hear for half a minute of what was published in between."""
    monkeypatch.setattr(pubsub, "CHECK_INTERVAL", 3600.0)
    log, told = RedisEventLog(url=server.url), list[str]()
    log.on_change = lambda topic, page=None: told.append(topic)
    RedisEventLog(url=server.url).append(TOPIC, Event("1"))  # somebody else
    await log.notifier.follow("another")
    await eventually("the connection is made", lambda: "another" in log.notifier.connections[0]._acknowledged)
    monkeypatch.setattr(pubsub, "FOLLOW_TIMEOUT", 0.05)
    server.hold()
    await log.notifier.follow(TOPIC)
    server.release()
    await eventually("it is told", lambda: TOPIC in told)
    for topic in ("another", TOPIC):
        log.notifier.unfollow(topic)


def test_the_task_and_the_connection_end_some_time_after_the_last_topic(
    lines: Callable[..., Heard], monkeypatch: pytest.MonkeyPatch, server: Valkey
) -> None:
    monkeypatch.setattr(pubsub, "UNUSED_IDLE", 0.1)
    monkeypatch.setattr(pubsub, "TICK", 0.05)
    heard = lines()
    heard.follow(TOPIC)
    heard.connection.unfollow(TOPIC)
    task = heard.connection._task
    assert task is not None
    until("the task has ended", lambda: heard.connection._task is None)
    assert task.wait(PATIENCE)
    until("the server has seen it close", lambda: not server.client().client_list(_type="pubsub"))
    heard.follow(TOPIC)
    RedisEventLog(url=server.url).append(TOPIC, Event("1"))
    until("it begins again", lambda: texts(heard) == ["1"])
    heard.connection.unfollow(TOPIC)


def test_what_is_used_of_redis_py_is_there(server: Valkey) -> None:
    """``ServerSocket`` reads the socket of a connection, which redis-py keeps for itself."""
    connection = RedisEventLog(url=server.url).servers[0].pool.make_connection()
    connection.connect()
    assert connection._sock.fileno() >= 0
    connection.disconnect()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """New sockets have numbers above 1023, as in a process with many streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    gc.collect()  # what it would close later would leave low numbers
    gc.disable()
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    assert held[-1] > 1023
    yield
    gc.enable()
    for one in held:
        os.close(one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_it_hears_and_reconnects_in_a_process_with_thousands_of_sockets(
    lines: Callable[..., Heard], through: Proxy, server: Valkey, many_descriptors: None
) -> None:
    heard = lines(TOPIC)
    assert heard.connection._socket.socket.fileno() > 1023  # type: ignore[union-attr]
    log = RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    until("it is heard", lambda: texts(heard) == ["1"])
    through.cut()
    until("it is connected again", lambda: heard.connection.connections >= 2 and heard.connection.up)
    until("it hears again", lambda: log.append(TOPIC, Event("2")) and "2" in texts(heard))


def test_an_error_of_whoever_is_told_ends_nothing(
    lines: Callable[..., Heard], server: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    heard = lines()
    told, wrong = heard.connection._on_notify, [ZeroDivisionError("deliberate")]

    def tell(topic: str, page: Page | None) -> None:
        if wrong:
            raise wrong.pop()
        told(topic, page)

    heard.connection._on_notify = tell
    heard.follow(TOPIC)
    log = RedisEventLog(url=server.url)
    until("it hears", lambda: log.append(TOPIC, Event("1")) and "1" in texts(heard))
    heard.connection.unfollow(TOPIC)
    assert "deliberate" in caplog.text
    assert "it goes on" in caplog.text


def test_whoever_follows_while_the_server_is_away_does_not_hasten_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, began, tries = Heard(f"redis://127.0.0.1:{free_port()}/0"), time.monotonic(), list[float]()
    pool = heard.log.servers[0].pool
    make = pool.make_connection

    def counted() -> Any:
        tries.append(time.monotonic() - began)
        return make()

    monkeypatch.setattr(pool, "make_connection", counted)
    heard.connection.follow(TOPIC)
    until("it was tried four times", lambda: len(tries) >= 4)
    heard.connection.unfollow(TOPIC)
    pauses = [later - sooner for sooner, later in pairwise(tries[:4])]
    assert all(pause >= least for pause, least in zip(pauses, [0.025, 0.05, 0.1], strict=True)), pauses
