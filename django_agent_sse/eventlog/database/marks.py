"""Where errors and warnings stand, and rows that have a text: what a search need not read all events for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db.models import Max, Min, Q, QuerySet, Sum

from ...models import LogMark, LogRow
from ...wire.line_levels import Marks
from ..candidates import Candidates

STEP_BYTES: Final = 16_777_216
"""Bytes of rows that the database looks through in one statement."""
STEP_MARKS: Final = 1024
"""Marks that are read in one step, whatever they are of."""
_UNSAFE: Final = frozenset('"\\%_')
"""Characters that JSON or ``LIKE`` spell otherwise: of a text with them every row is read."""
_OTHERWISE: Final = ("\\u00", "\\b", '"base64"]')
"""What rows have in which a text may stand in another form: among characters that are not seen, or not as text."""
_LOWER: Final = {"i": "\u0130", "k": "\u212a"}
"""Letters that lie outside ASCII, and inside it in lower case, which databases do not know."""


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
        made = [LogMark(topic_id=topic, first=0, last=0, errors=0, warnings=0)] if begins else []
        for first, last in rows:
            here = [offset for offset in range(first, last + 1) if offset in marks]
            if here:
                errors, warnings = (sum(marks[offset][which] for offset in here) for which in (0, 1))
                made.append(LogMark(topic_id=topic, first=here[0], last=here[-1], errors=errors, warnings=warnings))
        LogMark._default_manager.using(self._alias).bulk_create(made)

    def remove(self, topic: int, until: int | None = None) -> None:
        """Delete the marks up to an offset, or all of them."""
        marks = self.of(topic) if until is None else self.of(topic).filter(last__gt=0, last__lte=until)
        marks._raw_delete(self._alias)

    def counts(self, topic: int, floor: int) -> tuple[int, int, int | None]:
        """Return how many errors and warnings there are after ``floor``, and a mark that lies across it, by its last offset."""
        whole = self.of(topic).filter(first__gt=floor).aggregate(errors=Sum("errors"), warnings=Sum("warnings"))
        across = self.of(topic).filter(first__lte=floor, last__gt=floor).values_list("last", flat=True).first()
        return whole["errors"] or 0, whole["warnings"] or 0, across

    def marked(self, topic: int, place: int, back: bool, levels: frozenset[str], end: int) -> Candidates:
        """Return the marks before or after a place that have one of these levels; where there are no more, up to ``end``."""
        marks = self.of(topic).filter(last__gt=0)
        marks = marks.filter(first__lt=place).order_by("-last") if back else marks.filter(last__gt=place).order_by("last")
        some = [*marks.values_list("first", "last", *(f"{level}s" for level in sorted(levels)))[:STEP_MARKS]]
        if len(some) == STEP_MARKS:
            end = some[-1][0] if back else some[-1][1]
        return Candidates(end, [(first, last) for first, last, *counts in some if any(counts)])

    def with_text(self, topic: int, place: int, back: bool, text: str) -> Candidates:
        """Return the rows of the next ``STEP_BYTES`` before or after a place in which a text may stand."""
        rows = LogRow._default_manager.using(self._alias).filter(topic=topic)
        window: QuerySet[LogRow] = rows
        if back:
            nearest = rows.filter(last__gte=place - 1).order_by("last").values_list("last", "total").first()
            if nearest is None:
                return Candidates(0, [])
            window = rows.filter(last__lte=nearest[0], total__gt=nearest[1] - STEP_BYTES)
        else:
            nearest = rows.filter(last__gt=place).order_by("last").values_list("last", "total").first()
            if nearest is None:
                return Candidates(place, [])
            window = rows.filter(last__gte=nearest[0], total__lte=nearest[1] + STEP_BYTES)
        found: Any = window.aggregate(low=Min("last"), high=Max("last"))
        lowest = window.filter(last=found["low"]).values_list("events", flat=True)[0]
        low, high = found["low"] - lowest + 1, found["high"]
        where = Q(payload__icontains=text)
        for other in (*_OTHERWISE, *(_LOWER[letter] for letter in _LOWER if letter in text.lower())):
            where |= Q(payload__contains=other)
        spans = [
            (last - events + 1, last) for last, events in window.filter(where).order_by("last").values_list("last", "events")
        ]
        return Candidates(low if back else high, spans[::-1] if back else spans)


def can_be_asked_for(text: str) -> bool:
    """Return whether the database can be asked for rows with this text."""
    return bool(text) and text.isascii() and text.isprintable() and not _UNSAFE & {*text}
