"""One Redis: its connections, made as the project's cache makes them, and what its refusals mean.

Nothing here is tried again by itself but what provably was not done: redis-py's own retries would append twice, and would make a
publish wait while the server is away.
"""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeVar

import redis
from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

from ... import conf
from ...exceptions import ConfigurationError, EventLogUnavailable
from ..records import StoreWarning

TIMEOUT = 5.0
"""Seconds that a command or a connect may take, where neither the URL nor the cache says so."""
PAUSE = 1.0
"""Seconds, more or less, in which nothing is asked after the server could not be reached: each verb fails at once then.
Afterwards one caller tries, and the others fail at once until it knows."""
OLDEST = (6, 2)
"""The first Redis that trims a stream by its ids."""
CANNOT_TELL = "?"
WANTED = "AGENT_SSE['EVENT_LOG']['OPTIONS']"
NOTHING = "Nothing was appended"
"""What every such sentence ends with, where that is certain."""
_MEANINGS = (
    (
        ("NOAUTH", "WRONGPASS", "invalid password", "invalid username", "AUTH ", "Authentication required", "unauthenticated"),
        "refuses the password",
        "put the right one there",
    ),
    (
        ("NOPERM", "NoPermissionError"),
        "lets this user not do what the log needs",
        "the documentation's page howto/redis lists the commands",
    ),
    (
        ("READONLY", "ReadOnlyError", "read only replica", "You can't write against"),
        "is a read-only replica",
        "name the primary, or Sentinels",
    ),
    (("MISCONF",), "cannot write its snapshot to disk and so takes no writes", "look at its log and its disk"),
    (("NOREPLICAS",), "has fewer replicas than its min-replicas-to-write", "bring them back"),
    (
        ("OOM ", "OutOfMemoryError", "out of memory"),
        "has no memory left (maxmemory)",
        "raise it, or lower MAX_EVENTS, MAX_BYTES or MAX_AGE",
    ),
    (
        ("WRONGTYPE",),
        "holds something else under a key of the log",
        "choose another AGENT_SSE['EVENT_LOG']['OPTIONS']['prefix'], or remove that key",
    ),
    (("BUSY ",), "runs a script of somebody else for a long time", "wait, or end it with SCRIPT KILL"),
    (("SCRIPT KILL", "Script killed"), "was told to end the script", "publish again"),
    (("LOADING", "BusyLoadingError"), "still loads its data", "wait"),
    (
        ("CROSSSLOT", "MOVED ", "MovedError", "CrossSlotError", "CLUSTERDOWN"),
        "is part of a Redis Cluster, which is not supported",
        "list several single servers in 'url' instead",
    ),
    (("MASTERDOWN", "MasterNotFoundError", "No master found"), "has no primary now", "wait for the failover to end"),
)
"""By signs in what a server or redis-py says: what that means, and what to do."""

_T = TypeVar("_T")


class ConnectionLost(Exception):
    """The connection broke after something had been sent: whether it was done is not known."""


