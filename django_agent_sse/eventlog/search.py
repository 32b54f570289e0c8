"""Search in a topic of lines, in steps of bounded cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..wire.event import Event
from ..wire.line_levels import ALL, Level, level_of_line
from ..wire.log_lines import is_line
from ..wire.redraws import MOST_LINES, Printed, redraw_of, source_of, take_back
from .base import PAGE_BYTES, REPLAY_EVENTS, EventLog
from .candidates import next_step
from .line_matcher import LineMatcher
from .records import Page, Record

SECONDS: Final = 0.25
"""Seconds of looking through a log after which one request answers with what it has."""
BYTES: Final = 33_554_432
"""Bytes of events that it reads at most."""
GIVE_WAY: Final = 0.001
"""Seconds of sleep between pages, so that other threads run."""
TURN: Final = 0.005
"""Seconds of work between two such sleeps, at least."""
MOST_CONTEXT: Final = 20
_LOOK_AHEAD: Final = 2 * MOST_LINES
"""Events after a match in which the taking back of its line is looked for: lines of the other source may stand between."""


@dataclass(slots=True)
class Budget:
    """What one search may cost; without bounds for a command."""

    seconds: float = SECONDS
    bytes: float = BYTES
    clock: Callable[[], float] = time.monotonic
    begun: float = field(init=False)
    _rested: float = field(init=False, default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def spend(self, records: Sequence[Record]) -> None:
        """Count what was read, and let other threads run."""
        self.bytes -= sum([len(record.event.data) for record in records])
        if self.seconds < float("inf") and time.monotonic() - self._rested >= TURN:
            time.sleep(GIVE_WAY)
            self._rested = time.monotonic()

    @property
    def spent(self) -> bool:
        """Whether the search has to end."""
        return self.bytes <= 0 or self.clock() - self.begun >= self.seconds

    @property
    def overdrawn(self) -> bool:
        """Whether what was found has to be left too: reading around it may take as long as looking for it."""
        return self.clock() - self.begun >= 2 * self.seconds


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
        show: What is seen of an event, ``None`` for nothing: that is what is searched, and found.
        room: Bytes of what is found and around it, at most.
    """

    def __init__(
        self,
        log: EventLog,
        topic: str,
        matcher: LineMatcher,
        *,
        place: int | None,
        back: bool,
        budget: Budget,
        show: Callable[[Event], object] | None = None,
        room: int = PAGE_BYTES,
    ) -> None:
        self._log, self._topic, self._matcher = log, topic, matcher
        self._back, self._budget, self._show = back, budget, show
        self._page = log.read_after(topic, 0, 0)
        top, floor = self._page.top, self._page.floor
        place = (top + 1 if back else 0) if place is None else place
        self._most = self._room = room
        self._begun = self._place = min(place, top + 1) if back else min(max(place, floor), top)

    def run(self, limit: int, context: int = 0) -> SearchResult:
        """Return up to ``limit`` events that match, and those around them."""
        found: dict[int, Found] = {}
        count = 0
        while True:
            matches = self._matches(limit - count)
            settled = not matches or not self._log.takes_back(self._topic, min(matches), max(matches) + _LOOK_AHEAD)
            for one in matches.values() if settled and not context else self._with_context(matches, context, settled):
                if one.lines or one.record.offset not in found:
                    found[one.record.offset] = one
            count = sum(bool(one.lines) for one in found.values())  # lines that were taken back are none
            if count >= limit or self._room <= 0 or self._over or self._budget.spent:
                break
        fitting = self._fitting([found[offset] for offset in sorted(found)])
        edges = (self._place, self._begun - 1) if self._back else (self._begun + 1, self._place)
        scanned = edges if edges[0] <= edges[1] else None
        return SearchResult(page=self._page, found=fitting, scanned=scanned, place=None if self._over else self._place)

    @property
    def _over(self) -> bool:
        return self._place <= self._page.floor + 1 if self._back else self._place >= self._page.top

    def _matches(self, limit: int) -> dict[int, Found]:
        """Return the next events that match; lines that were taken back are among them."""
        matches: dict[int, Found] = {}
        while len(matches) < limit and self._room > 0 and not self._over:
            self._step(matches, limit)
            if self._budget.spent:
                break
        return matches

    def _step(self, matches: dict[int, Found], limit: int) -> None:
        query, begun = self._matcher.query, self._place
        if self._show is None:
            text = "" if query.regex else query.text
            step = self._log.candidates(self._topic, self._place, back=self._back, text=text, levels=query.levels)
        else:
            step = next_step(self._place, self._back)  # a log knows what stands in it, not what is seen of that
        for first, last in step.spans:
            first, last = max(first, self._page.floor + 1), min(last, self._page.top)
            first, last = (first, min(last, self._place - 1)) if self._back else (max(first, self._place + 1), last)
            for records in self._pages(first, last):
                self._take(records, matches)
                self._place = records[0].offset if self._back else records[-1].offset
                if len(matches) >= limit:
                    self._cut(matches, limit)
                    return
                if self._budget.spent or self._room <= 0:
                    return
        end = self._page.floor + 1 if self._back else self._page.top
        until = max(step.until, end) if self._back else min(step.until, end)
        # Where the log itself does not go on, it was trimmed beyond this place, or is another topic: there is nothing more.
        self._place = until if (until < begun if self._back else until > begun) else end

    def _take(self, records: Sequence[Record], matches: dict[int, Found]) -> None:
        seen = self._seen(records)
        for record, lines in zip(seen, self._matcher.lines([record.event for record in seen]), strict=True):
            if lines:
                matches[record.offset] = Found(record=record, lines=lines)
                self._room -= len(record.event.data)

    def _seen(self, records: Sequence[Record]) -> Sequence[Record]:
        if self._show is None:
            return records
        shown = [(record, self._show(record.event)) for record in records]
        return [record._replace(event=event) for record, event in shown if isinstance(event, Event)]

    def _cut(self, matches: dict[int, Found], limit: int) -> None:
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
            if not records or (self._back and records[0].offset > last):  # those were trimmed meanwhile
                return
            self._budget.spend(records)
            if self._back and records[-1].offset < last:  # its size cut it: the last ones may be as large
                count = min(len(records), max(1, count // 2))
                continue
            yield records
            count = min(REPLAY_EVENTS, 4 * count)
            first, last = (first, records[0].offset - 1) if self._back else (records[-1].offset + 1, last)

    def _with_context(self, matches: dict[int, Found], context: int, settled: bool) -> Iterator[Found]:
        """Yield matches, read again with what is around them, nearest first and without lines that were taken back since.

        It ends where the answer is full, but not before the first match.
        """
        runs, left, count = [*_runs(sorted(matches), context)], self._most, 0
        for run in reversed(runs) if self._back else runs:
            for records, first, last in self._around(*run, 0 if settled else _LOOK_AHEAD):
                if count and (left < 0 or self._budget.overdrawn):
                    self._place = last + 1 if self._back else first - 1  # the next answer has it
                    return
                for record, kept in _kept(self._seen(records)):
                    match = matches.get(record.offset)
                    lines = [line for line in match.lines if line < kept] if match is not None else []
                    taken_back = is_line(record.event) and not kept
                    if record.offset > last or taken_back or (left < 0 and not lines):
                        continue
                    left -= len(record.event.data)
                    count += bool(lines)
                    yield Found(record=record, lines=lines)

    def _around(self, first: int, last: int, ahead: int) -> Iterator[tuple[Sequence[Record], int, int]]:
        """Yield the events of a span, nearest first, with some of those after them; and the first and the last one that count."""
        records = self._log.read_after(self._topic, first - 1, last - first + 1 + ahead).records
        if records and records[-1].offset >= min(last, self._page.top):
            yield records, first, last
            return
        for page in self._pages(first, min(last, self._page.top)):  # its size has cut it
            first, last = page[0].offset, page[-1].offset
            yield [*page, *self._log.read_after(self._topic, last, ahead).records], first, last

    def _fitting(self, found: list[Found]) -> list[Found]:
        """Drop what does not fit into one answer, farthest first, and go on from there."""
        left = self._most - sum(len(one.record.event.data) for one in found)
        count = sum(bool(one.lines) for one in found)
        while left < 0 and count > 1:
            gone = found.pop(0 if self._back else -1)
            left += len(gone.record.event.data)
            if gone.lines:
                count -= 1
                self._place = gone.record.offset + 1 if self._back else gone.record.offset - 1
        return found if left >= 0 else [one for one in found if one.lines]


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
