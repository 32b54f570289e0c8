"""Leases of topics, and pointers: what runs need of an event log beside its events. The same for every log.

A lease says who works on a topic, and until when, by the log's own clock. Whoever holds it renews it while it works; what it
appends and how it closes the topic carries its name, and is refused once the lease is over. So a process that dies is noticed by
whoever looks first, and one that only slept writes nothing after that.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Concatenate, ParamSpec, TypeVar

from ..exceptions import ArgumentInvalid, EventLogUnavailable, LeaseHeld, LeaseLost
from ..runtime.safe_text import without_run_id
from ..wire.event import Event
from .last_words import LastWords, words_of
from .records import Head, Page, Record
from .twins import twin_of
from .validation import InternalTopic, valid_holder, valid_topic

LOST = "lost"
"""What a topic is closed with whose lease has run out."""
STOPS = InternalTopic("sse.runs.stops")
"""What is notified when a holder is asked to stop: a name that stands for all topics, and for no events."""
MOST_SECONDS = 86_400.0
"""The longest lease: one that nobody renews keeps its topic from everybody else."""

ATTEMPTS = 10
"""How often others may append, without the lease, to a topic that is lost, while its last words are found."""
POINTER_AGE = 2_592_000.0
"""Seconds for which a pointer is kept after it was moved, beyond ``MAX_AGE``: 30 days."""

logger = logging.getLogger("django_agent_sse.runs")

_P = ParamSpec("_P")
_T = TypeVar("_T")
Sized = list[tuple[Event, int]]
"""Checked events with their sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who works on a topic, at one moment.

    Attributes:
        holder: Who: the id of a run.
        deadline: When it runs out unless it is renewed, in seconds since 1970 by the log's own clock; 0 once the topic is closed.
        left: Seconds until then, at the moment of the reading; 0 or less where it has run out, or is over.
        stop: The holder was asked to stop.
    """

    holder: str
    deadline: float
    left: float
    stop: bool = False

    @property
    def alive(self) -> bool:
        """Whether the holder may append."""
        return self.left > 0

    @property
    def expired(self) -> bool:
        """Whether it has run out and nobody has closed the topic yet."""
        return self.deadline > 0 and self.left <= 0


class Leasing(ABC):
    """The part of an event log that has to do with leases and pointers. Each verb has a twin with an ``a``.

    A topic has one lease at most, and deleting the topic ends it. One whose lease is alive is not evicted.
    """

    def acquire(
        self,
        topic: str,
        holder: str,
        seconds: float,
        *,
        last: Event | Iterable[Event] | LastWords = (),
        outside_transaction: bool = False,
    ) -> Lease:
        """Take the lease of a topic, unless another one's is alive. A topic that does not exist is made.

        Once more by who holds it, it is renewed: whoever lost the answer may ask again.

        Args:
            topic: Its name.
            holder: Who takes it: a name that nobody else has, printable ASCII.
            seconds: How long it lasts, a day at most.
            last: What ``expire()`` appends if the lease runs out; `LastWords` where that is found by what the topic has then.
            outside_transaction: See ``EventLog.append``.

        Raises:
            LeaseHeld: Another one's is alive.
            TopicClosed: The topic takes no more events.
        """
        words = last if isinstance(last, LastWords) else LastWords(events=tuple(event for event, _ in self._sized(last)))
        body = partial(self._acquire, seconds=_valid_seconds(seconds), last=self._sized(words.packed()))
        return self._change(outside_transaction, body, valid_topic(topic), valid_holder(holder))

    aacquire = twin_of(acquire)

    def renew(self, topic: str, holder: str, seconds: float, *, outside_transaction: bool = False) -> Lease:
        """Have the lease last for so many seconds from now; it says whether the holder was asked to stop.

        Waits for nobody's lock of the topic: a lease is not lost because others publish there in a long transaction.

        Raises:
            LeaseLost: It has run out, was given up or taken over, or the topic was closed or deleted.
        """
        return self._quietly(outside_transaction, self._renew, valid_topic(topic), valid_holder(holder), _valid_seconds(seconds))

    arenew = twin_of(renew)

    def renew_all(self, wanted: Iterable[tuple[str, str, float]]) -> dict[str, Lease]:
        """Renew the leases of these topics, holders and seconds: see ``renew``. Those that are lost are missing.

        So are those that could not be renewed now, where others could.
        """
        checked = [(valid_topic(topic), valid_holder(holder), _valid_seconds(seconds)) for topic, holder, seconds in wanted]
        return self._renew_all(checked)

    arenew_all = twin_of(renew_all)

    def keen(self) -> AbstractContextManager[None]:
        """Have this thread ask the store for its turn more often than others do, meanwhile: a lease does not wait."""
        return nullcontext()

    def _renew_all(self, wanted: list[tuple[str, str, float]]) -> dict[str, Lease]:
        renewed: dict[str, Lease] = {}
        for topic, holder, seconds in wanted:
            try:
                renewed[topic] = self._renew(topic, holder, seconds)
            except LeaseLost:
                continue
            except EventLogUnavailable:
                if not renewed:
                    raise
                break  # those that were renewed are
        return renewed

    def release(self, topic: str, holder: str) -> bool:
        """Give a lease up, and leave the topic open for others. Return whether the holder had it."""
        return self._release(valid_topic(topic), valid_holder(holder))

    arelease = twin_of(release)

    def request_stop(self, topic: str, holder: str) -> bool:
        """Ask the holder to stop, for good: a flag at the lease, and a notification of `STOPS`. Nobody who comes later is asked.

        Returns:
            Whether it is, or was, the last holder; where its work is over, nothing is changed. If not, nothing is left behind.
        """
        known = self._request_stop(valid_topic(topic), valid_holder(holder))
        if known:
            self._notify(STOPS)
        return known

    arequest_stop = twin_of(request_stop)

    def expire(self, topic: str, last: Event | Iterable[Event] | None = None) -> bool:
        """Close a topic whose lease has run out, with the reason ``lost``. Return whether this call did it, of any number.

        Args:
            topic: Its name.
            last: What it ends with, in the same append; ``None`` for what its holder gave to ``acquire()``.
        """
        name, given = valid_topic(topic), None if last is None else self._sized(last)
        for _ in range(ATTEMPTS):
            lease, head = self._leases([name]).get(name), self._summaries([name]).get(name)
            if lease is None or head is None or not lease.expired:
                return False
            words = self._words(name) if given is None else given
            if self._expire(name, lease.holder, words, None if given is not None else head.top):
                self._notify(topic)
                return True
        return False

    aexpire = twin_of(expire, "_run_note")

    def _words(self, topic: str) -> Sized:
        """Return what a lost topic ends with."""
        left = LastWords.unpacked(self._last_words(topic) or LastWords().packed())
        for words in words_of(left.by):
            try:
                kept = (record.event for page in self.pages(topic) for record in page)
                return self._sized([*left.events, *words(chain(kept, left.events))])
            except Exception:  # the end itself is worth more to readers
                shown = without_run_id(topic)
                logger.exception("the lost topic %r ends without the words that %s should have for it", shown, left.by)
        return self._sized([*left.events, *left.otherwise])

    def lease(self, topic: str) -> Lease | None:
        """Return a topic's lease: its present one, or the last one of a topic that is closed."""
        return self._leases([valid_topic(topic)]).get(topic)

    alease = twin_of(lease, "_run_read")

    def leases(self, topics: Iterable[str]) -> dict[str, Lease]:
        """Return the leases of these topics, by one query of the store; those without one are missing."""
        return self._leases([*map(valid_topic, topics)])

    aleases = twin_of(leases, "_run_read")

    def pointer(self, name: str) -> str | None:
        """Return where a pointer leads; ``None`` where there is none.

        A pointer is a name that leads to a topic, as that of a chat to its present run. It is no topic, and is kept for 30 days
        longer than events are.
        """
        return self._pointer(valid_topic(name))

    apointer = twin_of(pointer)

    def move_pointer(self, name: str, to: str | None, *, expect: str | None, outside_transaction: bool = False) -> str | None:
        """Have a pointer lead elsewhere, if it leads where it is expected to: compare and set, in one step.

        Args:
            name: Its name.
            to: Where it shall lead: a topic's name; ``None`` removes it.
            expect: Where it must lead now; ``None``: it must not exist.
            outside_transaction: See ``EventLog.append``.

        Returns:
            Where it leads now: ``to``, or where somebody else has moved it.
        """
        return self._quietly(outside_transaction, self._move_pointer, valid_topic(name), _target(to), _target(expect))

    amove_pointer = twin_of(move_pointer)

    def _quietly(
        self, outside_transaction: bool, body: Callable[Concatenate[str, _P], _T], topic: str, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Call a body that changes nothing that followers see."""
        call = partial(body, topic, *args, **kwargs)
        return self._outside(topic, call) if outside_transaction else call()

    @abstractmethod
    def _change(
        self, outside_transaction: bool, body: Callable[Concatenate[str, _P], _T], topic: str, *args: _P.args, **kwargs: _P.kwargs
    ) -> _T: ...

    @abstractmethod
    def _notify(self, topic: str, *page: Page) -> None: ...

    @abstractmethod
    def _outside(self, topic: str, call: Callable[[], _T]) -> _T: ...

    @abstractmethod
    def _sized(self, events: Event | Iterable[Event]) -> Sized: ...

    @abstractmethod
    def _acquire(self, topic: str, holder: str, seconds: float, last: Sized) -> Lease: ...

    @abstractmethod
    def _renew(self, topic: str, holder: str, seconds: float) -> Lease: ...

    @abstractmethod
    def _release(self, topic: str, holder: str) -> bool: ...

    @abstractmethod
    def _request_stop(self, topic: str, holder: str) -> bool: ...

    @abstractmethod
    def pages(self, topic: str) -> Generator[Sequence[Record], None, None]: ...

    @abstractmethod
    def _summaries(self, topics: list[str]) -> dict[str, Head]: ...

    @abstractmethod
    def _last_words(self, topic: str) -> Iterable[Event] | None: ...

    @abstractmethod
    def _expire(self, topic: str, holder: str, last: Sized, expect: int | None) -> bool: ...

    @abstractmethod
    def _leases(self, topics: list[str]) -> dict[str, Lease]: ...

    @abstractmethod
    def _pointer(self, name: str) -> str | None: ...

    @abstractmethod
    def _move_pointer(self, name: str, to: str | None, expect: str | None) -> str | None: ...


def _valid_seconds(seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= MOST_SECONDS:
        raise ArgumentInvalid(f"a lease of {seconds!r:.40} seconds: it is a number above 0, {MOST_SECONDS:.0f} at most")
    return seconds


def _target(topic: str | None) -> str | None:
    return None if topic is None else valid_topic(topic)


def held_error(topic: str, holder: str, left: float) -> LeaseHeld:
    """Return the error for a lease that another one holds."""
    return LeaseHeld(
        f"{holder!r} holds the lease of the topic {topic!r}, for {left:.1f} s more if it does not renew it: wait for its end, "
        "ask it to stop, or use another topic",
        holder,
        left,
    )
