"""The streams of one event loop whose guards are asked again: when that is due, and how many at a time.

What is due stands in the buckets of the loop's one clock, an entry for each identity and none for a stream, so that the session
and the user of many streams are loaded once. What has to be asked now waits in a line that one task works off.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

from asgiref.sync import sync_to_async
from django.conf import settings

from ..runtime.backoff import Backoff
from ..streams.context import Context
from ..streams.ending_many import end_streams
from ..streams.endings import Ending
from ..streams.registry import LoopState, OpenStream
from ..streams.threads import on_connection, task_context
from .identity import Identity
from .loading import Found, load
from .orders import AccessOrder, Close, Lately
from .permit import ASK_SECONDS, RETURN_MS, Permit

logger = logging.getLogger("django_agent_sse.access")

LOADED_AT_ONCE = 500
"""Streams whose sessions and users are loaded with one query each."""
ASKED_AT_ONCE = 16
"""Streams of one route whose guards run at a time: a guard that waits for another service holds up nobody else's. As many more
where that was ordered, which so stands behind nothing that is only due."""
EARLIEST = 0.8
"""The next time comes after this share of the interval at least, by chance, and never later than the interval."""
MAX_FAILURES = 5
"""So often in a row it may fail to ask; then the stream ends. With the pauses between them that is about a minute, as long as a
database takes to restart or to fail over, and no longer than a stream goes unasked anyway; four where each try hangs. Beyond
that nobody knows any more who may see what, and what nobody knows is refused."""
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 30.0
"""Seconds between the first two tries, and the most between two."""
SECOND_LOOK = 2.5
"""Seconds after which what an order has asked for is asked once more: a log-out says so before its session is gone, and a replica
or a cache may be late. As often it is tried again where that fails: after a restart of the database it must not wait for long."""
AHEAD_SECONDS = 1.0
"""Seconds for which a stream waits for another one of the same user, which has their permissions loaded for both."""


class Group:
    """The streams of one identity, with the time when they are asked again. A ``Scheduled`` of the loop's clock."""

    __slots__ = ("_book", "due_slot", "interval", "permits")

    def __init__(self, book: Book) -> None:
        self._book = book
        self.permits: set[Permit] = set()
        self.interval: float | None = None
        self.due_slot: float | None = None

    def add(self, permit: Permit) -> None:
        self.permits.add(permit)
        if permit.interval and (self.interval is None or permit.interval < self.interval):
            self.interval = permit.interval
            self._book.loop_state.unwatch(self)
            self._book.loop_state.watch(self, self.interval)

    def tick(self, now: float) -> float | None:
        """See ``Scheduled``."""
        intervals = [permit.interval for permit in self.permits if permit.interval]
        if not intervals:
            return None
        self.interval = min(intervals)
        pause = self.interval * random.uniform(EARLIEST, 1)
        for permit in self.permits:
            # Who was asked a moment ago waits for the next time, if that is soon enough; who has failed, for the next try.
            if permit.interval and permit.age + pause > permit.interval and not permit.failures:
                self._book.want(permit)
        return now + pause


