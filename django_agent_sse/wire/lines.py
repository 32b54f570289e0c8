"""From the bytes of a pipe to lines of text that fit into events."""

from __future__ import annotations

GOES_ON = "…"
"""Ends each piece of a line that was too long, but the last."""
_GROWTH = 3
"""A byte that is not UTF-8 becomes U+FFFD, which takes three bytes."""
_MARK_BYTES = len(GOES_ON.encode())


class LineSplitter:
    """Cuts output into lines at LF and CRLF, however the reads fall. Linear in what it is fed; holds one line at most.

    What is not UTF-8 becomes U+FFFD. A line that does not fit goes on as further lines, and each of them but the last ends with
    ``GOES_ON``. What draws again, a CR inside of a line, is for `drawing.DrawnLines`.

    Args:
        limit: The most bytes of a line, in UTF-8.
    """

    def __init__(self, limit: int) -> None:
        self._limit = max(limit, _GROWTH + 1 + _MARK_BYTES)
        self._room = self._limit - _MARK_BYTES
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that ``data`` completes."""
        head, newline, rest = data.rpartition(b"\n")
        lines: list[str] = []
        if newline:
            lines = self._whole(bytes(self._rest) + head)
            self._rest = bytearray()
        self._rest += rest
        self._cut(lines)
        return lines

    def finish(self) -> list[str]:
        """Return the last line, if the output did not end with a line end."""
        rest = self.take_rest().rstrip(b"\r")
        return self._fitting(rest) if rest else []

    def take_rest(self) -> bytes:
        """Return the beginning of the line that is not complete, and forget it."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest

    def fitting(self, line: str) -> list[str]:
        """Return a line in pieces that fit into events."""
        return [line] if len(line) * _GROWTH <= self._limit else self._fitting(line.encode("utf-8", "replace"))

    def _whole(self, head: bytes) -> list[str]:
        if b"\r" not in head and len(head) * _GROWTH <= self._limit:
            return head.decode("utf-8", "replace").split("\n")
        return [piece for line in head.split(b"\n") for piece in self._fitting(line.removesuffix(b"\r"))]

    def _cut(self, lines: list[str]) -> None:
        """Move what cannot fit into one event to ``lines``."""
        while len(self._rest) > self._limit:
            # Bytes that are not UTF-8 decode to more than they are: what is cut off may itself be several pieces.
            stop = _character_start(self._rest, self._room)
            *pieces, last = self._fitting(bytes(self._rest[:stop]), self._room)
            lines += [*pieces, last + GOES_ON]
            del self._rest[:stop]  # of a bytearray that moves nothing

    def _fitting(self, line: bytes, last: int | None = None) -> list[str]:
        """Return a line in pieces that fit into events; ``last`` is the limit of the last piece, if that is less."""
        last = last or self._limit
        text = line.decode("utf-8", "replace")
        if len(line) * _GROWTH <= last or len(encoded := text.encode()) <= last:
            return [text]
        pieces, start = [], 0
        while len(encoded) - start > last:
            stop = _character_start(encoded, start + self._room)
            pieces.append(encoded[start:stop].decode() + GOES_ON)
            start = stop
        return [*pieces, encoded[start:].decode()]


def _character_start(text: bytes | bytearray, at: int) -> int:
    """Return ``at``, or the beginning of the UTF-8 character that ``at`` would cut."""
    for start in range(at, at - 4, -1):
        if text[start] & 0xC0 != 0x80:
            return start
    return at
