"""Group commit: appends that would wait for each other in this process are committed together.

Whoever comes while nobody else appends does so at once, and pays a lock. Those who come meanwhile wait, as they would for the
database's own lock; the first of them then appends for all. Nobody waits for others to come.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from django.db import InterfaceError, OperationalError

from ...exceptions import EventLogUnavailable
from ...runtime.process import PerProcess
from ..leases import Sized
from ..records import Appended
from .marks import ROW_EVENTS
from .statements import MOST_BYTES
from .transactions import RETRY_TIMEOUT, UNKNOWN

MOST_EVENTS: Final = ROW_EVENTS
"""Events of one group, at most: with ``MOST_BYTES``, what is one row of a topic."""
PATIENCE: Final = 2 * RETRY_TIMEOUT
"""Seconds after which a caller whose turn has not come appends by itself."""
PLAIN: Final = (None, None, None)
"""Of an append that depends on no position, no key and no holder."""


class PendingAppend:
    """What one caller appends.

    Args:
        topic: The topic's name.
        events: The events, with their sizes.
        about: What it depends on beside an open topic. Where that is nothing, it may be committed together with others.
    """

    __slots__ = ("events", "joins", "outcome", "taken", "topic", "turn")

    def __init__(self, topic: str, events: Sized, *about: object) -> None:
        self.topic, self.events, self.joins = topic, events, bool(events) and about == PLAIN
        self.turn: threading.Lock | None = None  # released when it is this caller's turn, or when it has its outcome
        self.taken = False
        self.outcome: Appended | Exception | None = None

    @property
    def size(self) -> int:
        """Bytes of the events."""
        return sum(size for _, size in self.events)


class _Thread(threading.local):
    leads = False


class _Queue:
    """The callers of one key: who appends now, and who comes after it."""

    __slots__ = ("leader", "waiting")

    def __init__(self, leader: PendingAppend) -> None:
        self.leader = leader
        self.waiting: deque[PendingAppend] = deque()


Alone = Callable[[], Appended]
Together = Callable[[dict[str, Sized]], dict[str, Appended]]


class GroupCommit(PerProcess):
    """The queues of a log: one for each key whose appends wait for each other.

    A thread that appends here again in the middle of its append, as a handler of Django's signals may, does not wait for itself.
    """

    def reset(self) -> None:
        """Begin without callers, also after a fork: those who waited are the parent's."""
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}
        self._here = _Thread()

    def append(self, key: str, mine: PendingAppend, alone: Alone, together: Together) -> Appended:
        """Append, together with those who wait, once nobody else of the key does.

        Args:
            key: Names those who wait for each other.
            mine: What is appended.
            alone: Appends this alone.
            together: Appends to topics, all or nothing.

        Raises:
            EventLogUnavailable: The database failed; the message says what is known of this append.
            Exception: Whatever ``alone`` raises.
        """
        if self._here.leads:
            return alone()
        try:
            leads = self._enter(key, mine) or self._has_turn(key, mine)
            outcome = self._lead(key, mine, alone, together) if leads else mine.outcome
        finally:
            self._leave(key, mine)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            return outcome
        if not mine.taken:  # its turn has not come
            return alone()
        mine.joins = mine.taken = False  # something is wrong with one of the group
        return self.append(key, mine, alone, together)

    def _enter(self, key: str, mine: PendingAppend) -> bool:
        """Return whether this one leads: else its ``turn`` will come."""
        with self._lock:
            queue = self._queues.get(key)
            if queue is None:
                self._queues[key] = _Queue(mine)
                return True
            mine.turn = threading.Lock()
            mine.turn.acquire()
            queue.waiting.append(mine)
            return False

    def _has_turn(self, key: str, mine: PendingAppend) -> bool:
        """Wait; return whether this one leads now. Else it has its outcome, or has to append by itself."""
        assert mine.turn is not None
        if not mine.turn.acquire(timeout=PATIENCE):
            with self._lock:
                if not mine.taken and self._queues[key].leader is not mine:
                    self._queues[key].waiting.remove(mine)  # or somebody might append it now, too
                    return False
            mine.turn.acquire()  # somebody appends it, or has just made it the leader
        return not mine.taken

    def _leave(self, key: str, mine: PendingAppend) -> None:
        """Let the next one lead. One that was interrupted while it waited leaves the line."""
        with self._lock:
            queue = self._queues.get(key)
            if queue is None:
                return
            if queue.leader is mine:
                if not queue.waiting:
                    del self._queues[key]
                    return
                queue.leader = queue.waiting.popleft()
                assert queue.leader.turn is not None
                queue.leader.turn.release()
            elif not mine.taken and mine in queue.waiting:
                queue.waiting.remove(mine)

    def _lead(self, key: str, mine: PendingAppend, alone: Alone, together: Together) -> Appended | Exception | None:
        """Append for all that wait; return the outcome for this one. ``None``: by itself."""
        group: list[PendingAppend] = [mine]
        outcomes: list[Appended | Exception | None] = []
        self._here.leads = True
        try:
            self._take(key, group)
            if len(group) == 1:
                return alone()
            outcomes = [*_each(group, together(_by_topic(group)))]
        except Exception as error:
            if len(group) == 1:
                raise
            outcomes = [_told(error) for _ in group]
        finally:
            self._here.leads = False
            for append, outcome in zip(group[1:], outcomes[1:] or [*map(_interrupted, group[1:])], strict=True):
                append.outcome = outcome
                assert append.turn is not None
                append.turn.release()
        return outcomes[0]

    def _take(self, key: str, group: list[PendingAppend]) -> None:
        """Let those join a group who wait, as far as it has room, in the order in which they came."""
        waiting = self._queues[key].waiting
        if not waiting or not group[0].joins:
            return
        events, size = len(group[0].events), group[0].size
        with self._lock:
            while waiting and waiting[0].joins:
                events, size = events + len(waiting[0].events), size + waiting[0].size
                if events > MOST_EVENTS or size > MOST_BYTES:
                    return
                group[0].taken = waiting[0].taken = True
                group.append(waiting.popleft())


def _by_topic(group: list[PendingAppend]) -> dict[str, Sized]:
    topics: dict[str, Sized] = {}
    for append in group:
        topics.setdefault(append.topic, []).extend(append.events)
    return topics


def _each(group: list[PendingAppend], appended: dict[str, Appended]) -> Iterator[Appended]:
    """Yield the part of each caller, who stand in their topic in the order of the group."""
    first = {topic: whole.first for topic, whole in appended.items()}
    for append in group:
        begin = first[append.topic]
        first[append.topic] = begin + len(append.events)
        yield replace(appended[append.topic], first=begin, last=first[append.topic] - 1)


def _told(error: Exception) -> Exception | None:
    """Return what each of a group is told of an error; ``None`` where each has to try by itself, since it may be one caller's."""
    if type(error) is EventLogUnavailable and isinstance(error.__cause__, (OperationalError, InterfaceError)):
        told = EventLogUnavailable(str(error), error.kind)  # an exception is raised in one thread only
        told.__cause__ = error.__cause__
        return told
    return None


def _interrupted(_: PendingAppend) -> Exception:
    return EventLogUnavailable(f"the thread that appended this together with its own events was interrupted. {UNKNOWN}")
