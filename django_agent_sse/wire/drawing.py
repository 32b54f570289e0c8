"""From the bytes that a command prints to its lines; what it draws again, as progress bars are, is a draft until it rests."""

from __future__ import annotations

import codecs
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from .canvas import Canvas
from .levels import level_of
from .lines import LineSplitter
from .redraws import DRAFT_BYTES, Redraw
from .screen import HEIGHT, MOVES

INTERVAL: Final = 1.0
"""Seconds between two drafts at first; what goes on for longer than a minute is told each 60th part of that time, up to"""
LONGEST_INTERVAL: Final = 10.0
QUIET: Final = 1.0
"""Seconds after which rows that the cursor went back to count as left: at least, and three times the pause between two frames."""
LONGEST_QUIET: Final = 10.0

_MOVES = re.compile(MOVES.pattern.encode("ascii"))
_UNFINISHED = re.compile(
    rb"(?:\r(?:\x1b(?:\[[0-?]{0,100}[ -/]{0,4})?)?|\x1b(?:\[[0-?]{0,100}[ -/]{0,4}|[ -/]{0,4}|[\]PX^_][^\x07\x1b\n]{0,4000}\x1b?)"
    rb"|section(?:_[\x21-\x7e]{0,450}(?:\r(?:\x1b(?:\[0?)?)?)?)?"
    rb"|(?<![^\n])s(?:e(?:c(?:t(?:io?)?)?)?)?)\Z"
)
_SECTION = re.compile(rb"(section_(?:start|end):[0-9]{1,12}:[A-Za-z0-9_.-]{1,200}(?:\[[^\]\r\n]{0,200}\])?)\r(?=\x1b\[0?K)")
"""GitLab's marker, which hides itself by a carriage return: it stays, for the viewer makes groups of it."""
_TAIL: Final = 4096
"""Bytes at the end of what was read in which such a beginning is looked for."""


Change: TypeAlias = str | Redraw


class DrawnLines:
    """Cuts output into lines, however the reads fall. A line that is complete is told at once, and once.

    What the cursor goes back to (by a carriage return, upwards, to a column) is drawn as a terminal draws it, and told as drafts,
    at most one in ``INTERVAL``; it becomes lines when it rests or the output ends. So any number of frames is one line for each
    of their rows. Lines that were told already and are drawn again, at most ``HEIGHT`` of them, are taken back. What it holds is
    bounded by that, and by one line.

    Args:
        limit: The most bytes of a line, in UTF-8.
        clock: Seconds.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = LineSplitter(limit)
        self._clock = clock
        self._pending = b""  # what may be the beginning of a sequence
        self._above: deque[str] = deque(maxlen=HEIGHT)
        self._canvas: Canvas | None = None
        self._saved = (0, 0)  # where the cursor was saved: the row, from the one that is not complete, and the column
        self._decode = codecs.getincrementaldecoder("utf-8")("replace")
        self._limit = limit
        self._draft = ""  # as it was told last
        self._told_at = self._begun_at = self._moved_at = float("-inf")
        self._quiet = QUIET
        self._changed = False

    def feed(self, data: bytes) -> list[Change]:
        """Return what ``data`` completes and changes."""
        data = self._pending + data
        cut = _UNFINISHED.search(data, max(0, len(data) - _TAIL))
        self._pending = data[cut.start() :] if cut else b""
        data = data[: cut.start()] if cut else data
        if b"section_" in data:
            data = _SECTION.sub(rb"\1", data)
        if self._canvas is None:
            if not _MOVES.search(data):
                return self._plain(data)
            self._canvas = Canvas(self._above, self._limit, self._saved)
            self._decode.reset()
            data = self._lines.take_rest() + data
        return self._drawn(data, final=False)

    @property
    def due(self) -> float | None:
        """The time, of the clock, at which ``tick`` is to be called though nothing comes; ``None``: never."""
        if self._canvas is None:
            return None
        times = [self._next_draft()] if self._changed else []
        if self._canvas.held:
            times.append(self._moved_at + self._quiet)
        return min(times, default=None)

    def tick(self) -> list[Change]:
        """Return what has changed or come to rest, if it is time."""
        return [] if self._canvas is None else self._changes(self._canvas)

    def finish(self) -> list[Change]:
        """Return what is left when the output has ended; its last line may have no end."""
        rest, self._pending = self._pending.rstrip(b"\r"), b""
        if self._canvas is None:
            return [*self._plain(rest), *self._lines.finish()]
        changes = self._drawn(rest, final=True)
        taken, lines = self._canvas.finish()
        return [*changes, *self._told(taken, lines, "")]

    def _plain(self, data: bytes) -> list[Change]:
        lines = self._lines.feed(data)
        self._saved = (self._saved[0] - len(lines), self._saved[1])
        self._above.extend(lines[-HEIGHT:])
        return [*lines]

    def _drawn(self, data: bytes, *, final: bool) -> list[Change]:
        canvas = self._canvas
        assert canvas is not None
        text = self._decode.decode(data, final)
        now = self._clock()
        moved, drawn = canvas.write(text)
        if moved:
            pause = now - self._moved_at
            self._quiet = min(LONGEST_QUIET, max(QUIET, 3 * pause)) if pause < LONGEST_QUIET else QUIET
            self._moved_at = now
        if drawn:
            self._changed = True
        return self._changes(canvas)

    def _changes(self, canvas: Canvas) -> list[Change]:
        now = self._clock()
        if canvas.held and now >= self._moved_at + self._quiet:
            canvas.release()
        due = self._changed and now >= self._next_draft()
        if due:
            canvas.settle()
        lines = canvas.complete()
        taken = canvas.take_back() if due or lines else []
        if due or taken or not canvas.drawn:
            draft = canvas.draft(DRAFT_BYTES) if canvas.drawn else ""
            self._begun_at = now if now - self._told_at > LONGEST_INTERVAL + INTERVAL else self._begun_at
            self._told_at = now if due or taken else self._told_at
            self._changed = False
        else:
            draft = self._draft
        if canvas.empty and not self._decode.getstate()[0]:  # a character may be cut between two reads
            self._canvas, self._saved = None, canvas.saved
        return self._told(taken, lines, draft)

    def _told(self, taken: list[str], lines: list[str], draft: str) -> list[Change]:
        changes: list[Change] = []
        if taken or draft != self._draft:
            self._draft = draft
            levels = [*map(level_of, taken)]
            changes.append(Redraw(len(taken), draft, levels.count("error"), levels.count("warning")))
        fitting = [piece for line in lines for piece in self._lines.fitting(line)]
        self._above.extend(fitting[-HEIGHT:])
        return [*changes, *fitting]

    def _next_draft(self) -> float:
        elapsed = self._told_at - self._begun_at if self._begun_at > float("-inf") else 0.0
        pause = min(LONGEST_INTERVAL, max(INTERVAL, elapsed / 60))
        return self._told_at + max(pause, len(self._draft) / DRAFT_BYTES)
