"""A run in sync code. The lifecycle decides, this carries out; its keeper tells it of its lease, on other threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from ..encoding import event_of
from ..eventlog.leases import Lease
from ..exceptions import EventLogError, EventLogUnavailable, LeaseLost, RunStopped, TopicClosed
from ..runtime.loop import background, in_pool
from ..runtime.safe_text import without_run_id
from ..wire.event import Event
from .endings import RunEnding
from .keeper import keeper
from .lifecycle import Action, Close, Effect, Effects
from .run_base import CLEANUP_SECONDS, RunBase, logger, outcome_of, try_to_expire
from .sources import framed_events, items


class Run(RunBase):
    """A run in sync code: what ``with produce(…)`` gives. Any thread may write to it."""

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self._due = False

    def write(self, data: object, *, event: str | None = None) -> None:
        """Append one event, soon and together with others.

        Raises:
            RunStopped: The run was asked to stop, or has lost its lease: end the work.
            InvalidEvent, EventTooLarge: Nothing was written.
            EventLogUnavailable: What was written before cannot be appended now; it is tried again with the next write.
        """
        self._write([event_of(data, event)])

    write_sse = write

    def pipe(self, source: Iterable[Any], *, event: str | None = None) -> int:
        """Write each item of an iterable, or each line of an open file; close it, whatever happens. Return how many."""
        count = 0
        for item in items(source, "pipe", event=event):
            self._write([item if isinstance(item, Event) else event_of(item, event)])
            count += 1
        return count

    def pipe_sse(self, source: Any) -> int:
        """Write the events of text that is framed already: see ``Topic.pipe_sse``."""
        count = 0
        for found in framed_events(source):
            self._write([found])
            count += 1
        return count

    def text(self) -> str:
        """Return the text that it has written so far, as its wire has it: also what is not in the topic yet, and after its end.

        Raises:
            EventLogUnavailable: The topic cannot be read.
        """
        return self._text()

    def flush(self) -> None:
        """Append now what was written."""
        try:
            self._append_unsent()
        except (LeaseLost, TopicClosed) as error:
            self._do(self._overruled(error))

    def _write(self, events: list[Event]) -> None:
        if self._take(events):
            self.flush()
            if self.stopping:  # perhaps the log has just refused it
                raise self._refused()
        elif not self._due:
            self._due = True
            background.start("sse-run-flush", self._flush_later)

    async def _flush_later(self) -> None:
        await asyncio.sleep(self._due_in())
        while True:
            self._due = False
            try:
                await in_pool(self.flush)
                self._trouble.recovered()
                return
            except EventLogError as error:  # the code may write nothing more for long: it is tried again without it
                pause = self._trouble.failed(error)
            if self._due:
                return  # what was written meanwhile has begun to try it
            self._due = True
            await asyncio.sleep(pause)

    # What its keeper tells, on other threads

    def lease_seen(self, lease: Lease | None) -> None:
        """See ``KeptRun``."""
        closed = lease is not None and lease.holder == self.id and not lease.deadline
        if closed:
            background.start("sse-run-closed", partial(in_pool, lambda: self._do(self._seen(lease, self._reason()))))
        else:
            self._later(self._seen(lease, None))

    def lease_over(self) -> None:
        """See ``KeptRun``."""
        with self._lock:
            effects = self._life.lease_lost()
        self._later(effects)

    def interrupt(self) -> None:
        """See ``KeptRun``."""
        with self._lock:
            effects = self._life.shutdown()
        self._later(effects)

    deserted = over_with_its_loop = False

    def _later(self, effects: Effects) -> None:
        """Carry out on a thread that may wait."""
        if effects:
            background.start("sse-run-effects", partial(in_pool, lambda: self._do(effects)))

    async def _cut(self) -> None:
        await asyncio.sleep(CLEANUP_SECONDS)
        with self._lock:
            effects = self._life.deadline()
        await in_pool(lambda: self._do(effects))

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Close():
                    self._close(effect.ending)
                case Action.SET_DEADLINE:
                    background.start("sse-run-deadline", self._cut)
                case Action.DISCARD_UNSENT:
                    self._taken()
                case Action.EXPIRE:
                    try_to_expire(self.log, self.topic)
                case Action.STOP_RENEWING:
                    keeper.remove(self)
                case Action.CONCLUDE:
                    self._count(self.ending or RunEnding.FINISHED)
                case Action.LOG_LATE_ERROR:
                    logger.exception("run %s raised after it was told to end", without_run_id(self.id))

    def _close(self, ending: RunEnding) -> None:
        with self._appending:
            self._ending_now = True
            try:
                done = self._closed(ending)
                error: LeaseLost | TopicClosed | None = None if done else self._closed_before(ending, self._reason())
            except LeaseLost as lost:
                error = lost
            except BaseException:
                keeper.remove(self)  # nobody renews it any more: whoever looks after the deadline closes it
                raise
            with self._lock:
                effects = self._life.close_done() if error is None else self._overruled(error)
            self._do(effects)

    def _closed(self, ending: RunEnding) -> bool:
        last: list[Event] | None = None
        pauses = self._close_pauses()
        while True:
            try:
                last = self._events_at_end(ending) if last is None else last
                return self.log.close(self.topic, ending, last=last, holder=self.id, outside_transaction=True)
            except EventLogUnavailable as error:
                if error.kind != "store" or (pause := next(pauses, None)) is None:
                    raise
            time.sleep(pause)

    def _enter(self) -> Run:
        keeper.add(self)
        self._do(self._life.started())
        return self

    def _exit(self, error: BaseException | None) -> bool:
        """End it. Return whether the error is none to the caller: the run was asked to stop, and has."""
        with self._lock:
            effects = self._life.producer_done(outcome_of(error))
        try:
            self._do(effects)
        finally:
            self._run_ends()
        return isinstance(error, RunStopped) and self.ending is RunEnding.STOPPED

    def _withdraw(self) -> None:
        """End it without a word: see ``RunLifecycle.withdrawn``."""
        with self._lock:
            effects = self._life.withdrawn()
        self._do(effects)
        self._run_ends()

    def _run_ends(self) -> None:
        for callback in self._ends:
            try:
                callback()
            except Exception:
                logger.exception("an on_end callback of the run %s failed: %r", without_run_id(self.id), callback)
