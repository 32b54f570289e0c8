"""Lines that are on their way to the event log: whoever prints them never waits for a log that is away."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from typing import Final

from ..eventlog.base import EventLog
from ..eventlog.validation import size_of
from ..exceptions import AgentSSEError, EventLogUnavailable, TopicClosed
from ..runtime.backoff import Backoff
from ..runtime.pools import Pool
from ..wire.event import Event

BATCH_SECONDS: Final = 0.05
"""Between the beginnings of two appends, unless a full batch waits."""
BATCH_EVENTS: Final = 512
BATCH_BYTES: Final = 262_144
CAPACITY: Final = 10_000
"""Events that wait at most."""
CAPACITY_BYTES: Final = 16_777_216
STALL_TIMEOUT: Final = 5.0
"""Seconds that a full buffer holds up who prints, while the log is slow; then it counts as away."""
FINISH_TIMEOUT: Final = 10.0
"""Seconds that the end waits for the log, as long as nothing goes through."""
FIRST_RETRY, LAST_RETRY, FINISH_RETRY = 0.25, 5.0, 1.0
"""Seconds between two tries, while the command runs and when it is over."""
DROPPED: Final = "dropped"
"""The event that stands where events are missing."""


class BufferedPublisher:
    """Publishes what it is given from a thread of its own, in order, in batches; nothing it meets reaches who gives.

    While the log is merely slow, ``put`` waits for room. While it is away events wait, and beyond ``CAPACITY`` the oldest go: a
    ``dropped`` event stands in their place. Every append has a key, so that one that failed half-way is not doubled.

    Args:
        log: Where to.
        topic: Its name.
        tell: Called with a sentence about what goes wrong.
        fresh: Forget what the topic has first.

    Attributes:
        lost: Events that were dropped, or waited when it was given up.
    """

    def __init__(self, log: EventLog, topic: str, *, tell: Callable[[str], object], fresh: bool = False) -> None:
        self.lost = 0
        self._log = log
        self._topic = topic
        self._tell = tell
        self._fresh = fresh
        self._run = secrets.token_hex(8)
        self._batch_number = 0
        self._waiting: deque[tuple[Event, int]] = deque()
        self._bytes = 0
        self._missing = self._sending = 0
        self._away = self._dead = False
        self._finishing = False
        self._close: str | None = None
        self._done_at = time.monotonic()
        self._last_begun = 0.0
        self._news = threading.Condition()
        self._backoff = Backoff(FIRST_RETRY, LAST_RETRY)
        self._publishing = Pool("sse-publisher", 1).submit(self._work)

    def put(self, events: Sequence[Event]) -> None:
        """Give events to publish."""
        sized = [(event, size_of(event)) for event in events]
        with self._news:
            for item in sized:
                if self._full() and not self._away:
                    self._news.notify_all()
                    self._news.wait_for(lambda: not self._full() or self._away, STALL_TIMEOUT)
                    self._away = self._away or self._full()
                self._add(item)
            self._news.notify_all()

    def finish(self, close: str | None, hurried: Callable[[], bool]) -> None:
        """Publish what waits, close the topic where ``close`` says so, end. Give up ``FINISH_TIMEOUT`` after the last success.

        Args:
            close: Why the topic is closed, or ``None``.
            hurried: Whether to give up at once.
        """
        with self._news:
            self._close = close
            self._finishing = True
            self._done_at = time.monotonic()
            self._news.notify_all()
        while not self._publishing.done() and not hurried() and time.monotonic() - self._done_at < FINISH_TIMEOUT:
            wait([self._publishing], 0.05)
        with self._news:
            self.lost += len(self._waiting) + self._sending

    def _add(self, item: tuple[Event, int]) -> None:
        if self._dead:
            self.lost += 1
            return
        self._waiting.append(item)
        self._bytes += item[1]
        while self._full(more=1):
            self._bytes -= self._waiting.popleft()[1]
            self._missing += 1
            self.lost += 1

    def _full(self, more: int = 0) -> bool:
        return len(self._waiting) >= CAPACITY + more or (self._bytes >= CAPACITY_BYTES + more and len(self._waiting) > 1)

    def _work(self) -> None:
        if self._fresh:
            self._try(lambda: self._log.delete(self._topic))
        while batch := self._next():
            self._batch_number += 1
            self._send(batch, f"{self._run}:{self._batch_number}")
        if self._close is not None and not self._dead:
            reason = self._close
            self._try(lambda: self._log.close(self._topic, reason))

    def _next(self) -> list[Event]:
        """The next batch; empty at the end."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._finishing)
            # From the beginning of the append before: what comes after a silence goes at once.
            self._news.wait_for(self._urgent, max(0.0, self._last_begun + BATCH_SECONDS - time.monotonic()))
            batch, size = [], 0
            if self._missing:
                batch.append(Event(json.dumps({"events": self._missing}, separators=(",", ":")), event=DROPPED))
                self._missing = 0
            while self._waiting and len(batch) < BATCH_EVENTS and (size < BATCH_BYTES or not batch):
                event, bytes_ = self._waiting.popleft()
                batch.append(event)
                size += bytes_
                self._sending += 1
            self._bytes -= size
            self._last_begun = time.monotonic()
            self._news.notify_all()
            return batch

    def _urgent(self) -> bool:
        return self._finishing or len(self._waiting) >= BATCH_EVENTS or self._bytes >= BATCH_BYTES

    def _send(self, batch: list[Event], key: str) -> None:
        sent = not self._dead and self._try(lambda: self._log.append(self._topic, batch, key=key))
        with self._news:
            self.lost += 0 if sent else self._sending
            self._sending = 0

    def _try(self, step: Callable[[], object]) -> bool:
        """Do it as often as it takes; whether it could be done."""
        while True:
            try:
                step()
            except TopicClosed as error:
                self._dead = True
                self._tell(f"{error}. The command goes on; nothing more of it is published")
                return False
            except Exception as error:
                if isinstance(error, AgentSSEError) and not isinstance(error, EventLogUnavailable):
                    self._tell(f"not published: {error}")
                    return False
                self._wait(error)
            else:
                self._works()
                return True

    def _wait(self, error: Exception) -> None:
        if not self._backoff.failures:
            said = str(error) if isinstance(error, EventLogUnavailable) else f"{type(error).__name__}: {error}"
            self._tell(f"cannot publish: {said}. The command goes on; up to {CAPACITY:,} lines wait until the log is back")
        with self._news:
            self._away = True
            self._news.notify_all()
            if not self._finishing:
                self._news.wait_for(lambda: self._finishing, self._backoff.next())
                return
        time.sleep(min(self._backoff.next(), FINISH_RETRY))

    def _works(self) -> None:
        with self._news:
            self._away = False
            self._done_at = time.monotonic()
        if self._backoff.failures:
            missing = f"; {self._missing:,} lines were dropped meanwhile" if self._missing else ""
            self._tell(f"the event log is back{missing}")
            self._backoff.reset()
