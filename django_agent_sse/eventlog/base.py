"""The contract of every event log: what is checked for all of them, and both doors to one body."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

from django.db import DEFAULT_DB_ALIAS

from ..encoding import only_events
from ..exceptions import ConfigurationError
from ..wire.event import Event
from .eviction import Evicting
from .internal import without_internal
from .notify.local import LogNotifier, nobody
from .records import Appended, Finding, Head, Limits, Page, TopicState
from .validation import sized, valid_expect, valid_key, valid_reason, valid_topic

PAGE_EVENTS = 256
"""Events that are read at once where nobody says otherwise."""
PAGE_BYTES = 1_048_576
"""Bytes that are read at once; one event always is, however large."""

_T = TypeVar("_T")


class EventLog(Evicting):
    """Topics of numbered events. Each verb has a twin with an ``a``, for coroutines, over the same body.

    A back end writes the bodies, whose names begin with ``_``; they are synchronous, and get what was checked here.

    Attributes:
        crosses_processes: What one process appends, others read.
        durable: It survives the end of every process.
        transactional: An append is part of the caller's database transaction.
        on_change: Called with the name of a topic that has more, was closed or deleted, once others can read that: of the log of
            the process, it notifies them.
        notifier: What tells this log by itself that a topic has more; ``None`` where it has to be asked.
        on_notify: Called with a topic that the notifier says has changed, from any thread, and with the events that came along.
    """

    crosses_processes: ClassVar[bool] = False
    durable: ClassVar[bool] = False
    transactional: ClassVar[bool] = False
    own_options: ClassVar[tuple[str, ...]] = ()
    """Options beside the limits, which the back end's own ``__init__`` takes."""

    def __init__(self, **options: Any) -> None:
        """Take ``OPTIONS``.

        Raises:
            ConfigurationError: An option does not exist, or is out of range.
        """
        known = {name.upper() for name in Limits.__slots__}
        if unknown := [name for name in options if name not in known]:
            raise ConfigurationError(
                f"AGENT_SSE['EVENT_LOG']['OPTIONS'] has {unknown[0]!r}; {type(self).__name__} knows "
                f"{', '.join(sorted(known.union(self.own_options)))}"
            )
        self.limits = Limits(**{name.lower(): value for name, value in options.items()})
        self.on_change: Callable[[str], object] = nobody
        self.notifier: LogNotifier | None = None
        self.on_notify: Callable[[str, Page | None], object] = nobody

    @property
    def alias(self) -> str:
        """The database whose transactions ``on_commit`` waits for."""
        return DEFAULT_DB_ALIAS

    def append(
        self,
        topic: str,
        events: Event | Iterable[Event],
        *,
        expect: int | None = None,
        key: str | None = None,
        outside_transaction: bool = False,
    ) -> Appended:
        """Append events, all of them or none.

        Args:
            topic: Its name; the first append makes it.
            events: One or several; several get consecutive offsets, and nobody's come in between.
            expect: The offset that the topic must end at; 0 where it must be new or empty.
            key: Names this append: another one with the same key appends nothing, and returns the positions of the first.
            outside_transaction: Append at once, for good, whatever becomes of a transaction that is open here.

        Raises:
            TopicNameInvalid, EventTooLarge, InvalidEvent: Nothing was appended; nothing was asked of the store.
            TopicClosed: The topic takes no more.
            PositionConflict: ``expect`` does not hold.
            TransactionRefused: A transaction is open that cannot be left.
            EventLogUnavailable: The store failed.
        """
        return self.appending(topic, events, expect=expect, key=key, outside_transaction=outside_transaction)()

    async def aappend(
        self,
        topic: str,
        events: Event | Iterable[Event],
        *,
        expect: int | None = None,
        key: str | None = None,
        outside_transaction: bool = False,
    ) -> Appended:
        """See ``append``."""
        return await self._run(self.appending(topic, events, expect=expect, key=key, outside_transaction=outside_transaction))

    def appending(
        self,
        topic: str,
        events: Event | Iterable[Event],
        *,
        expect: int | None = None,
        key: str | None = None,
        outside_transaction: bool = False,
    ) -> Callable[[], Appended]:
        """``append`` in two steps: check now, and append when what is returned is called."""
        checked = valid_topic(topic), self._sized(events), valid_expect(expect), valid_key(key)
        return lambda: self._changing(topic, lambda: self._append(*checked), outside_transaction)

    def append_unrung(self, topic: str, event: Event) -> None:
        """Append one event without ringing, for readers who look on a timer. Outside of any transaction."""
        self._append(valid_topic(topic), self._sized(event), None, None)

    def read_after(self, topic: str, offset: int = 0, limit: int = PAGE_EVENTS) -> Page:
        """Read up to ``limit`` events after ``offset``, and the topic's state, at one moment; ``PAGE_BYTES`` may end it."""
        return self._read_after(valid_topic(topic), offset, limit)

    async def aread_after(self, topic: str, offset: int = 0, limit: int = PAGE_EVENTS) -> Page:
        """See ``read_after``."""
        name = valid_topic(topic)
        return await self._run_read(lambda: self._read_after(name, offset, limit))

    def state(self, topic: str) -> TopicState:
        """What is known of a topic; of one that does not exist, that."""
        return self._state(valid_topic(topic))

    async def astate(self, topic: str) -> TopicState:
        """See ``state``."""
        name = valid_topic(topic)
        return await self._run_read(lambda: self._state(name))

    def heads(self, topics: Iterable[str]) -> dict[str, Head]:
        """Where these topics are, in one question to the store; those that do not exist are missing."""
        return self._heads([*map(valid_topic, topics)])

    async def aheads(self, topics: Iterable[str]) -> dict[str, Head]:
        """See ``heads``."""
        names = [*map(valid_topic, topics)]
        return await self._run_read(lambda: self._heads(names))

    def close(self, topic: str, reason: str = "completed", *, outside_transaction: bool = False) -> bool:
        """Take no more events; whether it was open. Closing one that does not exist makes it, so that who waits for it learns.

        Args:
            topic: Its name.
            reason: What followers are told; one printable ASCII word or sentence like a topic's name.
            outside_transaction: See ``append``.
        """
        return self.closing(topic, reason, outside_transaction=outside_transaction)()

    async def aclose(self, topic: str, reason: str = "completed", *, outside_transaction: bool = False) -> bool:
        """See ``close``."""
        return await self._run(self.closing(topic, reason, outside_transaction=outside_transaction))

    def closing(self, topic: str, reason: str = "completed", *, outside_transaction: bool = False) -> Callable[[], bool]:
        """``close`` in two steps, as ``appending``."""
        name, why = valid_topic(topic), valid_reason(reason)
        return lambda: self._changing(name, lambda: self._close(name, why), outside_transaction)

    def delete(self, topic: str) -> bool:
        """Forget a topic with its events; whether there was one. The next append begins another epoch, at offset 1."""
        name = valid_topic(topic)
        return self._changing(name, lambda: self._delete(name))

    async def adelete(self, topic: str) -> bool:
        """See ``delete``."""
        name = valid_topic(topic)
        return await self._run(lambda: self._changing(name, lambda: self._delete(name)))

    def trim(
        self, topic: str, *, max_events: int | None = None, max_bytes: int | None = None, max_age: float | None = None
    ) -> int:
        """Drop the oldest events beyond these bounds; return how many. The topic's own limits hold without being asked for."""
        return self._trim(valid_topic(topic), max_events, max_bytes, max_age)

    async def atrim(
        self, topic: str, *, max_events: int | None = None, max_bytes: int | None = None, max_age: float | None = None
    ) -> int:
        """See ``trim``."""
        name = valid_topic(topic)
        return await self._run(lambda: self._trim(name, max_events, max_bytes, max_age))

    def fork(self, topic: str, epoch: str) -> None:
        """Begin another epoch, with the events that there are: the log has lost what it had acknowledged in this one."""
        name = valid_topic(topic)
        self._changing(name, lambda: self._fork(name, epoch))

    async def afork(self, topic: str, epoch: str) -> None:
        """See ``fork``."""
        name = valid_topic(topic)
        await self._run(lambda: self._changing(name, lambda: self._fork(name, epoch)))

    def topics(self, prefix: str = "", *, after: str = "", limit: int = 100) -> list[str]:
        """A page of the names that begin so, sorted: those after ``after``. The package's own topics are not among them."""
        return without_internal(self._topics, prefix, after, limit)

    async def atopics(self, prefix: str = "", *, after: str = "", limit: int = 100) -> list[str]:
        """See ``topics``."""
        return await self._run(lambda: without_internal(self._topics, prefix, after, limit))

    def clear_all(self) -> None:
        """Forget every topic. For tests."""
        self._clear_all()

    async def aclear_all(self) -> None:
        """See ``clear_all``."""
        await self._run(self._clear_all)

    def check(self) -> list[str]:
        """What keeps this log from working in this project, a sentence each; nothing is asked of the store for it."""
        return []

    def examine(self) -> list[Finding]:
        """Ask the store, which may be on another machine, what it is, and what that means for the log."""
        return []

    async def arun(self, call: Callable[[], _T]) -> _T:
        """Call what ``appending`` or ``closing`` returned, without blocking the event loop."""
        return await self._run(call)

    def _changing(self, topic: str, body: Callable[[], _T], outside_transaction: bool = False) -> _T:
        if outside_transaction:
            return self._outside(topic, lambda: self._changing(topic, body))
        result = body()
        self._when_visible(self._ring(topic))
        return result

    def _ring(self, topic: str) -> Callable[[], object]:
        return lambda: self.on_change(topic)

    def _outside(self, topic: str, call: Callable[[], _T]) -> _T:
        """Call where no transaction of the caller's is open: here, where the log knows of none."""
        return call()

    def _when_visible(self, call: Callable[[], object]) -> None:
        """Call once what this thread has just changed can be read by others: at once, or when its transaction commits."""
        call()

    async def _run_read(self, body: Callable[[], _T]) -> _T:
        """Run a body that only reads. The hub does, in tasks that belong to no request and to no stream."""
        return await self._run(body)

    @abstractmethod
    def _append(self, topic: str, events: list[tuple[Event, int]], expect: int | None, key: str | None) -> Appended: ...

    @abstractmethod
    def _read_after(self, topic: str, offset: int, limit: int) -> Page: ...

    @abstractmethod
    def _state(self, topic: str) -> TopicState: ...

    @abstractmethod
    def _heads(self, topics: list[str]) -> dict[str, Head]: ...

    @abstractmethod
    def _close(self, topic: str, reason: str) -> bool: ...

    @abstractmethod
    def _delete(self, topic: str) -> bool: ...

    @abstractmethod
    def _trim(self, topic: str, max_events: int | None, max_bytes: int | None, max_age: float | None) -> int: ...

    def _fork(self, topic: str, epoch: str) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no nonces, and so nobody finds out that it forked")

    @abstractmethod
    def _topics(self, prefix: str, after: str, limit: int) -> list[str]: ...

    @abstractmethod
    def _clear_all(self) -> None: ...

    def _sized(self, events: Event | Iterable[Event]) -> list[tuple[Event, int]]:
        """The events with their sizes, checked."""
        return sized(only_events(events), self.limits.max_event_bytes)
