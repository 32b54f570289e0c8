"""Bytes of a process, as lines of text."""

from __future__ import annotations

MAX_LINE = 8192
"""Bytes of a line; a longer one goes on as further lines, so that one line cannot take the server's memory."""


class LineSplitter:
    """Cuts output into lines at LF and CRLF, however the reads fall. Linear in what it is fed; holds one line at most.

    What is not UTF-8 becomes U+FFFD. A CR inside a line (a progress bar's) stays where it is.
    """

    __slots__ = ("_limit", "_rest")

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        *ended, rest = (self._rest + data).split(b"\n")
        lines: list[str] = []
        for line in ended:
            lines.append(_text(self._cut(line.removesuffix(b"\r"), lines)))
        # A CR that may belong to a CRLF must not make a line of its own.
        held = b"\r" if rest.endswith(b"\r") else b""
        self._rest = self._cut(rest.removesuffix(b"\r"), lines) + held
        return lines

    def finish(self) -> list[str]:
        """The last line, where the output did not end with one."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []

    def _cut(self, line: bytes, lines: list[str]) -> bytes:
        """Move what is over the limit to ``lines``; the rest is never empty unless ``line`` was."""
        start = 0
        while len(line) - start > self._limit:
            stop = _character_start(line, start + self._limit)
            lines.append(_text(line[start:stop]))
            start = stop
        return line[start:]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _character_start(line: bytes, at: int) -> int:
    """``at``, or up to three bytes before it where it is inside a UTF-8 character."""
    for start in range(at, at - 4, -1):
        if line[start] & 0xC0 != 0x80:
            return start
    return at
