"""Begin a run, anywhere: in a view, a task, a command, a shell, in sync code and in coroutines."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from ..encoding import event_of
from ..eventlog.backend import log_to_publish_to, refuse_on_a_loop
from ..eventlog.base import EventLog
from ..eventlog.last_words import LastWords
from ..eventlog.validation import valid_topic
from ..exceptions import AsyncRequired, EventLogError, LeaseHeld, RunExists, RunNotBegun
from .async_run import AsyncRun
from .endings import RunEnding
from .run import Run
from .run_base import Last, logger
from .wire import Wire

LEASE_SECONDS = 30.0
_undoing: set[asyncio.Future[None]] = set()
"""Else the collector could take a task that nobody waits for any more."""


def nothing(ending: RunEnding) -> tuple[object, ...]:
    """End with no events of its own."""
    return ()


class Producing:
    """A run that begins with its ``with`` or ``async with``, and ends with it."""

    def __init__(
        self,
        topic: str,
        key: str | None,
        lease: float,
        last: Last = nothing,
        wire: Wire | None = None,
        id: str | None = None,
    ) -> None:
        self._id = new_run_id() if id is None else id
        self._topic = valid_topic(topic)
        self._key = None if key is None else valid_topic(key)
        self._lease = lease
        self._last = last
        self._wire = wire
        self._run: Run | None = None
        self._async_run: AsyncRun | None = None
        self._used = self._fresh = False
        self._led_before: str | None = None

    if not TYPE_CHECKING:  # to type checkers these are no attributes at all

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(name)
            raise RunNotBegun(
                f"produce({self._topic!r}).{name}: the run is what `with` gives: write `with produce(…) as out:` and then "
                f"`out.{name}`; in a coroutine `async with`. Nothing was begun"
            )

    def __enter__(self) -> Run:
        try:
            refuse_on_a_loop("produce")
        except AsyncRequired:
            raise AsyncRequired("`with` would hold up the event loop that runs here; write `async with`") from None
        self._use()
        log = log_to_publish_to()
        leads = self._begin(log)
        if leads is not None:
            raise _exists(leads, self._key)
        self._run = Run(log, self._topic, self._id, self._lease, self._last, self._wire)
        return self._run._enter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        assert self._run is not None
        return self._run._exit(error)

    async def __aenter__(self) -> AsyncRun:
        self._async_run = AsyncRun(await self.abegin(), self._topic, self._id, self._lease, self._last, self._wire)
        return await self._async_run._enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._async_run is not None
        return await self._async_run._exit(error)

    async def abegin(self) -> EventLog:
        """Take the lease and the key, in the log that is returned. Whoever does so makes the run too.

        A cancel waits for the log's answer, and leaves nothing that was taken.

        Raises:
            RunExists: As ``produce``, and so are the others.
        """
        self._use()
        log = log_to_publish_to()
        begin = asyncio.ensure_future(self._abegin(log))
        try:
            leads = await asyncio.shield(begin)
        except asyncio.CancelledError:
            undoing = asyncio.ensure_future(self._undo_late(log, begin))
            _undoing.add(undoing)
            undoing.add_done_callback(_undoing.discard)
            await asyncio.shield(undoing)
            raise
        if leads is not None:
            raise _exists(leads, self._key)
        return log

    def undo(self, log: EventLog) -> None:
        """Give up what was taken, as if nothing had begun: the key leads where it led before."""
        log._outside(self._topic, partial(self._undo, log))

    def _undo(self, log: EventLog) -> None:
        try:
            if self._fresh and not log.state(self._topic).top:
                log.delete(self._topic)
            else:
                log.release(self._topic, self._id)
        finally:
            if self._key is not None:
                log.move_pointer(self._key, self._led_before, expect=self._topic)

    async def _undo_late(self, log: EventLog, begin: asyncio.Future[str | None]) -> None:
        """Wait for the log's answer, and give up what was taken."""
        await asyncio.wait((begin,))
        self._fresh = self._fresh and not begin.cancelled()  # else the topic may be another one's
        if begin.cancelled() or (begin.exception() is None and begin.result() is None):
            try:
                await log._run(partial(self.undo, log))
            except EventLogError as error:  # it runs out by itself
                logger.warning("the lease of %r, whose run was not begun, cannot be given back: %s", self._topic, error)

    def _use(self) -> None:
        if self._used:
            raise RunNotBegun(f"this produce({self._topic!r}) has begun its run before: call produce() again for another one")
        self._used = True

    # Of two who begin at once with one key, the pointer lets one. The lease comes first, so that the pointer never leads to a run
    # that seems to be over.

    def _begin(self, log: EventLog) -> str | None:
        """Take the lease, and the key. Return the topic of the run that has it, if another one has."""
        self._led_before = leads = log.pointer(self._key) if self._key is not None else None
        for topic in {self._topic, leads} - {None}:
            log.expire(topic or "")
        if leads is not None and (lease := log.lease(leads)) is not None and lease.alive:
            return leads
        self._fresh = not log.state(self._topic).exists
        try:
            log.acquire(self._topic, self._id, self._lease, last=self._lost(), outside_transaction=True)
        except LeaseHeld:
            return self._topic
        now: str | None = None
        try:
            now = (
                self._topic
                if self._key is None
                else log.move_pointer(self._key, self._topic, expect=leads, outside_transaction=True)
            )
        finally:
            if now != self._topic:  # also where it failed: else nobody could begin before this lease has run out
                self.undo(log)
        return None if now == self._topic else now or self._topic

    async def _abegin(self, log: EventLog) -> str | None:
        """See ``_begin``."""
        self._led_before = leads = await log.apointer(self._key) if self._key is not None else None
        for topic in {self._topic, leads} - {None}:
            await log.aexpire(topic or "")
        if leads is not None and (lease := await log.alease(leads)) is not None and lease.alive:
            return leads
        self._fresh = not (await log.astate(self._topic)).exists
        try:
            await log.aacquire(self._topic, self._id, self._lease, last=self._lost(), outside_transaction=True)
        except LeaseHeld:
            return self._topic
        now: str | None = None
        try:
            now = (
                self._topic
                if self._key is None
                else await log.amove_pointer(self._key, self._topic, expect=leads, outside_transaction=True)
            )
        finally:
            if now != self._topic:
                await log._run(partial(self.undo, log))
        return None if now == self._topic else now or self._topic

    def _lost(self) -> LastWords:
        events = tuple(event_of(value) for value in self._last(RunEnding.LOST))
        if self._wire is None:
            return LastWords(events=events)
        return LastWords(events=events, by=self._wire.last_name, otherwise=(*self._wire.last(RunEnding.LOST, events),))


