"""Events on their way to a topic, from a thread of their own: whoever gives them never waits for an event log that is away."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, ClassVar, Final

from ..eventlog.validation import size_of
from ..exceptions import AgentSSEError, EventLogUnavailable
from ..runtime.backoff import Backoff
from ..runtime.connections import give_connections_back
from ..runtime.pools import Pool
from ..runtime.process import PerProcess
from ..wire.event import Event

BATCH_EVENTS: Final = 512
BATCH_BYTES: Final = 262_144
CAPACITY: Final = 10_000
"""Events that wait at most."""
CAPACITY_BYTES: Final = 16_777_216
STALL_TIMEOUT: Final = 5.0
"""Seconds that a full buffer holds up whoever gives events, while the log is slow; then it counts as away."""
FINISH_TIMEOUT: Final = 10.0
"""Seconds that the end waits for the log, as long as nothing goes through."""
FIRST_RETRY, LAST_RETRY, FINISH_RETRY = 0.25, 5.0, 1.0
"""Seconds between two tries at first and at most, and at most when everything was given."""


class BufferedPublisher(PerProcess):
    """Publishes what it is given, in order, in batches; nothing it meets reaches whoever gives. A subclass says what to report.

    A batch that failed is tried again with the same key, so that an append that failed half-way is not doubled. Its thread is
    there while events wait. A forked child starts over, without them.

    Where too many wait and ``drops_newest``, what comes is dropped. Else ``put`` waits for room while the log is slow, and the
    oldest are dropped while it is away. ``lost`` counts events that were dropped, refused, or waited when it was given up.

    Args:
        name: What the thread is called.
        append: Appends events, with their key.
        capacity: Events that wait at most, besides ``CAPACITY_BYTES``.
        pace: Seconds between the beginnings of two appends, unless a full batch waits.
        tell: Called with a sentence when the log cannot be reached, once, and when it is back.
    """

    drops_newest: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        append: Callable[..., object],
        *,
        capacity: int = CAPACITY,
        pace: float = 0.0,
        tell: Callable[[str], object] = str,
    ) -> None:
        self.tell = tell
        self._append = append
        self._capacity = capacity
        self._pace = pace
        self._pool = Pool(name, 1)
        super().__init__()

    def reset(self) -> None:
        self.lost = 0
        self.failed_at = 0.0
        self._run = secrets.token_hex(8)
        self._batch_number = 0
        self._waiting: deque[tuple[Event, int]] = deque()
        self._bytes = self._missing = self._sending = 0
        self._away = self._dead = self._finishing = False
        self._done_at = self._begun_at = 0.0
        self._changed = threading.Condition()
        self._publishing: Future[None] | None = None
        self._backoff = Backoff(FIRST_RETRY, LAST_RETRY)

    def dropped(self, count: int) -> Event:
        """The event that stands where so many are missing."""
        raise NotImplementedError

    def size(self, event: Event) -> int:
        """Return the bytes that an event takes while it waits."""
        return size_of(event)

    def refused(self, error: AgentSSEError) -> bool:
        """Report what the log does not take; return whether it takes nothing more either."""
        raise NotImplementedError

    def put(self, events: Sequence[Event]) -> None:
        """Give events to publish.

        Raises:
            RuntimeError: There can be no thread any more: the interpreter ends.
        """
        sized = [(event, self.size(event)) for event in events]
        with self._changed:
            for item in sized:
                if not self.drops_newest and self._full() and not self._away:
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: not self._full() or self._away, STALL_TIMEOUT)
                    self._away = self._away or self._full()
                self._add(item)
            self._changed.notify_all()

    def submit(self, step: Callable[[], object]) -> Future[bool]:
        """Do this too with the log, as often as it takes, after what was given before and before what is given next."""
        return self._pool.submit(self._try, step)

    def flush(self, timeout: float) -> None:
        """Wait until all that was given is published, so many seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._missing or self._sending), timeout)

    def finish(
        self, hurried: Callable[[], bool], *, last: Callable[[], object] | None = None, timeout: float = FINISH_TIMEOUT
    ) -> None:
        """Publish what waits, do ``last``, and end; give up ``timeout`` seconds after the last success, or when ``hurried``."""
        with self._changed:
            self._finishing = True
            self._done_at = time.monotonic()
            self._changed.notify_all()
        pending: Future[Any] | None = self._publishing if last is None else self.submit(last)
        while pending and not pending.done() and not hurried() and time.monotonic() - self._done_at < timeout:
            wait([pending], 0.05)
        with self._changed:
            self._dead = True
            self.lost += len(self._waiting) + self._sending
            self._waiting.clear()
            self._sending = 0
            self._changed.notify_all()
        self._pool.shutdown(wait=pending is None or pending.done())

    def _add(self, item: tuple[Event, int]) -> None:
        if self._dead or self._finishing:
            self.lost += 1
        elif self.drops_newest and self._full():
            self._missing += 1
            self.lost += 1
        else:
            self._waiting.append(item)
            self._bytes += item[1]
            while not self.drops_newest and self._full(more=1):
                self._bytes -= self._waiting.popleft()[1]
                self._missing += 1
                self.lost += 1
            if self._publishing is None:
                self._publishing = self._pool.submit(self._work)

    def _full(self, more: int = 0) -> bool:
        held = len(self._waiting) + (self._sending if self.drops_newest else 0)
        return held >= self._capacity + more or (self._bytes >= CAPACITY_BYTES + more and len(self._waiting) > 1)

    def _work(self) -> None:
        while batch := self._next():
            self._batch_number += 1
            sent = self._try(partial(self._append, batch, key=f"{self._run}:{self._batch_number}"))
            with self._changed:
                self.lost += 0 if sent else self._sending
                self._sending = 0
                self._changed.notify_all()

    def _next(self) -> list[Event]:
        """The next batch; empty where nothing waits: the next event begins the work anew."""
        with self._changed:
            if not self._waiting and not self._missing:
                self._publishing = None
                self._changed.notify_all()
                return []
            # From the beginning of the append before: what comes after a silence goes at once.
            self._changed.wait_for(self._urgent, max(0.0, self._begun_at + self._pace - time.monotonic()))
            notice = [self.dropped(self._missing)] if self._missing else []
            self._missing = 0
            batch, size = [] if self.drops_newest else notice, 0
            while self._waiting and len(batch) < BATCH_EVENTS and (size < BATCH_BYTES or not batch):
                event, bytes_ = self._waiting.popleft()
                batch.append(event)
                size += bytes_
                self._sending += 1
            self._bytes -= size
            self._begun_at = time.monotonic()
            self._changed.notify_all()
            return [*batch, *notice] if self.drops_newest else batch

    def _urgent(self) -> bool:
        return self._finishing or len(self._waiting) >= BATCH_EVENTS or self._bytes >= BATCH_BYTES

    def _try(self, step: Callable[[], object]) -> bool:
        """Do it as often as it takes; whether it could be done."""
        while not self._dead:
            try:
                step()
            except Exception as error:
                if isinstance(error, AgentSSEError) and not isinstance(error, EventLogUnavailable):
                    self._dead = self.refused(error) or self._dead
                    return False
                self._wait(error)
            else:
                with self._changed:
                    self._away = False
                    self._done_at = time.monotonic()
                if self._backoff.failures:
                    missing = f"; {self._missing:,} lines were dropped meanwhile" if self._missing else ""
                    self.tell(f"the event log is back{missing}")
                    self._backoff.reset()
                return True
        return False

    def _wait(self, error: Exception) -> None:
        """Wait before the next try; less when everything was given."""
        if not self._backoff.failures:
            reason = str(error) if isinstance(error, EventLogUnavailable) else f"{type(error).__name__}: {error}"
            self.tell(f"cannot publish: {reason}. The command goes on; up to {CAPACITY:,} lines wait until the log is back")
        give_connections_back()  # the next try is on a new one
        with self._changed:
            self.failed_at = time.monotonic()
            self._away = True
            self._changed.notify_all()
            finishing, seconds = self._finishing, self._backoff.next()
            self._changed.wait_for(
                lambda: self._dead or self._finishing != finishing, min(seconds, FINISH_RETRY) if finishing else seconds
            )
