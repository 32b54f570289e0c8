"""What fails and is tried again: how long to wait before the next try, here and at a client, and what is said meanwhile."""

from __future__ import annotations

import logging
import random

MOST_DOUBLINGS = 16
FIRST = 0.5
"""Seconds until the second try, where nothing else is said."""
LONGEST = 30.0


JITTER = 0.5
"""A reconnection time is drawn from this share around it, so that clients do not come back together."""


def jittered(milliseconds: int) -> int:
    """Return a reconnection time: about ``milliseconds``, a half more or less."""
    return int(milliseconds * random.uniform(1 - JITTER, 1 + JITTER))


class Backoff:
    """Counts failures in a row and says how long to wait after each: longer each time, and by chance: not all try at once.

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


class FailureLog:
    """The failures in a row of one thing: logged once when they begin and once when they are over, however often it is tried.

    Args:
        what: What fails, as a sentence: ``"notifications cannot be sent"``.
        effect: What that costs, and what to do, as a sentence.
        logger: The name of the logger that says it; nobody does where it is ``None``.
        first: Seconds until the second try; see `Backoff`.
        longest: Seconds between two tries, at most.
    """

    def __init__(self, what: str, effect: str, *, logger: str | None, first: float = FIRST, longest: float = LONGEST) -> None:
        self._what = what
        self._effect = effect
        self._logger = None if logger is None else logging.getLogger(logger)
        self._backoff = Backoff(first, longest)
        self._said = False
        self.failures = 0
        self.kind: str | None = None
        """The type of the last error while it fails. Not its words, which may name what only the log may: an address, a user."""

    @property
    def now(self) -> str:
        """What fails at this moment, as a sentence anybody may read; empty where nothing does."""
        return f"{self._what}: {self.kind}" if self.failures else ""

    def failed(self, error: BaseException, quietly: bool = False) -> float:
        """Note one more failure, in the log too unless ``quietly``, and return the seconds to wait before the next try."""
        if self._logger is not None and not self._said and not quietly:
            self._said = True
            self._logger.warning(
                "%s now (%s: %s). %s This is said once; it is tried again", self._what, type(error).__name__, error, self._effect
            )
        self.failures += 1
        self.kind = type(error).__name__
        return self._backoff.next()

    def recovered(self) -> None:
        if self._logger is not None and self._said:
            self._logger.warning("works again after %d failures: %s", self.failures, self._what)
        self.failures, self.kind, self._said = 0, None, False
        self._backoff.reset()
