"""The key-value store of handlers: one of the project's caches, read without blocking the event loop or pinning threads.

No cache back end of Django or of django-redis is asynchronous: ``aget`` hops to a thread. Local memory needs no thread and gets
none; the database cache goes where the ORM goes, so that it shares the request's connection and transaction; every other cache
is reached through one bounded pool of threads. Django's own ``RedisCache`` opens a connection per cache object, and
makes such an object per request: here it has one per thread of that pool, and no more.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias, TypeVar
from urllib.parse import quote, unquote

from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.utils.module_loading import import_string

from .. import conf
from ..exceptions import ArgumentInvalid, ConfigurationError, KVError, KVKeyInvalid
from ..runtime.pools import Pool
from .kv_keys import BATCH, keys_beginning

logger = logging.getLogger("django_agent_sse.kv")

PREFIX = "sse.kv:"
MOST_THREADS = 4
MAX_KEY_LENGTH = 200
"""Of the whole cache key: memcached takes 250, and ``KEY_PREFIX`` and the version want their part."""

_T = TypeVar("_T")
_Place: TypeAlias = Literal["here", "orm", "pool"]
"""Where the calls to a cache run."""
_MISSING = object()
_noted: set[str] = set()
"""Caches of which it was said that processes do not share them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KVResult:
    """What was found: ``data`` may be a stored ``None``, which ``exists`` tells from a missing key."""

    exists: bool
    data: Any = None


class KV:
    """Values under a namespace and a key, in the cache ``alias`` of ``CACHES``.

    A value comes back with the type that it went in with, as long as the cache pickles: all of Django's and django-redis do by
    default. A cache that cannot be reached raises its own error and never looks like a missing key, unless the cache itself
    hides it (django-redis with ``IGNORE_EXCEPTIONS``). A cache may drop entries to make room: local memory, files and the
    database keep 300 unless ``OPTIONS["MAX_ENTRIES"]`` says more.

    Every method raises ``KVKeyInvalid`` for a namespace or key that no cache can hold, ``ArgumentInvalid`` for one that is no
    ``str``, and ``ConfigurationError`` for an alias
    that ``CACHES`` does not have.
    """

    __slots__ = ("alias",)

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def __repr__(self) -> str:
        return f"KV({self.alias!r})"

    @staticmethod
    def cache_key(ns: str, key: str) -> str:
        """The key in the cache, for code that uses the cache directly: ``caches[alias].set(KV.cache_key("builds", "42"), …)``.

        ``sse.kv:<namespace>:<key>``, both percent-encoded and so reversible; the namespace holds no raw ``:``.

        Raises:
            KVKeyInvalid: One of them is empty or holds a lone surrogate, or both together are too long.
            ArgumentInvalid: One of them is no ``str``.
        """
        whole = f"{PREFIX}{_quoted(ns, 'namespace', '')}:{_quoted(key, 'key', ':/')}"
        if len(whole) > MAX_KEY_LENGTH:
            raise KVKeyInvalid(
                f"a cache key of {len(whole)} characters, {MAX_KEY_LENGTH} fit: shorten the namespace, hash the key {key[:30]!r}"
            )
        return whole

    async def get(self, ns: str, key: str) -> KVResult:
        """Look one key up."""
        cache_key = self.cache_key(ns, key)
        data = await self._call(lambda cache: cache.get(cache_key, _MISSING))
        if data is not _MISSING:
            return KVResult(exists=True, data=data)
        _note_absence(self.alias, ns)
        return KVResult(exists=False)

    async def get_many(self, ns: str, keys: Iterable[str]) -> dict[str, Any]:
        """Look several keys up in one round trip.

        Returns:
            The values of the keys that exist, in the order asked for.
        """
        if isinstance(keys, str) or not isinstance(keys, Iterable):
            raise ArgumentInvalid(f"get_many() takes a list of keys, not {type(keys).__name__}: write get_many({ns!r}, [key])")
        wanted = {self.cache_key(ns, key): key for key in keys}
        if not wanted:
            return {}
        entries = await self._call(lambda cache: cache.get_many(list(wanted)))
        if wanted.keys() - entries.keys():
            _note_absence(self.alias, ns)
        return {key: entries[cache_key] for cache_key, key in wanted.items() if cache_key in entries}

    async def set(self, ns: str, key: str, value: Any, *, ttl: float | None = None) -> None:
        """Store a value that can be pickled.

        Args:
            ns: The namespace.
            key: The key in it.
            value: What to keep; ``None`` is a value.
            ttl: Seconds until it expires, ``None`` for never. Caches other than local memory count whole seconds: rounded up.

        Raises:
            KVError: ``ttl`` is not a positive, finite number.
        """
        cache_key = self.cache_key(ns, key)
        if ttl is not None and not 0 < ttl < math.inf:
            raise KVError(f"ttl={ttl!r}: seconds above 0, or None for an entry that never expires; delete() removes one")
        if ttl is not None and not is_per_process(self.alias):
            ttl = math.ceil(ttl)
        await self._call(lambda cache: cache.set(cache_key, value, ttl))

    async def delete(self, ns: str, key: str) -> bool:
        """Remove a key; ``True`` if it was there."""
        cache_key = self.cache_key(ns, key)
        return bool(await self._call(lambda cache: cache.delete(cache_key)))

    async def get_keys(self, ns: str, *, limit: int | None = None) -> list[str]:
        """The keys of a namespace, sorted.

        Args:
            ns: The namespace.
            limit: Stop after so many, which are any of them; ``None`` for all. Ask for one more than you show.

        Raises:
            KVNotEnumerable: The cache cannot list its keys.
        """
        beginning = self._beginning(ns)
        return await self._call(lambda cache: sorted(_first(self._keys(beginning), limit)))

    async def search(self, ns: str, text: str, *, limit: int | None = None) -> dict[str, Any]:
        """The entries of a namespace whose keys contain ``text``, in either case, sorted by key.

        Args:
            ns: The namespace.
            text: A part of the key; the empty text finds all.
            limit: Stop after so many, which are any of them; ``None`` for all. Their values are all loaded.

        Raises:
            KVNotEnumerable: The cache cannot list its keys.
        """
        beginning, part = self._beginning(ns), text.casefold()

        def work(cache: BaseCache) -> dict[str, Any]:
            keys = sorted(_first((key for key in self._keys(beginning) if part in key.casefold()), limit))
            entries = cache.get_many([self.cache_key(ns, key) for key in keys])
            return {key: entries[whole] for key in keys if (whole := self.cache_key(ns, key)) in entries}

        return await self._call(work)

    async def get_namespaces(self) -> list[str]:
        """The namespaces that hold anything, sorted.

        Raises:
            KVNotEnumerable: The cache cannot list its keys.
        """
        return await self._call(
            lambda _: sorted({unquote(key.removeprefix(PREFIX).partition(":")[0]) for key in keys_beginning(self.alias, PREFIX)})
        )

    async def clear(self, ns: str) -> int:
        """Remove every key of a namespace, and nothing else of the cache; return how many there were.

        What is set meanwhile may stay.

        Raises:
            KVNotEnumerable: The cache cannot list its keys; nothing was removed.
        """
        beginning = self._beginning(ns)

        def work(cache: BaseCache) -> int:
            keys, removed = keys_beginning(self.alias, beginning), 0
            while batch := [*islice(keys, BATCH)]:
                cache.delete_many(batch)
                removed += len(batch)
            return removed

        return await self._call(work)

    @staticmethod
    def _beginning(ns: str) -> str:
        return f"{PREFIX}{_quoted(ns, 'namespace', '')}:"

    def _keys(self, beginning: str) -> Iterable[str]:
        return (unquote(key.removeprefix(beginning)) for key in keys_beginning(self.alias, beginning))

    async def _call(self, work: Callable[[BaseCache], _T]) -> _T:
        def call() -> _T:
            return work(caches[self.alias])

        match _place_of(self.alias):
            case "here":
                return call()
            case "orm":
                return await sync_to_async(call)()
            case "pool":
                return await asyncio.wrap_future(_pool.submit(call))


