"""Reconnecting: at once at first, then less and less often, and by chance, so that processes do not all come at once."""

from __future__ import annotations

import logging
import random

logger = logging.getLogger("django_agent_sse.bell")

FIRST = 0.05
"""Seconds until the second try; they double with each failure."""
LONGEST = 5.0
"""Seconds between two tries, at most. All of them are less by up to a half."""


class Retrying:
    """Counts the failures in a row, and says once that it fails, and once that this is over.

    Args:
        named: The setting that names the server.
    """

    def __init__(self, named: str) -> None:
        self._named = named
        self._failures = 0
        self.why: str | None = None
        """The kind of the last error, while it fails. Not its words, which may name what only the log may: an address, a user."""

    def failed(self, error: BaseException) -> float:
        """It failed once more; return after how many seconds to try again."""
        self.why = type(error).__name__
        if not self._failures:
            logger.warning(
                "the doorbells of %s do not come in now (%s: %s). Streams stay open, and go on when they do; this is said once",
                *(self._named, self.why, error),
            )
        self._failures += 1
        return min(LONGEST, FIRST * 2.0 ** min(self._failures - 1, 16)) * random.uniform(0.5, 1)

    def over(self) -> None:
        """It works again."""
        if self._failures:
            logger.info("the doorbells of %s come in again, after %d failures", self._named, self._failures)
        self._failures = 0
        self.why = None
