"""The key-value store, over every kind of cache that handlers meet."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import decimal
import os
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import pytest
import redis
from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from django_agent_sse.exceptions import ArgumentInvalid, ConfigurationError, KVError, KVKeyInvalid
from django_agent_sse.streams import kv as kv_module
from django_agent_sse.streams.kv import KV, KVResult
from tests.services import running_redis
from tests.starting import threads_begun

REDIS = "django.core.cache.backends.redis.RedisCache"
DJANGO_REDIS = "django_redis.cache.RedisCache"
LOCAL = "django.core.cache.backends.locmem.LocMemCache"
DATABASE = "django.core.cache.backends.db.DatabaseCache"

pytestmark = pytest.mark.django_db(transaction=True)


@dataclasses.dataclass(frozen=True)
class Build:
    number: int
    steps: tuple[str, ...]


VALUES: list[Any] = [
    "text",
    "",
    '{"looks": "like JSON"}',
    "null",
    "42",
    "größe ✓ \u2028",
    b"bytes",
    b"",
    b"42",
    b"\x80\xff\x00",
    0,
    42,
    -1,
    2**70,
    True,
    False,
    1.5,
    float("inf"),
    None,
    [],
    [1, "two", None],
    (1, 2),
    ((), []),
    {1: "int key", "two": (3,)},
    {1, 2},
    dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC),
    dt.timedelta(seconds=1),
    decimal.Decimal("1.10"),
    Build(7, ("configure", "compile")),
]


def use_cache(settings: Any, backend: str, location: str = "", **options: Any) -> KV:
    settings.CACHES = {"default": {"BACKEND": LOCAL}, "kv": {"BACKEND": backend, "LOCATION": location, **options}}
    return KV("kv")


@pytest.fixture(params=["local", "database", "redis", "django-redis"])
def kv(request: pytest.FixtureRequest, settings: Any, tmp_path: Any) -> Iterator[KV]:
    """The store over each kind of cache; under a prefix of its own where a server is shared."""
    prefix = f"{os.getpid()}.{tmp_path.name}"
    if request.param == "local":
        yield use_cache(settings, LOCAL, prefix)
    elif request.param == "database":
        store = use_cache(settings, DATABASE, "kv_cache_table")
        call_command("createcachetable")
        yield store
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE kv_cache_table")
    else:
        url = request.getfixturevalue("redis_url")
        yield use_cache(settings, REDIS if request.param == "redis" else DJANGO_REDIS, url, KEY_PREFIX=prefix)


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_c02_a_type_comes_back_as_it_went_in(kv: KV, value: Any) -> None:
    await kv.set("builds", "42:logs", value)
    found = await kv.get("builds", "42:logs")
    assert found == KVResult(exists=True, data=value)
    assert type(found.data) is type(value)
    many = await kv.get_many("builds", ["42:logs"])
    assert many == {"42:logs": value}
    assert type(many["42:logs"]) is type(value)


async def test_c02_none_and_missing_are_told_apart(kv: KV) -> None:
    await kv.set("builds", "none", None)
    assert await kv.get("builds", "none") == KVResult(exists=True, data=None)
    assert await kv.get("builds", "missing") == KVResult(exists=False, data=None)
    assert await kv.get_many("builds", ["none", "missing"]) == {"none": None}


async def test_c02_delete_says_whether_there_was_something(kv: KV) -> None:
    await kv.set("builds", "42", "x")
    assert await kv.delete("builds", "42") is True
    assert await kv.delete("builds", "42") is False
    assert not (await kv.get("builds", "42")).exists


async def test_c02_namespaces_do_not_meet(kv: KV) -> None:
    await kv.set("a", "b:c", 1)
    await kv.set("a:b", "c", 2)
    await kv.set("a%3Ab", "c", 3)
    assert [(await kv.get(ns, key)).data for ns, key in (("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"))] == [1, 2, 3]


async def test_c02_an_entry_without_ttl_never_expires_and_one_with_it_does(kv: KV, monkeypatch: pytest.MonkeyPatch) -> None:
    class RecordedError(Exception):
        pass

    def set_with(_: object, key: str, value: object, timeout: object, version: object = None) -> None:
        raise RecordedError(timeout)

    monkeypatch.setattr(type(caches["kv"]), "set", set_with)
    fractional = 0.2 if isinstance(caches["kv"], kv_module.LocMemCache) else 1
    for ttl, expected in [(None, None), (60, 60), (0.2, fractional)]:
        with pytest.raises(RecordedError) as passed:
            await kv.set("builds", "42", "x", ttl=ttl)
        assert passed.value.args == (expected,)


async def test_an_expired_entry_is_missing(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = use_cache(settings, LOCAL, "expiry")
    await store.set("builds", "42", "x", ttl=60)
    assert (await store.get("builds", "42")).exists
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert not (await store.get("builds", "42")).exists


async def test_a_short_ttl_is_kept_by_redis_and_not_taken_for_delete(settings: Any, redis_url: str) -> None:
    store = use_cache(settings, REDIS, redis_url, KEY_PREFIX="short")
    with redis.Redis.from_url(redis_url) as client:
        for _ in range(60):
            began = time.monotonic()
            await store.set("builds", "42", "x", ttl=0.4)
            found, left = await store.get("builds", "42"), client.pttl(caches["kv"].make_key(KV.cache_key("builds", "42")))
            if time.monotonic() - began < 1:  # else it may be over
                break
    assert found.exists
    assert 0 < left <= 1000


@pytest.mark.parametrize("ttl", [0, -1, 0.0, float("nan"), float("inf")])
async def test_a_ttl_that_is_no_time_is_refused(kv: KV, ttl: float) -> None:
    with pytest.raises(KVError, match="seconds above 0"):
        await kv.set("builds", "42", "x", ttl=ttl)


async def test_get_many_keeps_the_order_and_asks_nothing_for_nothing(kv: KV) -> None:
    for number in (1, 2, 3):
        await kv.set("builds", f"{number}", number)
    assert list(await kv.get_many("builds", ["3", "1", "none", "2"])) == ["3", "1", "2"]
    assert await kv.get_many("builds", []) == {}


async def test_what_other_code_stores_under_the_cache_key_is_found(kv: KV) -> None:
    await sync_to_async(lambda: caches["kv"].set(KV.cache_key("builds", "42"), ["line"]))()
    assert (await kv.get("builds", "42")).data == ["line"]


def test_the_cache_key_reads_as_namespace_and_key() -> None:
    assert KV.cache_key("builds", "42:logs:1") == "sse.kv:builds:42:logs:1"
    assert KV.cache_key("a:b", "c d%") == "sse.kv:a%3Ab:c%20d%25"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), st.text(min_size=1, max_size=8))
def test_a_cache_key_can_be_read_back(ns: str, key: str) -> None:
    try:
        cache_key = KV.cache_key(ns, key)
    except KVKeyInvalid:
        assert any(0xD800 <= ord(character) < 0xE000 for character in key)
        return
    quoted_ns, _, quoted_key = cache_key.removeprefix("sse.kv:").partition(":")
    assert (unquote(quoted_ns), unquote(quoted_key)) == (ns, key)
    assert cache_key.isascii()
    assert " " not in cache_key


@pytest.mark.parametrize(
    ("ns", "key", "says"),
    [
        ("", "k", "namespace is empty"),
        ("ns", "", "key is empty"),
        ("ns", "\ud800", "no valid Unicode"),
        ("ns", "k" * 191, "201 characters, 200 fit"),
        ("ns", "ü" * 40, "hash the key"),
    ],
)
async def test_a_key_that_no_cache_can_hold_is_refused(settings: Any, ns: Any, key: Any, says: str) -> None:
    store = use_cache(settings, LOCAL)
    for call in (store.get(ns, key), store.set(ns, key, 1), store.delete(ns, key), store.get_many(ns, [key])):
        with pytest.raises(KVKeyInvalid, match=says):
            await call


@pytest.mark.parametrize(
    ("ns", "key", "says"), [("ns", 42, r"write str\(42\)"), (None, "k", "a namespace is a str, not NoneType")]
)
async def test_a_key_of_another_type_is_a_mistake_in_the_code(settings: Any, ns: Any, key: Any, says: str) -> None:
    store = use_cache(settings, LOCAL)
    for call in (store.get(ns, key), store.set(ns, key, 1), store.delete(ns, key), store.get_many(ns, [key])):
        with pytest.raises(ArgumentInvalid, match=says):
            await call


def test_the_longest_key_fits() -> None:
    assert len(KV.cache_key("ns", "k" * 190)) == 200


async def test_an_alias_that_caches_does_not_have_is_named(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": LOCAL}}
    with pytest.raises(ConfigurationError, match=r"CACHES has no 'nope', only default: fix AGENT_SSE\['CACHE'\]"):
        await KV("nope").get("builds", "42")


@pytest.mark.parametrize("backend", [REDIS, DJANGO_REDIS])
async def test_c02_a_cache_that_is_down_raises_and_is_no_missing_key(settings: Any, backend: str) -> None:
    with running_redis() as url:
        store = use_cache(settings, backend, url)
        await store.set("builds", "42", "x")
    calls = [
        store.get("builds", "42"),
        store.set("builds", "42", 1),
        store.delete("builds", "42"),
        store.get_many("builds", ["42"]),
    ]
    for call in calls:
        with pytest.raises(redis.exceptions.ConnectionError):
            await call


async def test_a_cache_that_has_come_back_answers_again(settings: Any, redis_url: str) -> None:
    store = use_cache(settings, REDIS, redis_url, KEY_PREFIX="back")
    await store.set("builds", "42", "x")
    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    assert (await store.get("builds", "42")).data == "x"


class Where:
    """Records the thread of each call that reaches a cache."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cache: object) -> None:
        self.threads: set[threading.Thread] = set()
        original = type(cache).get

        def get(*args: Any, **kwargs: Any) -> Any:
            if str(args[1]).startswith("sse.kv:"):  # others of this process may use such a cache, too
                self.threads.add(threading.current_thread())
            return original(*args, **kwargs)

        monkeypatch.setattr(type(cache), "get", get)


