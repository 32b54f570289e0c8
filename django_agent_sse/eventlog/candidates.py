"""Where a search of a log has to look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

STEP: Final = 4096


class Candidates(NamedTuple):
    """One step of a search: what was looked at, and where something may stand.

    Args:
        until: The step ended here: at this offset, inclusive.
        spans: The first and the last offset of each run of events that may match, nearest first. All others do not.
    """

    until: int
    spans: Sequence[tuple[int, int]]


def next_step(place: int, back: bool) -> Candidates:
    """Return the events before or after a place: of a log that knows nothing of them."""
    if back:
        first = max(1, place - STEP)
        return Candidates(first, [(first, place - 1)] if first < place else [])
    return Candidates(place + STEP, [(place + 1, place + STEP)])


class LevelCounts(NamedTuple):
    """How many lines of a topic are errors and warnings.

    Args:
        errors: Lines that are kept, and errors.
        warnings: Lines that are kept, and warnings.
        first_error: The offset of the event with the first one; ``None`` without any.
        first_warning: Likewise.
        upto: The offset up to which they were counted.
    """

    errors: int
    warnings: int
    first_error: int | None
    first_warning: int | None
    upto: int


NOTHING: Final = LevelCounts(0, 0, None, None, 0)
