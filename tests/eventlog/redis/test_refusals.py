"""What can be wrong with a server: each a typed error that names the setting, and nothing is appended, or half of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_agent_sse.eventlog.redis import RedisEventLog
from django_agent_sse.exceptions import ConfigurationError, EventLogUnavailable, EventTooLarge
from django_agent_sse.wire.event import Event

from ...valkeys import Valkey, valkey

TOPIC = "builds.42"
URL = r"AGENT_SSE\['EVENT_LOG'\]\['OPTIONS'\]\['url'\]"


@pytest.fixture
def server() -> Iterator[Valkey]:
    with valkey(appendonly="yes", appendfsync="always") as made:
        yield made


@pytest.mark.parametrize("url", ["", "127.0.0.1:6379", "http://127.0.0.1:6379", "redis://127.0.0.1:port/0", 6379, None, []])
def test_a_wrong_url_is_refused_before_anything_is_asked(url: Any) -> None:
    options = {"url": url} if url is not None else {"cache": "nothing"}
    with pytest.raises(ConfigurationError, match=r"\['url'\]|\['cache'\] is 'nothing', which CACHES does not define"):
        RedisEventLog(**options)


def test_odd_options_are_refused(redis_url: str) -> None:
    with pytest.raises(ConfigurationError, match="both 'cache' and 'url'"):
        RedisEventLog(url=redis_url, cache="default")
    with pytest.raises(ConfigurationError, match="some twice"):
        RedisEventLog(url=[redis_url, redis_url])
    with pytest.raises(ConfigurationError, match="names one server twice"):
        RedisEventLog(url=[redis_url, redis_url + "?socket_timeout=3"])
    for prefix in ("", "a b", "{x}", "x" * 101, 7):
        with pytest.raises(ConfigurationError, match="prefix"):
            RedisEventLog(url=redis_url, prefix=prefix)  # type: ignore[arg-type]


@override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})
def test_a_cache_that_is_not_django_redis_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"CACHES\['default'\] is .*LocMemCache, which is not django-redis"):
        RedisEventLog()


def test_a_server_that_is_not_there_fails_fast_and_names_the_setting() -> None:
    log = RedisEventLog(url="redis://127.0.0.1:1/0")
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(EventLogUnavailable, match=f"{URL}.*(Is it up|nothing was asked|Nothing was appended)"):
            log.append(TOPIC, Event("x"))
    assert time.monotonic() - began < 5, "a hundred refusals wait for nothing"


def test_a_wrong_password_is_told(server: Valkey) -> None:
    server.client().config_set("requirepass", "secret")
    with pytest.raises(EventLogUnavailable, match=f"{URL} refuses the password"):
        RedisEventLog(url=server.url).append(TOPIC, Event("x"))
    with pytest.raises(EventLogUnavailable, match=f"{URL} refuses the password"):
        RedisEventLog(url=server.url.replace("//", "//:wrong@")).append(TOPIC, Event("x"))
    assert RedisEventLog(url=server.url.replace("//", "//:secret@")).append(TOPIC, Event("x")).last == 1


def test_a_replica_is_told_and_takes_nothing(server: Valkey) -> None:
    log = RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    server.client().replicaof("127.0.0.1", 1)
    with pytest.raises(EventLogUnavailable, match=f"{URL} is a read-only replica.*name the primary.*Nothing was appended"):
        log.append(TOPIC, Event("2"))
    server.client().replicaof("NO", "ONE")
    assert log.append(TOPIC, Event("2")).last == 2


def test_a_server_without_memory_is_told_and_takes_no_part_of_a_batch(server: Valkey) -> None:
    log = RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    server.client().config_set("maxmemory", 1)
    with pytest.raises(EventLogUnavailable, match=f"{URL} has no memory left.*MAX_EVENTS"):
        log.append(TOPIC, [Event("x" * 1000)] * 1000)
    with pytest.raises(EventLogUnavailable, match="no memory left"):
        log.append("builds.43", Event("x"), key="k")
    server.client().config_set("maxmemory", 0)
    assert (log.state(TOPIC).top, log.state("builds.43").exists) == (1, False)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("there_before", [True, False])
def test_a_key_of_another_type_is_told_and_left_as_it_is(
    new_log: Callable[..., RedisEventLog], redis_url: str, which: int, there_before: bool
) -> None:
    import redis

    log, client = new_log(), redis.Redis.from_url(redis_url)
    if there_before:
        log.append(TOPIC, Event("1"))
    key = log.keys.topic(TOPIC)[which]
    client.delete(key)
    client.set(key, "mine")
    with pytest.raises(EventLogUnavailable, match=r"something else under a key of the log.*\['prefix'\]"):
        log.append(TOPIC, Event("2"))
    assert client.get(key) == b"mine"


def test_a_script_of_somebody_else_that_runs_for_long_is_told(server: Valkey) -> None:
    log = RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    server.client().config_set("lua-time-limit", 10)

    def turn() -> None:
        with pytest.raises(Exception, match="SCRIPT KILL"):
            server.client(socket_timeout=30).eval("while true do end", 0)

    busy = threading.Thread(target=turn)
    busy.start()
    deadline = time.monotonic() + 20
    seen = ""
    while "runs a script of somebody else" not in seen:
        assert time.monotonic() < deadline, seen
        try:
            log.append(TOPIC, Event("2"))
        except EventLogUnavailable as error:
            seen = str(error)
    server.client().script_kill()
    busy.join(20)
    top = log.state(TOPIC).top
    assert log.append(TOPIC, Event("next")).last == top + 1


def test_a_server_that_is_killed_amid_batches_has_whole_batches_only(server: Valkey) -> None:
    log = RedisEventLog(url=server.url)
    acknowledged = 0

    def crash() -> None:
        time.sleep(0.3)  # the batches run meanwhile
        server.kill()

    killer = threading.Thread(target=crash)
    killer.start()
    with pytest.raises(EventLogUnavailable):
        for _ in range(10_000):
            acknowledged = log.append(TOPIC, [Event("x" * 50)] * 1000).last
    killer.join(20)
    server.start()
    state = RedisEventLog(url=server.url).state(TOPIC)
    assert acknowledged > 0
    assert state.top in (acknowledged, acknowledged + 1000)
    assert state.events == state.top - state.floor


def test_a_batch_beyond_what_one_command_takes_is_refused(log: RedisEventLog) -> None:
    with pytest.raises(EventTooLarge, match="100,001 events in one append"):
        log.append(TOPIC, [Event("")] * 100_001)
    assert log.append(TOPIC, [Event("")] * 100_000).last == 100_000


def test_an_answer_that_is_lost_is_asked_for_again_and_nothing_is_appended_twice(server: Valkey) -> None:
    """The connection breaks after the script has run and before its answer is read."""
    log = RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    asked = log.servers[0].run
    broken = []

    def lossy(script: Any, keys: Any, args: Any) -> Any:
        found = asked(script, keys, args)
        if script.name == "append" and not broken:
            broken.append(found)
            from django_agent_sse.eventlog.redis.server import Lost

            raise Lost from OSError("reset")
        return found

    log.servers[0].run = lossy  # type: ignore[method-assign]
    appended = log.append(TOPIC, [Event("2"), Event("3")])
    assert (appended.first, appended.last) == (2, 3)
    assert log.state(TOPIC).top == 3
    assert [record.nonce for record in log.read_after(TOPIC, 1).records] == [appended.nonce] * 2
