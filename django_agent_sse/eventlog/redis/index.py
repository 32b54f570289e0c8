"""The lists of topics on one server: their names, the closed ones, and which was longest without an event.

A topic is entered when it is made. That is a second command, after the first event, since the lists are no part of any topic;
what dies in between is entered by the next event.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from . import scripts
from .keys import Keys
from .server import Server
from .wire import plain

STEP = 64
"""Topics that are looked at together."""
ROUNDS = 1_000
"""Steps at most for one list, or for one topic that must go."""


class Index:
    """The lists of one server."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys

    def add(self, topic: str) -> None:
        """Enter a topic."""
        now = time.time_ns() // 1000
        self._pipe(("zadd", self._keys.names, {topic: 0}), ("zadd", self._keys.recent, {topic: now}))
        self._server.sure(scripts.LISTED, self._keys.topic(topic), [])

    def close(self, topic: str) -> None:
        """Enter it among the closed ones."""
        self._pipe(("zadd", self._keys.closed, {topic: time.time_ns() // 1000}))

    def discard(self, topics: Sequence[str]) -> None:
        """Strike topics out."""
        if topics:
            lists = (self._keys.names, self._keys.recent, self._keys.closed)
            self._pipe(*(("zrem", key, *topics) for key in lists))

    def page(self, prefix: str, after: str, limit: int) -> list[str]:
        """Names that begin so, sorted, after ``after``; those that expired are struck out on the way."""
        found: list[str] = []
        for _ in range(ROUNDS):
            low = f"({after}" if after >= prefix and after else f"[{prefix}" if prefix else "-"
            (names,) = self._pipe(("zrangebylex", self._keys.names, low, f"({prefix}\x7f" if prefix else "+", 0, STEP))
            names = [plain(name) for name in names]
            found += self._existing(names)
            if len(names) < STEP or len(found) >= limit:
                break
            after = names[-1]
        return found[:limit]

    def count(self) -> int:
        """How many topics there are, with those that have expired since their last listing."""
        (count,) = self._pipe(("zcard", self._keys.recent))
        return int(count)

    def first_closed(self) -> tuple[float, str] | None:
        """The topic that has been closed for the longest time, and since when (µs)."""
        (found,) = self._pipe(("zrange", self._keys.closed, 0, 0, False, True))
        return (found[0][1], plain(found[0][0])) if found else None

    def longest_silent(self) -> tuple[float, str] | None:
        """The topic whose last event is the oldest, and when that was (µs).

        It has the lowest score, once the lowest score is true: scores are set right when they are looked at.
        """
        for _ in range(ROUNDS):
            (lowest,) = self._pipe(("zrange", self._keys.recent, 0, STEP - 1, False, True))
            names = [plain(name) for name, _ in lowest]
            if not names:
                return None
            times = self._pipe(*(("hget", self._keys.topic(name)[0], "t") for name in names))
            wrong = {name: int(at) for name, (_, score), at in zip(names, lowest, times, strict=True) if at and int(at) != score}
            if names[0] not in wrong:
                break
            self._pipe(("zadd", self._keys.recent, wrong))
        return lowest[0][1], names[0]

    def _existing(self, names: list[str]) -> list[str]:
        there = [bool(answer) for answer in self._ask_existing(names)]
        gone = [name for name, here in zip(names, there, strict=True) if not here]
        if gone:
            self.discard(gone)
            for name, back in zip(gone, self._ask_existing(gone), strict=True):
                if back:  # it was made anew at this moment
                    self.add(name)
        return [name for name, here in zip(names, there, strict=True) if here]

    def _ask_existing(self, names: list[str]) -> list[Any]:
        return self._pipe(*(("hexists", self._keys.topic(name)[0], "e") for name in names))

    def _pipe(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Several commands in one round trip."""

        def call(client: Any) -> list[Any]:
            with client.pipeline(transaction=False) as pipe:
                for name, *args in commands:
                    getattr(pipe, name)(*args)
                found: list[Any] = pipe.execute()
                return found

        return self._server.twice(lambda: self._server.ask(call)) if commands else []


def surplus(indexes: Sequence[Index], most: int) -> Iterator[str]:
    """The topics that must go so that ``most`` are left on all servers: closed ones first, then the longest without an event."""
    for _ in range(sum(index.count() for index in indexes) - most):
        found = [one for index in indexes if (one := index.first_closed())]
        found = found or [one for index in indexes if (one := index.longest_silent())]
        if found:
            yield min(found)[1]
