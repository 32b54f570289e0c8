"""What ``DatabaseEventLog`` knows of its events without reading them, and how it looks at topics that others change meanwhile."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from ...exceptions import EventLogUnavailable, EventUnreadable
from ...wire.line_levels import MARKED, marks_of
from ..base import EventLog
from ..candidates import NOTHING, Candidates, LevelCounts, next_step
from ..position import MAX_OFFSET
from .retention import floor_of
from .store import TopicRow, TopicStore
from .texts import can_be_asked_for, rows_with_text

ATTEMPTS = 10
"""How often others may make, delete or trim a topic between two of our statements about it."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DatabaseSearching(EventLog):
    """A log in a database, as far as searches go. They hold no lock: rows that they know of may go before they come to them."""

    _now: Callable[[], float]

    @abstractmethod
    def _read(self, body: Callable[Concatenate[TopicStore, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T: ...

    def _kept_after(self, store: TopicStore, topic: TopicRow) -> int:
        """Return the floor for readers: beyond the limits nothing is read, deleted or not."""
        return floor_of(store, topic, self.limits.max_events, None, self._now() - self.limits.max_age)

    def _candidates(self, topic: str, place: int, back: bool, text: str, levels: frozenset[str]) -> Candidates:
        return self._read(self._looked_at, topic, place, back, text, levels)

    def _looked_at(self, store: TopicStore, name: str, place: int, back: bool, text: str, levels: frozenset[str]) -> Candidates:
        found = settled(store, name, partial(self._candidates_of, store, place, back, text, levels))
        return found or Candidates(0 if back else MAX_OFFSET, [])  # it was deleted since

    def _candidates_of(
        self, store: TopicStore, place: int, back: bool, text: str, levels: frozenset[str], topic: TopicRow
    ) -> Candidates:
        if levels and levels <= MARKED and store.marks.has(topic.pk):
            return store.marks.marked(topic.pk, place, back, levels, topic.floor + 1 if back else topic.top)
        if can_be_asked_for(text):
            return rows_with_text(store, topic, place, back, text)
        return next_step(place, back)

    def _takes_back(self, topic: str, after: int, until: int) -> bool:
        return self._read(self._taken_back, topic, after, until)

    def _taken_back(self, store: TopicStore, name: str, after: int, until: int) -> bool:
        topic = store.find(name)
        return topic is None or not store.marks.has(topic.pk) or store.marks.take_back(topic.pk, after, until)

    def _level_counts(self, topic: str, floor: int, counted: LevelCounts) -> LevelCounts | None:
        return self._read(self._counted, topic, floor, counted)

    def _counted(self, store: TopicStore, name: str, of_floor: int, counted: LevelCounts) -> LevelCounts | None:
        topic = store.find(name)
        if topic is None or not store.marks.has(topic.pk):
            return None
        floor = self._kept_after(store, topic)
        errors, warnings, across = store.marks.counts(topic.pk, floor, counted if of_floor == floor else NOTHING)
        if across is not None:
            for _, marks in marks_of(record.event for record in store.records(topic, floor, across - floor)):
                errors, warnings = errors + marks.errors - marks.taken_errors, warnings + marks.warnings - marks.taken_warnings
        return LevelCounts(errors, warnings, None, None, topic.top)


def settled(store: TopicStore, name: str, look: Callable[[TopicRow], _T]) -> _T | None:
    """Look at a topic without its lock, anew where it was trimmed meanwhile; ``None``: there is none."""
    for _ in range(ATTEMPTS):
        topic = store.find(name)
        if topic is None:
            return None
        try:
            return look(topic)
        except EventUnreadable:
            if store.find(name) == topic:
                raise
    raise restless(name)


def restless(name: str) -> EventLogUnavailable:
    """Return the error for a topic that others have changed ``ATTEMPTS`` times."""
    return EventLogUnavailable(
        f"the topic {name!r} was deleted, made or trimmed {ATTEMPTS} times while this looked at it. Nothing was changed"
    )
