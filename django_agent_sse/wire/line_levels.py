"""The levels of the lines of a log: what an event's name says, or else its text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

from .event import Event
from .levels import HINTS, SEEN, level_of
from .log_lines import LEVELS, LINE_EVENTS, is_line
from .redraws import REPLACE, redraw_of

Level: TypeAlias = Literal["error", "warning", "info", "debug"]
ALL: Final[tuple[Level, ...]] = ("error", "warning", "info", "debug")
MARKED: Final = frozenset(ALL[:2])
"""Levels of lines that an event log may keep an index of."""
EXAMINED: Final = 2_000
"""Lines of one event whose levels are looked for when it is appended."""
LOOKED_AT: Final = 4_096
"""Characters of each of them."""
TOGETHER: Final = 65_536
"""Characters of an event of several lines that is looked at as a whole; of a longer one its lines are, each by itself."""

_HARMLESS: Final = frozenset({"info", "debu", "trac", "notice", "verbose"})
_HINTS: Final = tuple(hint for hint in HINTS if hint not in _HARMLESS)
_BARE: Final = ("\nE", "\ne", "\nW", "\nw", "\nF")
"""How lines begin that have a level without a word for it, together with a character beyond ASCII."""


class Marks(NamedTuple):
    """What an event log may keep an index of.

    Args:
        errors: Lines of the event that are errors.
        warnings: Those that are warnings.
        taken: Lines before it that it takes back.
        taken_errors: Those of them that are errors.
        taken_warnings: Those that are warnings.
    """

    errors: int
    warnings: int
    taken: int = 0
    taken_errors: int = 0
    taken_warnings: int = 0


def summed(marks: Iterable[Marks]) -> Marks:
    """Return the sums of marks, of which there is one at least."""
    return Marks._make(map(sum, zip(*marks, strict=True)))


def named_level(name: str | None) -> Level | None:
    """Return the level that an event's name says."""
    if name not in LEVELS:
        return None
    return "error" if name == "critical" else name  # type: ignore[return-value]


def level_of_line(name: str | None, line: str) -> Level | None:
    """Return the level of a line of an event of this name."""
    return named_level(name) or level_of(line)  # type: ignore[return-value]


def marks_of(events: Iterable[Event]) -> Iterator[tuple[int, Marks]]:
    """Yield the events with lines that are errors or warnings, and those that take lines back, by their number, from 0.

    Most events end at a look at all of them together; of one that has very many lines the first ``EXAMINED`` count.
    """
    listed = [*events]
    if not _may_be(listed):
        return
    for number, event in enumerate(listed):
        if event.event == REPLACE and (said := redraw_of(REPLACE, event.data)) is not None and said[1].lines:
            yield number, Marks(0, 0, said[1].lines, said[1].errors, said[1].warnings)
        if not is_line(event):
            continue
        found = [level for level in _levels(event) if level in MARKED]
        if found:
            errors = found.count("error")
            yield number, Marks(errors, len(found) - errors)


def _levels(event: Event) -> Iterator[str | None]:
    if (level := named_level(event.event)) is not None:
        yield level  # a record, however many lines it has
        return
    if not _may_be([event]):
        return
    end = -1
    for _ in range(EXAMINED):
        start, end = end + 1, event.data.find("\n", end + 1)
        yield level_of(event.data[start : min(start + LOOKED_AT, end) if end >= 0 else start + LOOKED_AT])
        if end < 0:
            return


def _may_be(events: list[Event]) -> bool:
    """Return whether a line of these may be an error or a warning: as many events as there are, in one step."""
    if any(event.event in _WORSE or (len(event.data) > TOGETHER and "\n" in event.data) for event in events):
        return True
    texts = [_beginning(event.data) for event in events if event.event in LINE_EVENTS]
    if not texts:
        return False
    text = "\n".join(texts)
    if not text.isascii() or any(map(f"\n{text}".__contains__, _BARE)):
        return True
    lower = text.lower()
    return any(map(lower.__contains__, _HINTS))


def _beginning(data: str) -> str:
    """Return the part of an event in which levels are looked for: most of what is large is one line."""
    if len(data) <= SEEN or "\n" in data:
        return data
    data = data[:LOOKED_AT]
    return data[:SEEN] if data.isprintable() else data


_WORSE: Final = frozenset({"warning", "error", "critical", REPLACE})
