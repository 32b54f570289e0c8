"""Access in this process: the books of its event loops, and the task that hears the orders of other processes.

The task is on the background loop, begun by the first stream; it ends when there has been none for a while. It costs one more
name in the question that the poll asks for all followed topics.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from .. import conf
from ..eventlog.backend import event_log
from ..eventlog.base import EventLog
from ..exceptions import AgentSSEError, EventLogUnavailable
from ..guards import Guard
from ..runtime.backoff import FailureLog
from ..runtime.loop import BackgroundTask, background
from ..runtime.per_loop import PerLoop
from ..runtime.pools import writers
from ..runtime.process import PerProcess
from ..runtime.safe_text import printable
from ..runtime.under_test import under_test
from ..streams.context import Context
from ..streams.registry import OpenStream, open_streams, registry
from ..topics.orders import LIFE_SECONDS, OrderReader, OrderStale
from ..wire.event import Event
from .book import Book
from .identity import Identity
from .orders import ACCESS, AccessOrder, Close, Recheck, orders
from .permit import Permit

logger = logging.getLogger("django_agent_sse.access")

UNUSED_SECONDS = 30.0
"""Seconds without a stream after which a process listens no more."""
LOOK_SECONDS = 2.0
"""Seconds between two looks where the log's own notifications might be lost."""
KEPT_SECONDS = LIFE_SECONDS + 30.0
"""Seconds for which orders are kept in the log."""
TRIM_INTERVAL = 60.0
"""Seconds between two trims, more or less."""
RECENT_SECONDS = LIFE_SECONDS - 10.0
"""Seconds for which a process remembers what it has ordered, and tells it again where the log has lost it."""
MOST_RECENT = 256
"""The most orders that it remembers."""
READ_BACK_SECONDS = 1.0
"""Seconds after which a process that reads its log has read what it has ordered itself, or the log has lost that."""


class StreamPermit(Permit):
    """A permit that stands in the book of its loop while its stream is there: a ``StreamWatch``."""

    __slots__ = ("_book",)
    _book: Book

    def begun(self, stream: OpenStream, context: contextvars.Context) -> None:
        self._book = access.book()  # first, as over() needs it where the rest fails
        self.begin(stream, context)
        self._book.add(self)
        access.begin()

    def over(self) -> None:
        self._book.discard(self)
        self.end()


class Access(PerProcess):
    """One per process."""

    def reset(self) -> None:
        """Begin anew, also after a fork."""
        self._lock = threading.Lock()
        self._books = PerLoop(lambda loop: Book(registry.loop_state()))
        self._abandoned = getattr(self, "_listener", None)  # collected in a child, it would end what is its parent's
        self._listener: _Listener | None = None
        self._off = False
        self._recent: deque[tuple[float, str, Event]] = deque(maxlen=MOST_RECENT)
        self.failures = FailureLog(
            "who may have streams cannot be told to other processes",
            "They hear of it when they ask the guards again (AGENT_SSE['RECHECK']).",
            logger=logger.name,
        )

    def permit(
        self, c: Context, guards: Sequence[Guard], identity: Identity, interval: float | None, asked: float
    ) -> StreamPermit:
        """Return what a stream's supervisor tells of its beginning and its end."""
        return StreamPermit(c, guards, identity, interval, asked)

    def book(self) -> Book:
        """Return the book of the running loop. It is there before guards are asked, and remembers what is ordered meanwhile."""
        return self._books.here()

    def books(self) -> list[Book]:
        """Return the books of all loops that are not closed."""
        return self._books.all()

    # Orders

    def execute(self, order: AccessOrder, age: float | None = None) -> None:
        """Execute an order in this process, from any thread; see ``Book.take``."""
        for book in self.books():
            with contextlib.suppress(RuntimeError):  # the loop closed in between
                book.loop_state.loop.call_soon_threadsafe(book.take, order, age, context=contextvars.Context())

    def tell(self, order: AccessOrder) -> None:
        """Have an order executed by this process now, and by all others soon; blocks.

        Raises:
            EventLogError: The log could not take it: the others do not know of it.
        """
        self.execute(order)
        self.publish(order)

    def publish(self, order: AccessOrder) -> None:
        """Tell an order to the other processes; blocks.

        Raises:
            EventLogError: The log could not take it.
        """
        log = event_log()
        if not log.crosses_processes or under_test():
            return
        if (listener := self._listener) is not None:
            listener.known.add(order.id)
        event = orders.event_of(order)
        try:
            log.append(ACCESS, event)
        except BaseException:
            if listener is not None:
                listener.known.discard(order.id)
            raise
        self._recent.append((time.monotonic(), order.id, event))

    def recent(self) -> list[tuple[float, str, Event]]:
        """Return what this process has told of late: when (monotonic), the order's id, and how it was signed."""
        since = time.monotonic() - RECENT_SECONDS
        return [told for told in tuple(self._recent) if told[0] >= since]

    def publish_quietly(self, order: AccessOrder) -> bool:
        """The same for a signal: whoever saves a user must not meet the errors of a log. Return whether to try it again.

        The log line is written once.
        """
        try:
            self.publish(order)
        except Exception as error:
            no_tables = isinstance(error, EventLogUnavailable) and error.kind == "tables"
            self.failures.failed(error, quietly=no_tables)
            return not no_tables
        self.failures.recovered()
        return False

    # Listening

    def begin(self) -> None:
        """A stream is there: see that orders are heard. Never raises, asks nothing of the log."""
        if self._listener is not None or self._off:
            return
        with self._lock:
            if self._listener is not None:
                return
            self._off = not _hears()
            if not self._off:
                with contextlib.suppress(RuntimeError):  # the interpreter ends, or there are too many threads
                    self._listener = _Listener(self.execute, self._over, self.recent)

    def _over(self, listener: _Listener) -> bool:
        """Return whether the listener may end; the next stream begins another one."""
        with self._lock:
            if self._listener is listener and open_streams():
                return False
            if self._listener is listener:
                self._listener = None
            return True

    def stop(self, seconds: float = 5.0) -> None:
        """End the listener, as after a change of the settings."""
        with self._lock:
            listener, self._listener = self._listener, None
            self._off = False
            self._recent.clear()
        if listener is not None:
            listener.stop(seconds)


