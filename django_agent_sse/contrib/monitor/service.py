"""Tells other processes what this one has open, and executes commands of staff, off the path of events.

One task on the background loop, started by the first request that an ASGI server hands over, or the first stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_started

from ... import conf
from ...eventlog.backend import event_log
from ...exceptions import AgentSSEError
from ...runtime.pools import writers
from ...runtime.process import on_exit, on_fork
from ...runtime.under_test import under_test
from ...streams.client import monitor_options
from ...streams.registry import registry
from ...streams.shutdown import watch_signals
from .commands import COMMANDS, Close, Drain, WatchRows, event_of, execute
from .inspector import StreamInspector
from .reporter import Reporter

LAST_REPORT_SECONDS = 1.0
"""Seconds for which the end of the process waits for the last report; the log answers in thousandths, or not at all."""


class Monitor:
    """One per process. ``begin()`` is all that a stream calls. A ``Companion``: the process ends after its last report."""

    ending_topics: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._reporter: Reporter | None = None
        self._off = False
        self._ends_at: float | None = None

    @property
    def running(self) -> bool:
        return self._reporter is not None

    def begin(self, *, idle: bool = False) -> None:
        """A stream has opened, or a request was refused: see that it is reported. Never raises, asks nothing of the log.

        With ``idle`` nothing has happened but that this process serves.
        """
        reporter = self._reporter
        if reporter is not None:
            if self._ends_at is not None and not registry.closing:  # it was told to end, and goes on all the same
                self.stop()
                self.begin(idle=idle)
                return
            if reporter.idle and not idle:
                reporter.wake()
            return
        if self._off:
            return
        with self._lock:
            if self._reporter is not None:
                return
            self._off = not self.reports()
            if self._off:
                return
            with contextlib.suppress(RuntimeError):  # the interpreter ends, or there are too many threads
                self._reporter = Reporter(idle=idle)

    def first_request(self, sender: object, **about: object) -> None:
        """Report that this process serves; a receiver of Django's ``request_started``, once."""
        if sender is ASGIHandler or (isinstance(sender, type) and issubclass(sender, ASGIHandler)):
            request_started.disconnect(self.first_request)
            self.begin(idle=True)
            if self.running:  # a process that never has a stream says that it ends, too
                async_to_sync(_hear_of_the_end)()

    def reports(self) -> bool:
        """Whether this process tells the others anything: there is a log that they read, and nothing speaks against it."""
        try:
            if under_test() or not monitor_options().reports:
                return False
            log = event_log()
            return log.crosses_processes and not log.check()
        except AgentSSEError:  # settings that cannot be used; a check says it
            return False

    def stop(self, seconds: float = 5.0) -> None:
        """End the reporter, which says that this process reports no more."""
        with self._lock:
            reporter, self._reporter = self._reporter, None
            self._off, self._ends_at = False, None
        if reporter is not None:
            reporter.stop(seconds)

    def shut_down(self) -> None:
        """The process ends: say so to the others, once. No lock: a signal handler may interrupt the very thread that holds it."""
        if (reporter := self._reporter) is not None and self._ends_at is None:
            self._ends_at = time.monotonic() + LAST_REPORT_SECONDS
            reporter.end()

    @property
    def busy(self) -> bool:
        """Whether the last report is on its way."""
        reporter, until = self._reporter, self._ends_at
        return reporter is not None and until is not None and reporter.running and time.monotonic() < until

    def exit(self) -> None:
        """The interpreter ends."""
        self.stop(LAST_REPORT_SECONDS)

    def forked(self) -> None:
        """In the child there is no reporter, and nothing has been reported."""
        self._abandoned = self._reporter
        self._begin()


async def _hear_of_the_end() -> None:
    """Know of the loop, and of signals, before the first stream; called on the loop that serves."""
    registry.loop_state()
    with contextlib.suppress(AgentSSEError):  # settings that cannot be used; a check says it
        watch_signals()


monitor = Monitor()
on_fork(monitor.forked)
on_exit(monitor.exit, twice=True)


async def broadcast(command: WatchRows | Close | Drain) -> None:
    """Have a command executed by every process that it is for; where the log does not reach them, by this one.

    Raises:
        EventLogError: The log could not take it.
    """
    log = event_log()
    if log.crosses_processes and monitor_options().reports:
        await asyncio.wrap_future(writers.submit(lambda: log.append(COMMANDS, event_of(command))))
    if isinstance(command, Close | Drain) and not monitor.running:
        execute(command, StreamInspector())


conf.on_change(monitor.stop)
