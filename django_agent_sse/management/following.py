"""A topic followed through the event log, by a process that serves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from ..eventlog.base import EventLog
from ..eventlog.position import Position
from ..eventlog.records import Page
from ..exceptions import EventLogUnavailable
from ..runtime.backoff import Backoff
from .output import Received

SOON = 0.025
"""Seconds between two looks right after something came."""
IDLE = 0.5
"""Seconds between two looks when nothing has come for a while."""
GROWTH = 1.5
FIRST_RETRY, LAST_RETRY = 0.5, 15.0
"""Seconds to wait while the log cannot be reached."""

_T = TypeVar("_T")


class Tail:
    """One topic, followed from ``after``; that is without an epoch where the topic does not exist yet.

    Attributes:
        ended: Why nothing will follow: what the topic was closed with, or ``deleted``; ``None`` while something may.
        deleted: It was deleted.
        behind: Whether there is more than what was read last.
    """

    def __init__(
        self, log: EventLog, topic: str, after: Position, *, tell: Callable[[str], object], pause: Callable[[float], object]
    ) -> None:
        self.ended: str | None = None
        self.deleted = False
        self.behind = True
        self._log = log
        self._topic = topic
        self._tell = tell
        self._pause = pause
        self._epoch, self._offset = after.epoch, after.offset
        self._backoff = Backoff(FIRST_RETRY, LAST_RETRY)

    @property
    def offset(self) -> int:
        """The offset of the last event that was read."""
        return self._offset

    def batches(self, *, follow: bool = True) -> Iterator[list[Received]]:
        """The events from there, those that come together in one list, until the topic's end; or until its top."""
        while True:
            page = self._asked(lambda: self._log.read_after(self._topic, self._offset))
            if page.epoch == self._epoch and page.epoch:
                yield from self._taken(page)
                if self._offset < page.top:
                    continue
                if page.closed is not None:
                    self.ended = page.closed
            elif page.epoch:
                if self._epoch:
                    self._tell(
                        f"the topic {self._topic!r} is another one of that name: it goes on with the first event of this one"
                    )
                self._epoch, self._offset = page.epoch, 0
                continue
            elif self._epoch:
                self.ended, self.deleted = "deleted", True
            if self.ended is not None or not follow:
                return
            self._wait(page)

    def _taken(self, page: Page) -> Iterator[list[Received]]:
        if page.floor > self._offset:
            missed = page.floor - self._offset
            self._tell(f"{missed:,} event{'s were' if missed > 1 else ' was'} trimmed from the topic before being read here")
            self._offset = page.floor
        if page.top < self._offset:
            self._tell(f"the topic ended at {self._offset}, and now at {page.top}: what follows may have been here before")
            self._offset = page.top
        self.behind = bool(page.records) and page.records[-1].offset < page.top
        if page.records:
            yield [Received(id=str(Position(page.epoch, row.offset)), event=row.event, at=row.at) for row in page.records]
            self._offset = page.records[-1].offset

    def _wait(self, page: Page) -> None:
        """Until the topic is not as it was on ``page``."""
        seen = (page.epoch, page.top, page.closed) if page.epoch else None
        seconds = SOON
        while True:
            self._pause(seconds)
            head = self._asked(lambda: self._log.summaries([self._topic])).get(self._topic)
            if (head and (head.epoch, head.top, head.closed)) != seen:
                return
            seconds = min(IDLE, seconds * GROWTH)

    def _asked(self, question: Callable[[], _T]) -> _T:
        """What the log answers, as soon as it does."""
        while True:
            try:
                answer = question()
            except EventLogUnavailable as error:
                if not self._backoff.failures:
                    self._tell(f"{error}. It will be tried again until it answers")
                self._pause(self._backoff.next())
            else:
                if self._backoff.failures:
                    self._tell("the event log answers again")
                    self._backoff.reset()
                return answer
