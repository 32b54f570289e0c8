"""What fails now and is tried again: said once when it begins and once when it is over, however often it is tried meanwhile."""

from __future__ import annotations

import logging
import random

logger = logging.getLogger("django_agent_sse.bell")

FIRST = 0.5
"""Seconds until the second try; they double with each failure, and are less by up to a half, by chance: processes must not try
all at once."""


class Trouble:
    """Counts the failures in a row of one thing.

    Args:
        what: The thing, as a sentence: ``"bells cannot be sent"``.
        effect: What that costs, and what to do, as a sentence.
        longest: Seconds between two tries, at most.
    """

    def __init__(self, what: str, effect: str, longest: float = 30.0) -> None:
        self._what = what
        self._effect = effect
        self._longest = longest
        self.failures = 0
        self._why = ""

    @property
    def now(self) -> str:
        """What fails at this moment, as a sentence; empty where nothing does."""
        return f"{self._what}: {self._why}" if self.failures else ""

    def failed(self, error: BaseException) -> float:
        """It failed once more; return after how many seconds to try again."""
        if not self.failures:
            logger.warning(
                "%s now (%s: %s). %s This is said once; it is tried again", self._what, type(error).__name__, error, self._effect
            )
        self.failures += 1
        self._why = type(error).__name__
        return float(min(self._longest, FIRST * 2.0 ** min(self.failures - 1, 16)) * random.uniform(0.5, 1))

    def over(self) -> None:
        """It worked."""
        if self.failures:
            logger.warning("works again after %d failures: %s", self.failures, self._what)
            self.failures = 0
