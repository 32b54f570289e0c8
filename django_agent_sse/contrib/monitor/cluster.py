"""All processes in one view, from their reports. However many people look here, the log is read twice a second."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...eventlog.backend import event_log
from ...eventlog.base import EventLog
from ...eventlog.outage import public_words
from ...exceptions import AgentSSEError, EventUnreadable
from ...runtime.pools import readers
from ...runtime.process import PerProcess
from ...runtime.safe_text import printable
from ...streams.snapshot import Readers, Snapshot, this_process
from .commands import WatchRows
from .history import LONG_BUCKET, History, Past
from .inspector import REFUSED, TOPICS, Answer, LimitRow, RefusedRow, RunRow, StreamInspector, StreamQuery, StreamRow
from .report_json import decode
from .reporter import HISTORY, IDLE_INTERVAL, REPORT_LIFE_SECONDS, REPORTS, REPORTS_SECONDS, ROWS
from .service import broadcast, monitor

logger = logging.getLogger("django_agent_sse.monitor")

FRESH_SECONDS = 0.8
"""How long what was read is new enough."""
LATE_SECONDS = 11.0
"""Seconds without a report, two of them and a little, after which a process is late."""
LOST_SHOWN_SECONDS = 60.0
"""How long a process that stopped reporting is still shown."""
ROWS_SECONDS = 4.0
"""How long an answer with rows is new enough: processes give one each second."""
QUERY_INTERVAL = 5.0
"""Seconds between two commands that ask for the same rows."""
ANSWER_TIMEOUT = 2.0
"""Seconds within which processes should answer."""
PAGE = 64
MAX_FIRST_READ = 20_000
"""Reports of a topic that are read at most by a view that begins: those of 300 processes, for as long as reports are kept."""
MAX_FIRST_BYTES = 16_000_000
"""And about so many bytes, the newest: seconds of work at most, however many routes there are."""
SAMPLE = 16
"""The newest reports, which tell how large they are."""
CLOCK_SKEW = 3600.0
"""Seconds that another machine's clock may be before this one's."""
IDLE_SECONDS = 2 * IDLE_INTERVAL + 15.0
"""How long a process without streams is taken to be there after a report: one may be lost."""
PAST_SECONDS = 4.0
"""How long the sums over the past are new enough."""
ANSWERING = ("reporting", "late")
COUNTED = (*ANSWERING, "idle")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process, and its state: ``reporting``, ``late``, ``idle`` (it has no streams), or ``gone`` (it stopped reporting)."""

    snapshot: Snapshot
    state: str
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSnapshot:
    """Every process at one moment.

    Attributes:
        at: When, in seconds since 1970.
        local: It is this process alone: the log does not cross processes, or reports are switched off.
        processes: Those that count, and those that have just stopped.
        series: See ``History.series``: of the last minutes.
        hour: The same of the last hour.
        rates: ``events`` and ``bytes``, a second.
        error: Why it is not new; empty where it is.
    """

    at: float
    local: bool
    processes: tuple[ProcessStatus, ...]
    series: Mapping[str, list[float]]
    hour: Mapping[str, list[float]]
    rates: Mapping[str, float]
    error: str = ""

    @property
    def counted(self) -> list[Snapshot]:
        """The processes whose reports hold."""
        return [status.snapshot for status in self.processes if status.state in COUNTED]

    @property
    def answering(self) -> list[str]:
        """The ids of the processes that answer when they are asked for rows: those without streams have none."""
        return [status.snapshot.process.id for status in self.processes if status.state in ANSWERING]

    def total(self, name: str) -> int:
        """Return the sum of a number over all processes that count."""
        return sum(snapshot.total(name) for snapshot in self.counted)


