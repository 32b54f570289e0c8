"""The lines of a topic that ``sse_tail --grep`` asks for, with their context: those that are there, then what comes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from ..eventlog.base import EventLog
from ..eventlog.line_matcher import LineMatcher, LineQuery
from ..eventlog.position import Position
from ..eventlog.search import Budget, Found, Search
from .following import Tail
from .output import Received

BATCH = 256
"""Matches that are printed together."""


class Begin:
    """Where a filtered tail begins: after an offset, or with the last so many matches."""

    def __init__(self, after: int, last: int | None) -> None:
        self.after = after
        self.last = last


class FilteredTail:
    """A topic, of which only lines that match come.

    Args:
        log: The log.
        topic: The topic's name.
        query: What lines must be.
        context: Events before and after each.
    """

    def __init__(self, log: EventLog, topic: str, query: LineQuery, context: int) -> None:
        self._log, self._topic, self._query, self._context = log, topic, query, context
        self._printed = 0  # the offset of the last event that was

    def batches(self, begin: Begin, tail: Callable[[Position], Tail], *, follow: bool) -> Iterator[list[Received]]:
        """The matches that there are, and then those that come; ``tail`` follows from a position."""
        with LineMatcher(self._query) as matcher:
            state = self._log.state(self._topic)
            if begin.last is not None:
                yield from (self._received(found, state.epoch) for found in self._last(matcher, begin.last))
            else:
                place: int | None = begin.after
                while place is not None:
                    result = self._search(matcher, place, back=False).run(BATCH, self._context)
                    yield self._received(result.found, state.epoch)
                    place = result.place
            yield from self._coming(matcher, tail(Position(state.epoch, state.top)), follow=follow)

    def _last(self, matcher: LineMatcher, count: int) -> list[list[Found]]:
        """Return the last so many matches, in the parts in which the log was looked through."""
        parts: list[list[Found]] = []
        place: int | None = None
        while count > 0:
            result = self._search(matcher, place, back=True).run(count, self._context)
            parts.append(result.found)
            count -= sum(bool(one.lines) for one in result.found)
            if (place := result.place) is None:
                break
        return parts[::-1]

    def _search(self, matcher: LineMatcher, place: int | None, *, back: bool) -> Search:
        budget = Budget(seconds=float("inf"), bytes=float("inf"))
        return Search(self._log, self._topic, matcher, place=place, back=back, budget=budget)

    def _received(self, found: list[Found], epoch: str) -> list[Received]:
        rows = []
        for one in found:
            if one.record.offset > self._printed:
                self._printed = one.record.offset
                rows.append(Received(id=str(Position(epoch, one.record.offset)), event=one.record.event, at=one.record.at))
        return rows

    def _coming(self, matcher: LineMatcher, tail: Tail, *, follow: bool) -> Iterator[list[Received]]:
        before: deque[Received] = deque(maxlen=self._context)
        after = 0
        for batch in tail.batches(follow=follow):
            rows: list[Received] = []
            for row, lines in zip(batch, matcher.lines([row.event for row in batch]), strict=True):
                if lines:
                    rows += [*before, row]
                    before.clear()
                    after = self._context
                elif after:
                    rows.append(row)
                    after -= 1
                elif self._context:
                    before.append(row)
            yield rows
