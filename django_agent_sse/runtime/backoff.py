"""How long to wait before trying again: less and less often, and by chance, so that processes do not all come at once."""

from __future__ import annotations

import random

MOST_DOUBLINGS = 16


class Backoff:
    """Counts failures in a row and says how long to wait after each.

    Args:
        first: Seconds to wait after the first failure; they double with each further one.
        longest: Seconds to wait at most.
        jitter: By which share a pause may be shorter, by chance: 0.5 means between a half and the whole of it.
    """

    __slots__ = ("_first", "_jitter", "_longest", "failures")

    def __init__(self, first: float, longest: float, *, jitter: float = 0.5) -> None:
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self.failures = 0

    def next(self, first: float | None = None, at_least: float = 0.0) -> float:
        """Count one more failure and return the seconds to wait.

        Args:
            first: The pause after a first failure, instead of this object's own.
            at_least: Seconds that a server asks to be left alone; it is exceeded by up to a quarter, by chance.
        """
        seconds = min(self._longest, (self._first if first is None else first) * 2.0**self.failures)
        self.failures = min(self.failures + 1, MOST_DOUBLINGS)
        return max(seconds * random.uniform(1 - self._jitter, 1), at_least * random.uniform(1, 1.25))

    def reset(self) -> None:
        """Start over: it works again."""
        self.failures = 0
