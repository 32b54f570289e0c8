"""Which keys a cache holds, over every kind of cache that can say so, and the error of those that cannot."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.filebased import FileBasedCache

from django_agent_sse.exceptions import KVError, KVNotEnumerable
from django_agent_sse.streams.kv import KV
from django_agent_sse.streams.kv_keys import BATCH, enumerable_aliases

from .test_kv import DJANGO_REDIS, LOCAL, REDIS, kv, use_cache

__all__ = ["kv"]

pytestmark = pytest.mark.django_db(transaction=True)

ODD = ["42", "42:logs", "a/b", "50 %", "*", "[a-z]", "?", "back\\slash", "größe ✓", "under_score", "Upper"]


def hashed(key: str, key_prefix: str, version: int) -> str:
    return f"{hash((key, key_prefix, version))}"


async def test_c02_keys_come_back_as_they_went_in(kv: KV) -> None:
    for number, key in enumerate(ODD):
        await kv.set("builds", key, number)
    assert await kv.get_keys("builds") == sorted(ODD)
    assert await kv.search("builds", "") == {key: ODD.index(key) for key in sorted(ODD)}


async def test_c02_a_namespace_holds_its_own_keys_and_no_others(kv: KV) -> None:
    for ns in ("a", "a:b", "ab", "*", "A", "a_", "a%"):
        await kv.set(ns, "key", ns)
    await caches[kv.alias].aset("not-ours", 1)
    assert await kv.get_namespaces() == sorted(["a", "a:b", "ab", "*", "A", "a_", "a%"])
    for ns in ("a", "*", "a_", "a%", "A"):
        assert await kv.search(ns, "") == {"key": ns}
    assert await kv.get_keys("nothing") == []


async def test_c02_search_finds_a_part_of_the_key_in_either_case(kv: KV) -> None:
    for key in ("Deploy:1", "deploy:2", "build:1", "*"):
        await kv.set("jobs", key, key.upper())
    assert await kv.search("jobs", "DEPLOY") == {"Deploy:1": "DEPLOY:1", "deploy:2": "DEPLOY:2"}
    assert list(await kv.search("jobs", "*")) == ["*"]
    assert await kv.search("jobs", "none") == {}


async def test_c02_clear_removes_one_namespace_and_says_how_many(kv: KV) -> None:
    for key in ("1", "2", "3"):
        await kv.set("old", key, None)
        await kv.set("old:er", key, None)
    await caches[kv.alias].aset("not-ours", 1)
    assert await kv.clear("old") == 3
    assert await kv.clear("old") == 0
    assert await kv.get_namespaces() == ["old:er"]
    assert await caches[kv.alias].aget("not-ours") == 1


async def test_more_keys_than_one_batch(kv: KV) -> None:
    wanted = {f"{number:05}" for number in range(BATCH + 10)}
    cache = caches[kv.alias]
    cache._max_entries = 2 * BATCH  # the database's and local memory's
    await cache.aset_many({KV.cache_key("many", key): 1 for key in wanted})
    assert await kv.get_keys("many") == sorted(wanted)
    assert len(set(await kv.get_keys("many", limit=7)) & wanted) == 7
    assert len(await kv.search("many", "0", limit=3)) == 3
    assert await kv.clear("many") == BATCH + 10
    assert await kv.get_keys("many") == []


async def test_an_expired_entry_is_not_listed(kv: KV) -> None:
    cache = caches[kv.alias]
    await cache.aset(KV.cache_key("builds", "old"), 1, timeout=60)
    await cache.aset(KV.cache_key("builds", "new"), 1, timeout=None)
    await cache.atouch(KV.cache_key("builds", "old"), timeout=-1)
    assert await kv.get_keys("builds") == ["new"]


@pytest.mark.parametrize("backend", [REDIS, DJANGO_REDIS])
async def test_two_prefixes_and_two_versions_in_one_redis_never_meet(settings: Any, redis_url: str, backend: str) -> None:
    for prefix in ("one", "on*", "one:2"):
        store = use_cache(settings, backend, redis_url, KEY_PREFIX=f"{backend}{prefix}", VERSION=1)
        await store.set("builds", prefix, 1)
    newer = use_cache(settings, backend, redis_url, KEY_PREFIX=f"{backend}one", VERSION=2)
    await newer.set("builds", "newer", 1)
    assert await newer.get_keys("builds") == ["newer"]
    for prefix in ("one", "on*", "one:2"):
        store = use_cache(settings, backend, redis_url, KEY_PREFIX=f"{backend}{prefix}", VERSION=1)
        assert await store.get_keys("builds") == [prefix]
        await store.clear("builds")
    newer = use_cache(settings, backend, redis_url, KEY_PREFIX=f"{backend}one", VERSION=2)
    assert await newer.clear("builds") == 1


async def test_a_cache_that_cannot_list_names_those_that_can(settings: Any, tmp_path: Any) -> None:
    file = f"{FileBasedCache.__module__}.FileBasedCache"
    settings.CACHES = {
        "default": {"BACKEND": file, "LOCATION": str(tmp_path)},
        "memory": {"BACKEND": LOCAL},
        "hashed": {"BACKEND": LOCAL, "KEY_FUNCTION": hashed},
        "nothing": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
    }
    assert enumerable_aliases() == ["memory"]
    await KV("default").set("builds", "42", "kept")
    for work in (KV("default").get_keys("builds"), KV("default").search("builds", "4"), KV("default").clear("builds")):
        with pytest.raises(KVNotEnumerable, match=r"'default' \(FileBasedCache\) cannot list its keys: of CACHES, 'memory' can"):
            await work
    assert (await KV("default").get("builds", "42")).data == "kept"
    with pytest.raises(KVNotEnumerable, match="KEY_FUNCTION"):
        await KV("hashed").get_namespaces()
    with pytest.raises(KVNotEnumerable, match="DummyCache"):
        await KV("nothing").get_namespaces()


async def test_where_no_cache_can_list_the_error_says_what_to_use(settings: Any, tmp_path: Any) -> None:
    settings.CACHES = {
        "default": {"BACKEND": f"{FileBasedCache.__module__}.FileBasedCache", "LOCATION": str(tmp_path)},
    }
    with pytest.raises(KVNotEnumerable, match="use local memory, the database or Redis"):
        await KV("default").get_keys("builds")


async def test_django_redis_with_a_key_function_is_listed_where_it_can_be_undone(settings: Any, redis_url: str) -> None:
    store = use_cache(settings, DJANGO_REDIS, redis_url, KEY_FUNCTION=f"{__name__}.hashed")
    with pytest.raises(KVNotEnumerable, match="KEY_FUNCTION"):
        await store.get_keys("builds")


@pytest.mark.filterwarnings("ignore:delete on sharded client:UserWarning")  # its own delete_many does so
async def test_django_redis_lists_what_its_sharded_client_spreads(settings: Any, redis_url: str) -> None:
    servers = [redis_url, f"{redis_url.removesuffix('0')}1"]
    options = {"CLIENT_CLASS": "django_redis.client.ShardClient"}
    store = use_cache(settings, DJANGO_REDIS, servers, KEY_PREFIX="shards", OPTIONS=options)  # type: ignore[arg-type]
    keys = sorted(f"{number}" for number in range(40))
    for key in keys:
        await store.set("builds", key, 1)
    assert await store.get_keys("builds") == keys
    assert await store.clear("builds") == 40
    assert await store.get_namespaces() == []


@pytest.mark.parametrize("limit", [0, -1])
async def test_a_limit_is_at_least_one(kv: KV, limit: int) -> None:
    with pytest.raises(KVError, match="at least 1"):
        await kv.get_keys("builds", limit=limit)