class Server:
    """A Redis or Valkey server, as a cache alias or a URL names it. Any thread may use it.

    ``node`` is its name when topics are dealt out: never a password.

    Args:
        pool: Connections of its own: what the cache does cannot exhaust them.
        named: The setting that names it, for messages.
    """

    def __init__(self, pool: redis.ConnectionPool, named: str) -> None:
        kept = pool.connection_kwargs
        for name in ("socket_timeout", "socket_connect_timeout"):
            if kept.get(name) is None:
                kept[name] = TIMEOUT
        for name in [name for name in kept if name.startswith(("maint_", "oss_"))]:  # they want RESP3
            del kept[name]
        kept.update(retry=Retry(NoBackoff(), 0), retry_on_timeout=False, retry_on_error=[], protocol=2)
        kept.update(decode_responses=False, health_check_interval=0)
        self.pool = pool
        self.named = named
        where = kept.get("path") or f"{kept.get('host', 'localhost')}:{kept.get('port', 6379)}"
        self.node = f"{getattr(pool, 'service_name', None) or where}/{kept.get('db') or 0}"
        self.client: redis.Redis = redis.Redis(connection_pool=pool)
        weakref.finalize(self, pool.disconnect)  # a log that is replaced leaves no open sockets to the garbage collector
        self._lock = threading.Lock()
        self._away_until = 0.0
        self._why = ""
        self._probing = False

    def ask(self, call: Callable[[redis.Redis], _T]) -> _T:
        """Use the client for what may be done twice: it is called once more if the connection broke meanwhile.

        Raises:
            EventLogUnavailable: It cannot be done now.
        """
        for _ in range(2):
            try:
                return self.ask_once(call)
            except ConnectionLost as lost:
                cause = lost.__cause__
        raise self.unavailable(cause)

    def ask_once(self, call: Callable[[redis.Redis], _T]) -> _T:
        """Use the client.

        Raises:
            EventLogUnavailable: It was not done.
            ConnectionLost: Perhaps it was.
        """
        probing = self._begin()
        try:
            answer = call(self.client)
        except (
            redis.exceptions.BusyLoadingError,
            redis.exceptions.AuthenticationError,
            redis.exceptions.TimeoutError,
        ) as error:
            raise self.unavailable(error) from error
        except (redis.exceptions.ConnectionError, OSError) as error:
            # redis-py says "Error … connecting to …" where the connection had not been made, and so nothing was sent.
            if "connecting to" in str(error) or isinstance(error, redis.exceptions.MaxConnectionsError):
                raise self.unavailable(error) from error
            raise ConnectionLost from error
        except redis.exceptions.RedisError as error:
            self._why = ""
            raise EventLogUnavailable(explained(error, self.named)) from error
        else:
            self._why = ""
            return answer
        finally:
            if probing:
                self._probing = False

    def _begin(self) -> bool:
        """Return whether this caller is the one that finds out whether the server is back.

        Raises:
            EventLogUnavailable: It was away a moment ago, or somebody else is finding out.
        """
        if not self._why:
            return False
        with self._lock:
            if self._why and (self._probing or self._away_until > time.monotonic()):
                raise EventLogUnavailable(
                    f"{self.named} could not be reached a moment ago ({self._why}); nothing was asked of it"
                )
            self._probing = bool(self._why)
            return self._probing

    def pipe(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send several commands in one round trip, as ``ask`` does: the names of the client's methods with their arguments."""

        def call(client: Any) -> list[Any]:
            with client.pipeline(transaction=False) as pipe:
                for name, *args in commands:
                    getattr(pipe, name)(*args)
                replies: list[Any] = pipe.execute()
                return replies

        return self.ask(call) if commands else []

    def ends(self, metas: Sequence[str]) -> list[Any]:
        """Return epoch, floor, top, reason and nonce in each of these hashes: see ``pipe``."""
        return self.pipe(*(("hmget", meta, "e", "f", "s", "c", "n") for meta in metas))

    def unavailable(self, error: BaseException | None) -> EventLogUnavailable:
        """Return the error to raise; for a moment nothing else is asked of the server."""
        with self._lock:
            self._why = str(error) or type(error).__name__
            self._away_until = time.monotonic() + PAUSE * random.uniform(0.5, 1)
        return EventLogUnavailable(explained(error, self.named))


def explained(error: BaseException | None, named: str) -> str:
    """Return a sentence: what happened, at which setting, and what to do."""
    text = f"{str(error) or type(error).__name__:.300}"
    said = f"{type(error).__name__} {text}"  # redis-py strips the code of an error that it has a class for
    for signs, what, hint in _MEANINGS:
        if any(sign in said for sign in signs):
            return f"the server of {named} {what} ({text}): {hint}. {NOTHING}"
    if "imeout" in text or "imed out" in text:
        return (
            f"the server of {named} did not answer in time ({text}): what was asked may still have been done. Publish with key=, "
            "and a second try is safe"
        )
    if type(error).__name__ == "ResponseError":
        return f"the server of {named} refuses a command of the log ({text}): is it Redis 6.2 or Valkey 7.2, at least?"
    return f"cannot reach the server of {named} ({text}): is it up, and is that its address? {NOTHING}"


def servers(cache: str | None, url: str | Sequence[str] | None) -> list[Server]:
    """Return the servers that ``OPTIONS`` name: those of a cache alias, or of URLs.

    Raises:
        ConfigurationError: They name none.
    """
    if url is None:
        return [of_cache(cache)] if cache is not None else []
    urls = [*url] if isinstance(url, list | tuple) else [url]
    if not urls or any(item in urls[:place] for place, item in enumerate(urls)):
        raise ConfigurationError(f"{WANTED}['url'] is {len(urls)} URLs, some twice; each server stands there once")
    return [of_url(item, f"{WANTED}['url']" + (f"[{place}]" if len(urls) > 1 else "")) for place, item in enumerate(urls)]


def of_url(url: object, named: str) -> Server:
    if not isinstance(url, str):
        raise ConfigurationError(f"{named} is a {type(url).__name__}; it is a text like 'redis://127.0.0.1:6379/0'")
    try:
        pool = redis.ConnectionPool.from_url(url, protocol=2)
    except (ValueError, TypeError):  # whose words may be a part of the password
        raise ConfigurationError(
            f"{named} cannot be read: {conf.shown(url)}. It looks like 'redis://user:password@host:6379/0', 'rediss://…' with "
            "TLS, or 'unix:///path.sock?db=0'; what a password has of / ? # @ : % is written as %2F and so on"
        ) from None
    return Server(pool, named)


def of_cache(alias: str) -> Server:
    """Return the server of a django-redis alias, with its URL, TLS, password, Sentinel and pool options."""
    named = f"CACHES[{conf.shown(alias)}]"
    if not isinstance(alias, str) or alias not in settings.CACHES:
        raise ConfigurationError(f"{WANTED}['cache'] is {conf.shown(alias)}, which CACHES does not define")
    backend = settings.CACHES[alias].get("BACKEND", "")
    if not backend.startswith("django_redis."):
        raise ConfigurationError(
            f"{named} is {backend}, which is not django-redis: name an alias that is in {WANTED}['cache'], or a server in "
            f"{WANTED}['url']"
        )
    try:
        client = caches[alias].client  # type: ignore[attr-defined]
        factory, location = client.connection_factory, client._server[0]  # the first is the primary
        pool = factory.get_connection_pool({**factory.make_connection_params(location), "protocol": 2})
    except (ImproperlyConfigured, ValueError, TypeError, ImportError) as error:
        place = conf.shown(settings.CACHES[alias].get("LOCATION"))
        raise ConfigurationError(f"{named} cannot be used ({type(error).__name__}): look at its LOCATION, {place}") from None
    return Server(pool, named)


@lru_cache(maxsize=16_384)
def shard_of(topic: str, nodes: Sequence[str]) -> int:
    """Return the place in ``nodes`` of the server for a topic, by highest random weight (Thaler and Ravishankar, 1998).

    It depends on the names of the nodes only, not on their order: one that is added takes its share from all others and moves
    nothing else; the topics of one that is removed are dealt out to the rest.
    """
    return max(range(len(nodes)), key=lambda place: sha256(f"{nodes[place]} {topic}".encode()).digest())


# What a server says about itself, and what that means for topics in it


def findings(server: Server) -> Iterator[StoreWarning]:
    """Yield what bears on the log's promise; one warning where the server cannot be asked."""
    try:
        info = server.ask(_info)
    except EventLogUnavailable as error:
        yield StoreWarning("unusable", str(error), "Nothing can be published or followed until that is fixed.")
        return
    yield from _unusable(server.named, info)
    yield from _evicts(server.named, info)
    yield from _forgets(server.named, info)


def _info(client: Any) -> dict[str, Any]:
    info: dict[str, Any] = client.info("everything")
    try:
        info["save"] = client.config_get("save").get("save", CANNOT_TELL)
    except redis.exceptions.ResponseError:  # hosted servers have no CONFIG, or not for everybody
        info["save"] = CANNOT_TELL
    return info


def _unusable(named: str, info: Mapping[str, Any]) -> Iterator[StoreWarning]:
    version = str(info.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        yield StoreWarning("unusable", f"the server of {named} is Redis {version}", "Take Redis 6.2 or Valkey 7.2, at least.")
    if info.get("cluster_enabled"):
        yield StoreWarning(
            "unusable",
            f"the server of {named} is part of a Redis Cluster, which is not supported",
            "List several single servers in 'url' instead: topics are dealt out among them.",
        )
    if info.get("role") == "slave":
        yield StoreWarning("unusable", f"the server of {named} is a read-only replica", "Name the primary, or Sentinels.")


def _evicts(named: str, info: Mapping[str, Any]) -> Iterator[StoreWarning]:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and info.get("maxmemory", 0) > 0:
        yield StoreWarning(
            "evicts",
            f"the server of {named} makes room by evicting keys (maxmemory-policy {policy}). All keys of topics expire, so "
            "it may take any of them: their followers are told (sse.gap), but the events are gone",
            "Keep topics on a server of their own with maxmemory-policy noeviction; when that is full, publish() fails "
            "and says so.",
        )


def _forgets(named: str, info: Mapping[str, Any]) -> Iterator[StoreWarning]:
    if info.get("aof_enabled") or info["save"] == CANNOT_TELL:
        return
    if info["save"]:
        what = (
            f"the server of {named} writes snapshots only (save {info['save']}): when it crashes, what was published since the "
            "last one is gone, and followers are told (sse.gap, reason fork)"
        )
    else:
        what = (
            f"the server of {named} keeps nothing on disk: when it restarts, all topics are gone, and followers are told "
            "(sse.gap, reason epoch)"
        )
    yield StoreWarning("forgets", what, "Set appendonly yes: at most a second is lost then; none with appendfsync always.")