class Book:
    """Asks about the streams of one event loop.

    Attributes:
        asked: How often guards were asked again.
        loads: How often sessions and users were loaded for that.
    """

    def __init__(self, loop_state: LoopState) -> None:
        self.loop_state = loop_state
        self._lately = Lately()
        self.permits: dict[OpenStream, Permit] = {}
        self.asked = self.loads = 0
        self._groups: dict[Identity | Permit, Group] = {}
        self._line: dict[Permit, None] = {}
        self._work: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._at_once = defaultdict[tuple[str, bool], asyncio.Semaphore](lambda: asyncio.Semaphore(ASKED_AT_ONCE))
        self._standing: dict[Permit, asyncio.Task[None]] = {}
        self._second: dict[Permit, float] = {}
        self._failing: set[str] = set()

    # Streams

    def add(self, permit: Permit) -> None:
        self.permits[permit.stream] = permit
        if not permit.asks:
            return
        key = permit.identity if permit.identity.shared else permit
        if (group := self._groups.get(key)) is None:
            group = self._groups[key] = Group(self)
        group.add(permit)
        self._compare(permit)

    def _compare(self, permit: Permit) -> None:
        """See to what was ordered while the guards of a stream were asked that begins now."""
        lately = self._lately.since(permit.asked - SECOND_LOOK)
        concern = [] if lately is None else [(at, order) for at, order in lately if order.concerns(permit)]
        for at, order in concern:
            if isinstance(order, Close) and at >= permit.asked:
                permit.stream.end(Ending.REVOKED, retry=RETURN_MS if order.reconnect else None)
                return
        if lately is None or concern:
            self._want_twice([permit])

    def discard(self, permit: Permit) -> None:
        self.permits.pop(permit.stream, None)
        self._line.pop(permit, None)
        self._second.pop(permit, None)
        key = permit.identity if permit.identity.shared else permit
        if (group := self._groups.get(key)) is not None:
            group.permits.discard(permit)
            if not group.permits:
                del self._groups[key]
                self.loop_state.unwatch(group)

    # Orders

    def take(self, order: AccessOrder, age: float | None = None) -> None:
        """Execute an order that came just now, or was given ``age`` seconds ago, before anybody here listened."""
        self._lately.note(order, time.monotonic() - (age or 0.0))
        found = [permit for permit in self.permits.values() if order.concerns(permit)]
        if age is not None and isinstance(order, Close):
            # What began after it was given has been asked about since. Clocks differ, so that it is asked again all the same.
            later = [permit for permit in found if permit.age < age - SECOND_LOOK]
            self._want_twice([permit for permit in later if permit.asks])
            found = [permit for permit in found if permit.age >= age - SECOND_LOOK]
        if isinstance(order, Close):
            end_streams([permit.stream for permit in found], Ending.REVOKED, RETURN_MS if order.reconnect else None)
        else:
            self._want_twice(found)

    def _want_twice(self, permits: Iterable[Permit]) -> None:
        """Ask about streams now, and once more a moment later."""
        for permit in permits:
            if not permit.ordered and (task := self._standing.pop(permit, None)) is not None:
                task.cancel()  # it would wait for what is only due, and has been loaded before this was ordered
                permit.asking = False
            permit.ordered = True
            self.want(permit)
            self._look_later(permit)

    def _look_later(self, permit: Permit) -> None:
        if not self._second:
            self._later(SECOND_LOOK, self._look_again)
        self._second.pop(permit, None)  # those with the most time left stand last
        self._second[permit] = self.loop_state.loop.time() + SECOND_LOOK

    def _look_again(self) -> None:
        now = self.loop_state.loop.time()
        for permit, due in [*self._second.items()]:
            if due > now + 0.01:
                self._later(due - now, self._look_again)
                return
            del self._second[permit]
            self.want(permit)

    # Asking

    def want(self, permit: Permit) -> None:
        """Ask about a stream as soon as may be."""
        if permit.stream not in self.permits or permit.stream.outlives_client:
            return
        if permit.asking:
            permit.again = True
            return
        self._line[permit] = None
        if self._work is None:
            context = contextvars.Context()  # not that of some request
            self._work = self.loop_state.loop.create_task(self._work_off(), context=context)

    def _later(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        self.loop_state.loop.call_later(seconds, call, *args, context=contextvars.Context())

    async def _work_off(self) -> None:
        try:
            while self._line:
                batch = self._batch()
                found = await self._load(batch)
                ahead: dict[Identity, asyncio.Task[None]] = {}
                for permit in batch:
                    task = self._ask(permit, found[permit.identity], ahead.get(permit.identity))
                    if task is not None and permit.identity.shared:
                        ahead[permit.identity] = task
                await asyncio.sleep(0)
        finally:
            self._work = None

    def _batch(self) -> list[Permit]:
        """Take the first out of the line, and with each all that wait of the same identity, which is loaded once."""
        batch: list[Permit] = []
        while self._line and len(batch) < LOADED_AT_ONCE:
            first = next(iter(self._line))
            group = self._groups.get(first.identity)
            for permit in (first, *(group.permits if group is not None else ())):
                if permit in self._line:
                    del self._line[permit]
                    permit.asking, permit.again, permit.asked = True, False, time.monotonic()
                    batch.append(permit)
        return batch

    async def _load(self, permits: Iterable[Permit]) -> dict[Identity, Found | Exception]:
        own = {permit.identity: permit for permit in permits}
        alike = not settings.DATABASE_ROUTERS and on_connection() is None
        # Else what a connection is, or which, may hang on whose stream it is: each is loaded as its own handler would.
        found: dict[Identity, Found | Exception] = {}
        for identities in [[*own]] if alike else [[identity] for identity in own]:
            self.loads += 1
            try:
                found |= await self._load_as(own[identities[0]], identities)
            except Exception as error:
                found |= dict.fromkeys(identities, error)
        return found

    async def _load_as(self, permit: Permit, identities: list[Identity]) -> dict[Identity, Found | Exception]:
        c, variables = permit.context(Found(None, permit.identity.user))
        context, threads = variables.run(task_context, c)
        try:
            async with asyncio.timeout(ASK_SECONDS):  # a database that does not answer must not hold up all others for ever
                return await self.loop_state.loop.create_task(sync_to_async(load)(identities), context=context)
        finally:
            threads.end()

    def _ask(self, permit: Permit, found: Found | Exception, ahead: asyncio.Task[None] | None) -> asyncio.Task[None] | None:
        if permit.stream not in self.permits:
            permit.asking = False
            return None
        try:
            if isinstance(found, Exception):
                raise found
            c, variables = permit.context(found)
            context, threads = variables.run(task_context, c)
        except Exception as error:
            self._failed(permit, error)
            return None
        task = self.loop_state.loop.create_task(self._ask_guards(permit, c, found, ahead), context=context)
        self._asking.add(task)
        self._standing[permit] = task
        task.add_done_callback(threads.end)
        task.add_done_callback(self._asking.discard)
        return task

    async def _ask_guards(self, permit: Permit, c: Context, found: Found, ahead: asyncio.Task[None] | None) -> None:
        if ahead is not None:
            await asyncio.wait([ahead], timeout=AHEAD_SECONDS)
        if found.untouched is not None and (ahead is not None or not permit.identity.shared):
            c._put_user(found.another_user())
        async with self._at_once[permit.route, permit.ordered]:
            self._standing.pop(permit, None)
            self.asked += 1
            try:
                allowed = await permit.allowed(c)
            except Exception as error:
                self._failed(permit, error)
                return
        permit.asking = False
        permit.ordered = permit.again or permit in self._second
        if not allowed:
            permit.revoke()
            return
        if permit.failures:
            permit.failures = 0
            self._failing.discard(permit.route)
        if permit.again:
            self.want(permit)

    def _failed(self, permit: Permit, error: BaseException) -> None:
        permit.asking = False
        if permit.stream not in self.permits:
            return
        if permit.ordered and permit not in self._second:
            self._look_later(permit)
        if permit.waits:  # what was ordered meanwhile is no reason to give up sooner
            return
        permit.failures += 1
        if permit.failures >= MAX_FAILURES:
            message = "%s: a stream is revoked, as its guards could not be asked %d times in a row"
            logger.error(message, permit.route, permit.failures, extra={"route": permit.route})
            permit.revoke()
            return
        if permit.route not in self._failing:
            self._failing.add(permit.route)
            logger.error(
                "%s: guards cannot be asked again. Its streams go on for now, and end where that fails %d times in a row. "
                "This is said once",
                *(permit.route, MAX_FAILURES),
                exc_info=error,
                extra={"route": permit.route},
            )
        pause = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        pause.failures = permit.failures - 1
        permit.waits = True
        self._later(pause.next(), self._try_again, permit)

    def _try_again(self, permit: Permit) -> None:
        permit.waits = False
        self.want(permit)

    async def idle(self) -> None:
        """Wait until nothing is being asked, for tests and measurements."""
        while self._work is not None or self._asking:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([*self._asking, *([self._work] if self._work is not None else [])])
