"""Where a search of a log has to look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

STEP: Final = 4096
BESIDE: Final = 256
"""Events that are read too rather than to ask for what is after them alone, which takes as long."""


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


def joined(spans: Iterable[tuple[int, int]], back: bool) -> list[tuple[int, int]]:
    """Return spans, nearest first, with those as one that no more than ``BESIDE`` events lie between."""
    found: list[tuple[int, int]] = []
    for first, last in spans:
        if found and back and found[-1][0] - last - 1 <= BESIDE:
            found[-1] = (first, found[-1][1])
        elif found and not back and first - found[-1][1] - 1 <= BESIDE:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


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
