"""What can be wrong with a server: each a typed error that names the setting, and nothing is appended, or half of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, TypeVar

import pytest
import redis
from django.test import override_settings

from django_agent_sse.eventlog.redis import RedisEventLog, scripts
from django_agent_sse.eventlog.redis.server import ConnectionLost
from django_agent_sse.exceptions import ConfigurationError, EventLogUnavailable, EventTooLarge
from django_agent_sse.wire.event import Event

from ...valkeys import Valkey, valkey

TOPIC = "builds.42"
_T = TypeVar("_T")
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
    assert time.monotonic() - began < 60, "a hundred refusals wait for nothing"


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


def test_a_batch_that_uses_up_the_memory_is_whole_or_refused(server: Valkey) -> None:
    """The room that is left is tried out, from too little for the command itself to enough for all of it."""
    log, client = RedisEventLog(url=f"{server.url}?socket_timeout=60"), server.client()
    log.append(TOPIC, Event("1"))
    said, top = set[str](), 1
    for room in range(0, 4_000_000, 100_000):
        client.config_set("maxmemory", client.info("memory")["used_memory"] + room)
        try:
            top = log.append(TOPIC, [Event("x" * 100)] * 1000).last
        except EventLogUnavailable as error:
            said.add(str(error).partition(" (")[0])
        client.config_set("maxmemory", 0)
        state = log.state(TOPIC)
        assert (state.top, state.events) == (top, top - state.floor), "what runs is not stopped half-way"
    assert said == {"the server of AGENT_SSE['EVENT_LOG']['OPTIONS']['url'] has no memory left"}
    assert top > 1


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("there_before", [True, False])
def test_a_key_of_another_type_is_told_and_left_as_it_is(
    new_log: Callable[..., RedisEventLog], redis_url: str, which: int, there_before: bool
) -> None:
    log, client = new_log(), redis.Redis.from_url(redis_url)
    if there_before:
        log.append(TOPIC, Event("1"))
    key = log.keys.topic(TOPIC)[which]
    client.delete(key)
    client.set(key, "mine")
    with pytest.raises(EventLogUnavailable, match=r"something else under a key of the log.*\['prefix'\]"):
        log.append(TOPIC, Event("2"))
    assert client.get(key) == b"mine"
    client.delete(key)
    assert log.state(TOPIC).top == (1 if there_before and which == 1 else 0), "nothing is half-appended"


@pytest.mark.parametrize("there_before", [True, False])
def test_an_idempotency_key_of_another_type_is_told_and_left_as_it_is(
    new_log: Callable[..., RedisEventLog], redis_url: str, there_before: bool
) -> None:
    log, client = new_log(), redis.Redis.from_url(redis_url)
    if there_before:
        log.append(TOPIC, Event("1"))
    once = log.keys.once(TOPIC, "k")
    client.rpush(once, "mine")
    with pytest.raises(EventLogUnavailable, match=r"something else under a key of the log.*\['prefix'\]"):
        log.append(TOPIC, Event("2"), key="k")
    assert client.lrange(once, 0, -1) == [b"mine"]
    assert log.state(TOPIC).top == int(there_before)


def test_a_script_of_somebody_else_that_runs_for_long_is_told(server: Valkey) -> None:
    log = RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    server.client().config_set("lua-time-limit", 10)

    def turn() -> None:
        with pytest.raises(Exception, match="SCRIPT KILL"):
            server.client(socket_timeout=30).eval("while true do end", 0)

    busy = threading.Thread(target=turn)
    busy.start()
    deadline = time.monotonic() + 60
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


def test_an_append_that_is_killed_before_it_writes_has_appended_nothing(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    log = RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    server.client().config_set("lua-time-limit", 1)
    ours, write = scripts.APPEND.text.removeprefix(scripts._COMMON), "local first, at, inlined, total ="
    assert ours.count(write) == 1
    monkeypatch.setattr(scripts, "APPEND", scripts.Script(ours.replace(write, f"while true do end {write}")))
    with ended(server) as answers, pytest.raises(EventLogUnavailable, match=f"{URL} was told to end the script.*Nothing was"):
        log.append(TOPIC, [Event("2"), Event("3")], key="k")
    monkeypatch.undo()
    assert "OK" in answers
    assert log.append(TOPIC, [Event("2"), Event("3")], key="k").first == 2


def test_an_append_that_has_begun_to_write_cannot_be_killed_and_is_whole(server: Valkey) -> None:
    log = RedisEventLog(url=f"{server.url}?socket_timeout=60")
    log.append(TOPIC, Event("1"))
    server.client().config_set("lua-time-limit", 1)
    with ended(server) as answers:
        for _ in range(20):
            before = until_told(lambda: log.state(TOPIC).top)
            with contextlib.suppress(EventLogUnavailable):  # killed before the first write, or another question met it
                log.append(TOPIC, [Event("x")] * 50_000)
            assert until_told(lambda: log.state(TOPIC).top) in (before, before + 50_000)
            if any("UNKILLABLE" in answer for answer in answers):
                return
    pytest.fail(f"nobody tried to end it in time: {answers}")


@contextlib.contextmanager
def ended(server: Valkey) -> Iterator[set[str]]:
    """Every script meanwhile is told to end; with what the server says to that."""
    answers: set[str] = set()
    over = threading.Event()

    def kill() -> None:
        client = server.client()
        while not over.wait(0.001):
            try:
                answers.add("OK" if client.script_kill() else "no")
            except redis.exceptions.ResponseError as error:
                answers.add(str(error))

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield answers
    finally:
        over.set()
        killer.join(20)


def until_told(ask: Callable[[], _T]) -> _T:
    """What the log says, once no script is in the way."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask()
        except EventLogUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_lists_of_another_type_do_not_make_an_append_look_as_if_it_had_failed(
    new_log: Callable[..., RedisEventLog], caplog: pytest.LogCaptureFixture
) -> None:
    log = new_log()
    client = log.servers[0].client
    client.set(log.keys.names, "mine")
    for number in (1, 2):
        assert log.append(TOPIC, Event("x")).last == number
    assert log.close(TOPIC)
    assert len([record for record in caplog.records if record.name.startswith("django_agent_sse")]) == 1
    assert "cannot be entered in the lists" in caplog.text
    assert log.keys.prefix in caplog.text or "['prefix']" in caplog.text
    with pytest.raises(EventLogUnavailable, match=r"\['prefix'\]"):
        log.topics()
    client.delete(log.keys.names)
    log.delete(TOPIC)
    log.append(TOPIC, Event("x"))
    assert log.topics() == [TOPIC]