class ClusterView(PerProcess):
    """One per process; used from any loop.

    Attributes:
        skipped: Events of the monitor's topics that were not reports.
    """

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._log: EventLog | None = None
        self._history, self._hour = History(), History(LONG_BUCKET, routes=True)
        self._past = Past(open={}, routes={}, last={}, arrivals=[])
        self._past_at = 0.0
        self._cursors: dict[str, tuple[str, int]] = {}
        self._answers: dict[tuple[str, StreamQuery], Answer] = {}
        self._read_at = 0.0
        self._inspector = StreamInspector()
        self._asked: dict[StreamQuery, float] = {}
        self._error = ""
        self.skipped = 0

    async def look(self, within: float = FRESH_SECONDS) -> ClusterSnapshot:
        """Return all processes as they are now, or were at most so many seconds ago."""
        if time.monotonic() - self._read_at >= within:
            await asyncio.wrap_future(readers.submit(lambda: self.read(within)))
        return self.snapshot()

    def read(self, within: float = FRESH_SECONDS) -> None:
        """Read what is new; blocks."""
        with self._lock:
            if time.monotonic() - self._read_at < within:
                return  # another thread has read it while this one waited for the lock
            log = event_log()
            if log is not self._log:
                self._log, self._cursors, self._answers = log, {}, {}
                self._history, self._hour = History(), History(LONG_BUCKET, routes=True)
            if self.local:
                now_here = self._inspector.snapshot()
                self._hour.take(now_here)
                self._history.take(now_here)
            else:
                try:
                    if time.monotonic() - self._read_at >= REPORTS_SECONDS or not self._cursors:
                        self._read_topic(log, HISTORY)  # what reports will say meanwhile is then gone
                    self._read_topic(log, REPORTS)
                    self._read_topic(log, ROWS)
                    self._error = ""
                except Exception as error:  # whatever is the matter with the log: the page lives, and says it
                    self._error = public_words(error) if isinstance(error, AgentSSEError) else printable(error, 500)
            now = time.time()
            for history in (self._history, self._hour):
                history.forget(now)
            self._answers = {key: answer for key, answer in self._answers.items() if now - answer.at < REPORT_LIFE_SECONDS}
            self._read_at = time.monotonic()

    @property
    def local(self) -> bool:
        """Whether other processes cannot be seen."""
        return not monitor.reports()

    def _read_topic(self, log: EventLog, topic: str) -> None:
        epoch, cursor = self._cursors.get(topic, ("", 0))
        may_begin = True
        while True:
            try:
                page = log.read_after(topic, cursor, PAGE)
            except EventUnreadable as error:
                self._skip(topic, error.offset, error)
                epoch, cursor = self._cursors[topic] = log.state(topic).epoch, max(cursor + 1, error.offset)
                continue
            if page.epoch != epoch or (page.top < cursor and may_begin):
                # The first read, the topic was made anew, or the log is back without its latest events. The last is looked
                # at once only: that would go on for ever where something that cannot be read stands beyond the top.
                may_begin = page.epoch != epoch
                epoch, cursor = page.epoch, _begin(log, topic, page.top)
                if page.epoch:
                    continue
            for record in page.records:
                cursor = record.offset
                try:
                    self._take_report(record.event.data, topic)
                except Exception as error:  # anybody may have written it, and the page must live
                    self._skip(topic, cursor, error)
            self._cursors[topic] = epoch, cursor
            if not page.records or cursor >= page.top:
                return

    def _take_report(self, text: str, topic: str) -> None:
        snapshot, answers = decode(text)
        if snapshot.at > time.time() + CLOCK_SKEW:
            raise ValueError("its time is in the future")
        self._hour.take(snapshot)
        if topic != HISTORY:  # else it would take the place of those between which it was
            self._history.take(snapshot)
        for query, answer in answers:
            self._answers[snapshot.process.id, query] = answer

    def _skip(self, topic: str, offset: int, error: Exception) -> None:
        """Pass over a report; the log says so of the first one."""
        if not self.skipped:
            logger.warning(
                "event %d of %s is not a report of a process, and is skipped: %s. Who can write to the event log? "
                "This is said once",
                *(offset, topic, printable(error)),
            )
        self.skipped += 1

    def snapshot(self) -> ClusterSnapshot:
        """Return what was read last."""
        with self._lock:
            now, local = time.time(), self.local
            statuses = self._statuses(now, local)
            statuses.sort(key=lambda status: (status.snapshot.process.host, status.snapshot.process.pid))
            counted = [status.snapshot.process.id for status in statuses if status.state in COUNTED]
            return ClusterSnapshot(
                at=now,
                local=local,
                processes=tuple(statuses),
                series=self._history.series(now),
                hour=self._hour.series(now),
                rates={name: sum(self._history.rate(id, name) for id in counted) for name in ("events", "bytes")},
                error=self._error,
            )

    def _statuses(self, now: float, local: bool) -> list[ProcessStatus]:
        found = (_status(snapshot, now, local) for snapshot in self._history.latest())
        return [status for status in found if status is not None]

    def past(self) -> Past:
        """Return what all processes did in the last hour, as it was a few seconds ago at most."""
        with self._lock:
            if time.monotonic() - self._past_at >= PAST_SECONDS:
                hour, open_now = self._hour, Counter[str]()
                for status in self._statuses(time.time(), self.local):
                    if status.state in COUNTED:
                        for route, counts in status.snapshot.routes.items():
                            open_now[route] += counts.open
                self._past = Past(open=open_now, routes=hour.routes(), last=hour.last(), arrivals=hour.arrivals())
                self._past_at = time.monotonic()
            return self._past

    async def ask(self, query: StreamQuery) -> None:
        """Have every process report the rows that fit, for a while; call it again for as long as somebody looks.

        Raises:
            EventLogError: The log cannot be written.
        """
        now = time.monotonic()
        if self.local or now - self._asked.get(query, -QUERY_INTERVAL) < QUERY_INTERVAL:
            return
        self._asked = {other: at for other, at in self._asked.items() if now - at < REPORT_LIFE_SECONDS} | {query: now}
        await broadcast(WatchRows(query=query, until=time.time() + REPORT_LIFE_SECONDS))

    def rows(self, query: StreamQuery, since: float = 0.0) -> tuple[list[StreamRow], int, int]:
        """Return the rows that fit, of all processes; how many there are; and how many have not answered, or not since then."""
        found, missing = self._answers_to(query, since)
        answers = [answer for _, answer in found]
        column = query.sort.lstrip("-")

        def order(row: StreamRow) -> tuple[Any, str]:
            return (-row.idle if column == "wrote" else getattr(row, column, row.opened), row.id)

        rows = sorted((row for answer in answers for row in answer.rows), key=order, reverse=query.sort.startswith("-"))
        return rows, sum(answer.matched for answer in answers), missing

    def runs(self, query: StreamQuery) -> list[tuple[str, RunRow]]:
        """Return the runs that go on, each with the id of its process, as those say that were asked for rows."""
        answers, _ = self._answers_to(query)
        return sorted(((process, run) for process, answer in answers for run in answer.runs), key=lambda pair: pair[1])

    def refused(self, query: StreamQuery) -> list[RefusedRow]:
        """Return who was refused the most often, as those processes say that were asked for rows."""
        counts = Counter[tuple[str, str, str]]()
        for _, answer in self._answers_to(query)[0]:
            for row in answer.refused:
                counts[row[:3]] += row.times
        return [RefusedRow(*key, count) for key, count in counts.most_common(REFUSED)]

    def limits(self, query: StreamQuery) -> list[tuple[str, LimitRow]]:
        """Return who meets limits, or is near them, each with the id of its process, as those say that were asked for rows."""
        return [(process, row) for process, answer in self._answers_to(query)[0] for row in answer.limits]

    def _answers_to(self, query: StreamQuery, since: float = 0.0) -> tuple[list[tuple[str, Answer]], int]:
        """Return the answers that hold, each with the id of its process, and how many processes have none, or none that is new.

        The last answer of a process that is late holds for as long as its report does: else its rows went, and came back as new
        ones, whenever it or its machine is busy for some seconds.
        """
        if self.local:
            return [(this_process().id, self._inspector.answer(query))], 0
        ids = [id for id in self.snapshot().answering if query.process in ("", id)]
        answers = [(id, answer) for id in ids if (answer := self._answers.get((id, query))) is not None and answer.at >= since]
        oldest = time.time() - ROWS_SECONDS
        return answers, len(ids) - sum(answer.at >= oldest for _, answer in answers)

    async def answers(
        self, query: StreamQuery, timeout: float = ANSWER_TIMEOUT, within: float = FRESH_SECONDS, *, anew: bool = False
    ) -> tuple[list[StreamRow], int, int]:
        """Return what ``rows`` returns once every process has answered, or after so many seconds; see ``look`` for ``within``.

        With ``anew`` no answer counts that a process gave before.

        Raises:
            EventLogError: The log cannot be written.
        """
        deadline, since = time.monotonic() + timeout, time.time() if anew else 0.0
        if anew:
            self._asked.pop(query, None)
        while True:
            await self.look(within)
            await self.ask(query)
            rows, matched, missing = self.rows(query, since)
            if not missing or time.monotonic() >= deadline:
                return rows, matched, missing
            await asyncio.sleep(min(within, FRESH_SECONDS / 4))

    def answered(self, query: StreamQuery) -> list[tuple[str, Answer]]:
        """Return the answers that hold, each with the id of its process."""
        return self._answers_to(query)[0]

    # What the rest of the package asks: see ``streams.snapshot``

    async def processes(self) -> tuple[list[Snapshot], dict[str, int]]:
        """Return every process that counts, this one as it is now, and how many report, are late, or are gone."""
        cluster = await self.look()
        states = dict.fromkeys((*COUNTED, "gone"), 0)
        for status in cluster.processes:
            states[status.state] += 1
        others = [snapshot for snapshot in cluster.counted if snapshot.process.id != this_process().id]
        return [self._inspector.snapshot(), *others], states

    async def readers(self, prefix: str, timeout: float = ANSWER_TIMEOUT) -> Readers:
        """Return how many streams of all processes follow each topic that begins so.

        Raises:
            EventLogError: The log cannot be written.
        """
        query = StreamQuery(readers=prefix)
        await self.answers(query, timeout)
        answers, missing = self._answers_to(query)
        counts = tuple((answer.readers, len(answer.readers) == answer.matched) for _, answer in answers)
        return Readers(counts=counts, missing=missing, limit=TOPICS)


def _begin(log: EventLog, topic: str, top: int) -> int:
    """Return after which event a first reading begins: what is older than so many reports, or bytes, is left out."""
    most = MAX_FIRST_READ
    with contextlib.suppress(EventUnreadable):
        sizes = [len(record.event.data) for record in log.read_after(topic, max(0, top - SAMPLE), SAMPLE).records]
        most = min(most, MAX_FIRST_BYTES * len(sizes) // max(1, sum(sizes)))
    return max(0, top - max(SAMPLE, most))


def _status(snapshot: Snapshot, now: float, local: bool) -> ProcessStatus | None:
    """Return a process with its state; ``None`` where it has said that it ends, or is gone for long."""
    age = 0.0 if local else max(0.0, now - snapshot.at)
    if snapshot.idle and not snapshot.last:
        return ProcessStatus(snapshot=snapshot, state="idle", age=age) if age < IDLE_SECONDS else None
    if age >= LOST_SHOWN_SECONDS or (snapshot.last and not local):
        return None
    state = "reporting" if age < LATE_SECONDS else "late" if age < REPORT_LIFE_SECONDS else "gone"
    return ProcessStatus(snapshot=snapshot, state=state, age=age)


cluster_view = ClusterView()
