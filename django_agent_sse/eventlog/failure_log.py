"""What fails now and is tried again: said once when it begins and once when it is over, however often it is tried meanwhile."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from ..exceptions import EventLogUnavailable
from .eviction import is_internal

BELL = "django_agent_sse.bell"
LOG = "django_agent_sse.eventlog"

EFFECT = (
    "Streams that are open stay so and go on when it works again; requests for others are answered as overloaded until then. See "
    "AGENT_SSE['EVENT_LOG']."
)
AGAIN = 600.0
MOST_TOPICS = 1000
"""Topics that are remembered as failing."""
MOST_TROUBLES = 100
"""Topics that are broken, each by itself, of which it is said."""

FIRST = 0.5
"""Seconds until the second try; they double with each failure, and are less by up to a half, by chance: processes must not try
all at once."""


class Trouble:
    """Counts the failures in a row of one thing.

    Args:
        what: The thing, as a sentence: ``"bells cannot be sent"``.
        effect: What that costs, and what to do, as a sentence.
        longest: Seconds between two tries, at most.
        logger: The name of the one that says it; nobody does where there is none.
    """

    def __init__(self, what: str, effect: str, longest: float = 30.0, logger: str | None = BELL) -> None:
        self._what = what
        self._effect = effect
        self._longest = longest
        self._logger = None if logger is None else logging.getLogger(logger)
        self._said = False
        self.failures = 0
        self._why = ""

    @property
    def now(self) -> str:
        """What fails at this moment, as a sentence; empty where nothing does."""
        return f"{self._what}: {self._why}" if self.failures else ""

    def failed(self, error: BaseException, quietly: bool = False) -> float:
        """It failed once more; return after how many seconds to try again. ``quietly``: for a reason that nobody minds."""
        if self._logger is not None and not self._said and not quietly:
            self._said = True
            self._logger.warning(
                "%s now (%s: %s). %s This is said once; it is tried again", self._what, type(error).__name__, error, self._effect
            )
        self.failures += 1
        self._why = type(error).__name__
        return float(min(self._longest, FIRST * 2.0 ** min(self.failures - 1, 16)) * random.uniform(0.5, 1))

    def over(self) -> None:
        """It worked."""
        if self._logger is not None and self._said:
            self._logger.warning("works again after %d failures: %s", self.failures, self._what)
        self.failures, self._said = 0, False


class _Failing(NamedTuple):
    """One trouble with the log, and the topics that could not be read for it."""

    trouble: Trouble
    since: float
    topics: set[str]


class Outage:
    """That the event log cannot be read, as all who read it in this process find out: requests, feeds, pages, the poll.

    It is said when the first of them does, again after ``AGAIN`` seconds, and when a topic that could not be read can be read.
    """

    def __init__(self) -> None:
        self.reset()
        os.register_at_fork(after_in_child=self.reset)

    def reset(self) -> None:
        """Know of no failure, as where the log was replaced."""
        self._lock = threading.Lock()
        self._troubles: dict[str, _Failing] = {}

    @property
    def lasts(self) -> bool:
        """Whether anything cannot be read, as far as is known."""
        return bool(self._troubles)

    def failed(self, error: BaseException, topics: Iterable[str]) -> None:
        """These topics could not be read. Nobody minds that tables are missing of which only this package's own would be used."""
        kind = error.kind if isinstance(error, EventLogUnavailable) else "store"
        names = [*islice(topics, MOST_TOPICS)]
        if kind == "tables" and names and all(map(is_internal, names)):
            return
        key = f"the topic {names[0]!r}" if kind == "topic" and names else "the event log"
        with self._lock:
            if key in self._troubles and time.monotonic() - self._troubles[key].since > AGAIN:
                del self._troubles[key]
            while key not in self._troubles and len(self._troubles) >= MOST_TROUBLES:
                del self._troubles[next(iter(self._troubles))]
            if key not in self._troubles:
                self._troubles[key] = _Failing(Trouble(f"{key} cannot be read", EFFECT, logger=LOG), time.monotonic(), set())
            failing = self._troubles[key]
            failing.topics.update(names[: MOST_TOPICS - len(failing.topics)])
            failing.trouble.failed(error)

    def over(self, topics: Iterable[str]) -> None:
        """These topics were read. Others may be away all the same, where there are several servers, or one topic is broken."""
        if not self._troubles:
            return
        names = {*topics}
        with self._lock:
            for key, failing in [*self._troubles.items()]:
                if not failing.topics or not failing.topics.isdisjoint(names):
                    del self._troubles[key]
                    failing.trouble.over()


outage = Outage()


def public_words(error: Exception) -> str:
    """What may be shown of an error on a page: of a store that cannot be reached neither its address nor its words."""
    if not isinstance(error, EventLogUnavailable):
        return str(error)
    if error.kind == "tables":
        return "The event log’s tables are not there yet: run manage.py migrate."
    return "The event log cannot be reached now, or failed. The log of the process says why."
