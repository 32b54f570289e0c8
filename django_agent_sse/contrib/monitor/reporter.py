"""The monitor's task on the background loop: what it reports of this process, and how it hears commands.

What it costs the event log: one append of some hundred bytes every ``REPORT`` seconds from each process that has open streams, a
trim a minute, and one more name in the question that the poll asks for all followed topics. While somebody watches, an append
with the rows every second besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ...eventlog.backend import event_log
from ...eventlog.base import EventLog
from ...eventlog.records import Page, TopicState
from ...eventlog.validation import InternalTopic
from ...exceptions import AgentSSEError, EventLogUnavailable, EventUnreadable
from ...runtime.backoff import FailureLog
from ...runtime.loop import BackgroundTask, background, in_pool
from ...runtime.pools import writers
from ...runtime.safe_text import printable
from ...streams.registry import open_streams, registry
from ...streams.snapshot import Snapshot
from ...wire.event import Event
from .commands import COMMANDS, Command, CommandRefused, WatchRows, command_of, execute, subscribe
from .inspector import StreamInspector, StreamQuery
from .report_json import encode

logger = logging.getLogger("django_agent_sse.monitor")

REPORTS = InternalTopic("sse.monitor.reports")
ROWS = InternalTopic("sse.monitor.rows")
REPORT = 5.0
"""Seconds between two reports of a process."""
LIFE = 15.0
"""Seconds that a report holds: a process that was killed falls out by itself."""
WATCHED = 1.0
"""Seconds between two reports of rows, while somebody watches."""
HISTORY = 300.0
"""Seconds for which reports are kept, for the sparklines."""
FRESH = 30.0
"""Seconds for which rows and commands are kept."""
TRIM = 60.0
QUIET = 30.0
"""Seconds without a stream after which a process says that it has none, and stops reporting."""
QUESTIONS = 8
"""Questions that are answered at a time; the oldest one goes."""
REMEMBERED = 4_096
"""Commands that are known again where they come twice."""


class Reporter:
    """Reports what this process has open, and executes commands, as long as anything is open.

    Args:
        over: Asked when nothing has been open for a while: whether the task may end.
    """

    def __init__(self, over: Callable[[Reporter], bool]) -> None:
        self._over = over
        self._task: BackgroundTask | None = None
        self._wake = asyncio.Event()
        self._stopped = False
        self.looker = StreamInspector()
        self._questions: dict[str, WatchRows] = {}
        self._obeyed: deque[str] = deque(maxlen=REMEMBERED)
        self._log: EventLog | None = None
        self._unfollow: Callable[[], None] = _nothing
        self._epoch: str | None = None
        self._cursor = self._over_before = 0
        self._too_old = self._read_at = 0.0
        self._news = True
        self._report_at = time.monotonic() + random.uniform(0, 1)
        self._rows_at = self._trim_at = 0.0
        self._busy_at = time.monotonic()
        self._failures = FailureLog(
            "the monitor cannot reach the event log",
            "Streams are not affected; the admin's page does not show this process. See AGENT_SSE['MONITOR'].",
            logger="django_agent_sse.monitor",
        )
        self._broken = False
        self._refused = 0

    def start(self) -> None:
        """Begin.

        Raises:
            RuntimeError: The interpreter ends, or there are too many threads.
        """
        self._task = background.start("monitor", self._work)

    @property
    def running(self) -> bool:
        """Whether it reports."""
        return self._task is not None and not self._task.done

    def stop(self, seconds: float) -> None:
        """Have it report for the last time and end, and wait for that, for so long at most."""
        self._stopped = True
        if self._task is not None:
            self._task.call(self._wake.set)
            self._task.wait(seconds)

    async def _work(self) -> None:
        try:
            while (pause := await self._turn_or_rest()) is not None:
                self._wake.clear()
                if not self._news and not self._stopped:
                    await self._rest(pause)
        finally:
            self._unfollow()

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def _turn_or_rest(self) -> float | None:
        """See ``_turn``. What fails is tried again after a rest, whatever it is: nobody would begin this task anew."""
        try:
            pause = await self._turn(await self._log_now())
        except AgentSSEError as error:
            # Without its tables nobody uses topics; who does is told.
            pause = max(
                1.0, self._failures.failed(error, quietly=isinstance(error, EventLogUnavailable) and error.kind == "tables")
            )
        except Exception:
            if not self._broken:
                logger.exception("the monitor has failed, and goes on; streams are not affected. This is said once")
            self._broken, pause = True, REPORT
        else:
            self._failures.recovered()
            return pause
        self._wake.clear()
        if self._stopped:
            return None  # whoever stops it waits
        await self._rest(pause)
        return 0.0

    async def _log_now(self) -> EventLog:
        """The log, which is listened to."""
        log = event_log()
        if log is not self._log:
            self._unfollow()
            self._unfollow, self._log = _nothing, None
            self._unfollow = await subscribe(log, self._on_notify)
            self._log, self._epoch, self._news = log, None, True
        return log

    def _on_notify(self, _: object) -> None:
        self._news = True
        self._wake.set()

    async def _turn(self, log: EventLog) -> float | None:
        """Do what is due; after how many seconds to come again, ``None`` for never."""
        if self._news:
            self._news = False
            try:
                await self._read_commands(log)
            except BaseException:
                self._news = True  # what was not read is still to be obeyed
                raise
        now = time.monotonic()
        if in_use():
            self._busy_at = now
        ends = self._stopped or (now - self._busy_at >= QUIET and self._over(self))
        wall = time.time()
        self._questions = {id: watch for id, watch in self._questions.items() if watch.until > wall}
        if ends or now >= self._report_at:
            self._report_at = now + REPORT
            self._news = self._news or log.notifier is not None  # which may lose a notification
            await self._append(log, REPORTS, lambda: encode(self._snapshot(last=ends)))
        if ends:
            return None
        if self._questions and now >= self._rows_at:
            self._rows_at = now + WATCHED
            await self._append(log, ROWS, self._rows)
        elif not self._questions:
            self.looker.forget()
        await self._trim(log, now)
        due = min(self._report_at, self._rows_at) if self._questions else self._report_at
        return max(0.01, due - time.monotonic())

    def _rows(self) -> str:
        """The answers to all questions; equal ones are answered once."""
        answers: dict[StreamQuery, Any] = {}
        for watch in self._questions.values():
            if watch.question not in answers:
                answers[watch.question] = self._answer(watch.question)
        rows = [[dataclasses.asdict(question), *answer] for question, answer in answers.items()]
        return encode(self._snapshot(), answers=rows)

    def _snapshot(self, *, last: bool = False) -> Snapshot:
        snapshot = self.looker.snapshot(last=last)
        if not self._refused:
            return snapshot
        return dataclasses.replace(snapshot, problems={**snapshot.problems, "commands": f"{self._refused:,}"})

    def _answer(self, question: StreamQuery) -> list[Any]:
        if question.readers is None:
            return [*self.looker.rows(question), {}]
        counts, topics = self.looker.readers(question.readers)
        return [[], topics, counts]

    async def _append(self, log: EventLog, topic: str, text: Callable[[], str]) -> None:
        """Append what *text* returns; made on the writing thread too, since it may look at thousands of streams."""
        await asyncio.wrap_future(writers.submit(lambda: log.append_unrung(topic, Event(text()))))

    async def _trim(self, log: EventLog, now: float) -> None:
        if now < self._trim_at:
            return
        first, self._trim_at = not self._trim_at, now + TRIM * random.uniform(0.5, 1.5)
        if not first:
            for topic, age in ((REPORTS, HISTORY + REPORT), (ROWS, FRESH), (COMMANDS, FRESH)):
                await asyncio.wrap_future(writers.submit(partial(log.trim, topic, max_age=age)))

    async def _read_commands(self, log: EventLog) -> None:
        try:
            page = await log.aread_after(COMMANDS, self._cursor)
        except EventUnreadable as error:
            if (state := await log.astate(COMMANDS)).epoch != self._epoch:
                self._begin_at(state)
            self._refuse(error.offset, error)
            self._cursor, self._news = max(self._cursor + 1, error.offset), True
            return
        if page.epoch != self._epoch:
            if self._cursor:
                page = await log.aread_after(COMMANDS, 0)
            self._begin_at(page)
        for record in page.records:
            self._cursor = record.offset
            news = record.offset > self._over_before and record.at >= self._too_old
            try:
                command = command_of(record.event)
            except CommandRefused as error:
                if news:
                    self._refuse(record.offset, error)
                continue
            if isinstance(command, WatchRows) or news:
                await self._take(command)
            else:
                self._obeyed.append(command.id)
        if page.records and page.records[-1].offset < page.top:
            self._news = True
        else:
            self._read_at = time.time()

    def _begin_at(self, page: Page | TopicState) -> None:
        """What was asked before this process looked for the first time is over, but for who watches.

        Another epoch may hold what was read in the one before: after a failover, a part of it. That is known by its id, or by
        its age where nobody looked for long.
        """
        self._over_before = page.top if self._epoch is None else 0
        self._too_old = self._read_at - FRESH if self._epoch is not None else 0.0
        self._epoch, self._cursor = page.epoch, 0

    def _refuse(self, offset: int, error: Exception) -> None:
        """Leave a command alone; the log says it of the first one, the reports of how many there were."""
        if not self._refused:
            logger.warning(
                "event %d of the monitor's commands is not obeyed: %s. Who can write to the event log? This is said once; the "
                "page of live streams counts more of them",
                *(offset, printable(error)),
            )
        self._refused += 1
        self._report_at = min(self._report_at, time.monotonic() + WATCHED)

    async def _take(self, command: Command) -> None:
        """Execute a command, once."""
        if isinstance(command, WatchRows):
            if command.id not in self._questions:
                self._rows_at = 0.0
            self._questions[command.id] = command
            while len(self._questions) > QUESTIONS:
                del self._questions[next(iter(self._questions))]
        elif command.id not in self._obeyed:
            self._obeyed.append(command.id)
            await in_pool(partial(execute, command, self.looker))
            self._report_at = 0.0  # what has changed is told at once


def in_use() -> bool:
    """Whether this process has anything to report."""
    return bool(open_streams()) or registry.draining


def _nothing() -> None:
    """Nothing is followed."""
