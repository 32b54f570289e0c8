"""Python's logging, to a topic: what a process logs can be followed in a browser."""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Future
from itertools import islice
from typing import Final

from ..eventlog.backend import event_log
from ..eventlog.validation import size_of, valid_topic
from ..exceptions import AgentSSEError, EventLogUnavailable, EventTooLarge
from ..runtime.backoff import Backoff
from ..runtime.connections import give_connections_back
from ..runtime.pools import Pool
from ..runtime.process import on_fork
from ..topics.publish import TopicPublisher
from ..wire.event import Event
from ..wire.log_lines import level_name

BATCH: Final = 256
"""Records that are published at once."""
BATCH_CHARACTERS: Final = 262_144
LONGEST: Final = 262_144
"""Characters of one record; a longer one is cut, and says how many it has."""
WAITING_CHARACTERS: Final = 16_777_216
"""Characters of all records that wait."""
FLUSH_TIMEOUT: Final = 5.0
"""Seconds that ``flush()`` and ``close()`` wait for the log."""
FIRST_RETRY: Final = 0.5
LAST_RETRY: Final = 5.0
"""Seconds between two tries while the event log is away, at first and at most."""
NEVER: Final = ("django_agent_sse", "django.db", "psycopg", "redis", "asyncio")
"""Loggers of what publishing itself uses: a record of theirs would make another, and that another still."""


class TopicHandler(logging.Handler):
    """Publishes records to a topic: one event each, its text formatted as for any handler.

    An event is named by its record's level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``, the highest that it
    reaches. These events are lines in the live log.

    ``emit()`` only enqueues: a thread of the handler's own publishes, in batches, so that logging never waits for the event log.
    While that is away records wait, up to ``capacity`` and 16 MiB; beyond it the newest are dropped, and a ``warning`` event
    says how many. A record of more than 256 KiB is cut.

    Args:
        topic: Its name.
        level: As for any handler.
        capacity: Records that wait at most.

    Raises:
        TopicNameInvalid: No topic can have that name.
    """

    def __init__(self, topic: str, level: int | str = logging.NOTSET, *, capacity: int = 10_000) -> None:
        super().__init__(level)
        self._topic = TopicPublisher(valid_topic(topic))
        self._capacity = capacity
        self._pool = Pool(f"sse-log-{topic}", 1)
        self._backoff = Backoff(FIRST_RETRY, LAST_RETRY)
        self._reset()
        self.addFilter(_is_foreign)
        on_fork(self._reset)

    def _reset(self) -> None:
        self._waiting: deque[Event] = deque()
        self._characters = self._dropped = 0
        self._changed = threading.Condition()
        self._publishing: Future[None] | None = None
        self._closing = False

    def emit(self, record: logging.LogRecord) -> None:
        """Enqueue one record."""
        try:
            text = _cut(self.format(record), LONGEST).encode(errors="backslashreplace").decode()
            event = Event(text, event=level_name(record.levelno))
        except Exception:
            self.handleError(record)
            return
        with self._changed:
            full = len(self._waiting) >= self._capacity or self._characters >= WAITING_CHARACTERS
            if full or self._closing:
                self._dropped += 1
                return
            self._waiting.append(event)
            self._characters += len(text)
            if self._publishing is None:
                try:
                    self._publishing = self._pool.submit(self._publish_waiting)
                except RuntimeError:  # the interpreter ends
                    self.handleError(record)

    def flush(self) -> None:
        """Wait until all that was logged is published, for ``FLUSH_TIMEOUT`` seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or self._publishing is None, FLUSH_TIMEOUT)

    def close(self) -> None:
        """Publish what waits, for ``FLUSH_TIMEOUT`` seconds at most, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._publishing is None, FLUSH_TIMEOUT)
        self._pool.shutdown()
        super().close()

    def _publish_waiting(self) -> None:
        """Publish until nothing waits; the next record begins it anew."""
        while (due := self._next()) is not None:
            batch, dropped = due
            notice = [Event(f"{dropped} records were dropped: the event log took none", event="warning")] if dropped else []
            done = self._publish([*batch, *notice])
            with self._changed:
                for _ in batch if done else ():
                    self._characters -= len(self._waiting.popleft().data)
                self._dropped += 0 if done else dropped
                self._changed.notify_all()

    def _next(self) -> tuple[list[Event], int] | None:
        """Return the next batch, and how many records were dropped before; ``None`` where nothing waits."""
        with self._changed:
            if not self._waiting:
                self._publishing = None
                self._changed.notify_all()
                return None
            batch, room = list[Event](), BATCH_CHARACTERS
            for event in islice(self._waiting, BATCH):
                room -= len(event.data)
                if room < 0 and batch:
                    break
                batch.append(event)
            dropped, self._dropped = self._dropped, 0
            return batch, dropped

    def _publish(self, events: list[Event]) -> bool:
        """Publish these; whether they are done with: published, or refused for good."""
        try:
            try:
                self._topic.publish_many(events)
            except EventTooLarge:
                self._topic.publish_many(_fitting(events))
        except EventLogUnavailable:
            if self._closing:
                return True
            give_connections_back()  # the next try is on a new one
            with self._changed:
                self._changed.wait_for(lambda: self._closing, self._backoff.next())
            return False
        except AgentSSEError as error:
            self.handleError(logging.LogRecord(__name__, logging.ERROR, __file__, 0, str(error), None, None))
        self._backoff.reset()
        return True


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… [cut: the record has {len(text):,} characters]"


def _fitting(events: list[Event]) -> list[Event]:
    """These events, each cut to what the log takes: one that is too large must not keep the others out."""
    most = event_log().limits.max_event_bytes
    return [event if size_of(event) <= most else Event(_shortened(event, most), event=event.event) for event in events]


def _shortened(event: Event, most: int) -> str:
    mark = f"… [cut: the record has {len(event.data):,} characters]"
    room = max(0, most - len(mark.encode()) - len(event.event or ""))
    return event.data.encode()[:room].decode(errors="ignore") + mark


def _is_foreign(record: logging.LogRecord) -> bool:
    """Whether a record is not of what publishing itself uses."""
    return not any(record.name == name or record.name.startswith(f"{name}.") for name in NEVER)
