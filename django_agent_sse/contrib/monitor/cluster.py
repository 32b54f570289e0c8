"""All processes as one picture: read from their reports. Who looks costs the log two reads a second, however many look here."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ...eventlog.backend import event_log
from ...eventlog.base import EventLog
from ...eventlog.outage import public_words
from ...exceptions import AgentSSEError, EventUnreadable
from ...runtime.pools import readers
from ...runtime.process import on_fork
from ...runtime.safe_text import printable
from .answers import NONE, Answer, answers_of
from .commands import Watch
from .history import History
from .inspector import Looker, Question
from .process import this_process
from .reporter import LIFE, REPORTS, ROWS
from .service import monitor, tell
from .stats import Row, Snapshot, decode

logger = logging.getLogger("django_agent_sse.monitor")

READ = 0.8
"""Seconds for which a picture is new enough."""
STALE = 11.0
"""Seconds without a report, two of them and a little, after which a process is said to be late."""
GONE_SHOWN = 60.0
"""Seconds for which a process that fell out is still told of."""
ROWS_HOLD = 4.0
"""Seconds for which rows hold."""
ASK_AGAIN = 5.0
PAGE = 256
MOST = 20_000
"""Reports that are read at most where one begins to look: those of 300 processes, for as long as reports are kept."""
AHEAD = 3600.0
"""Seconds that another machine's clock may be before this one's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One process, and what is thought of it: ``reporting``, ``late``, ``gone`` (it fell out) or ``ended`` (it said so)."""

    snapshot: Snapshot
    state: str
    age: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Every process at one moment.

    Attributes:
        at: When, in seconds since 1970.
        local: It is this process alone: the log does not cross processes, or reports are switched off.
        processes: Those that are counted, and those that have just stopped.
        series: See ``History.series``.
        rates: ``events`` and ``bytes``, a second.
        trouble: Why it is not new.
    """

    at: float
    local: bool
    processes: tuple[Seen, ...]
    series: Mapping[str, list[float]]
    rates: Mapping[str, float]
    trouble: str = ""

    @property
    def counted(self) -> list[Snapshot]:
        """The processes whose reports hold."""
        return [seen.snapshot for seen in self.processes if seen.state in ("reporting", "late")]

    def total(self, name: str) -> int:
        """Over all that are counted."""
        return sum(snapshot.total(name) for snapshot in self.counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """How many streams follow topics.

    Attributes:
        told: Of each process: the counts, and whether these are of all topics that it has readers of.
        missing: Processes that have not answered in time.
    """

    told: tuple[tuple[Mapping[str, int], bool], ...] = ()
    missing: int = 0

    def of(self, topic: str) -> int | None:
        """Those of one topic; ``None`` where some process may have more than it told of."""
        if self.missing or any(not whole and topic not in counts for counts, whole in self.told):
            return None
        return sum(counts.get(topic, 0) for counts, _ in self.told)


class Board:
    """One per process; used from any loop.

    Attributes:
        skipped: Events of the monitor's topics that were no reports.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._log: EventLog | None = None
        self._history = History()
        self._cursors: dict[str, tuple[str, int]] = {}
        self._answers: dict[tuple[str, Question], Answer] = {}
        self._read_at = 0.0
        self._looker = Looker()
        self._asked: dict[Question, float] = {}
        self._trouble = ""
        self.skipped = 0

    async def look(self, within: float = READ) -> Picture:
        """The picture of this moment, or of so many seconds before."""
        if time.monotonic() - self._read_at >= within:
            await asyncio.wrap_future(readers.submit(lambda: self.read(within)))
        return self.picture()

    def read(self, within: float = READ) -> None:
        """Read what is new; blocks."""
        with self._lock:
            if time.monotonic() - self._read_at < within:
                return
            log = event_log()
            if log is not self._log:
                self._log, self._cursors, self._history, self._answers = log, {}, History(), {}
            if self.local:
                self._history.take(self._looker.snapshot())
            else:
                try:
                    self._take(log, REPORTS)
                    self._take(log, ROWS)
                    self._trouble = ""
                except AgentSSEError as error:
                    self._trouble = public_words(error)
                except Exception as error:  # whatever is the matter with the log: the page lives, and says it
                    self._trouble = printable(error, 500)
            self._history.forget(now := time.time())
            self._answers = {key: answer for key, answer in self._answers.items() if now - answer.at < LIFE}
            self._read_at = time.monotonic()

    @property
    def local(self) -> bool:
        """Whether other processes cannot be seen."""
        try:
            return not monitor.reports()
        except AgentSSEError:
            return True

    def _take(self, log: EventLog, topic: str) -> None:
        epoch, cursor = self._cursors.get(topic, ("", 0))
        while True:
            try:
                page = log.read_after(topic, cursor, PAGE)
            except EventUnreadable as error:
                self._skip(topic, error.offset, error)
                epoch, cursor = self._cursors[topic] = log.state(topic).epoch, max(cursor + 1, error.offset)
                continue
            if page.epoch != epoch:
                epoch, cursor = page.epoch, max(0, page.top - MOST)
                if page.epoch:
                    continue
            for record in page.records:
                cursor = record.offset
                try:
                    self._take_report(record.event.data)
                except Exception as error:  # whatever stands there: the page lives
                    self._skip(topic, cursor, error)
            self._cursors[topic] = epoch, cursor
            if not page.records or cursor >= page.top:
                return

    def _take_report(self, text: str) -> None:
        snapshot, more = decode(text)
        if snapshot.at > time.time() + AHEAD:
            raise ValueError("it tells of the future")
        answers = [*answers_of(snapshot, more.get("answers", []))]
        self._history.take(snapshot)
        for question, answer in answers:
            self._answers[snapshot.process.id, question] = answer

    def _skip(self, topic: str, offset: int, error: Exception) -> None:
        """Leave a report alone; the log says it of the first one."""
        if not self.skipped:
            logger.warning(
                "event %d of %s is no report of a process, and is skipped: %s. Who can write to the event log? This is said once",
                *(offset, topic, printable(error)),
            )
        self.skipped += 1

    def picture(self) -> Picture:
        """What was read last."""
        with self._lock:
            now, local = time.time(), self.local
            seen = [_seen(snapshot, now, local) for snapshot in self._history.latest()]
            shown = [one for one in seen if one.state != "ended" and (one.state != "gone" or one.age < GONE_SHOWN)]
            counted = [one.snapshot.process.id for one in shown if one.state in ("reporting", "late")]
            return Picture(
                at=now,
                local=local,
                processes=tuple(sorted(shown, key=lambda one: (one.snapshot.process.host, one.snapshot.process.pid))),
                series=self._history.series(now),
                rates={name: sum(self._history.rate(id, name) for id in counted) for name in ("events", "bytes")},
                trouble=self._trouble,
            )

    async def ask(self, question: Question) -> None:
        """Have the rows that fit reported by every process for a while; call it again and again.

        Raises:
            EventLogError: The log cannot be written.
        """
        now = time.monotonic()
        if self.local or now - self._asked.get(question, -ASK_AGAIN) < ASK_AGAIN:
            return
        self._asked = {one: at for one, at in self._asked.items() if now - at < LIFE} | {question: now}
        await tell(Watch(id=f"{this_process().id}-{hash(question):x}", question=question, until=time.time() + LIFE))

    def rows(self, question: Question) -> tuple[list[Row], int, int]:
        """The rows that fit, of all processes; how many there are; and how many processes have not answered yet."""
        if self.local:
            rows, matched = self._looker.rows(question)
            return rows, matched, 0
        picture, found, matched, missing = self.picture(), list[Row](), 0, 0
        for snapshot in picture.counted:
            answer = self._answers.get((snapshot.process.id, question), NONE)
            if picture.at - answer.at > ROWS_HOLD:
                missing += not question.process or question.process == snapshot.process.id
                continue
            found += answer.rows
            matched += answer.matched
        return sorted(found, key=_order(question), reverse=question.sort.startswith("-")), matched, missing

    async def answers(self, question: Question, patience: float = 2.0) -> tuple[list[Row], int, int]:
        """What ``rows`` tells once every process has answered, or when that has taken too long.

        Raises:
            EventLogError: The log cannot be written.
        """
        deadline = time.monotonic() + patience
        while True:
            await self.look()
            await self.ask(question)
            rows, matched, missing = self.rows(question)
            if not missing or time.monotonic() >= deadline:
                return rows, matched, missing
            await asyncio.sleep(READ / 4)

    async def readers(self, prefix: str, patience: float = 2.0) -> Readers:
        """How many streams of all processes follow each topic that begins so.

        Raises:
            EventLogError: The log cannot be written.
        """
        if self.local:
            return Readers(told=(_told(*self._looker.readers(prefix)),))
        question = Question(readers=prefix)
        _, _, missing = await self.answers(question, patience)
        ids = [snapshot.process.id for snapshot in self.picture().counted]
        answers = [answer for id in ids if (answer := self._answers.get((id, question))) is not None]
        return Readers(told=tuple(_told(answer.readers, answer.matched) for answer in answers), missing=missing)


def _told(counts: Mapping[str, int], topics: int) -> tuple[Mapping[str, int], bool]:
    return counts, len(counts) == topics


def _order(question: Question):  # type: ignore[no-untyped-def]
    column = question.sort.lstrip("-")
    return lambda row: (-row.idle if column == "wrote" else getattr(row, column, row.opened), row.id)


def _seen(snapshot: Snapshot, now: float, local: bool) -> Seen:
    age = max(0.0, now - snapshot.at)
    if local:
        return Seen(snapshot=snapshot, state="reporting", age=0.0)
    state = "ended" if snapshot.last else "reporting" if age < STALE else "late" if age < LIFE else "gone"
    return Seen(snapshot=snapshot, state=state, age=age)


board = Board()
on_fork(board._reset)