@pytest.mark.parametrize("backend", [LOCAL, "django.core.cache.backends.dummy.DummyCache"])
async def test_local_memory_is_read_without_a_thread(settings: Any, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    store = use_cache(settings, backend)
    where = Where(monkeypatch, caches["kv"])
    with threads_begun() as begun:
        await store.get("builds", "42")
    assert where.threads == {threading.current_thread()}
    assert begun == []


@pytest.mark.parametrize("backend", [REDIS, DJANGO_REDIS, "django.core.cache.backends.filebased.FileBasedCache"])
async def test_other_caches_are_read_by_a_bounded_number_of_threads(
    settings: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str, tmp_path: Any, backend: str
) -> None:
    settings.AGENT_SSE = {"THREADS": 3}
    kv_module._pool.shutdown()  # the threads of tests that may have more
    store = use_cache(settings, backend, str(tmp_path) if "filebased" in backend else redis_url)
    where = Where(monkeypatch, caches["kv"])
    await asyncio.gather(*(store.get("builds", f"{number}") for number in range(200)))
    assert 1 <= len(where.threads) <= 3
    assert threading.current_thread() not in where.threads
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("sse-kv")]) <= 3


@pytest.mark.parametrize("backend", [REDIS, DJANGO_REDIS])
async def test_contexts_do_not_open_connections_of_their_own(settings: Any, redis_url: str, backend: str) -> None:
    name = f"kv-{os.getpid()}-{backend}"
    store = use_cache(settings, backend, f"{redis_url}?client_name={name}")
    with redis.Redis.from_url(redis_url) as client:
        for _ in range(5):  # each task is a context, as each request is
            await asyncio.gather(*(asyncio.create_task(store.get("builds", f"{number}")) for number in range(40)))
        assert 1 <= [one["name"] for one in client.client_list(_type="normal")].count(name) <= 4


