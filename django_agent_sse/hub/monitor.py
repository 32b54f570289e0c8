"""Tells other processes what this one has open, and obeys staff. One thread, made by the first stream, off the path of events.

What it costs the event log: one append of about a kilobyte every ``REPORT`` seconds from each process that has open streams, a
trim a minute, and one more name in the question that the ringer asks for all followed topics. While somebody watches, an append
with the rows every second besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.signals import setting_changed

from ..eventlog.base import EventLog
from ..eventlog.current import event_log
from ..eventlog.threads import under_test, writers
from ..eventlog.trouble import Trouble
from ..exceptions import AgentSSEError
from ..wire.event import Event
from .commands import COMMANDS, Close, Command, Drain, Watch, command_of, event_of, hear, obey
from .measures import encode
from .measuring import Looker, Question
from .options import monitor_options
from .registry import open_streams, registry

REPORTS = "sse.monitor.reports"
ROWS = "sse.monitor.rows"
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
"""Seconds without a stream after which a process says that it has none, and its thread ends."""
QUESTIONS = 8
"""Questions that are answered at a time; the oldest one goes."""


class Monitor:
    """One per process. ``begin()`` is all that a stream calls."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._off = False

    @property
    def thread(self) -> threading.Thread | None:
        """The thread, while there is one."""
        worker = self._worker
        return worker.thread if worker is not None else None

    def begin(self) -> None:
        """A stream has opened: see that it is reported. Never raises, asks nothing of the log."""
        if self._worker is None and not self._off:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._worker is not None:
                return
            self._off = True
            with contextlib.suppress(AgentSSEError):  # a check says it
                self._off = not self.reports()
            if self._off:
                return
            worker = _Worker(self._over)
            with contextlib.suppress(RuntimeError):  # the interpreter ends, or there are too many threads
                worker.thread.start()
                self._worker = worker

    def reports(self) -> bool:
        """Whether this process tells the others anything: there is a log that they read, and nothing speaks against it.

        Raises:
            AgentSSEError: The settings cannot be used.
        """
        if under_test() or not monitor_options().reports:
            return False
        log = event_log()
        return log.crosses_processes and not log.check()

    def _over(self, worker: _Worker) -> bool:
        """Whether the thread may end; the next stream starts another one."""
        with self._lock:
            if self._worker is worker and _in_use():
                return False
            if self._worker is worker:
                self._worker = None
            return True

    def stop(self, seconds: float = 5.0) -> None:
        """End the thread, which says that this process reports no more."""
        with self._lock:
            worker, self._worker = self._worker, None
            self._off = False
        if worker is not None:
            worker.stop(seconds)

    def forked(self) -> None:
        """In the child there is no thread, and nothing has been reported."""
        self._abandoned = self._worker
        self._begin()


