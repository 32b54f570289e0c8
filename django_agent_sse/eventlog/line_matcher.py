"""What lines a search asks for, by text, regular expression, level and source, and which ones match."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Final

from ..exceptions import QueryInvalid
from ..runtime.pattern_process import PatternError, PatternProcess
from ..wire.event import Event
from ..wire.line_levels import ALL, EXAMINED, Level, level_of_line
from ..wire.log_lines import is_line, visible
from ..wire.redraws import Source, source_of

MOST_TEXT: Final = 500
"""Characters of what is searched for."""
_UNSEEN: Final = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]")
"""What may stand in a text and is not seen."""


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
        if self.levels - {*ALL}:
            raise QueryInvalid(f"that is not a level; there are {', '.join(ALL)}")
        if self.source not in (None, "stdout", "stderr"):
            raise QueryInvalid("that is not a source; there are stdout and stderr")


def levels_from(level: str) -> frozenset[Level]:
    """Return a level and those that are worse.

    Raises:
        QueryInvalid: There is no such level.
    """
    if level not in ALL:
        raise QueryInvalid(f"that is not a level; there are {', '.join(ALL)}")
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
            lines = event.data.split("\n")
            candidates += [(number, at, line) for at, line in enumerate(lines[:EXAMINED] if query.levels else lines)]
        if self._needle:
            candidates = self._with_text(candidates)
        found: list[list[int]] = [[] for _ in events]
        for number, at, line in candidates:
            if not query.levels or level_of_line(events[number].event, line) in query.levels:
                found[number].append(at)
        return found

    def times(self, found: Iterable[tuple[Event, Sequence[int]]]) -> list[int]:
        """Return how often each event matches in the lines that were found in it: a text may stand in a line more than once."""
        texts: list[str] = []
        counts: list[int] = []
        for event, numbers in found:
            counts.append(len(numbers))
            lines = event.data.split("\n")
            texts += [visible(lines[number]) for number in numbers]
        if not self._needle:
            return counts
        if self._pattern is None:
            each = [(text if self.query.case else text.lower()).count(self._needle) for text in texts]
        else:
            each = self._ask(self._pattern.times, texts)
        left = iter(each)
        return [sum(islice(left, count)) for count in counts]

    def _may_have(self, data: str) -> bool:
        if self._needle in (data if self.query.case else data.lower()):
            return True
        return not data.isprintable() and _UNSEEN.search(data) is not None

    def _with_text(self, candidates: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
        texts = [visible(line) for _, _, line in candidates]
        if self._pattern is None:
            return [
                one
                for one, text in zip(candidates, texts, strict=True)
                if self._needle in (text if self.query.case else text.lower())
            ]
        return [candidates[number] for number in self._ask(self._pattern.search, texts)]

    def _ask(self, question: Callable[[Sequence[str]], list[int]], texts: Sequence[str]) -> list[int]:
        try:
            return question(texts) if texts else []
        except PatternError as error:
            raise self._refused(error) from error

    def _refused(self, error: PatternError) -> QueryInvalid:
        return QueryInvalid(f"the pattern cannot be used: {error}")
