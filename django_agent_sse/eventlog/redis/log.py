"""The event log in Redis or Valkey. A stream is the truth; the channel beside it notifies, see `notifier`."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from ... import conf
from ...exceptions import ConfigurationError, EventLogUnavailable, EventTooLarge
from ...runtime.backoff import FailureLog
from ...runtime.pools import Pool
from ..base import PAGE_BYTES
from ..eviction import DELETED_FOR
from ..leases import Sized
from ..position import new_epoch
from ..records import Appended, Head, Page, StoreWarning, TopicState
from ..validation import lost_error, refuse_append
from . import codec, scripts
from .index import Index, surplus
from .keys import Keys
from .leasing import HELD, RedisLeasing
from .pubsub import RedisNotifier
from .server import NOTHING, WANTED, ConnectionLost, Server, findings, servers, shard_of

BATCH = 100_000
"""Events of one append: the server takes a command of a million words."""
POSITIONS = 2_592_000.0
"""Seconds after its last event for which a topic's numbers are kept, at least: 30 days."""
NOTED = 500
"""Topics of one note that they are followed."""
CLOCKS = 1.0
"""Seconds by which this clock and the server's may come apart within one append."""
THREADS = 8
"""Coroutines that are served at a time: redis-py's connections block a thread each."""
FOREVER = 9e15

_T = TypeVar("_T")


