"""The monitor's task on the background loop: what it reports of this process, and how it hears commands.

What it costs the event log: one append of some hundred bytes every ``REPORT_INTERVAL`` seconds from each process that has open
streams, some 20 kB where very many routes are busy; one more of them every ``HISTORY_INTERVAL``, a trim a minute, and one more
name in the question that the poll asks for all followed topics. While somebody watches, an append with the rows every second
besides. A process without streams says every ``IDLE_INTERVAL`` that it is there, and follows nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
import time
from collections.abc import Callable
from functools import partial

from ...eventlog.backend import event_log
from ...eventlog.base import EventLog
from ...eventlog.validation import InternalTopic
from ...exceptions import AgentSSEError, EventLogUnavailable
from ...runtime.backoff import FailureLog
from ...runtime.loop import background, in_pool
from ...runtime.pools import writers
from ...runtime.safe_text import printable
from ...streams.counters import RouteCounts
from ...streams.registry import open_streams, registry
from ...streams.snapshot import Snapshot
from ...topics.orders import OrderReader
from ...wire.event import Event
from .commands import COMMANDS, WatchRows, commands, execute
from .history import sums_of
from .inspector import StreamInspector, StreamQuery
from .report_json import encode

logger = logging.getLogger("django_agent_sse.monitor")

REPORTS = InternalTopic("sse.monitor.reports")
ROWS = InternalTopic("sse.monitor.rows")
HISTORY = InternalTopic("sse.monitor.history")
"""Every twelfth report: what is left of the reports when they are some minutes old."""
REPORT_INTERVAL = 5.0
"""Seconds between two reports of a process."""
REPORT_LIFE_SECONDS = 15.0
"""Seconds that a report holds: a process that was killed falls out by itself."""
ROWS_INTERVAL = 1.0
"""Seconds between two reports of rows, while somebody watches."""
REPORTS_SECONDS = 300.0
"""Seconds for which reports are kept, for the sparklines."""
HISTORY_INTERVAL = 60.0
"""Seconds between two reports that are kept for longer."""
HISTORY_SECONDS = 3600.0
"""Seconds for which these are kept."""
MOST_ROUTES = {REPORTS: 50, ROWS: 10, HISTORY: 30}
"""Routes of which one report tells; a process that has more tells of them in turn. An hour of it is less than a megabyte."""
QUIET_SHARE = 4
"""One of so many of these has its turn even though nothing has changed there, for whoever begins to read."""
IDLE_INTERVAL = 60.0
"""Seconds between two reports of a process without streams."""
KEPT_SECONDS = 30.0
"""Seconds for which rows and commands are kept."""
KEPT = (
    (REPORTS, REPORTS_SECONDS + REPORT_INTERVAL),
    (HISTORY, HISTORY_SECONDS + HISTORY_INTERVAL),
    (ROWS, KEPT_SECONDS),
    (COMMANDS, KEPT_SECONDS),
)
"""The monitor's topics, and for how many seconds each is kept."""
TRIM_INTERVAL = 60.0
"""Seconds between two trims of the monitor's topics, more or less."""
UNUSED_SECONDS = 30.0
"""Seconds without a stream after which a process says that it has none, and reports seldom from then on."""
MAX_WATCHES = 8
"""Different queries that are answered at a time; the one goes that was asked for the longest ago."""


