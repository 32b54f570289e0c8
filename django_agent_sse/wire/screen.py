"""Rows of text as a terminal draws them: what carriage returns, erasures and movements of the cursor leave."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from unicodedata import combining, east_asian_width

from .redraws import MOST_LINES

HEIGHT: Final = MOST_LINES
"""Rows that can be drawn again: what is above them stays as it is."""
CELLS: Final = 262_144
"""Cells of all these rows together, beside the last row."""
STYLE: Final = 256
"""Characters of the colours of one cell; of more the newest count."""

MOVES: Final = re.compile(
    r"[\x08\x0b\x0c]|\r(?!\n|\Z)"
    r"|\x1b(?:[78DEM]|\[[0-9;?]{0,30}[@-IL-MPSTXZ`adefsu]|\[[0-9;?]{0,30}[12][JK]|\[3J)"
)
"""What draws anything but the end of a line. Erasing what is right of it draws nothing."""
TOKENS: Final = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f\x9b-\x9f]+)"
    r"|\x1b\[(?P<private>[<-?]?)(?P<numbers>[0-9;:]*)[ -/]*(?P<final>[@-~])"
    r"|(?P<string>\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\))"
    r"|\x1b(?P<escape>[ -/]*[0-~]?)"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f\x9b-\x9f])"
)
TAB: Final = 8
LINK: Final = 2_000
"""Characters of a link's sequence; a longer one is left out."""
_LINK = re.compile(r"\x1b\]8;[^;]{0,200};(.*?)(?:\x07|\x1b\\)", re.DOTALL)
_END_OF_LINK: Final = "\x1b]8;;\x1b\\"


class Look(NamedTuple):
    """How a cell looks, in the sequences that say so.

    Args:
        style: Its colours.
        link: Where it leads.
    """

    style: str = ""
    link: str = ""

    def after(self, token: re.Match[str]) -> Look:
        """Return how what follows one more sequence looks."""
        if token["final"] == "m" and not token["private"]:
            return Look(styled(self.style, token[0]), self.link)
        if token["string"] is not None and (link := _LINK.fullmatch(token[0])) is not None:
            return Look(self.style, token[0] if link[1] and len(token[0]) <= LINK else "")
        return self


PLAIN: Final = Look()


class Row:
    """One row: text as it was printed, or cells, once it was drawn on.

    Attributes:
        redrawn: Something of it was drawn again, or may be.
    """

    __slots__ = ("_chars", "_length", "_looks", "_raw", "redrawn")

    def __init__(self, raw: str = "") -> None:
        self.redrawn = False
        self._raw: list[str] | None = [raw] if raw else []
        self._length = len(raw)
        self._chars: list[str] = []
        self._looks: list[Look] = []

    def __len__(self) -> int:
        return len(self._chars) if self._raw is None else self._length

    @property
    def is_raw(self) -> bool:
        """Whether it stands as it was printed."""
        return self._raw is not None

    def extend(self, text: str) -> None:
        """Add text to a row that stands as it was printed."""
        assert self._raw is not None
        self._raw.append(text)
        self._length += len(text)

    @property
    def text(self) -> str:
        """The row with its colours; blanks at its end are left out where it was drawn."""
        if self._raw is not None:
            return "".join(self._raw)
        end = len(self._chars)
        while end and self._chars[end - 1] in (" ", "") and self._looks[end - 1] == PLAIN:
            end -= 1
        pieces: list[str] = []
        look = PLAIN
        for char, wanted in zip(self._chars[:end], self._looks[:end], strict=True):
            if wanted is not look:
                pieces.append(_between(look, wanted))
                look = wanted
            pieces.append(char)
        return "".join(pieces) + _between(look, PLAIN)

    def draw(self) -> int:
        """Make cells of it, and return the column after the last one."""
        self._draw()
        return len(self._chars)

    def put(self, column: int, text: str, look: Look) -> int:
        """Write over what is there. Return the column after it."""
        self._draw()
        self._pad(column)
        if text.isascii():
            end = column + len(text)
            self._split(column, end)
            self._chars[column:end] = text
            self._looks[column:end] = [look] * len(text)
            return end
        for char in text:
            width = _width(char)
            if not width:
                if column:
                    self._chars[column - 1] += char if len(self._chars[column - 1]) < STYLE else ""
                continue
            self._split(column, column + width)
            self._chars[column : column + width] = [char, ""][:width]
            self._looks[column : column + width] = [look] * width
            column += width
        return column

    def erase(self, begin: int, end: int | None) -> None:
        """Make cells blank; to its end, drop them."""
        self._draw()
        if end is None:
            self._split(begin, begin)
            del self._chars[begin:], self._looks[begin:]
            return
        count = max(0, min(end, len(self._chars)) - begin)
        self._split(begin, begin + count)
        self._chars[begin : begin + count] = " " * count
        self._looks[begin : begin + count] = [PLAIN] * count

    def insert(self, column: int, count: int) -> None:
        """Move what is right of it to the right, or with a negative ``count`` to the left."""
        self._draw()
        self._pad(column)
        if count < 0:
            del self._chars[column : column - count], self._looks[column : column - count]
            return
        self._chars[column:column] = " " * count
        self._looks[column:column] = [PLAIN] * count

    def _draw(self) -> None:
        """Make cells of text that was printed."""
        if self._raw is None:
            return
        raw, self._raw = "".join(self._raw), None
        column, look = 0, PLAIN
        for token in TOKENS.finditer(raw):
            if token["text"] is not None:
                column = self.put(column, token["text"], look)
            elif token["control"] == "\t":
                column = _tab(column)
            else:
                look = look.after(token)

    def _pad(self, column: int) -> None:
        missing = column - len(self._chars)
        if missing > 0:
            self._chars += " " * missing
            self._looks += [PLAIN] * missing

    def _split(self, begin: int, end: int) -> None:
        """Of wide characters that are half overwritten, the other half becomes blank."""
        if begin < len(self._chars) and self._chars[begin] == "" and begin:
            self._chars[begin - 1] = " "
        if end < len(self._chars) and self._chars[end] == "":
            self._chars[end] = " "


def styled(style: str, sequence: str) -> str:
    """Return the colours after one more sequence that sets them."""
    if sequence in ("\x1b[m", "\x1b[0m", "\x1b[00m"):
        return ""
    if sequence.startswith("\x1b[0;"):
        return sequence[:STYLE]
    return (style + sequence) if len(style) + len(sequence) <= STYLE else sequence[:STYLE]


def _between(look: Look, wanted: Look) -> str:
    """Return the sequences that lead from one look to another."""
    link = "" if wanted.link == look.link else wanted.link or _END_OF_LINK
    if wanted.style == look.style:
        return link
    if look.style and wanted.style.startswith(look.style):
        return link + wanted.style.removeprefix(look.style)
    return link + ("\x1b[0m" if look.style else "") + wanted.style


def _width(char: str) -> int:
    if combining(char) or char in "\u200b\u200c\u200d\ufe0e\ufe0f":
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def _tab(column: int) -> int:
    return (column // TAB + 1) * TAB
