"""Consecutive deltas joined into one event, so that whoever comes late gets the text and not twenty thousand pieces of it.

Two events are joined where they differ in their delta and in nothing else that matters. That is decided on their text: decoding
JSON and encoding it again would cost more than all the rest of a replay. A regular expression finds the members that may differ,
and what is around them must be equal to the letter. Once for each such surrounding, the JSON is decoded to see that what was
found is what was meant. The delta itself is never decoded: the JSON texts of two strings, joined, are the JSON text of both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

from ..topics.reading import Ahead
from ..wire.event import Event, decoded

FOLD_CHARACTERS = 524_288
"""The longest delta that others are still joined to: so much of a part is held in memory for a reader, and no more."""
MOST_SHAPES = 256
"""Surroundings of deltas that are remembered during one fold."""
MOST_AHEAD = 256
"""Deltas that are joined in one step."""
WORTH_A_PATTERN = 32
"""Deltas of one part after which a regular expression for just those is made: it takes as long as a hundred deltas."""

Message = dict[str, Any]
Path = Sequence[str | int]
_STRING = r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_NUMBER = "-?[0-9.]+"
_HALF = re.compile("[\ud800-\udfff]")
"""Half of a character of UTF-16, as clients cut text: only JSON's escapes can carry it."""
_PROBE = "?" * 20


