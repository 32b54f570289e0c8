"""That the event log cannot be read, as all who read it in this process find out: requests, feeds, pages, the poll."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from ..exceptions import EventLogUnavailable
from ..runtime.backoff import FailureLog
from ..runtime.process import PerProcess
from ..runtime.safe_text import without_run_id
from .eviction import is_internal

LOGGER = "django_agent_sse.eventlog"
EFFECT = (
    "Streams that are open stay so and go on when it works again; requests for others are answered as overloaded until then. See "
    "AGENT_SSE['EVENT_LOG']."
)
REPEAT_AFTER = 600.0
"""Seconds after which a failure that lasts is logged again."""
MAX_TOPICS = 1000
"""Topics that are remembered as failing."""
MAX_FAILURES = 100
"""Topics that are broken, each by itself, of which it is said."""


class _Failing(NamedTuple):
    """One failure of the log, and the topics that could not be read because of it."""

    log: FailureLog
    since: float
    topics: set[str]


class Outage(PerProcess):
    """The failures to read the event log of one process.

    It is logged when somebody first cannot read, again after ``REPEAT_AFTER`` seconds, and when a topic that could not be read
    can be read.
    """

    def reset(self) -> None:
        """Know of no failure, as where the log was replaced."""
        self._lock = threading.Lock()
        self._failing: dict[str, _Failing] = {}

    @property
    def lasts(self) -> bool:
        """Whether anything cannot be read, as far as is known."""
        return bool(self._failing)

    def failed(self, error: BaseException, topics: Iterable[str]) -> None:
        """These topics could not be read. Nobody minds missing tables that only this package's own topics would use."""
        kind = error.kind if isinstance(error, EventLogUnavailable) else "store"
        names = [*islice(topics, MAX_TOPICS)]
        if kind == "tables" and names and all(map(is_internal, names)):
            return
        key = f"the topic {without_run_id(names[0])!r}" if kind == "topic" and names else "the event log"
        with self._lock:
            if key in self._failing and time.monotonic() - self._failing[key].since > REPEAT_AFTER:
                del self._failing[key]
            while key not in self._failing and len(self._failing) >= MAX_FAILURES:
                del self._failing[next(iter(self._failing))]
            if key not in self._failing:
                self._failing[key] = _Failing(FailureLog(f"{key} cannot be read", EFFECT, logger=LOGGER), time.monotonic(), set())
            failing = self._failing[key]
            failing.topics.update(names[: MAX_TOPICS - len(failing.topics)])
            failing.log.failed(error)

    def recovered(self, topics: Iterable[str]) -> None:
        """These topics were read. Others may fail all the same, where there are several servers, or one topic is broken."""
        if not self._failing:
            return
        names = {*topics}
        with self._lock:
            for key, failing in [*self._failing.items()]:
                if not failing.topics or not failing.topics.isdisjoint(names):
                    del self._failing[key]
                    failing.log.recovered()


outage = Outage()


def public_words(error: Exception) -> str:
    """Return what may be shown of an error on a page: neither the address nor the words of a store that cannot be reached."""
    if not isinstance(error, EventLogUnavailable):
        return str(error)
    if error.kind == "tables":
        return "The event log’s tables are not there yet: run manage.py migrate."
    return "The event log cannot be reached now, or failed. The log of the process says why."
