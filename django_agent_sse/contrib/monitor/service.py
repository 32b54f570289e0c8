"""Tells other processes what this one has open, and executes commands of staff, off the path of events.

One task on the background loop, started by the first stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading

from ... import conf
from ...eventlog.backend import event_log
from ...exceptions import AgentSSEError
from ...runtime.pools import writers
from ...runtime.process import on_fork
from ...runtime.under_test import under_test
from ...streams.client import monitor_options
from .commands import COMMANDS, Close, Drain, WatchRows, event_of, execute
from .inspector import StreamInspector
from .reporter import Reporter, in_use


class Monitor:
    """One per process. ``begin()`` is all that a stream calls."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._reporter: Reporter | None = None
        self._off = False

    @property
    def running(self) -> bool:
        return self._reporter is not None

    def begin(self) -> None:
        """A stream has opened: see that it is reported. Never raises, asks nothing of the log."""
        if self._reporter is not None or self._off:
            return
        with self._lock:
            if self._reporter is not None:
                return
            self._off = not self.reports()
            if self._off:
                return
            with contextlib.suppress(RuntimeError):  # the interpreter ends, or there are too many threads
                self._reporter = Reporter(self._over)

    def reports(self) -> bool:
        """Whether this process tells the others anything: there is a log that they read, and nothing speaks against it."""
        try:
            if under_test() or not monitor_options().reports:
                return False
            log = event_log()
            return log.crosses_processes and not log.check()
        except AgentSSEError:  # settings that cannot be used; a check says it
            return False

    def _over(self, reporter: Reporter) -> bool:
        """Return whether the reporter may end; the next stream starts another one."""
        with self._lock:
            if self._reporter is reporter and in_use():
                return False
            if self._reporter is reporter:
                self._reporter = None
            return True

    def stop(self, seconds: float = 5.0) -> None:
        """End the reporter, which says that this process reports no more."""
        with self._lock:
            reporter, self._reporter = self._reporter, None
            self._off = False
        if reporter is not None:
            reporter.stop(seconds)

    def forked(self) -> None:
        """In the child there is no reporter, and nothing has been reported."""
        self._abandoned = self._reporter
        self._begin()


monitor = Monitor()
on_fork(monitor.forked)


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