def _hears() -> bool:
    """Whether other processes can tell this one anything."""
    try:
        return not under_test() and event_log().crosses_processes and not event_log().check()
    except AgentSSEError:  # settings that cannot be used; a check says it
        return False


class _Listener:
    """Hears orders, from now on and as long as there are streams.

    Attributes:
        known: Orders of this very process, which it has executed, and has not read back yet.
    """

    def __init__(
        self,
        execute: Callable[[AccessOrder, float | None], None],
        over: Callable[[_Listener], bool],
        recent: Callable[[], list[tuple[float, str, Event]]],
    ) -> None:
        self.known: set[str] = set()
        self._execute = execute
        self._over = over
        self._recent = recent
        self._wake = asyncio.Event()
        self._stopped = False
        self._reader = OrderReader(orders, KEPT_SECONDS, self._refuse)
        self._busy_at = time.monotonic()
        self._trim_at = time.monotonic() + TRIM_INTERVAL * random.uniform(0.5, 1.5)
        self._refused = False
        self._broken = False
        self._failures = FailureLog(
            "orders about access cannot be read from the event log",
            "Guards are asked again in their own time meanwhile (AGENT_SSE['RECHECK']).",
            logger=logger.name,
            longest=LOOK_SECONDS,
        )
        self._task: BackgroundTask = background.start("access", self._work)

    def stop(self, seconds: float) -> None:
        self._stopped = True
        self._task.call(self._wake.set)
        self._task.wait(seconds)

    async def _work(self) -> None:
        try:
            while not self._stopped:
                pause = await self._turn_or_fail()
                if open_streams():
                    self._busy_at = time.monotonic()
                elif time.monotonic() - self._busy_at >= UNUSED_SECONDS and self._over(self):
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)
        finally:
            self._reader.unfollow()

    async def _turn_or_fail(self) -> float:
        """Read what is new; return the seconds until the next look. Whatever fails is tried again."""
        self._wake.clear()
        try:
            log = event_log()
            await self._reader.follow(log, lambda _: self._wake.set())
            began = time.monotonic()
            await self._read(log)
            if self.known and not self._reader.more:
                await self._tell_again(log, began - READ_BACK_SECONDS)
            self._failures.recovered()
            await self._trim(log)
            return 0.0 if self._reader.more else LOOK_SECONDS
        except AgentSSEError as error:
            # Without its tables nobody uses topics; who does is told.
            no_tables = isinstance(error, EventLogUnavailable) and error.kind == "tables"
            return max(1.0, self._failures.failed(error, quietly=no_tables))
        except Exception:
            if not self._broken:
                logger.exception("what hears orders about access has failed, and goes on. This is said once")
            self._broken = True
            return LOOK_SECONDS

    async def _read(self, log: EventLog) -> None:
        async with contextlib.aclosing(self._reader.read(log)) as told:
            async for order, at, news in told:
                own, known = order.id in self.known, self._reader.executed(order.id)
                self.known.discard(order.id)
                if not (own or known):
                    self._execute(order, None if news else max(0.0, time.time() - at))
        if self._reader.missed:  # whatever it was
            self._reader.missed = False
            self._execute(Recheck(everybody=True), None)
            # Asking ends no stream of who may have it, and was to lose it all the same.
            self.known = {id for _, id, _ in self._recent()}  # older ones are among the lost

    async def _tell_again(self, log: EventLog, before: float) -> None:
        """Append what this process had told by then and the log has lost: others may not have read it. Who has knows its id."""
        for at, id, event in self._recent():
            if id in self.known and at < before:
                await asyncio.wrap_future(writers.submit(partial(log.append, ACCESS, event)))
                self._reader.executed(id)
                self.known.discard(id)

    async def _trim(self, log: EventLog) -> None:
        if time.monotonic() >= self._trim_at:
            self._trim_at = time.monotonic() + TRIM_INTERVAL * random.uniform(0.5, 1.5)
            await asyncio.wrap_future(writers.submit(partial(log.trim, ACCESS, max_age=KEPT_SECONDS)))

    def _refuse(self, offset: int, error: Exception) -> None:
        if isinstance(error, OrderStale) and not self._reader.executed(error.order.id):
            # Of nobody else than who can sign. Asking does no harm to who may stay, whenever it was that this was ordered.
            order: AccessOrder = error.order
            self._execute(order.milder() if isinstance(order, Close) else order, None)
        if not self._refused:
            self._refused = True
            logger.warning(
                "event %d of %s is not executed: %s. Who can write to the event log? This is said once",
                *(offset, ACCESS, printable(error)),
            )


access = Access()
conf.on_change(access.stop)
