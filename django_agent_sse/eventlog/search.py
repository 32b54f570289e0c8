"""Search in a topic of lines: by text, regular expression, level and source, in steps of bounded cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

from ..exceptions import QueryInvalid
from ..runtime.pattern_process import PatternError, PatternProcess
from ..wire.event import Event
from ..wire.line_levels import ALL, Level, level_of_line
from ..wire.log_lines import is_line, visible
from ..wire.redraws import MOST_LINES, Printed, Source, redraw_of, source_of, take_back
from .base import PAGE_BYTES, REPLAY_EVENTS, EventLog
from .records import Page, Record

SECONDS: Final = 0.25
"""Seconds of looking through a log after which one request answers with what it has."""
BYTES: Final = 33_554_432
"""Bytes of events that it reads at most."""
GIVE_WAY: Final = 0.001
"""Seconds of sleep after each page, so that other threads run."""
MOST_TEXT: Final = 500
"""Characters of what is searched for."""
MOST_CONTEXT: Final = 20
_LOOK_AHEAD: Final = 64
"""Events after a match in which the taking back of its line is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineQuery:
    """What a line must be.

    Args:
        text: What stands in it.
        regex: ``text`` is a regular expression.
        case: Case counts.
        levels: One of these is its level; empty for any, or none.
        source: ``stdout`` or ``stderr``; ``None`` for both.

    Raises:
        QueryInvalid: There is no such level or source, or the text is too long.
    """

    text: str = ""
    regex: bool = False
    case: bool = False
    levels: frozenset[Level] = frozenset()
    source: Source | None = None

    def __post_init__(self) -> None:
        if len(self.text) > MOST_TEXT or "\n" in self.text:
            raise QueryInvalid(f"what is searched for has one line, and {MOST_TEXT} characters at most")
        if unknown := sorted(self.levels - {*ALL}):
            raise QueryInvalid(f"{unknown[0][:40]!r} is not a level; there are {', '.join(ALL)}")
        if self.source not in (None, "stdout", "stderr"):
            raise QueryInvalid(f"{self.source[:40]!r} is not a source; there are stdout and stderr")


def levels_from(level: str) -> frozenset[Level]:
    """Return a level and those that are worse.

    Raises:
        QueryInvalid: There is no such level.
    """
    if level not in ALL:
        raise QueryInvalid(f"{level[:40]!r} is not a level; there are {', '.join(ALL)}")
    return frozenset(ALL[: ALL.index(level) + 1])


