"""The verbs about leases and pointers of ``RedisEventLog``."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ...wire.event import Event, stored
from ..base import EventLog
from ..leases import LOST, POINTER_AGE, STOPS, Lease, Sized, held_error
from ..position import new_epoch
from ..validation import lost_error, refuse_append
from . import codec, lease_scripts
from .keys import Keys
from .scripts import Script
from .server import Server

ASKED = 500
"""Topics whose leases are asked for together."""
HELD, EXPIRED = "h", "x"
"""Before a holder's name: what must be true of its lease, so that the script appends."""


class RedisLeasing(EventLog):
    """A log in Redis, as far as its leases go: they stand in the hash of their topic, whose expiry and deletion end them."""

    keys: Keys
    servers: list[Server]
    _positions: str

    @abstractmethod
    def _place(self, topic: str) -> int: ...

    @abstractmethod
    def _where(self, topic: str) -> Server: ...

    @abstractmethod
    def _afterwards(self, *bodies: Callable[[], object]) -> None: ...

    @abstractmethod
    def _list_new(self, topic: str) -> None: ...

    @abstractmethod
    def _append_last(self, topic: str, reason: str, last: Sized, guard: str, expect: int | None = None) -> bool: ...

    @abstractmethod
    def _sure(self, topic: str, script: Script, *args: Any) -> Any: ...

    def _acquire(self, topic: str, holder: str, seconds: float, last: Sized) -> Lease:
        about = [self.keys.channel(topic), new_epoch(), holder, _micro(seconds), _packed(last), self._positions]
        reply = self._sure(topic, lease_scripts.ACQUIRE, *about)
        if reply[0] == b"closed":
            refuse_append(topic, codec.plain(reply[1]), 0, None)
        if reply[0] == b"held":
            raise held_error(topic, codec.plain(reply[1]), int(reply[2]) / 1e6)
        _, deadline, left, stop, listed = reply
        if not listed:
            self._list_new(topic)
        return _lease(holder, deadline, left, stop)

    def _renew(self, topic: str, holder: str, seconds: float) -> Lease:
        reply = self._sure(topic, lease_scripts.RENEW, holder, _micro(seconds), self._positions)
        if not reply:
            raise lost_error(topic, holder)
        return _lease(holder, *reply)

    def _release(self, topic: str, holder: str) -> bool:
        return bool(self._sure(topic, lease_scripts.RELEASE, holder))

    def _request_stop(self, topic: str, holder: str) -> bool:
        known = bool(self._sure(topic, lease_scripts.STOP, holder))
        if known:  # the topic's server may be another one
            server, channel = self._where(STOPS), self.keys.channel(STOPS)
            self._afterwards(lambda: server.ask(lambda client: client.publish(channel, "0")))
        return known

    def _last_words(self, topic: str) -> Sequence[Event] | None:
        meta = self.keys.topic(topic)[0]
        (words,) = self._where(topic).ask(lambda client: client.hmget(meta, "w"))
        return _unpacked(words) if words else None

    def _expire(self, topic: str, holder: str, last: Sized, expect: int | None) -> bool:
        return self._append_last(topic, LOST, last, EXPIRED + holder, expect)

    def _leases(self, topics: list[str]) -> dict[str, Lease]:
        found: dict[str, Lease] = {}
        for place, server in enumerate(self.servers):
            mine = [topic for topic in topics if self._place(topic) == place]
            for start in range(0, len(mine), ASKED):
                some = mine[start : start + ASKED]
                replies = server.ask(partial(lease_scripts.LEASES.run, [self.keys.topic(topic)[0] for topic in some], []))
                found.update(
                    (topic, _lease(codec.plain(reply[0]), *reply[1:]))
                    for topic, reply in zip(some, replies, strict=True)
                    if reply
                )
        return found

    def _pointer(self, name: str) -> str | None:
        server, key = self._where(name), self.keys.pointer(name)
        leads = server.ask(lambda client: client.get(key))
        return None if leads is None else codec.plain(leads)

    def _move_pointer(self, name: str, to: str | None, expect: str | None) -> str | None:
        args = [expect or "", to or "", round(1000 * (POINTER_AGE + self.limits.max_age))]
        leads = codec.plain(self._where(name).ask(partial(lease_scripts.MOVE.run, [self.keys.pointer(name)], args)))
        return leads or None


def _micro(seconds: float) -> int:
    return max(1, round(1e6 * seconds))


def _lease(holder: str, deadline: codec.Text, left: codec.Text, stop: codec.Text) -> Lease:
    until = int(deadline) / 1e6
    return Lease(holder=holder, deadline=until, left=int(left) / 1e6 if until else 0.0, stop=codec.plain(stop) == "1")


def _packed(events: Sized) -> str:
    return json.dumps([[event.data, event.event, event.retry] for event, _ in events], separators=(",", ":"))


def _unpacked(words: codec.Text) -> Sequence[Event]:
    return [stored(data, name, retry) for data, name, retry in json.loads(words)]
