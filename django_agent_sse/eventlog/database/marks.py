"""Where errors and warnings stand: what a search for them need not read all events for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from django.db.models import QuerySet, Sum

from ...models import LogMark
from ...wire.line_levels import Marks, summed
from ..candidates import Candidates, LevelCounts, joined

ROW_EVENTS: Final = 256
"""Events of a row, at most, and so those from the first to the last one of a mark."""
STEP_MARKS: Final = 1024
"""Marks that are read in one step, whatever they are of."""
_COUNTED: Final = ("errors", "warnings", "taken_errors", "taken_warnings")


class MarkStore:
    """The marks of one database, and the rows that they are about."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def of(self, topic: int) -> QuerySet[LogMark]:
        """Return the marks of a topic."""
        return LogMark._default_manager.using(self._alias).filter(topic=topic)

    def has(self, topic: int) -> bool:
        """Whether all events of a topic were looked at when they were appended."""
        return self.of(topic).filter(last=0).exists()

    def add(self, topic: int, rows: Sequence[tuple[int, int]], marks: Mapping[int, Marks], *, begins: bool) -> None:
        """Mark rows, each given by its first and its last offset, where one of ``marks``, by offset, stands in them.

        ``begins``: they are the topic's first ones, and so all of its events will have been looked at.
        """
        made = [LogMark(topic_id=topic, first=0, last=0, **Marks(0, 0)._asdict())] if begins else []
        for first, last in rows:
            here = [offset for offset in range(first, last + 1) if offset in marks]
            if here:
                sums = summed(marks[offset] for offset in here)
                made.append(LogMark(topic_id=topic, first=here[0], last=here[-1], **sums._asdict()))
        LogMark._default_manager.using(self._alias).bulk_create(made)

    def remove(self, topic: int, after: int | None = None, until: int | None = None) -> None:
        """Delete the marks after an offset and up to another, or all of them."""
        marks = self.of(topic) if until is None else self.of(topic).filter(last__gt=after, last__lte=until)
        marks._raw_delete(self._alias)

    def counts(self, topic: int, floor: int, counted: LevelCounts) -> tuple[int, int, int | None]:
        """Return how many errors and warnings there are, and a mark that lies across ``floor``, by its last offset.

        ``counted``: what was counted lately, from the same floor on; only what came since is read.
        """
        marks = self.of(topic).filter(last__gt=max(floor, counted.upto))
        across = None
        if counted.upto <= floor:
            first, last = marks.order_by("last").values_list("first", "last").first() or (floor + 1, 0)
            across = last if first <= floor else None
            marks = marks.filter(last__gt=last) if across is not None else marks
        sums = marks.aggregate(*(Sum(name) for name in _COUNTED))
        errors, warnings, taken_errors, taken_warnings = (sums[f"{name}__sum"] or 0 for name in _COUNTED)
        return counted.errors + errors - taken_errors, counted.warnings + warnings - taken_warnings, across

    def marked(self, topic: int, place: int, back: bool, levels: frozenset[str], end: int) -> Candidates:
        """Return the marks before or after a place that have one of these levels; where there are no more, up to ``end``."""
        marks = self.of(topic).filter(last__gt=0)
        marks = marks.filter(first__lt=place).order_by("-last") if back else marks.filter(last__gt=place).order_by("last")
        some = [*marks.values_list("first", "last", *(f"{level}s" for level in sorted(levels)))[:STEP_MARKS]]
        if len(some) == STEP_MARKS:
            end = some[-1][0] if back else some[-1][1]
        return Candidates(end, joined(((first, last) for first, last, *counts in some if any(counts)), back))

    def take_back(self, topic: int, after: int, until: int) -> bool:
        """Return whether lines may be taken back by an event after an offset, up to another."""
        return self.of(topic).filter(last__gt=after, last__lt=until + ROW_EVENTS, first__lte=until, taken__gt=0).exists()