class _Worker:
    """The thread, and what is done in it."""

    def __init__(self, over: Callable[[_Worker], bool]) -> None:
        self.thread = threading.Thread(target=self._run, name="django_agent_sse.monitor", daemon=True)
        self._over = over
        self._loop = asyncio.SelectorEventLoop()
        self._wake = asyncio.Event()
        self._stopped = False
        self.looker = Looker()
        self._questions: dict[str, Watch] = {}
        self._obeyed: deque[str] = deque(maxlen=256)
        self._epoch: str | None = None
        self._cursor = 0
        self._news = True
        self._report_at = time.monotonic() + random.uniform(0, 1)
        self._rows_at = self._trim_at = 0.0
        self._busy_at = time.monotonic()
        self._trouble = Trouble(
            "the monitor cannot reach the event log",
            "Streams are not affected; the admin's page does not show this process. See AGENT_SSE['MONITOR'].",
        )

    def stop(self, seconds: float) -> None:
        self._stopped = True
        with contextlib.suppress(RuntimeError):  # its loop is closed: the thread has ended
            self._loop.call_soon_threadsafe(self._wake.set)
        if self.thread is not threading.current_thread():
            self.thread.join(seconds)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._work())

    async def _work(self) -> None:
        log = event_log()
        unfollow = await hear(log, self._told)
        try:
            while True:
                log_now = event_log()
                if log_now is not log:
                    unfollow()
                    log = log_now
                    unfollow = await hear(log, self._told)
                    self._epoch, self._news = None, True
                try:
                    pause = await self._turn(log)
                    self._trouble.over()
                except AgentSSEError as error:
                    pause = max(1.0, self._trouble.failed(error))
                if pause is None:
                    return
                self._wake.clear()
                if not self._news and not self._stopped:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), pause)
        finally:
            unfollow()

    def _told(self, _: object) -> None:
        self._news = True
        self._wake.set()

    async def _turn(self, log: EventLog) -> float | None:
        """Do what is due; after how many seconds to come again, ``None`` for never."""
        if self._news:
            self._news = False
            await self._read_commands(log)
        now = time.monotonic()
        if _in_use():
            self._busy_at = now
        ends = self._stopped or (now - self._busy_at >= QUIET and self._over(self))
        wall = time.time()
        self._questions = {id: one for id, one in self._questions.items() if one.until > wall}
        if ends or now >= self._report_at:
            self._report_at = now + REPORT
            self._news = self._news or log.doorbell is not None  # which may lose a bell
            await self._append(log, REPORTS, encode(self.looker.snapshot(last=ends)))
        if ends:
            return None
        if self._questions and now >= self._rows_at:
            self._rows_at = now + WATCHED
            await self._append(log, ROWS, self._rows())
        elif not self._questions:
            self.looker.forget()
        await self._trim(log, now)
        due = min(self._report_at, self._rows_at) if self._questions else self._report_at
        return max(0.01, due - time.monotonic())

    def _rows(self) -> str:
        """The answers to all questions; equal ones are answered once."""
        answers: dict[Question, Any] = {}
        for watch in self._questions.values():
            if watch.question not in answers:
                counted = {} if watch.question.readers is None else self.looker.readers(watch.question.readers)
                answers[watch.question] = [*self.looker.rows(watch.question), counted]
        told = [[dataclasses.asdict(question), *answer] for question, answer in answers.items()]
        return encode(self.looker.snapshot(), answers=told)

    async def _append(self, log: EventLog, topic: str, text: str) -> None:
        event = Event(text)
        await asyncio.wrap_future(writers.submit(lambda: log.append_unrung(topic, event)))

    async def _trim(self, log: EventLog, now: float) -> None:
        if now < self._trim_at:
            return
        first, self._trim_at = not self._trim_at, now + TRIM * random.uniform(0.5, 1.5)
        if not first:
            for topic, age in ((REPORTS, HISTORY + REPORT), (ROWS, FRESH), (COMMANDS, FRESH)):
                await asyncio.wrap_future(writers.submit(partial(log.trim, topic, max_age=age)))

    async def _read_commands(self, log: EventLog) -> None:
        first = self._epoch is None
        page = await log.aread_after(COMMANDS, self._cursor)
        if page.epoch != self._epoch:
            self._cursor = 0
            page = await log.aread_after(COMMANDS, 0)
            self._epoch = page.epoch
        for record in page.records:
            self._cursor = record.offset
            command = command_of(record.event)
            # What was asked before this process looked is over, but for who watches.
            if command is not None and (isinstance(command, Watch) or not first):
                self.take(command)
        if page.records and page.records[-1].offset < page.top:
            self._news = True

    def take(self, command: Command) -> None:
        """A command, once."""
        if isinstance(command, Watch):
            if command.id not in self._questions:
                self._rows_at = 0.0
            self._questions[command.id] = command
            while len(self._questions) > QUESTIONS:
                del self._questions[next(iter(self._questions))]
        elif command.id not in self._obeyed:
            self._obeyed.append(command.id)
            obey(command, self.looker)
            self._report_at = 0.0  # what has changed is told at once


def _in_use() -> bool:
    return bool(open_streams()) or registry.draining


monitor = Monitor()
os.register_at_fork(after_in_child=monitor.forked)


async def tell(command: Command) -> None:
    """Have a command obeyed by every process that it is for; where the log does not reach them, by this one.

    Raises:
        EventLogError: The log could not take it.
    """
    log = event_log()
    if log.crosses_processes and monitor_options().reports:
        await asyncio.wrap_future(writers.submit(lambda: log.append(COMMANDS, event_of(command))))
    if isinstance(command, Close | Drain) and not monitor.thread:
        obey(command, Looker())


def _changed(*, setting: str, **_: object) -> None:
    if setting == "AGENT_SSE":
        monitor.stop()


setting_changed.connect(_changed, dispatch_uid="django_agent_sse.hub.monitor")