class DeltaFold:
    """Joins consecutive deltas of one part into one event, which has the id of the last.

    Called with events, it yields events, and holds one at a time. What it has yielded may be given to it again.

    Args:
        path: Where the text of a delta stands in a message, as keys and indexes; ``None`` where the message is not a delta.
        deltas: The keys at which a delta's text may stand, the last ones of all paths.
        numbers: Top-level keys of numbers that may differ; the last one's is kept.
        strings: Top-level keys of strings that may differ; the last one's is kept.
        dropped: Top-level keys that are left out where events are joined.
    """

    def __init__(
        self,
        path: Callable[[Message], Path | None],
        *,
        deltas: Collection[str],
        numbers: Collection[str] = (),
        strings: Collection[str] = (),
        dropped: Collection[str] = (),
    ) -> None:
        self._path = path
        self._loose = (*numbers, *strings)
        self._dropped = [f'"{key}"' for key in dropped]
        keys = "|".join(map(re.escape, [*deltas, *strings]))
        counted = f'|"(?:{"|".join(map(re.escape, numbers))})"\\s*:\\s*{_NUMBER}' if numbers else ""
        self._members = re.compile(f'("(?:{keys})"\\s*:\\s*{_STRING}{counted})')

    def __call__(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the events, with consecutive deltas of one part joined."""
        shapes: dict[tuple[str, ...], int | None] = {}
        joined: _Joined | None = None
        ahead = events if isinstance(events, Ahead) else None
        for event in events:
            pieces = self._pieces(event.data) if joined is None else joined.takes(event, self._pieces)
            if pieces is None:
                if ahead is not None and joined is not None:
                    joined.take_ahead(ahead)
                continue
            if joined is not None:
                yield joined.event(self._pieces)
            place = None if event.retry is not None else self._place(pieces, shapes)
            joined = None if place is None else _Joined(event, pieces, place)
            if joined is None:
                yield event
        if joined is not None:
            yield joined.event(self._pieces)

    def _pieces(self, data: str) -> list[str]:
        """Return the text around the members that may differ, and these, in turn."""
        if any(key in data for key in self._dropped):
            data = self._without_dropped(data)
        return self._members.split(data)

    def _without_dropped(self, data: str) -> str:
        message = _object(data)
        if message is None:
            return data
        kept = {key: value for key, value in message.items() if f'"{key}"' not in self._dropped}
        text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
        return text if text.isascii() or _HALF.search(text) is None else json.dumps(kept, separators=(",", ":"))

    def _place(self, pieces: list[str], shapes: dict[tuple[str, ...], int | None]) -> int | None:
        """Return which of the pieces is the delta; ``None`` for what is not a delta, or not surely."""
        if len(pieces) == 1:
            return None
        shape = (*pieces[::2], *_keys(pieces))
        if shape in shapes:
            return shapes[shape]
        if len(shapes) == MOST_SHAPES:
            shapes.clear()
        shapes[shape] = place = self._find(pieces)
        return place

    def _find(self, pieces: list[str]) -> int | None:
        """Decode the message, and return which of the pieces is its delta, where the others are members that may differ."""
        message = _object("".join(pieces))
        path = None if message is None else self._path(message)
        if not path or not isinstance(_at(message, path), str):
            return None
        found: int | None = None
        for place in range(1, len(pieces), 2):
            key = json.loads(pieces[place].partition(":")[0])
            if key == path[-1] and found is None and _stands_at(pieces, place, path):
                found = place
            elif key not in self._loose or not _stands_at(pieces, place, (key,)):
                return None  # another member of that name, somewhere else in the message
        return found


def _stands_at(pieces: list[str], place: int, path: Path) -> bool:
    """Return whether a piece is the member at this path: whether another value of it is found there."""
    probed = [*pieces]
    probed[place] = f'{pieces[place].partition(":")[0]}:"{_PROBE}"'
    return _at(_object("".join(probed)), path) == _PROBE


class _Joined:
    """A delta, and those that were joined to it."""

    def __init__(self, event: Event, pieces: list[str], place: int) -> None:
        self._first: Event | None = event
        self._last = event
        self._pieces = pieces
        self._place = place
        self._around = pieces[::2]
        self._keys = _keys(pieces)
        self._head = _head(pieces[place])
        self._deltas = [pieces[place][len(self._head) + 1 : -1]]
        self._room = FOLD_CHARACTERS - len(event.data)
        self._pattern: re.Pattern[str] | None = None
        self._lines: re.Pattern[str] | None = None
        self._step = 1

    def takes(self, event: Event, pieces_of: Callable[[str], list[str]]) -> list[str] | None:
        """Join an event, where it is a delta of the same part. Return its pieces where it is not."""
        alike = event.event == self._last.event and event.retry is None
        if self._pattern is not None and alike and (found := self._pattern.fullmatch(event.data)) and self._join(event, found[1]):
            return None
        pieces = pieces_of(event.data)
        delta = pieces[self._place] if alike and pieces[::2] == self._around and _keys(pieces) == self._keys else ""
        if delta.startswith(f'{self._head}"') and self._join(event, delta[len(self._head) + 1 : -1]):
            if len(self._deltas) == WORTH_A_PATTERN:
                self._pattern, self._lines = self._make_patterns()
            return None
        return pieces

    def take_ahead(self, events: Ahead) -> None:
        """Join those that come next, many at once, as far as they are deltas of the same part beyond doubt."""
        if self._pattern is None or self._lines is None:
            return
        while texts := events.ahead(self._last.event, self._step):
            text = "\n".join(texts)
            deltas = self._lines.findall(text) if text.count("\n") == len(texts) - 1 else []
            if len(deltas) < len(texts):  # a line each, and one of them is something else
                deltas = [found[1] for found in takewhile(bool, map(self._pattern.fullmatch, texts)) if found]
            size = sum(map(len, deltas)) + len(deltas)
            if not deltas or size >= self._room:
                self._step = 1
                return
            self._room -= size
            self._deltas += deltas
            self._last, self._first = events.skip(len(deltas)), None
            if len(deltas) < len(texts):
                self._step = 1
                return
            self._step = min(2 * self._step, MOST_AHEAD)

    def _join(self, event: Event, delta: str) -> bool:
        if len(delta) >= self._room:
            return False
        self._room -= len(delta) + 1
        self._deltas.append(delta)
        self._last = event
        self._first = None
        return True

    def _make_patterns(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """Return what matches a delta of this part at once, with its text as the only group; and a line that is one."""
        texts: list[str] = []
        for place, piece in enumerate(self._pieces):
            if place % 2 == 0:
                texts.append(re.escape(piece))
            elif place == self._place:
                texts.append(f'{re.escape(self._head)}"({_STRING[1:-1]})"')
            else:
                texts.append(re.escape(_head(piece)) + (_STRING if piece.endswith('"') else _NUMBER))
        text = "".join(texts)
        return re.compile(text), re.compile(f"^{text}$", re.MULTILINE)

    def event(self, pieces_of: Callable[[str], list[str]]) -> Event:
        """Return all of them as one; one alone as it was."""
        if self._first is not None:
            return self._first
        pieces = pieces_of(self._last.data)
        pieces[self._place] = f'{self._head}"{"".join(self._deltas)}"'
        return decoded("".join(pieces), self._last.event, self._last.id, None)


def _head(member: str) -> str:
    """Return a member up to its value."""
    colon = member.index(":")
    return member[: len(member) - len(member[colon + 1 :].lstrip())]


def _keys(pieces: list[str]) -> list[str]:
    return [piece.partition(":")[0] for piece in pieces[1::2]]


def _object(data: str) -> Message | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _at(message: Any, path: Path) -> object:
    for key in path:
        try:
            message = message[key]
        except (LookupError, TypeError):
            return None
    return message