async def test_the_loop_runs_on_while_a_cache_is_slow(settings: Any, redis_url: str) -> None:
    store = use_cache(settings, REDIS, redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.client_pause(60_000, all=False)  # who writes waits until it is taken back
        try:
            pending = asyncio.create_task(store.set("builds", "slow", "x"))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not pending.done()
        finally:
            client.client_unpause()
        await pending
        assert (await store.get("builds", "slow")).exists


async def test_the_database_cache_sees_the_thread_of_the_orm(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = use_cache(settings, DATABASE, "kv_cache_table")
    await sync_to_async(call_command)("createcachetable")
    where = Where(monkeypatch, caches["kv"])
    assert not (await store.get("builds", "42")).exists
    assert where.threads == {await sync_to_async(threading.current_thread)()}
    await sync_to_async(_drop_table)()


def _drop_table() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE kv_cache_table")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_a_pool_of_its_own(settings: Any, tmp_path: Any) -> None:
    store = use_cache(settings, "django.core.cache.backends.filebased.FileBasedCache", str(tmp_path))
    asyncio.run(store.set("builds", "42", "parent"))
    child = os.fork()
    if child == 0:
        try:
            os._exit(asyncio.run(store.get("builds", "42")).data != "parent")
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


async def test_two_loops_share_the_pool(settings: Any, tmp_path: Any) -> None:
    store = use_cache(settings, "django.core.cache.backends.filebased.FileBasedCache", str(tmp_path))
    await store.set("builds", "42", "here")
    assert (await asyncio.to_thread(lambda: asyncio.run(store.get("builds", "42")))).data == "here"


async def test_a_value_that_cannot_be_pickled_raises(kv: KV) -> None:
    with pytest.raises((TypeError, AttributeError), match="pickle"):
        await kv.set("builds", "42", threading.Lock())
    assert not (await kv.get("builds", "42")).exists
