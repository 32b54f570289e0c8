"""Connections as the project's cache makes them: its URL, its password, its pool, its Sentinels."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from django.core.cache import caches
from django.test import override_settings

from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.redis import RedisEventLog
from django_agent_sse.eventlog.redis.log import THREADS
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.streams.kv import KV
from django_agent_sse.wire.event import Event

from ...inprocess import eventually
from ...tls import tls_before
from ...valkeys import Valkey, valkey

TOPIC = "builds.42"


@pytest.fixture
def server() -> Iterator[Valkey]:
    with valkey() as made:
        yield made


def cache(url: Any, **options: Any) -> dict[str, Any]:
    return {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "OPTIONS": options}}


def test_the_log_and_the_key_value_store_are_in_one_server_by_default(server: Valkey) -> None:
    with override_settings(CACHES=cache(server.url.replace("/0", "/3"))):
        log = RedisEventLog()
        log.append(TOPIC, Event("1"))
        caches["default"].set("there", 1)
    keys = {key.decode() for key in server.client(db=3).keys("*")}
    assert log.keys.topic(TOPIC)[0] in keys
    assert ":1:there" in keys
    assert log.servers[0].node == f"127.0.0.1:{server.port}/3"


def test_another_alias_may_be_named(server: Valkey) -> None:
    with override_settings(CACHES={**cache("redis://127.0.0.1:1"), "streams": cache(server.url)["default"]}):
        assert RedisEventLog(cache="streams").append(TOPIC, Event("1")).last == 1


def test_password_time_outs_and_pool_are_the_caches(server: Valkey) -> None:
    server.client().config_set("requirepass", "secret")
    options = {
        "PASSWORD": "secret",
        "SOCKET_TIMEOUT": 3,
        "SOCKET_CONNECT_TIMEOUT": 2,
        "CONNECTION_POOL_KWARGS": {"max_connections": 7, "decode_responses": True},
    }
    with override_settings(CACHES=cache(server.url, **options)):
        log = RedisEventLog()
        assert log.append(TOPIC, Event("1")).last == 1
    pool = log.servers[0].pool
    assert (pool.max_connections, pool.connection_kwargs["socket_timeout"]) == (7, 3)
    assert pool.connection_kwargs["socket_connect_timeout"] == 2


async def test_tls_is_the_caches_for_verbs_and_notifications(server: Valkey, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    trusting = {"CONNECTION_POOL_KWARGS": {"ssl_ca_certs": str(tmp_path / "authority.pem")}}
    heard: list[str] = []
    with tls_before(server.port, authority.issue_cert("localhost", "127.0.0.1")) as port:
        url = f"rediss://localhost:{port}/0"
        with override_settings(CACHES=cache(url, **trusting)):
            log = RedisEventLog()
        log.on_change = lambda topic, page=None: page and heard.append(topic)
        waiting = log.notifier.connections[0].follow(TOPIC)
        assert waiting is not None
        await asyncio.wait_for(asyncio.wrap_future(waiting), 60)
        assert (await log.aappend(TOPIC, Event("1"))).last == 1
        await eventually("the notification comes", lambda: heard)
        with override_settings(CACHES=cache(url)):
            distrustful = RedisEventLog()
        with pytest.raises(EventLogUnavailable, match="(?i)certificate"):
            await distrustful.aappend(TOPIC, Event("2"))
        log.notifier.unfollow(TOPIC)
    assert heard == [TOPIC]


def test_the_first_of_several_locations_is_the_primary(server: Valkey) -> None:
    with valkey() as replica:
        replica.client().replicaof("127.0.0.1", server.port)
        with override_settings(CACHES=cache([server.url, replica.url])):
            assert RedisEventLog().append(TOPIC, Event("1")).last == 1


def test_connections_of_a_log_are_not_those_of_the_cache(server: Valkey) -> None:
    with override_settings(CACHES=cache(server.url, CONNECTION_POOL_KWARGS={"max_connections": 1})):
        taken = caches["default"].client.get_client().connection_pool.get_connection()  # type: ignore[attr-defined]
        assert RedisEventLog().append(TOPIC, Event("1")).last == 1
        taken.disconnect()


async def test_however_much_is_asked_a_process_has_few_connections(server: Valkey, settings: Any) -> None:
    """Those of the log for verbs, one for notifications, and those of the key-value store: nothing else opens any."""
    settings.CACHES = cache(server.url)
    settings.AGENT_SSE = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog"}, "THREADS": 4}
    watched = server.client()
    before = len(watched.client_list())
    log, store = event_log(), KV("default")
    topics = [f"builds.{number}" for number in range(20)]
    assert isinstance(log, RedisEventLog)
    for topic in topics * 5:
        await log.notifier.follow(topic)
    await asyncio.gather(
        *(log.aappend(topic, Event("x")) for topic in topics * 10), *(store.set("builds", f"{n}", n) for n in range(200))
    )
    assert 3 <= len(watched.client_list()) - before <= THREADS + 1 + 4
    for topic in topics * 5:
        log.notifier.unfollow(topic)


def test_a_log_that_is_replaced_closes_its_connections(server: Valkey) -> None:
    log = RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    gone, watched = weakref.ref(log), server.client()
    before = len(watched.client_list())
    del log
    gc.collect()
    assert gone() is None
    deadline = time.monotonic() + 60
    while len(watched.client_list()) >= before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_after_a_failover_sentinels_say_where_to_go_on(server: Valkey) -> None:
    with valkey() as replica, valkey(sentinel=True) as sentinel:
        replica.client().replicaof("127.0.0.1", server.port)
        watch = sentinel.client()
        watch.execute_command("SENTINEL", "MONITOR", "main", "127.0.0.1", server.port, 1)
        for name, value in (("down-after-milliseconds", 500), ("failover-timeout", 5_000)):
            watch.execute_command("SENTINEL", "SET", "main", name, value)
        about: dict[str, Any] = {
            "CLIENT_CLASS": "django_redis.client.SentinelClient",
            "SENTINELS": [("127.0.0.1", sentinel.port)],
            "CONNECTION_POOL_CLASS": "redis.sentinel.SentinelConnectionPool",
        }
        factory = "django_redis.pool.SentinelConnectionFactory"
        with override_settings(CACHES=cache("redis://main/0", **about), DJANGO_REDIS_CONNECTION_FACTORY=factory):
            log = RedisEventLog()
        assert log.append(TOPIC, Event("1")).last == 1
        assert log.servers[0].node == "main/0", "topics stay where they are, whoever is the primary"
        deadline = time.monotonic() + 60
        while watch.execute_command("SENTINEL", "REPLICAS", "main") == [] or replica.client().dbsize() == 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        server.kill()
        deadline = time.monotonic() + 60
        while _refused(log):
            if int(watch.info("sentinel")["sentinel_tilt"]):  # the machine stood still: it does nothing for half a minute
                deadline = time.monotonic() + 60
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert log.state(TOPIC).top == 2
        assert replica.client().role()[0] == b"master"


def _refused(log: RedisEventLog) -> bool:
    """Whether an append fails as it should while there is no primary."""
    try:
        log.append(TOPIC, Event("2"))
    except EventLogUnavailable:
        return True
    return False


def test_the_rights_that_the_documentation_names_are_enough(server: Valkey) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "howto" / "redis.rst").read_text(encoding="utf-8")
    rights = page.partition("user streams on >password ")[2].partition("\n\n")[0].split()
    server.client().execute_command("ACL", "SETUSER", "streams", "on", ">password", *rights)
    log = RedisEventLog(url=server.url.replace("//", "//streams:password@"), MAX_TOPICS=2)
    for topic in ("a", "b", TOPIC):
        log.append(topic, [Event("1"), Event("2")], key="k")
    assert log.append(TOPIC, [Event("1")], key="k").last == 2
    assert log.topics() == ["b", TOPIC]
    log.note_followed([TOPIC])
    assert len(log.read_after(TOPIC).records) == 2
    assert log.trim(TOPIC, max_events=1) == 1
    assert log.summaries([TOPIC])[TOPIC].floor == 1
    epoch = log.state(TOPIC).epoch
    log.fork(TOPIC, epoch)
    assert log.state(TOPIC).epoch != epoch
    assert log.close(TOPIC)
    assert log.delete(TOPIC)
    waiting = log.notifier.connections[0].follow("b")  # type: ignore[union-attr]
    assert waiting is not None
    waiting.result(60)
    assert log.notifier.notifies("b")  # type: ignore[union-attr]
    log.notifier.unfollow("b")  # type: ignore[union-attr]
    assert [finding.kind for finding in log.examine()] == ["forgets"]
