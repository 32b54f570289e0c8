"""Orders from process to process: signed events of a topic of the package's own, which each process reads and executes once.

Each is signed with the project's ``SECRET_KEY``, so that whoever can write to the log cannot order anything. The signature covers
the time, so that a copy of an old order ends nothing. A notification wakes whoever follows the topic, and the poll heals it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from django.core import signing

from ..eventlog.base import EventLog
from ..eventlog.notify.local import local_notifier
from ..eventlog.notify.notifier import notifier
from ..eventlog.records import Page, TopicState
from ..eventlog.validation import InternalTopic
from ..exceptions import EventUnreadable
from ..runtime.safe_text import printable
from ..wire.event import Event

LIFE_SECONDS = 120.0
"""Seconds for which an order holds after it was signed. The clocks of machines may differ by as much."""
MAX_BYTES = 65_536
"""The most bytes of a signed order."""
MAX_REMEMBERED = 4_096
"""Orders that are known again where they come twice."""
REMEMBERED_SECONDS = 2 * LIFE_SECONDS
"""Seconds for which they are: older ones are refused by their age, also where clocks differ."""


class Order(Protocol):
    """What every order has: an id, by which a process knows one that comes twice. A dataclass."""

    @property
    def id(self) -> str: ...


O = TypeVar("O", bound=Order)  # noqa: E741  it stands for an order


class OrderRefused(ValueError):
    """An event among the orders in the log must not be executed."""


class OrderStale(OrderRefused):
    """An order is one, but was not signed lately: it is a copy, or clocks differ, or this process was asleep.

    Attributes:
        order: The order.
    """

    def __init__(self, message: str, order: Any) -> None:
        super().__init__(message)
        self.order = order


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTopic(Generic[O]):
    """A topic of orders.

    Attributes:
        name: The topic.
        kinds: What an order can be, by the word that stands for it.
        build: Makes an order of its kind and its fields; ``TypeError`` or ``ValueError`` where it cannot be one.
        fields: The fields of an order, as JSON takes them.
    """

    name: InternalTopic
    kinds: Mapping[str, type[O]]
    build: Callable[[type[O], dict[str, Any]], O]
    fields: Callable[[O], dict[str, Any]] = asdict  # type: ignore[assignment]

    def event_of(self, order: O) -> Event:
        """Return the order as a signed event."""
        kind = next(word for word, order_type in self.kinds.items() if type(order) is order_type)
        return Event(self._signer().sign_object([kind, time.time(), self.fields(order)]), event=kind)

    def order_of(self, event: Event) -> O:
        """Return the order that an event of the log holds.

        Raises:
            OrderRefused: It is not signed, or was not signed lately, or another version wrote it.
        """
        return self.read(event)[0]

    def read(self, event: Event) -> tuple[O, float]:
        """Return the order that an event of the log holds, and when it was signed, in seconds since 1970.

        Raises:
            OrderRefused: It is not signed, or was not signed lately, or another version wrote it.
        """
        if len(event.data) > MAX_BYTES:
            raise OrderRefused(f"it has {len(event.data):,} characters, more than any command has")
        try:
            kind, at, fields = self._signer().unsign_object(event.data)
            age = time.time() - at
            order = self.build(self.kinds[kind], fields)
        except signing.BadSignature:
            raise OrderRefused("it is not signed with this process's SECRET_KEY, or one of its SECRET_KEY_FALLBACKS") from None
        except (TypeError, ValueError, KeyError) as error:
            raise OrderRefused(f"another version of the package has written it ({printable(error)})") from error
        if not -LIFE_SECONDS <= age <= LIFE_SECONDS:
            when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s from now"
            raise OrderStale(f"it was signed {when}: it was copied, or the clocks of machines differ", order)
        return order, at

    def _signer(self) -> signing.Signer:
        return signing.Signer(salt=f"django_agent_sse.{self.name}")

    async def subscribe(self, log: EventLog, on_notify: Callable[[object], None]) -> Callable[[], None]:
        """Have ``on_notify`` called on the running loop when a log has new orders. Return what ends that."""
        local_notifier.listen(on_notify, only=self.name)
        if (own := log.notifier) is not None:
            await own.follow(self.name)
            return lambda: own.unfollow(self.name)
        watch = notifier.watch(log, on_notify)
        watch.add(self.name)
        return lambda: watch.discard(self.name)


def _nothing() -> None:
    return


@dataclass(slots=True)
class OrderReader(Generic[O]):
    """Reads the orders of a topic, each once, from one task.

    Attributes:
        topic: Which.
        kept: Seconds for which orders are kept in the log.
        on_refused: Called with each event that is none: its number, and why.
        more: There is more to read at once.
        missed: Whether orders may have been lost since the last look: they were trimmed before they were read, or the log came
            back without its latest events, or without any.
    """

    topic: OrderTopic[O]
    kept: float
    on_refused: Callable[[int, Exception], object]
    more: bool = False
    missed: bool = False
    _log: EventLog | None = None
    _unfollow: Callable[[], None] = _nothing
    _executed: dict[str, float] = field(default_factory=dict)
    _epoch: str | None = None
    _cursor: int = 0
    _nonce: str = ""
    _over_before: int = 0
    _too_old: float = 0.0
    _read_at: float = 0.0

    async def follow(self, log: EventLog, on_notify: Callable[[object], None]) -> bool:
        """Read a log from now on, and have ``on_notify`` called on the running loop when it has more.

        Returns whether it is another one than before.
        """
        if log is self._log:
            return False
        self.unfollow()
        self._unfollow = await self.topic.subscribe(log, on_notify)
        self._log, self._epoch = log, None
        return True

    def unfollow(self) -> None:
        """Hear of no log any more."""
        self._unfollow()
        self._unfollow, self._log = _nothing, None

    def executed(self, id: str) -> bool:
        """Note that an order is executed; whether it was before."""
        known, now = id in self._executed, time.monotonic()
        if not known:
            self._executed[id] = now
            while (
                self._executed[oldest := next(iter(self._executed))] < now - REMEMBERED_SECONDS
                or len(self._executed) > MAX_REMEMBERED
            ):
                del self._executed[oldest]
        return known

    @property
    def _oldest(self) -> tuple[str, float]:
        return next(iter(self._executed.items()))

    async def read(self, log: EventLog) -> AsyncGenerator[tuple[O, float, bool], None]:
        """Yield what is new: each order, when it was signed, and whether it came since this process looks.

        Raises:
            EventLogError: The log cannot be read. What was not yielded will be, the next time.
        """
        self.more = False
        try:
            page = await log.aread_after(self.topic.name, self._cursor)
        except EventUnreadable as error:
            if (state := await log.astate(self.topic.name)).epoch != self._epoch:
                self._begin_at(state)
            self.on_refused(error.offset, error)
            self._cursor, self._nonce, self.more = max(self._cursor + 1, error.offset), "", True
            return
        if page.epoch != self._epoch or self._is_fork(page):
            if self._cursor:
                page = await log.aread_after(self.topic.name, 0)
            self._begin_at(page)
        elif page.floor > self._cursor:
            self.missed = True
        for record in page.records:
            self._cursor, self._nonce = record.offset, record.nonce
            news = record.offset > self._over_before and record.at >= self._too_old
            try:
                order, at = self.topic.read(record.event)
            except OrderRefused as error:
                if news:
                    self.on_refused(record.offset, error)
                continue
            yield order, at, news
        if page.records and page.records[-1].offset < page.top:
            self.more = True
        else:
            self._read_at = time.time()

    def _is_fork(self, page: Page) -> bool:
        """Whether the log has lost events that were read here, as by a restart from a snapshot: others take their offsets."""
        return page.top < self._cursor or bool(self._nonce and page.before not in ("", self._nonce))

    def _begin_at(self, page: Page | TopicState) -> None:
        """What was ordered before this process looked for the first time is over.

        Another epoch, or a log that has lost its latest events, may hold what was read before: after a failover, a part of it.
        That is known by its id, or by its age where nobody looked for long.
        """
        self._over_before = page.top if self._epoch is None else 0
        self._too_old = self._read_at - self.kept if self._epoch is not None else 0.0
        self.missed = self.missed or bool(self._epoch)
        self._epoch, self._cursor, self._nonce = page.epoch, 0, ""
