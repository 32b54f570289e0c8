"""How many errors and warnings a topic has, and where the first ones stand."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from ..runtime.process import PerProcess
from ..wire.line_levels import Level, marks_of
from .base import REPLAY_EVENTS, EventLog
from .candidates import NOTHING, LevelCounts
from .line_matcher import LineMatcher, LineQuery
from .search import Budget, Search

REMEMBERED: Final = 256
"""Topics whose counts are kept, so that each event is looked at once, and an index is asked once for each change of a topic."""

MARKED: Final = 4_096
"""Places of errors and warnings that are remembered of a log without an index; beyond them the two oldest become one."""
_Places: TypeAlias = Sequence[tuple[int, int, int]]


class _Known(NamedTuple):
    """What was counted.

    Args:
        floor: The topic's, then.
        counts: Of what was kept.
        first: Whether lines that were taken back were left out of the first ones.
        places: Of a log without an index, what was counted where: offsets, errors, warnings.
    """

    floor: int
    counts: LevelCounts
    first: bool
    places: _Places = ()


class Counts(PerProcess):
    """What was counted lately, by topic and epoch."""

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def of(self, log: EventLog, topic: str, budget: Budget, *, first: bool = True) -> LevelCounts:
        """Return what there is, counted as far as the budget goes; ``first`` tells whether the first ones are looked for too."""
        page = log.read_after(topic, 0, 0)
        key = topic, page.epoch
        with self._lock:
            known = self._known.get(key, _Known(0, NOTHING, first=False))
        counts, places, same = known.counts, known.places, (known.floor, known.counts.upto) == (page.floor, page.top)
        if not same:
            indexed = log.level_counts(topic, known.floor, counts)
            counts, places = (indexed, ()) if indexed is not None else _counted(log, topic, known, page.floor, budget)
        if first and not (same and known.first):
            counts = counts._replace(
                first_error=_first(log, topic, "error", counts.errors, counts.first_error, page.floor, budget),
                first_warning=_first(log, topic, "warning", counts.warnings, counts.first_warning, page.floor, budget),
            )
        with self._lock:
            self._known[key] = _Known(page.floor, counts, (first and not budget.spent) or (same and known.first), places)
            self._known.move_to_end(key)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return counts._replace(errors=max(0, counts.errors), warnings=max(0, counts.warnings))  # what is taken back may be gone


def _counted(log: EventLog, topic: str, known: _Known, floor: int, budget: Budget) -> tuple[LevelCounts, _Places]:
    """Count what is new and forget what is no longer kept."""
    errors, warnings, first_error, first_warning, upto = known.counts
    places = deque(known.places)
    while places and places[0][0] <= floor:
        _, fewer_errors, fewer_warnings = places.popleft()
        errors, warnings = errors - fewer_errors, warnings - fewer_warnings
    while True:
        page = log.read_after(topic, upto, REPLAY_EVENTS)
        budget.spend(page.records)
        for number, marks in marks_of(record.event for record in page.records):
            offset = page.records[number].offset
            more = marks.errors - marks.taken_errors, marks.warnings - marks.taken_warnings
            errors, warnings = errors + more[0], warnings + more[1]
            first_error = first_error or (offset if marks.errors else None)
            first_warning = first_warning or (offset if marks.warnings else None)
            places.append((offset, *more))
            if len(places) > MARKED:
                (_, *one), (last, *other) = places.popleft(), places.popleft()
                places.appendleft((last, one[0] + other[0], one[1] + other[1]))
        upto = page.records[-1].offset if page.records else page.top
        if upto >= page.top or budget.spent:
            return LevelCounts(errors, warnings, first_error, first_warning, upto), tuple(places)


def _first(log: EventLog, topic: str, level: Level, count: int, known: int | None, floor: int, budget: Budget) -> int | None:
    """Return the first offset, from ``known`` on, that has such a line which was not taken back."""
    place: int | None = max(floor, (known or 0) - 1) if count else None
    with LineMatcher(LineQuery(levels=frozenset({level}))) as matcher:
        while place is not None:
            result = Search(log, topic, matcher, place=place, back=False, budget=budget).run(1)
            for one in result.found:
                if one.lines:
                    return one.record.offset
            if budget.spent:
                return known
            place = result.place
    return None


counts = Counts()