def is_per_process(alias: str) -> bool:
    """Whether what one process stores in this cache is there for no other one."""
    return _place_of(alias) == "here"


def _note_absence(alias: str, ns: str) -> None:
    """Log why nothing may be there, once for each cache in a process.

    Only a missing key is a sign that another process was to store it: one process that does everything finds what it has stored.
    """
    if alias in _noted or not is_per_process(alias):
        return
    _noted.add(alias)
    logger.warning(
        "c.kv has no such key in %.60r, and would not see it if a task, a command or another worker had stored it: CACHES[%r] is "
        "%s, which each process has of its own. Point AGENT_SSE['CACHE'] at a cache that processes share, or publish to a topic. "
        "This is said once.",
        *(ns, alias, caches.settings[alias]["BACKEND"].rpartition(".")[2]),
    )


def _first(keys: Iterable[str], limit: int | None) -> Iterable[str]:
    if limit is not None and limit < 1:
        raise KVError(f"limit={limit!r}: at least 1, or None for all")
    return islice(keys, limit)


def _quoted(text: object, what: str, safe: str) -> str:
    if not isinstance(text, str):
        raise ArgumentInvalid(f"a {what} is a str, not {type(text).__name__}: write str({text!r})")
    if not text:
        raise KVKeyInvalid(f"the {what} is empty")
    try:
        return quote(text, safe=safe)
    except UnicodeEncodeError as error:
        raise KVKeyInvalid(f"the {what} {text!r} is no valid Unicode text") from error


def _place_of(alias: str) -> _Place:
    try:
        backend = caches.settings[alias]["BACKEND"]
    except KeyError:
        raise ConfigurationError(
            f"CACHES has no {conf.shown(alias)}, only {', '.join(caches.settings)}: fix AGENT_SSE['CACHE'] or the route's cache="
        ) from None
    return _place_of_backend(backend)


@functools.lru_cache(maxsize=32)
def _place_of_backend(path: str) -> _Place:
    backend: type[BaseCache] = import_string(path)
    if issubclass(backend, (LocMemCache, DummyCache)):
        return "here"
    if issubclass(backend, BaseDatabaseCache):
        return "orm"
    return "pool"


_pool = Pool("sse-kv", lambda: min(conf.setting("THREADS"), MOST_THREADS))
# A thread of it keeps a context of its own, so Django's per-context cache objects, and their connections, live as long as it.