class RedisEventLog(RedisLeasing):
    """Topics in Redis ≥ 6.2 or Valkey ≥ 7.2, for any number of processes and machines.

    Args:
        cache: A django-redis alias of ``CACHES``, whose URL, TLS, password, Sentinel and pool options are taken over; without it
            and ``url``, ``AGENT_SSE["CACHE"]``.
        url: A URL instead; or several, among which the topics are dealt out by their names.
        prefix: What all its keys begin with: logs with different prefixes do not see each other.
        options: See ``Limits``.

    Raises:
        ConfigurationError: They name no server, or make no sense.
    """

    crosses_processes = True
    durable = True
    own_options = ("cache", "url", "prefix")

    def __init__(
        self, *, cache: str | None = None, url: str | Sequence[str] | None = None, prefix: str = "sse", **options: Any
    ) -> None:
        super().__init__(**options)
        if cache is not None and url is not None:
            raise ConfigurationError(f"{WANTED} has both 'cache' and 'url'; one of them names the server")
        self.keys = Keys(prefix)
        self.servers = servers(conf.setting("CACHE") if cache is None else cache, url)
        self._nodes = tuple(server.node for server in self.servers)
        if len({*self._nodes}) < len(self._nodes):
            raise ConfigurationError(f"{WANTED}['url'] names one server twice: {', '.join(self._nodes)}")
        self._indexes = [Index(server, self.keys) for server in self.servers]
        self._pool = Pool("sse-redis", THREADS)
        self.notifier = self._notifier = RedisNotifier(
            self.servers, self._place, self.keys, lambda topic, page: self.on_change(topic, page)
        )
        self._max_age = round(1e6 * self.limits.max_age)
        self._positions = str(round(1000 * (POSITIONS + self.limits.max_age)))
        window = max(1, round(1000 * self.limits.key_window))
        self._kept = (window, self.limits.max_events, self.limits.max_bytes, self._max_age, self._positions, codec.INLINE)
        self._unlisted = FailureLog(
            "topics cannot be entered in the lists",
            "They are published to and followed all the same.",
            logger="django_agent_sse.notify",
        )

    def _place(self, topic: str) -> int:
        return shard_of(topic, self._nodes) if len(self._nodes) > 1 else 0

    def _where(self, topic: str) -> Server:
        return self.servers[self._place(topic)]

    def _notify(self, topic: str) -> None:
        """Notify here, unless the server does, and brings the event along."""
        if not self._notifier.notifies(topic):
            self.on_change(topic)

    def _sure(self, topic: str, script: scripts.Script, *args: Any) -> Any:
        """Run a script for a topic that may run twice."""
        return self._where(topic).ask(partial(script.run, self.keys.topic(topic), args))

    async def _run(self, body: Callable[[], _T]) -> _T:
        return await asyncio.wrap_future(self._pool.submit(body))

    def examine(self) -> list[StoreWarning]:
        """See ``EventLog``."""
        return [finding for server in self.servers for finding in findings(server)]

    # Append

    def _append(self, topic: str, events: Sized, expect: int | None, key: str | None, holder: str | None) -> Appended:
        if len(events) > BATCH:
            raise EventTooLarge(f"{len(events):,} events in one append, {BATCH:,} fit: publish in parts. Nothing was appended")
        keys = [*self.keys.topic(topic), *([self.keys.once(topic, key)] if key is not None else [])]
        guard = "" if holder is None else HELD + holder
        reply = self._ask_to_append(topic, keys, self._append_arguments(topic, expect, events, guard))
        if reply[0] == b"closed":
            refuse_append(topic, codec.plain(reply[1]), 0, None)
        if reply[0] == b"unheld":
            refuse_append(topic, None, 0, None, late=holder)
        if reply[0] == b"conflict":
            refuse_append(topic, None, int(reply[1]), expect)
        _, epoch, first, last, nonce, listed = reply
        if not listed and int(first) <= int(last):
            self._list_new(topic)
        return Appended(codec.plain(epoch), int(first), int(last), codec.letters(int(nonce)))

    def _append_last(self, topic: str, reason: str, last: Sized, guard: str, expect: int | None = None) -> bool:
        args = self._append_arguments(topic, expect, last, guard, reason)
        reply = self._ask_to_append(topic, [*self.keys.topic(topic)], args)
        if reply[0] == b"unheld" and guard.startswith(HELD):
            raise lost_error(topic, guard.removeprefix(HELD))
        if reply[0] == b"done":
            self._list_closed(topic, new=not reply[-1])
        return bool(reply[0] == b"done")

    def _list_new(self, topic: str) -> None:
        self._afterwards(partial(self._list, topic))

    def _list_closed(self, topic: str, *, new: bool) -> None:
        close = partial(self._indexes[self._place(topic)].close, topic)
        self._afterwards(*([partial(self._list, topic)] if new else []), close)

    def _append_arguments(self, topic: str, expect: int | None, events: Sized, guard: str, closing: str = "") -> list[Any]:
        return [
            self.keys.channel(topic),
            new_epoch(),
            secrets.randbelow(codec.NONCES),
            "" if expect is None else expect,
            *self._kept,
            0,
            guard,
            closing,
            *codec.arguments(event for event, _ in events),
        ]

    def _ask_to_append(self, topic: str, keys: list[str], args: list[Any]) -> list[Any]:
        """Append; where the answer is lost, ask whether it was done, by the nonce, and append if it was not."""
        server, began, cause = self._where(topic), time.monotonic(), None
        for _ in range(2):
            try:
                reply: list[Any] = server.ask_once(partial(scripts.APPEND.run, keys, args))
            except ConnectionLost as lost:
                cause = lost.__cause__
                args = [*args[:10], round(1e6 * (time.monotonic() - began + CLOCKS)), *args[11:]]
                continue
            if reply[0] != b"lost":
                return reply
        raise EventLogUnavailable(
            f"the connection to the server of {server.named} broke ({cause}) and could not be made again, or the topic is "
            "trimmed too fast to look there: whether the event was appended is not known. Publish with key=, then a second try "
            "is safe"
        ) from cause

    def _list(self, topic: str) -> None:
        """Enter a new topic in the lists, and drop those that are too many, on whichever server."""
        self._indexes[self._place(topic)].add(topic)
        for other in surplus(self._indexes, self.limits.max_topics, topic):
            self._remove(other, remember=False)
            self._evicted([other])

    def _note_followed(self, topics: list[str]) -> None:
        for place, server in enumerate(self.servers):
            metas = [self.keys.topic(topic)[0] for topic in topics if self._place(topic) == place]
            for start in range(0, len(metas), NOTED):
                server.ask(partial(scripts.FOLLOWED.run, metas[start : start + NOTED], []))

    def _afterwards(self, *bodies: Callable[[], object]) -> None:
        """Do what belongs to a verb that is done already: that it fails must not look as if the verb had."""
        try:
            for body in bodies:
                body()
        except EventLogUnavailable as error:
            self._unlisted.failed(EventLogUnavailable(str(error).removesuffix(f". {NOTHING}")))
        else:
            self._unlisted.recovered()

    # Read

    def _read_after(self, topic: str, offset: int, limit: int) -> Page:
        return codec.page(self._sure(topic, scripts.READ, offset, limit, PAGE_BYTES, self._max_age))

    def _state(self, topic: str) -> TopicState:
        reply = self._sure(topic, scripts.STATE, self._max_age)
        if not reply:
            return TopicState()
        where, nonce, _ = codec.head(reply[0])
        size, oldest, newest = map(int, reply[1:])
        return TopicState.of(where, size, oldest / 1e6, newest / 1e6, nonce)

    def _summaries(self, topics: list[str]) -> dict[str, Head]:
        heads: dict[str, Head] = {}
        for place, server in enumerate(self.servers):
            mine = [topic for topic in topics if self._place(topic) == place]
            metas = [self.keys.topic(topic)[0] for topic in mine]
            for topic, values in zip(mine, server.ends(metas), strict=True):
                if values[0] is not None:
                    heads[topic] = codec.head(values)[0]
        return heads

    # Ends

    def _close(self, topic: str, reason: str, last: Sized, holder: str | None) -> bool:
        if last or holder is not None:
            return self._append_last(topic, reason, last, "" if holder is None else HELD + holder)
        channel = self.keys.channel(topic)
        done, listed = self._sure(topic, scripts.CLOSE, channel, new_epoch(), reason, self._positions)
        if done or not listed:
            self._list_closed(topic, new=not listed)
        return bool(done)

    def _delete(self, topic: str) -> bool:
        return self._remove(topic, remember=True)

    def _remove(self, topic: str, *, remember: bool) -> bool:
        remembered = round(1000 * DELETED_FOR) if remember else 0
        done = self._sure(topic, scripts.DELETE, self.keys.channel(topic), remembered)
        self._afterwards(partial(self._indexes[self._place(topic)].discard, [topic]))
        return bool(done)

    def _trim(self, topic: str, max_events: int | None, max_bytes: int | None, max_age: float | None) -> int:
        bounds = [FOREVER if bound is None else bound for bound in (max_events, max_bytes, max_age and 1e6 * max_age)]
        return int(self._sure(topic, scripts.TRIM, self.keys.channel(topic), *map(repr, bounds), self._max_age))

    def _fork(self, topic: str, epoch: str) -> None:
        self._sure(topic, scripts.FORK, self.keys.channel(topic), epoch, new_epoch(), self._positions)

    # Lists

    def _topics(self, prefix: str, after: str, limit: int) -> list[str]:
        return sorted(name for index in self._indexes for name in index.page(prefix, after, limit))[:limit]

    def _clear_all(self) -> None:
        def clear(client: Any) -> None:
            for key in client.scan_iter(self.keys.everything, count=1000):
                client.unlink(key)

        for server in self.servers:
            server.ask(clear)
