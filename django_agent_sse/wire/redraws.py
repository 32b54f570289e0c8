"""The event ``replace`` of a log: lines that are taken back, and the draft of what may still change."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import MutableSequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from .event import Event
from .log_lines import is_line

REPLACE: Final = "replace"
"""The name of the event."""
MOST_LINES: Final = 200
"""Lines that one such event can take back, and lines of a draft."""
DRAFT_BYTES: Final = 65_536
"""Bytes of a draft at most."""
HELD_BYTES: Final = 1_048_576
Source: TypeAlias = Literal["stdout", "stderr"]
SOURCES: Final[tuple[Source, Source]] = ("stdout", "stderr")

_T = TypeVar("_T")


class Redraw(NamedTuple):
    """What stands in place of lines and of the draft.

    Attributes:
        lines: How many of the last lines are taken back.
        text: The draft: what stands after the last line and may change.
        errors: How many of those lines are errors.
        warnings: How many are warnings.
    """

    lines: int
    text: str
    errors: int = 0
    warnings: int = 0

    def event(self, source: Source) -> Event:
        """Return the event that says so in a log."""
        data: dict[str, object] = {"source": source, "lines": self.lines, "text": self.text}
        data |= {name: count for name, count in (("errors", self.errors), ("warnings", self.warnings)) if count}
        return Event(json.dumps(data, ensure_ascii=False, separators=(",", ":")), event=REPLACE)


def source_of(name: str | None) -> Source:
    """Return whose lines the events of a name are."""
    return "stderr" if name == "stderr" else "stdout"


def redraw_of(name: str | None, data: str) -> tuple[Source, Redraw] | None:
    """Return what an event says of lines before it; ``None`` where it says nothing, or nothing that makes sense."""
    if name != REPLACE or len(data) > 8 * DRAFT_BYTES:
        return None
    try:
        said = json.loads(data)
        source, lines, text = said["source"], said["lines"], said["text"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if source not in SOURCES or type(lines) is not int or not 0 <= lines <= MOST_LINES or not isinstance(text, str):
        return None
    errors, warnings = (_part(said.get(name), lines) for name in ("errors", "warnings"))
    return source, Redraw(lines, text, errors, min(warnings, lines - errors))


def _part(count: object, whole: int) -> int:
    return count if type(count) is int and 0 <= count <= whole else 0


@dataclass(slots=True)
class Printed(Generic[_T]):
    """What one event has printed.

    Attributes:
        source: Whose lines they are; ``None`` for an event that is no line.
        lines: Its lines.
        about: What belongs to it.
    """

    source: Source | None
    lines: list[str]
    about: _T


def take_back(printed: MutableSequence[Printed[_T]], source: Source, count: int) -> int:
    """Take back the last lines of a source. Return how many more there would be: they stand further above."""
    at = len(printed)
    while count and at:
        at -= 1
        if printed[at].source != source:
            continue
        lines = printed[at].lines
        gone = min(count, len(lines))
        del lines[len(lines) - gone :]
        count -= gone
        if not lines:
            del printed[at]
    return count


class Settled(Generic[_T]):
    """Events of a log, in their order and without what was taken back: each comes out when nothing can take it back any more.

    It holds ``MOST_LINES`` lines and ``HELD_BYTES``.

    Attributes:
        drafts: What stands after the last line, by its source.
    """

    def __init__(self) -> None:
        self.drafts: dict[Source, str] = {}
        self._held: deque[Printed[tuple[Event, _T]]] = deque()
        self._lines = self._size = 0

    def feed(self, event: Event, about: _T) -> list[tuple[Event, _T]]:
        """Take an event. Return those that come out."""
        if (said := redraw_of(event.event, event.data)) is not None:
            source, redraw = said
            self.drafts[source] = redraw.text
            if redraw.lines:
                take_back(self._held, source, redraw.lines)
                self._lines = sum(len(printed.lines) for printed in self._held)
                self._size = sum(len(printed.about[0].data) for printed in self._held)
            return []
        of_lines = source_of(event.event) if is_line(event) else None
        lines = event.data.split("\n") if of_lines else []
        self._held.append(Printed(of_lines, lines, (event, about)))
        self._lines += len(lines)
        self._size += len(event.data)
        out = []
        while self._held and (self._lines - len(self._held[0].lines) >= MOST_LINES or self._size > HELD_BYTES):
            out.append(self._next())
        return out

    def rest(self) -> list[tuple[Event, _T]]:
        """Return what was held."""
        return [self._next() for _ in range(len(self._held))]

    def _next(self) -> tuple[Event, _T]:
        printed = self._held.popleft()
        event, about = printed.about
        self._lines -= len(printed.lines)
        self._size -= len(event.data)
        if printed.source and len(printed.lines) <= event.data.count("\n"):
            event = Event("\n".join(printed.lines), event=event.event)
        return event, about
