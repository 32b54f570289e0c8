"""From the bytes of a pipe to lines of text that fit into events."""

from __future__ import annotations

_GROWTH = 3
"""A byte that is no UTF-8 becomes U+FFFD, which takes three."""


class LineSplitter:
    """Cuts output into lines at LF and CRLF, however the reads fall. Linear in what it is fed; holds one line at most.

    What is not UTF-8 becomes U+FFFD. A CR inside a line begins it again, as a terminal shows it: what it overwrites is gone. A
    line that does not fit goes on as further lines.

    Args:
        limit: The most bytes of a line, in UTF-8.
    """

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, _GROWTH + 1)
        self._rest = bytearray()  # without a CR, but for one at its end
        self._drawn = False
        self._shown: str | None = None

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        head, newline, rest = data.rpartition(b"\n")
        lines: list[str] = []
        if newline:
            lines = self._whole(bytes(self._rest) + head)
            if lines[0] == self._shown:
                del lines[0]
            self._rest, self._drawn, self._shown = bytearray(), False, None
        self._go_on(rest)
        self._cut(lines)
        return lines

    def finish(self) -> list[str]:
        """The last line, where the output did not end with one."""
        rest, self._rest = bytes(self._rest.rstrip(b"\r")), bytearray()
        lines = self._fitting(rest) if rest else []
        return [] if lines == [self._shown] else lines

    def redrawn(self) -> str | None:
        """How the line that is not complete looks now, where CRs draw it, and not as when last asked: a progress bar.

        A line that ends as it was last told is not told again.
        """
        rest = bytes(self._rest.rstrip(b"\r")) if self._drawn else b""
        if not rest or (text := self._fitting(rest)[0]) == self._shown:
            return None
        self._shown = text
        return text

    def _go_on(self, data: bytes) -> None:
        """Take what goes on with the line. Only ``data`` is looked at: a line may come a byte at a time."""
        drawn = data.rstrip(b"\r")
        if drawn and (b"\r" in drawn or self._rest.endswith(b"\r")):
            self._rest.clear()
        if b"\r" in data:
            self._drawn = True
        self._rest += drawn[drawn.rfind(b"\r") + 1 :]
        if len(drawn) < len(data) and not self._rest.endswith(b"\r"):
            self._rest += b"\r"

    def _whole(self, head: bytes) -> list[str]:
        lines: list[str] = []
        if b"\r" not in head and len(head) * _GROWTH <= self._limit:
            return head.decode("utf-8", "replace").split("\n")
        for line in head.split(b"\n"):
            if b"\r" in line:
                line = line.rstrip(b"\r")
                line = line[line.rfind(b"\r") + 1 :]
            lines += self._fitting(line)
        return lines

    def _cut(self, lines: list[str]) -> None:
        """Move what can never fit to ``lines``."""
        while len(self._rest) > self._limit:
            stop = _character_start(self._rest, self._limit)
            lines += self._fitting(bytes(self._rest[:stop]))
            del self._rest[:stop]  # of a bytearray that moves nothing

    def _fitting(self, line: bytes) -> list[str]:
        text = line.decode("utf-8", "replace")
        if len(line) * _GROWTH <= self._limit or len(encoded := text.encode()) <= self._limit:
            return [text]
        pieces, start = [], 0
        while len(encoded) - start > self._limit:
            stop = _character_start(encoded, start + self._limit)
            pieces.append(encoded[start:stop].decode())
            start = stop
        return [*pieces, encoded[start:].decode()]


def _character_start(text: bytes | bytearray, at: int) -> int:
    """``at``, or up to three bytes before it where it is inside a UTF-8 character."""
    for start in range(at, at - 4, -1):
        if text[start] & 0xC0 != 0x80:
            return start
    return at
