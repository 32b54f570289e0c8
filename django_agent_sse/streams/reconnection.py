"""When a client that was sent away should come back: spread by chance, and later with each error in a row."""

from __future__ import annotations

import random

FIRST_RETRY = 1000
"""Milliseconds: the first reconnection time after an error, where the route has no ``retry`` of its own."""
LAST_RETRY = 60_000
"""Milliseconds: it grows up to this."""
JITTER = 0.5
"""A reconnection time is drawn from this share around it, so that clients do not come back together."""


class ErrorStreak:
    """Errors of one route without a good ending between them: the longer, the later clients should come back."""

    __slots__ = ("length",)

    def __init__(self) -> None:
        self.length = 0

    def next_retry(self, base: int | None) -> int:
        """Return the reconnection time to tell the client, in milliseconds: doubled for each error in a row, with jitter."""
        grown = min((base or FIRST_RETRY) * 2**self.length, LAST_RETRY)
        self.length = min(self.length + 1, 16)
        return jittered(grown)


def jittered(milliseconds: int) -> int:
    """Return a number around ``milliseconds``."""
    return int(milliseconds * random.uniform(1 - JITTER, 1 + JITTER))
