"""Rows that may have a text: what a search need not read all events for."""

from __future__ import annotations

from typing import Final

from django.db.models import Q

from ..candidates import Candidates, joined
from .store import TopicRow, TopicStore

STEP_BYTES: Final = 16_777_216
"""Bytes of rows that the database looks through in one statement."""
STEP_ROWS: Final = 256
"""Rows that it finds in one statement: of a text that stands in most rows an answer reads no more."""
_UNSAFE: Final = frozenset('"\\%_')
"""Characters that JSON or ``LIKE`` spell otherwise: of a text with them every row is read."""
_OTHERWISE: Final = ("\\u00", "\\b", '"base64"]')
"""What rows have in which a text may stand in another form: among characters that are not seen, or not as text."""
_LOWER: Final = {"i": "\u0130", "k": "\u212a"}
"""Letters that lie outside ASCII, and inside it in lower case, which databases do not know."""


def can_be_asked_for(text: str) -> bool:
    """Return whether the database can be asked for rows with this text."""
    return bool(text) and text.isascii() and text.isprintable() and not _UNSAFE & {*text}


def rows_with_text(store: TopicStore, topic: TopicRow, place: int, back: bool, text: str) -> Candidates:
    """Return rows of the next ``STEP_BYTES`` before or after a place that may have a text, those beside each other as one."""
    row = store.row_after(topic, place - 2 if back else place)
    if row is None:
        return Candidates(topic.floor if back else topic.top, [])
    # The bounds are found by halving: the totals of rows have no index, and there may be a million of them.
    if back:
        low = store.last_where(topic, lambda one: one.total <= row.total - STEP_BYTES, topic.floor)
        high = row.last
    else:
        low = row.last - row.events
        high = store.last_where(topic, lambda one: one.total <= row.total + STEP_BYTES, row.last)
    where = Q(payload__icontains=text)
    for other in (*_OTHERWISE, *(_LOWER[letter] for letter in _LOWER if letter in text.lower())):
        where |= Q(payload__contains=other)
    rows = store.rows(topic).filter(where, last__gt=low, last__lte=high).order_by("-last" if back else "last")
    found = [*rows.values_list("last", "events")[:STEP_ROWS]]
    until = low + 1 if back else high
    if len(found) == STEP_ROWS:
        last, events = found[-1]
        until = last - events + 1 if back else last
    return Candidates(until, joined(((last - events + 1, last) for last, events in found), back))