class LineMatcher(AbstractContextManager["LineMatcher"]):
    """Finds the lines that a query asks for.

    Raises:
        QueryInvalid: Its regular expression is none, or takes too long.
    """

    def __init__(self, query: LineQuery) -> None:
        self.query = query
        self._needle = query.text if query.case else query.text.lower()
        self._pattern: PatternProcess | None = None
        if query.regex and query.text:
            try:
                self._pattern = PatternProcess(query.text, case=query.case)
            except PatternError as error:
                raise self._refused(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        if self._pattern is not None:
            self._pattern.close()

    def lines(self, events: Sequence[Event]) -> list[list[int]]:
        """Return the numbers, from 0, of the lines of each event that match."""
        query = self.query
        candidates: list[tuple[int, int, str]] = []  # of which event, which line, its text
        for number, event in enumerate(events):
            if not is_line(event) or (query.source is not None and source_of(event.event) != query.source):
                continue
            if self._needle and self._pattern is None and not self._may_have(event.data):
                continue
            candidates += [(number, at, line) for at, line in enumerate(event.data.split("\n"))]
        if self._needle:
            candidates = self._with_text(candidates)
        found: list[list[int]] = [[] for _ in events]
        for number, at, line in candidates:
            if not query.levels or level_of_line(events[number].event, line) in query.levels:
                found[number].append(at)
        return found

    def _may_have(self, data: str) -> bool:
        return "\x1b" in data or self._needle in (data if self.query.case else data.lower())

    def _with_text(self, candidates: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
        texts = [visible(line) for _, _, line in candidates]
        if self._pattern is None:
            return [
                one
                for one, text in zip(candidates, texts, strict=True)
                if self._needle in (text if self.query.case else text.lower())
            ]
        try:
            return [candidates[number] for number in self._pattern.search(texts)] if texts else []
        except PatternError as error:
            raise self._refused(error) from error

    def _refused(self, error: PatternError) -> QueryInvalid:
        return QueryInvalid(f"the pattern {self.query.text[:80]!r}: {error}")


@dataclass(slots=True)
class Budget:
    """What one search may cost; without bounds for a command."""

    seconds: float = SECONDS
    bytes: float = BYTES
    clock: Callable[[], float] = time.monotonic
    begun: float = field(init=False)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def spend(self, records: Sequence[Record]) -> None:
        """Count what was read, and let other threads run."""
        self.bytes -= sum([len(record.event.data) for record in records])
        if self.seconds < float("inf"):
            time.sleep(GIVE_WAY)

    @property
    def spent(self) -> bool:
        """Whether the search has to end."""
        return self.bytes <= 0 or self.clock() - self.begun >= self.seconds


@dataclass(slots=True, kw_only=True)
class Found:
    """An event of an answer.

    Attributes:
        record: What the log has.
        lines: The numbers of its lines that match; empty where it stands there as context.
        level: The worst level of these lines, or of all of them.
    """

    record: Record
    lines: list[int]

    @property
    def level(self) -> Level | None:
        event = self.record.event
        texts = event.data.split("\n")[:MOST_LINES]
        wanted = [texts[at] for at in self.lines if at < len(texts)] or texts
        levels = {level_of_line(event.event, text) for text in wanted}
        return next((level for level in ALL if level in levels), None)


@dataclass(slots=True, kw_only=True)
class SearchResult:
    """What a search has found, in the order of the log.

    Attributes:
        page: The state of the topic.
        found: Events that match, and those around them.
        scanned: The first and the last offset that were looked at; ``None`` for none.
        place: Where to go on, in the same direction; ``None`` where everything was looked at.
    """

    page: Page
    found: list[Found]
    scanned: tuple[int, int] | None
    place: int | None


class Search:
    """One search, in one direction from a place.

    Args:
        log: The log.
        topic: The topic's name.
        matcher: What is looked for.
        place: The offset before or after which; ``None``: before the end.
        back: Backwards.
        budget: What it may cost.
    """

    def __init__(self, log: EventLog, topic: str, matcher: LineMatcher, *, place: int | None, back: bool, budget: Budget) -> None:
        self._log, self._topic, self._matcher = log, topic, matcher
        self._back, self._budget = back, budget
        self._page = log.read_after(topic, 0, 0)
        top, floor = self._page.top, self._page.floor
        place = (top + 1 if back else 0) if place is None else place
        self._begun = self._place = min(place, top + 1) if back else min(max(place, floor), top)

    def run(self, limit: int, context: int = 0) -> SearchResult:
        """Return up to ``limit`` events that match, and those around them."""
        matches: dict[int, list[int]] = {}
        while len(matches) < limit and not self._over:
            self._step(matches, limit)
            if self._budget.spent:
                break
        found = self._with_context(matches, context) if matches else []
        edges = (self._place, self._begun - 1) if self._back else (self._begun + 1, self._place)
        scanned = edges if edges[0] <= edges[1] else None
        return SearchResult(page=self._page, found=found, scanned=scanned, place=None if self._over else self._place)

    @property
    def _over(self) -> bool:
        return self._place <= self._page.floor + 1 if self._back else self._place >= self._page.top

    def _step(self, matches: dict[int, list[int]], limit: int) -> None:
        query = self._matcher.query
        text = "" if query.regex else query.text
        step = self._log.candidates(self._topic, self._place, back=self._back, text=text, levels=query.levels)
        for first, last in step.spans:
            first, last = max(first, self._page.floor + 1), min(last, self._page.top)
            first, last = (first, min(last, self._place - 1)) if self._back else (max(first, self._place + 1), last)
            for records in self._pages(first, last):
                self._take(records, matches)
                self._place = records[0].offset if self._back else records[-1].offset
                if len(matches) >= limit:
                    self._cut(matches, limit)
                    return
                if self._budget.spent:
                    return
        self._place = max(step.until, self._page.floor + 1) if self._back else min(step.until, self._page.top)

    def _take(self, records: Sequence[Record], matches: dict[int, list[int]]) -> None:
        for record, lines in zip(records, self._matcher.lines([record.event for record in records]), strict=True):
            if lines:
                matches[record.offset] = lines

    def _cut(self, matches: dict[int, list[int]], limit: int) -> None:
        """Keep the nearest matches, and go on after the last of them."""
        nearest = sorted(matches, reverse=self._back)
        for offset in nearest[limit:]:
            del matches[offset]
        if len(nearest) > limit:
            self._place = nearest[limit - 1]

    def _pages(self, first: int, last: int) -> Iterator[Sequence[Record]]:
        """Yield the events of a span, nearest first, as far as one page of the log goes at a time."""
        count = REPLAY_EVENTS
        while first <= last:
            count = min(count, last - first + 1)
            begin = last - count if self._back else first - 1
            records = self._log.read_after(self._topic, begin, count).records
            if not records:
                return
            self._budget.spend(records)
            if self._back and records[-1].offset < last:  # its size cut it: the last ones may be as large
                count = len(records)
                continue
            yield records
            first, last = (first, records[0].offset - 1) if self._back else (records[-1].offset + 1, last)

    def _with_context(self, matches: dict[int, list[int]], context: int) -> list[Found]:
        """Read matches again with what is around them, without lines that were taken back since; ``PAGE_BYTES`` of them."""
        found: list[Found] = []
        left = PAGE_BYTES
        for first, last in _runs(sorted(matches), context):
            records = self._log.read_after(self._topic, first - 1, last - first + 1 + _LOOK_AHEAD).records
            for record, kept in _kept(records):
                lines = [line for line in matches.get(record.offset, []) if line < kept]
                taken_back = is_line(record.event) and not kept
                if record.offset > last or taken_back:
                    continue
                left -= len(record.event.data)
                found.append(Found(record=record, lines=lines))
        return self._fitting(found, left)

    def _fitting(self, found: list[Found], left: int) -> list[Found]:
        """Drop what does not fit into one answer, farthest first, and go on from there."""
        while left < 0 and sum(bool(one.lines) for one in found) > 1:
            gone = found.pop(0 if self._back else -1)
            left += len(gone.record.event.data)
            if gone.lines:
                self._place = gone.record.offset + 1 if self._back else gone.record.offset - 1
        return found


def _runs(offsets: Sequence[int], context: int) -> Iterator[tuple[int, int]]:
    first = last = 0
    for offset in offsets:
        if last and offset - context <= last + 1:
            last = offset + context
            continue
        if last:
            yield first, last
        first, last = max(1, offset - context), offset + context
    if last:
        yield first, last


def _kept(records: Sequence[Record]) -> Iterator[tuple[Record, int]]:
    """Yield records and how many of their lines are left, as later ones take lines back."""
    printed: list[Printed[Record]] = []
    counts = {}
    for record in records:
        event = record.event
        if (said := redraw_of(event.event, event.data)) is not None:
            take_back(printed, said[0], said[1].lines)
        elif is_line(event):
            counts[record.offset] = Printed(source_of(event.event), event.data.split("\n"), record)
            printed.append(counts[record.offset])
    for record in records:
        yield record, len(counts[record.offset].lines) if record.offset in counts else 0
