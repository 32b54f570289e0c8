"""A run in a coroutine. The lifecycle decides, this carries out, on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any

from ..encoding import event_of
from ..eventlog.leases import Lease
from ..exceptions import EventLogError, EventLogUnavailable, LeaseLost, RunStopped, TopicClosed
from ..runtime.safe_text import without_run_id
from ..streams.callbacks import run_callbacks
from ..streams.sources import events_of, items_of
from ..wire.event import Event
from .endings import RunEnding
from .keeper import keeper
from .lifecycle import Action, Close, Effect
from .run_base import CLEANUP_SECONDS, RunBase, logger, outcome_of
from .sources import without_id

_ending: set[asyncio.Task[None]] = set()
"""Else the collector could take a task that nobody waits for any more."""


class AsyncRun(RunBase):
    """A run in a coroutine: what ``async with produce(…)`` gives. Belongs to one event loop."""

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self._loop = asyncio.get_running_loop()
        self._flushing = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False
        self._failure: Exception | None = None

    async def write(self, data: object, *, event: str | None = None) -> None:
        """Append one event, soon and together with others: see ``Run.write``."""
        await self._write([event_of(data, event)])

    write_sse = write

    async def pipe(self, source: Any, *, event: str | None = None) -> int:
        """Write each item of an async or sync iterable, or each line of a file, pipe or process: see ``Stream.pipe``."""
        count = 0
        found: Any = items_of(source, event)
        async with aclosing(found):
            async for item in found:
                await self._write([item if isinstance(item, Event) else event_of(item, event)])
                count += 1
        return count

    async def pipe_sse(self, source: Any) -> int:
        """Write the events of text that is framed already: see ``Stream.pipe_sse``."""
        count = 0
        found: Any = events_of(source)
        async with aclosing(found):
            async for event in found:
                await self._write([without_id(event)])
                count += 1
        return count

    async def text(self) -> str:
        """Return the text that it has written so far: see ``Run.text``."""
        return await self.log._run_read(self._text)

    async def flush(self) -> None:
        """Append now what was written."""
        async with self._flushing:
            if not self._unsent:
                return
            try:
                await self.log._run_apart(self._append_unsent)
            except (LeaseLost, TopicClosed) as error:
                self._do(self._overruled(error))

    async def _write(self, events: list[Event]) -> None:
        if self._take(events):
            await self.flush()
            if self.stopping:  # perhaps the log has just refused it
                raise self._refused()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._due_in(), self._flush_now)

    def _flush_now(self) -> None:
        self._timer = None
        self._spawn(self._flush_quietly())

    async def _flush_quietly(self) -> None:
        try:
            await self.flush()
            self._trouble.recovered()
        except EventLogError as error:  # the code may write nothing more for long: it is tried again without it
            pause = self._trouble.failed(error)
            if self._timer is None and not self._ending_now:
                self._timer = self._loop.call_later(pause, self._flush_now)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What its keeper tells, on another thread

    def lease_seen(self, lease: Lease | None) -> None:
        """See ``KeptRun``."""
        if lease is None or lease.holder != self.id or not lease.alive or lease.stop:
            self._tell(lambda: self._spawn(self._look(lease)))

    def lease_over(self) -> None:
        """See ``KeptRun``."""
        self._tell(lambda: self._do(self._life.lease_lost()))

    def interrupt(self) -> None:
        """See ``KeptRun``."""
        self._tell(lambda: self._do(self._life.shutdown()))

    @property
    def deserted(self) -> bool:
        """See ``KeptRun``."""
        return not self._loop.is_running()

    @property
    def over_with_its_loop(self) -> bool:
        """See ``KeptRun``."""
        return self._loop.is_closed()

    def _tell(self, call: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop is closed, and whatever ran there is over
            keeper.remove(self)

    async def _look(self, lease: Lease | None) -> None:
        closed = lease is not None and lease.holder == self.id and not lease.deadline
        reason = (await self.log.astate(self.topic)).closed if closed else None
        self._do(self._seen(lease, reason))

    def _do(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Close():
                    self._spawn(self._close(effect.ending))
                case Action.CANCEL_PRODUCER:
                    self._cancelled = True
                    if self._task is not None:
                        self._task.cancel()
                case Action.SET_DEADLINE:
                    self._deadline = self._loop.call_later(CLEANUP_SECONDS, lambda: self._do(self._life.deadline()))
                case Action.CLEAR_DEADLINE if self._deadline is not None:
                    self._deadline.cancel()
                case Action.DISCARD_UNSENT:
                    self._taken()
                case Action.EXPIRE:
                    self._spawn(self._expire())
                case Action.STOP_RENEWING:
                    keeper.remove(self)
                case Action.CONCLUDE:
                    self._count(self.ending or RunEnding.FINISHED)
                case Action.LOG_LATE_ERROR:
                    logger.exception("run %s raised after it was told to end", without_run_id(self.id))

    async def _expire(self) -> None:
        try:
            await self.log.aexpire(self.topic)
        except EventLogError as error:
            logger.warning("the topic %r of a lost run cannot be closed from here: %s", without_run_id(self.topic), error)

    async def _close(self, ending: RunEnding) -> None:
        async with self._flushing:
            self._ending_now = True
            error: LeaseLost | TopicClosed | None = None
            try:
                if not await self._closed(ending):
                    error = self._closed_before(ending, (await self.log.astate(self.topic)).closed or "")
            except LeaseLost as lost:
                error = lost
            except Exception as away:
                keeper.remove(self)  # nobody renews it any more: whoever looks after the deadline closes it
                self._failure = away
                return
            self._do(self._life.close_done() if error is None else self._overruled(error))

    async def _closed(self, ending: RunEnding) -> bool:
        last: list[Event] | None = None
        pauses = self._close_pauses()
        while True:
            try:
                if last is None:  # which may look at the topic, and wait for what is just being appended
                    last = await self.log._run_read(partial(self._events_at_end, ending))
                close = partial(self.log.close, self.topic, ending, last=last, holder=self.id, outside_transaction=True)
                return await self.log._run_apart(close)
            except EventLogUnavailable as error:
                if error.kind != "store" or (pause := next(pauses, None)) is None:
                    raise
            await asyncio.sleep(pause)

    async def _enter(self) -> AsyncRun:
        self._task = asyncio.current_task()
        keeper.add(self)
        self._do(self._life.started())
        return self

    async def _exit(self, error: BaseException | None) -> bool:
        """End it. Return whether the error is none to the caller: the run was asked to stop, and has."""
        ours = self._cancelled and self._task is not None
        if ours and self._task is not None:
            if not isinstance(error, asyncio.CancelledError):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)  # a cancel that has not been delivered yet
            ours = self._task.uncancel() == 0
        self._do(self._life.producer_done(outcome_of(error)))
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.shield(self._ended())
        if self._failure is not None:
            raise self._failure
        stopped = self.ending is RunEnding.STOPPED
        return stopped and (isinstance(error, RunStopped) or (ours and isinstance(error, asyncio.CancelledError)))

    def _ended(self) -> asyncio.Task[None]:
        """Write what is to be written, and call back, also where whoever waits for that is cancelled meanwhile."""
        task = self._loop.create_task(self._finish())
        _ending.add(task)
        task.add_done_callback(_ending.discard)
        return task

    async def _finish(self) -> None:
        while self._tasks:
            await asyncio.wait({*self._tasks})
        await run_callbacks(self._ends, "on_end", f"the run {without_run_id(self.id)}")

    async def _withdraw(self) -> None:
        """End it without a word: see ``RunLifecycle.withdrawn``."""
        self._do(self._life.withdrawn())
        await run_callbacks(self._ends, "on_end", f"the run {without_run_id(self.id)}")
