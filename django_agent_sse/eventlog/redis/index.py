"""The lists of topics on one server: their names, the closed ones, and which was longest without an event or a follower.

A topic is entered when it is made. That is a second command, after the first event, since the lists are no part of any topic;
what dies in between is entered by the next event.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from ..eviction import FOLLOWED_FOR, is_internal
from . import scripts
from .codec import plain
from .keys import Keys
from .server import Server

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
        """Enter a topic; the package's own only among the names, for they are never evicted."""
        recent = [] if is_internal(topic) else [("zadd", self._keys.recent, {topic: _now()})]
        self._server.pipe(("zadd", self._keys.names, {topic: 0}), *recent)
        self._server.ask(partial(scripts.LISTED.run, self._keys.topic(topic), []))

    def close(self, topic: str) -> None:
        if not is_internal(topic):
            self._server.pipe(("zadd", self._keys.closed, {topic: _now()}))

    def discard(self, topics: Sequence[str]) -> None:
        if topics:
            lists = (self._keys.names, self._keys.recent, self._keys.closed)
            self._server.pipe(*(("zrem", key, *topics) for key in lists))

    def page(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return the names that begin so, sorted, after ``after``; those that expired are struck out on the way."""
        existing: list[str] = []
        for _ in range(ROUNDS):
            low = f"({after}" if after >= prefix and after else f"[{prefix}" if prefix else "-"
            (names,) = self._server.pipe(("zrangebylex", self._keys.names, low, f"({prefix}\x7f" if prefix else "+", 0, STEP))
            names = [plain(name) for name in names]
            existing += self._existing(names)
            if len(names) < STEP or len(existing) >= limit:
                break
            after = names[-1]
        return existing[:limit]

    def count(self) -> int:
        """Return how many topics there are, with those that have expired since their last listing."""
        (count,) = self._server.pipe(("zcard", self._keys.recent))
        return int(count)

    def first(self, *, closed: bool) -> tuple[float, str] | None:
        """Return the topic that was closed first, or else the one whose last event is the oldest, and when (µs) that was.

        It has the lowest score, once the lowest score is true: scores are set right when they are looked at. That of a topic
        which is followed is the moment at which it may be evicted, so that those which may not stand at the end.
        """
        key = self._keys.closed if closed else self._keys.recent
        for _ in range(ROUNDS):
            (lowest,) = self._server.pipe(("zrange", key, 0, STEP - 1, False, True))
            names = [plain(name) for name, _ in lowest]
            if not names:
                return None
            times = self._server.pipe(*(("hmget", self._keys.topic(name)[0], "t", "r", "l") for name in names))
            wrong = {}
            for name, (_, score), (at, followed, held) in zip(names, lowest, times, strict=True):
                kept_until = float(followed) + 1e6 * FOLLOWED_FOR if followed else 0.0
                if float(held or 0) > _now():  # somebody works on it
                    kept_until = max(kept_until, float(held))
                if (right := max(score if closed or not at else float(at), kept_until)) != score:
                    wrong[name] = right
            if names[0] not in wrong:
                first: float = lowest[0][1]
                return (first, names[0]) if first <= _now() else None
            self._server.pipe(("zadd", key, wrong))
        return None

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
        return self._server.pipe(*(("hexists", self._keys.topic(name)[0], "e") for name in names))


def surplus(indexes: Sequence[Index], most: int, new: str) -> Iterator[str]:
    """Yield the topics that must go so that ``most`` are left on all servers: closed ones, then the longest without an event.

    They are fewer where all others are followed; the new one stays.
    """
    for _ in range(math.ceil(sum(index.count() for index in indexes) - most)):
        candidates = [first for index in indexes if (first := index.first(closed=True))]
        candidates = candidates or [first for index in indexes if (first := index.first(closed=False))]
        if not candidates or (victim := min(candidates)[1]) == new:
            return
        yield victim


def _now() -> int:
    return time.time_ns() // 1000
