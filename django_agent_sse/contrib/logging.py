"""Python's logging, to a topic: what a process logs can be followed in a browser."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from ..eventlog.backend import event_log
from ..eventlog.validation import size_of, valid_topic
from ..exceptions import AgentSSEError, EventTooLarge
from ..topics.buffered_publisher import BufferedPublisher
from ..topics.publish import TopicPublisher
from ..wire.event import Event
from ..wire.log_lines import RECORD, level_name
from .log_records import details_event

LONGEST: Final = 262_144
"""Characters of one record; a longer one is cut, and says how many it has."""
FLUSH_TIMEOUT: Final = 5.0
"""Seconds that ``flush()`` and ``close()`` wait for the log."""
NEVER: Final = ("django_agent_sse.", "django.db.", "psycopg.", "redis.", "asyncio.")
"""Loggers, and those below them, of what publishing uses: a record of theirs would make another, and that another still."""


class TopicHandler(logging.Handler):
    """Publishes records to a topic: one event each, its text formatted as for any handler.

    An event is named by its record's level: ``debug``, ``info``, ``warning``, ``error`` or ``critical``, the highest that it
    reaches. These events are lines in the live log. After each stands an event ``record`` with the logger, the file and the line,
    and the fields that ``extra=`` has given.

    ``emit()`` only enqueues: a thread of the handler's own publishes, in batches, so that logging never waits for the event log.
    While that is away records wait, up to ``capacity`` and 16 MiB; beyond it the newest are dropped, and a ``warning`` event
    says how many. A record of more than 256 KiB is cut.

    Args:
        topic: Its name.
        level: As for any handler.
        capacity: Records that wait at most.
        details: Publish the events ``record`` too.

    Raises:
        TopicNameInvalid: No topic can have that name.
    """

    def __init__(self, topic: str, level: int | str = logging.NOTSET, *, capacity: int = 10_000, details: bool = True) -> None:
        super().__init__(level)
        self._details = details
        self._publisher = _RecordPublisher(self, TopicPublisher(valid_topic(topic)), capacity)
        self.addFilter(lambda record: not f"{record.name}.".startswith(NEVER))

    def emit(self, record: logging.LogRecord) -> None:
        """Enqueue one record."""
        try:
            text = _cut(self.format(record), LONGEST).encode(errors="backslashreplace").decode()
            event = _RecordEvent(text, event=level_name(record.levelno))
            object.__setattr__(event, "details", details_event(record) if self._details else None)
            self._publisher.put([event])
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Wait until all that was logged is published, for ``FLUSH_TIMEOUT`` seconds at most."""
        self._publisher.flush(FLUSH_TIMEOUT)

    def close(self) -> None:
        """Publish what waits, for ``FLUSH_TIMEOUT`` seconds and one failure at most, and end the thread."""
        self.close_topic(None)

    def close_topic(self, reason: str | None) -> None:
        """Do as ``close()``, and then end the topic: see ``Topic.close``."""
        begun = time.monotonic()
        last = None if reason is None else partial(self._publisher.topic.close, reason)
        self._publisher.finish(lambda: self._publisher.failed_at > begun, last=last, timeout=FLUSH_TIMEOUT)
        super().close()


class _RecordPublisher(BufferedPublisher):
    """Publishes the events of records; whoever logs never waits, and the newest are dropped."""

    drops_newest = True

    def __init__(self, handler: TopicHandler, topic: TopicPublisher, capacity: int) -> None:
        super().__init__(f"sse-log-{topic.name}", self._publish, capacity=capacity)
        self._handler = handler
        self.topic = topic

    def dropped(self, count: int) -> Event:
        return Event(f"{count} records were dropped: the event log took none", event="warning")

    def size(self, event: Event) -> int:
        details = getattr(event, "details", None)
        return super().size(event) + (0 if details is None else size_of(details))

    def refused(self, error: AgentSSEError) -> bool:
        self._handler.handleError(logging.LogRecord(__name__, logging.ERROR, __file__, 0, str(error), None, None))
        return False  # the topic may be opened anew

    def _publish(self, events: list[Event], key: str) -> None:
        try:
            self.topic.publish_many(_with_details(events), key=key)
        except EventTooLarge:
            self.topic.publish_many(_fitting(_with_details(events)), key=key)


class _RecordEvent(Event):
    """A line on its way, and what is told of it: the two are one to the buffer."""

    __slots__ = ("details",)
    details: Event | None


def _with_details(events: Iterable[Event]) -> Iterator[Event]:
    for event in events:
        yield Event(event.data, event=event.event)
        if (details := getattr(event, "details", None)) is not None:
            yield details


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… [cut: the record has {len(text):,} characters]"


def _fitting(events: Iterable[Event]) -> Iterator[Event]:
    """Yield what the log takes of these, lines cut to it, details left out: one too large must not keep the others out."""
    most = event_log().limits.max_event_bytes
    for event in events:
        if size_of(event) <= most:
            yield event
        elif event.event != RECORD:
            yield Event(_shortened(event, most), event=event.event)


def _shortened(event: Event, most: int) -> str:
    mark = f"… [cut: the record has {len(event.data):,} characters]"
    room = max(0, most - len(mark.encode()) - len(event.event or ""))
    return event.data.encode()[:room].decode(errors="ignore") + mark