class RoutesInTurn:
    """Chooses the routes of which a report tells: all, or, of very many, those that have changed, the longest untold first.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._report = 0
        self._told: dict[str, tuple[int, RouteCounts]] = {}

    def of(self, snapshot: Snapshot) -> Snapshot:
        """Return a report with these routes, and with the sums of all."""
        routes = snapshot.routes
        if len(routes) <= self._most:
            return snapshot
        untold = 0, None
        turns = sorted(routes, key=lambda route: self._told.get(route, untold)[0])
        first, rest = turns[: self._most // QUIET_SHARE], turns[self._most // QUIET_SHARE :]
        rest.sort(key=lambda route: self._told.get(route, untold)[1] == routes[route])  # those that have changed come first
        self._report += 1
        told = {route: routes[route] for route in [*first, *rest][: self._most]}
        self._told = {route: value for route, value in self._told.items() if route in routes}
        self._told |= {route: (self._report, counts) for route, counts in told.items()}
        return dataclasses.replace(snapshot, routes=told, sums={**sums_of(snapshot), "routes": len(routes)})


class Reporter:
    """Reports what this process has open, and executes commands while anything is open.

    Args:
        idle: Nothing is open yet.

    Attributes:
        idle: It follows no commands and reports seldom: nothing has been open for a while. ``wake()`` is then to be called.

    Raises:
        RuntimeError: The interpreter ends, or there are too many threads.
    """

    def __init__(self, *, idle: bool = False) -> None:
        self.idle = idle
        self._wake = asyncio.Event()
        self._stopped = False
        self._inspector = StreamInspector()
        self._watches: dict[StreamQuery, float] = {}
        self._routes = {topic: RoutesInTurn(most) for topic, most in MOST_ROUTES.items()}
        self._reader = OrderReader(commands, KEPT_SECONDS, self._refuse)
        self._news = True
        self._report_at = time.monotonic() + random.uniform(0, 1)
        self._rows_at = self._trim_at = self._history_at = 0.0
        self._busy_at = 0.0 if idle else time.monotonic()
        self._failures = FailureLog(
            "the monitor cannot reach the event log",
            "Streams are not affected; the admin's page does not show this process. See AGENT_SSE['MONITOR'].",
            logger="django_agent_sse.monitor",
        )
        self._broken = False
        self._refused = 0
        self._task = background.start("monitor", self._work)

    @property
    def running(self) -> bool:
        return not self._task.done

    def wake(self) -> None:
        """Something has been opened, or was refused. From any thread."""
        self._busy_at = time.monotonic()
        self._task.call(self._wake.set)

    def end(self) -> None:
        """Have it report for the last time and end. From any thread, and from a signal handler."""
        self._stopped = True
        self._task.call(self._wake.set)

    def stop(self, seconds: float) -> None:
        """Have it end, and wait for that, for so long at most."""
        self.end()
        self._task.wait(seconds)

    async def _work(self) -> None:
        try:
            while not await self._turn_or_fail():
                pass
        finally:
            self._reader.unfollow()

    async def _turn_or_fail(self) -> bool:
        """Do what is due and rest; return whether to end. Whatever fails is tried again: nobody would restart this task."""
        self._wake.clear()  # before the turn: whoever wakes it meanwhile is not heard by what the turn has done already
        failed = True
        try:
            pause = await self._turn()
            failed = False
            self._failures.recovered()
        except AgentSSEError as error:
            # Without its tables nobody uses topics; who does is told.
            no_tables = isinstance(error, EventLogUnavailable) and error.kind == "tables"
            pause = max(1.0, self._failures.failed(error, quietly=no_tables))
        except Exception:
            if not self._broken:
                logger.exception("the monitor has failed, and goes on; streams are not affected. This is said once")
            self._broken, pause = True, REPORT_INTERVAL
        if pause is None or (failed and self._stopped):  # whoever stops it waits
            return True
        if failed or not ((self._news and not self.idle) or self._stopped):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)
        return False

    def _on_notify(self, _: object) -> None:
        self._news = True
        self._wake.set()

    async def _turn(self) -> float | None:
        """Do what is due; return the seconds until the next turn, ``None`` for never."""
        log, now, was_idle, ends = event_log(), time.monotonic(), self.idle, self._stopped
        # Set before it is looked whether anything is open: whoever opens it meanwhile looks here afterwards.
        self.idle = now - self._busy_at >= UNUSED_SECONDS
        if in_use():
            self._busy_at, self.idle = now, False
        if self.idle:
            return await self._turn_idle(log, now, begins=not was_idle, ends=ends)
        if await self._reader.follow(log, self._on_notify):
            self._news = True
        if self._news:
            self._news = False
            try:
                await self._read_commands(log)
            except BaseException:
                self._news = True  # what was not read is still to be executed
                raise
        now, wall = time.monotonic(), time.time()
        self._watches = {query: until for query, until in self._watches.items() if until > wall}
        if ends or was_idle or now >= self._report_at:
            self._report_at = now + REPORT_INTERVAL
            self._news = self._news or log.notifier is not None  # which may lose a notification
            await self._report(log, now, ends=ends)
        if ends:
            return None
        if self._watches and now >= self._rows_at:
            self._rows_at = now + ROWS_INTERVAL
            await self._append(log, ROWS, self._rows)
            self._watches = {query: until for query, until in self._watches.items() if query.after is None}  # a file asks once
        elif not self._watches:
            self._inspector.forget()
        await self._trim(log, now)
        due = min(self._report_at, self._rows_at) if self._watches else self._report_at
        return max(0.01, due - time.monotonic())

    async def _turn_idle(self, log: EventLog, now: float, *, begins: bool, ends: bool) -> float | None:
        """Say now and then that this process is there."""
        if begins:
            self._reader.unfollow()
            self._watches = {}
            self._inspector.forget()
        if ends or begins or now >= self._report_at:
            self._report_at = now + IDLE_INTERVAL * random.uniform(0.9, 1)
            await self._report(log, now, ends=ends)
            await self._trim(log, now)
        return None if ends else max(0.01, self._report_at - time.monotonic())

    async def _report(self, log: EventLog, now: float, *, ends: bool) -> None:
        keeps, topics = self.idle or ends or now >= self._history_at, [REPORTS]
        if keeps:
            topics.append(HISTORY)

        def write() -> None:
            snapshot = self._snapshot(last=ends)
            for topic in topics:
                log.append_unrung(topic, Event(encode(self._routes[topic].of(snapshot))))

        await asyncio.wrap_future(writers.submit(write))
        if keeps:
            self._history_at = now + HISTORY_INTERVAL

    def _rows(self) -> str:
        """Return the answers to all queries."""
        answers = [(query, self._inspector.answer(query)) for query in self._watches]
        return encode(self._routes[ROWS].of(self._snapshot()), answers)

    def _snapshot(self, *, last: bool = False) -> Snapshot:
        snapshot = self._inspector.snapshot(idle=self.idle, last=last)
        if not self._refused:
            return snapshot
        return dataclasses.replace(snapshot, problems={**snapshot.problems, "commands": f"{self._refused:,}"})

    async def _append(self, log: EventLog, topic: str, text: Callable[[], str]) -> None:
        """Append what *text* returns; made on the writing thread too, since it may look at thousands of streams."""
        await asyncio.wrap_future(writers.submit(lambda: log.append_unrung(topic, Event(text()))))

    async def _trim(self, log: EventLog, now: float) -> None:
        if now < self._trim_at:
            return
        first, self._trim_at = not self._trim_at, now + TRIM_INTERVAL * random.uniform(0.5, 1.5)
        if not first:
            for topic, age in KEPT:
                await asyncio.wrap_future(writers.submit(partial(log.trim, topic, max_age=age)))

    async def _read_commands(self, log: EventLog) -> None:
        async with contextlib.aclosing(self._reader.read(log)) as orders:
            async for command, _, news in orders:
                if isinstance(command, WatchRows):
                    self._watch(command)
                elif not self._reader.executed(command.id) and news:
                    await in_pool(partial(execute, command, self._inspector))
                    self._report_at = 0.0  # what has changed is told at once
        self._news = self._news or self._reader.more

    def _refuse(self, offset: int, error: Exception) -> None:
        """Leave a command alone; the log says it of the first one, the reports of how many there were."""
        if not self._refused:
            logger.warning(
                "event %d of the monitor's commands is not executed: %s. Who can write to the event log? This is said once; "
                "the page of live streams counts them",
                *(offset, printable(error)),
            )
        self._refused += 1
        self._report_at = min(self._report_at, time.monotonic() + ROWS_INTERVAL)

    def _watch(self, command: WatchRows) -> None:
        if command.query not in self._watches:
            self._rows_at = 0.0
        self._watches.pop(command.query, None)  # so that it is the last one to go
        self._watches[command.query] = command.until
        while len(self._watches) > MAX_WATCHES:
            del self._watches[next(iter(self._watches))]


def in_use() -> bool:
    """Whether this process has anything to report."""
    return bool(open_streams()) or registry.draining