def produce(
    topic: str, *, key: str | None = None, lease: float = LEASE_SECONDS, last: Last = nothing, wire: Wire | None = None
) -> Producing:
    """Write a topic as a run: ``with produce("runs.42") as out:``, or ``async with`` in a coroutine.

    The topic is closed at the end with the run's ending, and once: ``finished``; ``failed`` where the block raised; ``stopped``
    where somebody asked it to stop, for which the block ends quietly; ``interrupted`` where its task was cancelled; ``lost``
    where nobody renewed its lease in time, since its process has died. The lease is renewed in the background.

    Args:
        topic: The name of its topic, which must not be closed.
        key: One run at a time has it, whatever its topic: as the name of a chat.
        lease: Seconds after which readers learn that the process has died. It is renewed when a third of it is over.
        last: Called with the ending, returns what the topic ends with: values as ``data`` of ``publish()``.
        wire: How a protocol spells the ending, as ``AI_SDK``: its last events come after those of ``last``, and what it takes for
            text is ``run.text()``.

    Raises:
        RunExists: Another run has the topic or the key. From ``with``, as the others.
        TopicClosed: The topic takes no more events: use another name, or delete it first.
        TransactionRefused: A transaction is open, and SQLite has no other writer: a run is seen while it goes on.
        AsyncRequired: ``with`` where an event loop runs.
        RunNotBegun: What ``produce()`` returns was used without ``with``, or a second time.
    """
    return Producing(topic, key, lease, last, wire)


def new_run_id() -> str:
    """Return an id that no other run has."""
    return f"run_{secrets.token_urlsafe(12)}"


def _exists(topic: str, key: str | None) -> RunExists:
    about = f"the topic {topic!r}" if key is None else f"the topic {topic!r} for the key {key!r}"
    return RunExists(f"another run works on {about}: follow that one, or ask it to stop. Nothing was begun", topic)
