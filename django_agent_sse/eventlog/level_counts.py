"""How many errors and warnings a topic has, and where the first ones stand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from ..runtime.process import PerProcess
from ..wire.line_levels import Level, marks_of
from .base import REPLAY_EVENTS, EventLog
from .candidates import LevelCounts
from .search import Budget, LineMatcher, LineQuery, Search

REMEMBERED: Final = 256
"""Topics whose counts are kept, of a log without an index."""
NONE: Final = LevelCounts(0, 0, None, None, 0)


class Counts(PerProcess):
    """What was counted in logs without an index, by topic and epoch, so that each event is looked at once."""

    def reset(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], LevelCounts] = OrderedDict()

    def of(self, log: EventLog, topic: str, budget: Budget) -> LevelCounts:
        """Return what there is, counted as far as the budget goes."""
        counts = log.level_counts(topic)
        page = log.read_after(topic, 0, 0)
        key = topic, page.epoch
        if counts is None:
            with self._lock:
                counts = self._known.get(key, NONE)
            counts = self._counted(log, topic, counts, budget)
            with self._lock:
                self._known[key] = counts
                self._known.move_to_end(key)
                if len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
        return counts._replace(
            first_error=_first(log, topic, "error", counts.errors, counts.first_error, page.floor, budget),
            first_warning=_first(log, topic, "warning", counts.warnings, counts.first_warning, page.floor, budget),
        )

    def _counted(self, log: EventLog, topic: str, counts: LevelCounts, budget: Budget) -> LevelCounts:
        errors, warnings, first_error, first_warning, upto = counts
        while True:
            page = log.read_after(topic, upto, REPLAY_EVENTS)
            budget.spend(page.records)
            for number, marks in marks_of(record.event for record in page.records):
                offset = page.records[number].offset
                errors, warnings = errors + marks.errors, warnings + marks.warnings
                first_error = first_error or (offset if marks.errors else None)
                first_warning = first_warning or (offset if marks.warnings else None)
            upto = page.records[-1].offset if page.records else page.top
            if upto >= page.top or budget.spent:
                return LevelCounts(errors, warnings, first_error, first_warning, upto)


def _first(log: EventLog, topic: str, level: Level, count: int, known: int | None, floor: int, budget: Budget) -> int | None:
    if not count or (known is not None and known > floor):
        return known
    with LineMatcher(LineQuery(levels=frozenset({level}))) as matcher:
        result = Search(log, topic, matcher, place=floor, back=False, budget=budget).run(1)
    return result.found[0].record.offset if result.found else None


counts = Counts()