def test_a_server_that_is_away_takes_only_its_own_topics_with_it(server: Valkey) -> None:
    with valkey() as other:
        log = RedisEventLog(url=[server.url, other.url])
        topics = [f"builds.{number}" for number in range(40)]
        gone = {topic for topic in topics if log._place(topic) == 1}
        assert 0 < len(gone) < len(topics)
        other.kill()
        for topic in topics:
            if topic in gone:
                with pytest.raises(EventLogUnavailable, match=r"\['url'\]\[1\]"):
                    log.append(topic, Event("x"))
            else:
                assert log.append(topic, Event("x")).last == 1, "new topics too, though they are counted over all servers"
                assert [record.event.data for record in log.read_after(topic).records] == ["x"]


def test_a_server_that_is_killed_amid_batches_has_whole_batches_only(server: Valkey) -> None:
    log = RedisEventLog(url=f"{server.url}?socket_timeout=60")
    acknowledged = 0

    begun = threading.Event()

    def crash() -> None:
        assert begun.wait(60)
        server.kill()  # the batches run meanwhile

    killer = threading.Thread(target=crash)
    killer.start()
    with pytest.raises(EventLogUnavailable):
        for _ in range(10_000):
            acknowledged = log.append(TOPIC, [Event("x" * 50)] * 1000).last
            begun.set()
    killer.join(60)
    server.start()
    state = RedisEventLog(url=server.url).state(TOPIC)
    assert acknowledged > 0
    assert state.top in (acknowledged, acknowledged + 1000)
    assert state.events == state.top - state.floor


