"""The contract of every event log: arguments are checked here, and each sync and async pair of verbs has one body."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

from django.db import DEFAULT_DB_ALIAS

from ..encoding import only_events
from ..exceptions import ConfigurationError
from ..wire.event import RESERVED, Event
from .candidates import NOTHING, Candidates, LevelCounts, next_step
from .eviction import evictions
from .leases import Leasing, Sized
from .notify.local import LogNotifier, OnChange, nobody
from .records import Appended, Head, Limits, Page, Record, StoreWarning, TopicState
from .twins import twin_of
from .validation import (
    InternalTopic,
    is_valid_topic,
    sized,
    valid_expect,
    valid_holder,
    valid_key,
    valid_reason,
    valid_topic,
)

PAGE_EVENTS = 256
"""Events of one read, by default."""
PAGE_BYTES = 1_048_576
"""Bytes of one read at most; one event is always read, however large."""

REPLAY_EVENTS = 4096
"""Events of one read where all of a topic is wanted."""

INTERNAL_PAGE = 200
_AFTER_RESERVED = f"{RESERVED}\x7f"
"""Sorts after every topic's name that begins with ``RESERVED``, and before all others that come after these."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class EventLog(Leasing):
    """Topics of numbered events. Each verb has a twin with an ``a``, for coroutines, over the same body.

    A back end implements the bodies, whose names begin with ``_``. They are synchronous, and their arguments were checked here.

    A topic beyond ``MAX_TOPICS`` is evicted: closed ones first, then the one that was longest without an event. Those that
    somebody follows, in any process, stay, and the log grows beyond its limit where all others are followed. An eviction is not a
    deletion: whoever follows such a topic all the same gets a gap and goes on.

    Attributes:
        crosses_processes: What one process appends, others read.
        durable: It survives the end of every process.
        transactional: An append is part of the caller's database transaction.
        on_change: Called with the name of a topic that has more, was closed or deleted, once others can read that, and with the
            events where the store's notification took them along; from any thread. Of the log of the process, it notifies.
        notifier: What tells this log by itself that a topic has more; ``None`` where it has to be asked.
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
        self.on_change: OnChange = nobody
        self.notifier: LogNotifier | None = None

    @property
    def alias(self) -> str:
        """The database that a transactional log writes to."""
        return DEFAULT_DB_ALIAS

    @property
    def notify_alias(self) -> str | None:
        """The database that can say that another process has changed something; ``None`` where none is to be asked that."""
        return None

    def append(
        self,
        topic: str,
        events: Event | Iterable[Event],
        *,
        expect: int | None = None,
        key: str | None = None,
        holder: str | None = None,
        outside_transaction: bool = False,
    ) -> Appended:
        """Append events, all of them or none.

        Args:
            topic: Its name; the first append makes it.
            events: One or several; several get consecutive offsets, and nobody's come in between.
            expect: The offset that the topic must end at; 0 where it must be new or empty.
            key: Names this append: another one with the same key appends nothing, and returns the positions of the first.
            holder: Append only while this one holds the topic's lease.
            outside_transaction: Append at once, for good, whatever becomes of a transaction that is open here.

        Raises:
            TopicNameInvalid, EventTooLarge, InvalidEvent: Nothing was appended; nothing was asked of the store.
            TopicClosed: The topic takes no more.
            PositionConflict: ``expect`` does not hold.
            LeaseLost: ``holder`` does not hold the lease.
            TransactionRefused: A transaction is open that cannot be left.
            EventLogUnavailable: The store failed.
        """
        checked = valid_topic(topic), self._sized(events), valid_expect(expect), valid_key(key), _valid_or_none(holder)
        call = partial(self._append_notified, *checked)
        return self._outside(topic, call) if outside_transaction else call()

    aappend = twin_of(append)

    def append_unrung(self, topic: str, event: Event) -> None:
        """Append one event without a notification, for readers that look on a timer. Not for use inside a transaction."""
        self._append(valid_topic(topic), self._sized(event), None, None, None)

    def read_after(self, topic: str, offset: int = 0, limit: int = PAGE_EVENTS) -> Page:
        """Return up to ``limit`` events after ``offset``, up to ``PAGE_BYTES``, and the topic's state at the same moment."""
        return self._read_after(valid_topic(topic), offset, limit)

    aread_after = twin_of(read_after, "_run_read")

    def pages(self, topic: str) -> Generator[Sequence[Record], None, None]:
        """Yield what is kept of a topic, page by page, up to the newest event at the end of the reading."""
        offset, top = 0, 1
        while offset < top:
            page = self._read_after(valid_topic(topic), offset, REPLAY_EVENTS)
            yield page.records
            offset, top = page.records[-1].offset if page.records else page.top, page.top

    def state(self, topic: str) -> TopicState:
        """Return what is known of a topic, also of one that does not exist."""
        return self._state(valid_topic(topic))

    astate = twin_of(state, "_run_read")

    def summaries(self, topics: Iterable[str]) -> dict[str, Head]:
        """Return where these topics are, by one query of the store; those that do not exist are missing."""
        return self._summaries([*map(valid_topic, topics)])

    asummaries = twin_of(summaries, "_run_read")

    def candidates(
        self, topic: str, place: int, *, back: bool, text: str = "", levels: frozenset[str] = frozenset()
    ) -> Candidates:
        """Return where events may stand, before or after an offset, that have a text or lines of levels: one step of a search.

        A log that keeps an index knows; another one names the next ``STEP`` events.
        """
        return self._candidates(valid_topic(topic), place, back, text, levels)

    def takes_back(self, topic: str, after: int, until: int) -> bool:
        """Return whether an event after an offset, up to another, may take lines back; ``True`` where this log keeps no index."""
        return self._takes_back(valid_topic(topic), after, until)

    def level_counts(self, topic: str, floor: int = 0, counted: LevelCounts = NOTHING) -> LevelCounts | None:
        """Return how many errors and warnings a topic has, without the first ones; ``None`` where this log keeps no index.

        ``counted`` is what it returned lately of the same epoch, when the floor was ``floor``: it need not be counted again.
        """
        return self._level_counts(valid_topic(topic), floor, counted)

    def close(
        self,
        topic: str,
        reason: str = "completed",
        *,
        last: Event | Iterable[Event] = (),
        holder: str | None = None,
        outside_transaction: bool = False,
    ) -> bool:
        """Close a topic, so that it takes no more events. Return whether it was open.

        One that does not exist is made first, so that its followers, who wait for it, end too.

        Args:
            topic: Its name.
            reason: What followers are told; one printable ASCII word or sentence like a topic's name.
            last: What it ends with, appended in the same step: nobody's events come after them. Nothing if it was closed already.
            holder: Close only while this one holds the topic's lease.
            outside_transaction: See ``append``.


        Raises:
            LeaseLost: The topic is open, and ``holder`` does not hold the lease.
        """
        checked = valid_topic(topic), valid_reason(reason), self._sized(last), _valid_or_none(holder)
        return self._change(outside_transaction, self._close, *checked)

    aclose = twin_of(close)

    def delete(self, topic: str) -> bool:
        """Delete a topic with its events. Return whether there was one. The next append begins another epoch, at offset 1."""
        deleted = self._change(False, self._delete, valid_topic(topic))
        self._sweep()
        return deleted

    adelete = twin_of(delete)

    def trim(
        self, topic: str, *, max_events: int | None = None, max_bytes: int | None = None, max_age: float | None = None
    ) -> int:
        """Drop the oldest events beyond these bounds, and return how many. The log's own limits are applied anyway."""
        return self._trim(valid_topic(topic), max_events, max_bytes, max_age)

    atrim = twin_of(trim)

    def fork(self, topic: str, epoch: str) -> None:
        """Begin another epoch with the events that are left, after the log has lost some that it had acknowledged."""
        self._change(False, self._fork, valid_topic(topic), epoch)

    afork = twin_of(fork)

    def topics(self, prefix: str = "", *, after: str = "", limit: int = 100) -> list[str]:
        """Return a page of the sorted names with a prefix: those after ``after``. The package's own topics are left out."""
        names: list[str] = []  # the store knows of no reserved names: it is asked until the page is full without them
        while len(names) < limit and (page := self._topics(prefix, after, limit - len(names))):
            names += filter(is_valid_topic, page)
            after = _AFTER_RESERVED if page[-1].startswith(RESERVED) else page[-1]
        return names

    atopics = twin_of(topics)

    def internal_topics(self) -> Iterator[InternalTopic]:
        """Yield the package's own topics, sorted; and those that others have written here under such names."""
        after = ""
        while page := self._topics(RESERVED, after, INTERNAL_PAGE):
            yield from filter(is_valid_topic, map(InternalTopic, page))
            after = page[-1]

    def note_followed(self, topics: Iterable[str]) -> None:
        """Note that these topics are followed now: they are not evicted for ``FOLLOWED_FOR`` seconds."""
        self._note_followed([*map(valid_topic, topics)])

    anote_followed = twin_of(note_followed, "_run_note")

    def clear_all(self) -> None:
        """Forget every topic. For tests."""
        self._clear_all()

    aclear_all = twin_of(clear_all)

    def check(self) -> list[str]:
        """Return what keeps this log from working in this project, a sentence each, without asking the store."""
        return []

    def examine(self) -> list[StoreWarning]:
        """Ask the store about itself, and return what bears on what the log promises. It may be on another machine."""
        return []

    def _change(
        self, outside_transaction: bool, body: Callable[Concatenate[str, _P], _T], topic: str, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Call one of the bodies that change a topic, and notify its followers."""
        if outside_transaction:
            return self._outside(topic, partial(self._change, False, body, topic, *args, **kwargs))
        result = body(topic, *args, **kwargs)
        self._notify(topic, *self._appended_page(result, *args))
        return result

    def _append_notified(self, topic: str, events: Sized, expect: int | None, key: str | None, holder: str | None) -> Appended:
        """Append, and notify the topic's followers."""
        return self._change(False, self._append, topic, events, expect, key, holder)

    def _notify(self, topic: str, *page: Page) -> None:
        """Call ``on_change`` once others can read the change: at once, or when the caller's transaction commits."""
        self.on_change(topic, *page)

    def _appended_page(self, result: object, *args: object) -> tuple[Page, ...]:
        """Return what followers in this process need not read, where a change was an append: one page, or none."""
        return ()

    def _outside(self, topic: str, call: Callable[[], _T]) -> _T:
        """Call outside of the caller's transaction; a log without transactions calls at once."""
        return call()

    def _when_visible(self, call: Callable[[], object]) -> None:
        """Call once others can read what this thread has just changed: at once, or when its transaction commits."""
        call()

    def _evicted(self, topics: Iterable[str]) -> None:
        """Notify followers of evicted topics, and count them for the project's log, once the eviction cannot be undone."""
        for topic in topics:
            self._notify(topic)
            self._when_visible(partial(evictions.count, topic, self.limits.max_topics))

    @abstractmethod
    async def _run(self, body: Callable[[], _T]) -> _T:
        """Run a body without blocking the event loop."""

    async def _run_read(self, body: Callable[[], _T]) -> _T:
        """Run a body that only reads, for feeds: in tasks that belong to no request and no stream."""
        return await self._run(body)

    async def _run_note(self, body: Callable[[], _T]) -> _T:
        """Run a body that writes, for feeds: in tasks that belong to no request and no stream."""
        return await self._run(body)

    async def _run_apart(self, body: Callable[[], _T]) -> _T:
        """Run a body that writes, for runs: not where their own sync code runs, for which readers would wait."""
        return await self._run(body)

    @abstractmethod
    def _append(self, topic: str, events: Sized, expect: int | None, key: str | None, holder: str | None) -> Appended: ...

    @abstractmethod
    def _read_after(self, topic: str, offset: int, limit: int) -> Page: ...

    @abstractmethod
    def _state(self, topic: str) -> TopicState: ...

    @abstractmethod
    def _summaries(self, topics: list[str]) -> dict[str, Head]: ...

    @abstractmethod
    def _close(self, topic: str, reason: str, last: Sized, holder: str | None) -> bool: ...

    @abstractmethod
    def _delete(self, topic: str) -> bool: ...

    def _sweep(self) -> None:
        """Delete what nobody can read any more. It may take long, so that followers have been notified before."""
        return

    @abstractmethod
    def _trim(self, topic: str, max_events: int | None, max_bytes: int | None, max_age: float | None) -> int: ...

    def _fork(self, topic: str, epoch: str) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no nonces, and so nobody finds out that it forked")

    @abstractmethod
    def _topics(self, prefix: str, after: str, limit: int) -> list[str]: ...

    def _candidates(self, topic: str, place: int, back: bool, text: str, levels: frozenset[str]) -> Candidates:
        return next_step(place, back)

    def _takes_back(self, topic: str, after: int, until: int) -> bool:
        return True

    def _level_counts(self, topic: str, floor: int, counted: LevelCounts) -> LevelCounts | None:
        return None

    def _note_followed(self, topics: list[str]) -> None:
        """Do nothing: for logs that evict nothing."""
        return

    @abstractmethod
    def _clear_all(self) -> None: ...

    def _sized(self, events: Event | Iterable[Event]) -> Sized:
        return sized(only_events(events), self.limits.max_event_bytes)


def _valid_or_none(holder: str | None) -> str | None:
    return None if holder is None else valid_holder(holder)
