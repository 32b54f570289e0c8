"""Which keys a cache holds: caches have no common way to say so, and some have none at all.

Everything here is synchronous and runs where ``KV`` runs the rest. Keys are given as ``KV.cache_key`` makes them: without the
cache's own ``KEY_PREFIX`` and version, of which only those of the cache are listed, and without what has expired.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from django.db import connections, router
from django.utils import timezone
from django.utils.module_loading import import_string

from django_agent_sse.exceptions import KVNotEnumerable

BATCH = 1000
"""Keys that one question to Redis or one removal is about."""
PROBE = "sse.kv:probe"

_Lister: TypeAlias = Callable[[Any, str], Iterator[str]]


def keys_beginning(alias: str, beginning: str) -> Iterator[str]:
    """The keys of the cache ``alias`` that begin so, in no order, each once.

    Raises:
        KVNotEnumerable: The cache cannot list its keys, or its ``KEY_FUNCTION`` cannot be undone.
    """
    cache = caches[alias]
    lister = _lister_of(type(cache))
    if lister is None:
        raise KVNotEnumerable(f"the cache {alias!r} ({type(cache).__name__}) cannot list its keys: {_hint()}")
    if not _can_be_undone(cache):
        raise KVNotEnumerable(
            f"the KEY_FUNCTION of the cache {alias!r} cannot be undone, so its keys cannot be listed: {_hint()}"
        )
    return iter(set(lister(cache, beginning)))


def enumerable_aliases() -> list[str]:
    """The caches of ``CACHES`` that can list their keys."""
    backends = ((alias, import_string(settings["BACKEND"])) for alias, settings in caches.settings.items())
    return [alias for alias, backend in backends if _lister_of(backend) and _can_be_undone(caches[alias])]


def _lister_of(backend: type[BaseCache]) -> _Lister | None:
    own = {LocMemCache: _in_local_memory, DatabaseCache: _in_the_database, RedisCache: _in_redis}
    other = _in_django_redis if _is_django_redis(backend) else None
    return next((lister for kind, lister in own.items() if issubclass(backend, kind)), other)


def _is_django_redis(backend: type[BaseCache]) -> bool:
    return any(base.__module__.partition(".")[0] == "django_redis" for base in backend.__mro__)


def _hint() -> str:
    able = ", ".join(map(repr, enumerable_aliases()))
    return f"of CACHES, {able} can" if able else "use local memory, the database or Redis"


def _can_be_undone(cache: Any) -> bool:
    if not _is_django_redis(type(cache)):
        return bool(cache.make_key(PROBE) == cache.make_key("") + PROBE)
    try:
        return _undone(cache).endswith(PROBE)
    except (IndexError, ValueError):  # it expects another form than the KEY_FUNCTION makes
        return False


def _undone(cache: Any) -> str:
    """What django-redis makes of a key: with a ``:`` in ``KEY_PREFIX``, its own way leaves a part of that before the key."""
    return str(cache.client.reverse_key(str(cache.make_key(PROBE))))


def _in_local_memory(cache: Any, beginning: str) -> Iterator[str]:
    own = cache.make_key("")
    now = time.time()
    with cache._lock:
        expiries = list(cache._expire_info.items())
    for key, expires in expiries:
        if key.startswith(own + beginning) and (expires is None or expires > now):
            yield key.removeprefix(own)


def _in_the_database(cache: Any, beginning: str) -> Iterator[str]:
    own = cache.make_key("")
    connection = connections[router.db_for_read(cache.cache_model_class)]
    now = connection.ops.adapt_datetimefield_value(timezone.now().replace(microsecond=0))
    pattern = re.sub("([%_!])", r"!\1", own + beginning) + "%"
    with connection.cursor() as cursor:
        table, name, expires = map(connection.ops.quote_name, (cache._table, "cache_key", "expires"))
        cursor.execute(f"SELECT {name} FROM {table} WHERE {name} LIKE %s ESCAPE '!' AND {expires} > %s", [pattern, now])
        while rows := cursor.fetchmany(BATCH):
            for (key,) in rows:
                if key.startswith(own + beginning):  # LIKE knows no case on SQLite
                    yield key.removeprefix(own)


def _in_redis(cache: Any, beginning: str) -> Iterator[str]:
    own = cache.make_key("")
    client = cache._cache.get_client()
    for key in client.scan_iter(match=_literal(own + beginning) + "*", count=BATCH):
        yield key.decode().removeprefix(own)


def _in_django_redis(cache: Any, beginning: str) -> Iterator[str]:
    left = _undone(cache).removesuffix(PROBE)
    pattern = _literal(beginning) + "*"
    try:
        keys = cache.iter_keys(pattern, itersize=BATCH)
    except NotImplementedError:  # its sharded client asks each server at once
        keys = cache.keys(pattern)
    for key in keys:
        yield key.removeprefix(left)


def _literal(text: str) -> str:
    """``text`` in a pattern of Redis, standing for itself."""
    return re.sub(r"([\\*?\[\]^-])", r"\\\1", text)