def test_a_batch_beyond_what_one_command_takes_is_refused(log: RedisEventLog) -> None:
    with pytest.raises(EventTooLarge, match="100,001 events in one append"):
        log.append(TOPIC, [Event("")] * 100_001)
    assert log.append(TOPIC, [Event("")] * 100_000).last == 100_000


@contextlib.contextmanager
def answer_lost(log: RedisEventLog, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """The connection breaks after the script of the next append has run and before its answer is read."""
    server = log.servers[0]
    asked, broken = server.ask_once, []

    def lossy(call: Any) -> Any:
        found = asked(call)
        if call.func == scripts.APPEND.run and not broken:
            broken.append(found)
            meanwhile()
            raise ConnectionLost from OSError("reset")
        return found

    server.ask_once = lossy  # type: ignore[method-assign]
    yield
    server.ask_once = asked  # type: ignore[method-assign]
    assert broken


@pytest.mark.parametrize("count", [1, 2, 3_000])
def test_an_answer_that_is_lost_is_asked_for_again_and_nothing_is_appended_twice(server: Valkey, count: int) -> None:
    log = RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    with answer_lost(log):
        appended = log.append(TOPIC, [Event("x")] * count)
    assert (appended.first, appended.last) == (2, 1 + count)
    assert log.state(TOPIC).top == 1 + count
    assert [record.nonce for record in log.read_after(TOPIC, 1, 2).records] == [appended.nonce] * min(2, count)


def test_an_answer_that_is_lost_is_found_behind_what_others_appended_meanwhile(server: Valkey) -> None:
    log, other = RedisEventLog(url=server.url), RedisEventLog(url=server.url)
    log.append(TOPIC, Event("1"))
    with answer_lost(log, lambda: other.append(TOPIC, [Event("o")] * 4_000)):
        appended = log.append(TOPIC, [Event("2"), Event("3")])
    assert (appended.first, appended.last) == (2, 3)
    assert log.state(TOPIC).top == 4_003


def test_an_answer_that_is_lost_is_not_known_where_the_topic_is_trimmed_meanwhile(server: Valkey) -> None:
    log, other = (RedisEventLog(url=server.url, MAX_EVENTS=100) for _ in range(2))
    with (
        answer_lost(log, lambda: other.append(TOPIC, [Event("o")] * 200)),
        pytest.raises(EventLogUnavailable, match="is not known.*key="),
    ):
        log.append(TOPIC, Event("1"))
    with answer_lost(log, lambda: other.append(TOPIC, [Event("o")] * 200)):
        assert log.append(TOPIC, Event("2"), key="k").first == 202
    assert log.state(TOPIC).top == 402


def test_a_server_that_hangs_is_waited_for_by_one_caller_at_a_time(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = 0.5
    log = RedisEventLog(url=f"{server.url}?socket_timeout={wait}")
    log.append(TOPIC, Event("1"))
    server.hold()
    refused, tried, over = [0], list[float](), threading.Event()
    run = scripts.Script.run

    def counted(self: scripts.Script, *about: Any) -> Any:
        tried.append(time.monotonic())
        return run(self, *about)

    monkeypatch.setattr(scripts.Script, "run", counted)

    def publish() -> None:
        while not over.is_set():
            with pytest.raises(EventLogUnavailable, match=URL):
                log.append(TOPIC, Event("lost"), key="same")
            refused[0] += 1
            over.wait(0.005)

    with pytest.raises(EventLogUnavailable):
        log.append(TOPIC, Event("lost"), key="same")
    publishers = [threading.Thread(target=publish) for _ in range(8)]
    for publisher in publishers:
        publisher.start()
    time.sleep(4)
    over.set()
    for publisher in publishers:
        publisher.join(20)
    monkeypatch.undo()
    server.release()
    assert len(tried) > 1
    assert all(later - sooner >= wait for sooner, later in pairwise(tried)), "one at a time tries it"
    assert refused[0] > 10 * len(tried), "the others are told at once"
    until_told(lambda: log.append(TOPIC, Event("2"), key="same"))
    assert log.state(TOPIC).top == 2
