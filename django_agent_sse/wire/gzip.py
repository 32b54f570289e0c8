"""gzip for streams: blocks that stand alone, so that one that was made once can be sent to every client, whatever it had before.

`RFC 1952 <https://www.rfc-editor.org/rfc/rfc1952>`__ puts a header before the blocks of
`RFC 1951 <https://www.rfc-editor.org/rfc/rfc1951>`__, and the checksum and the length of what they hold after them. What was
flushed fully ends at a byte, and nothing after it refers to what was before. A client needs no more to have its events at once.
"""

from __future__ import annotations

import struct
import threading
import zlib
from functools import lru_cache
from typing import NamedTuple, Protocol
from zlib import crc32

HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""Of a stream without a name and a time, by whatever system."""
LAST_BLOCK = b"\x03\x00"
"""The final block, which is empty; zlib flushes no final one without ending its compressor."""
LEVEL = 4
"""Build logs become 0.36 of their bytes 10 lines at a time with each level; 250 lines 0.25 with level 1, 0.23 with this one, and
0.22 with level 6 in four times its time."""
MEM_LEVEL = 5
"""Of the compressors that threads share. Each block clears a table for it, 8 KiB, which takes longer for larger ones."""
OWN_LEVEL = 1
OWN_WINDOW_BITS = 10
OWN_MEM_LEVEL = 2
"""A connection's own compressor: 12 KiB. With it deltas of a language model, one by one, become 0.25 of their bytes; with the
largest window 0.21, and each by itself 0.95."""
LARGE_BYTES = 2_048
"""So many bytes have enough to refer to in themselves: they are deflated alone, in a window as large as all of them."""


class Compressor(Protocol):
    """Of zlib."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: int, /) -> bytes: ...


_shared = threading.local()


def deflate(data: bytes) -> bytes:
    """Return a block of what is sent at once: whole bytes, which refer to nothing before them."""
    compressor: Compressor | None = getattr(_shared, "compressor", None)
    if compressor is None:
        compressor = _shared.compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, MEM_LEVEL)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)


class Mark(NamedTuple):
    """A place in a stream: the checksum and the length of what is before it."""

    checksum: int
    length: int


_START = Mark(0, 0)


class Block(NamedTuple):
    """What was deflated for many.

    Attributes:
        deflated: The bytes, which refer to nothing before them.
        before: A place before them, in the stream of whoever was the first to send them.
        after: The place after them in that stream.
    """

    deflated: bytes
    before: Mark
    after: Mark


class GzipEncoder:
    """The gzip stream of one connection. What it returns is sent in this order, and a client can read all of it at once.

    A checksum goes over each byte, and would be most of what a shared block costs a connection. So a connection goes along with
    the places in the stream of the first one that sends the blocks, and works out its own where it sends something else, or ends.
    """

    __slots__ = ("_begun", "_joined", "_left", "_mark", "_own", "_writes")

    def __init__(self) -> None:
        self._begun = False
        self._left = self._joined = self._mark = _START
        # Where it was in its own stream when it joined another one, where that was in the other one, and where it is there now.
        self._own: Compressor | None = None
        self._writes = False  # what came last was for this connection alone

    def make_block(self, data: bytes) -> Block:
        """Return a block for many, of what is sent next here."""
        before = self._mark
        return Block(deflate(data), before, Mark(crc32(data, before.checksum), before.length + len(data)))

    def add_block(self, block: Block) -> bytes:
        """Return what to send of a block."""
        if block.before is not self._mark:
            self._left, self._joined = self._place(), block.before
        self._mark = block.after
        self._own, self._writes = None, False  # its window would lack these bytes
        return block.deflated if self._begun else self._begin(block.deflated)

    def add(self, data: bytes) -> bytes:
        """Return what to send of ``data`` that is for this connection alone. Small pieces refer to those before them.

        The first of them has none before it. A stream that follows begins with one, and thousands of them may connect at once.
        """
        if len(data) >= LARGE_BYTES or not self._writes:
            sent, self._writes = self.add_deflated(data, deflate(data)), True
            return sent
        own = self._own or zlib.compressobj(OWN_LEVEL, zlib.DEFLATED, -OWN_WINDOW_BITS, OWN_MEM_LEVEL)
        sent = self.add_deflated(data, own.compress(data) + own.flush(zlib.Z_SYNC_FLUSH))
        self._own, self._writes = own, True
        return sent

    def add_deflated(self, data: bytes, deflated: bytes) -> bytes:
        """Return what to send of ``data`` that is deflated already, as by ``deflate()``."""
        checksum, length = self._place()
        self._left = self._joined = self._mark = Mark(crc32(data, checksum), length + len(data))
        self._own, self._writes = None, False
        return deflated if self._begun else self._begin(deflated)

    def finish(self) -> bytes:
        """Return the end. A stream that breaks off must not have it, so that its client sees that it is not whole."""
        checksum, length = self._place()
        return self.add_deflated(b"", LAST_BLOCK + struct.pack("<LL", checksum, length & 0xFFFFFFFF))

    def _begin(self, deflated: bytes) -> bytes:
        self._begun = True
        return HEADER + deflated

    def _place(self) -> Mark:
        """Return where it is in its own stream."""
        left, joined, mark = self._left, self._joined, self._mark
        if left is joined:
            return mark
        size = mark.length - joined.length
        # Checksums are linear: what differs before the same bytes is what differs after them, moved on by as many bytes.
        return Mark(_multiply(left.checksum ^ joined.checksum, _power(size)) ^ mark.checksum, left.length + size)


# Python's zlib has crc32_combine() from 3.15 on. These are polynomials with coefficients 0 and 1, modulo that of the checksum;
# the highest bit of a number is the coefficient of x⁰.

_POLYNOMIAL = 0xEDB88320
_ONE = 0x80000000
_X8 = 0x00800000


def _multiply(one: int, other: int) -> int:
    product = 0
    while one:
        if one & _ONE:
            product ^= other
        one = (one << 1) & 0xFFFFFFFF
        other = (other >> 1) ^ (_POLYNOMIAL if other & 1 else 0)
    return product


@lru_cache(maxsize=256)
def _power(size: int) -> int:
    """Return x to the power of eight times ``size``: the followers of a topic need it of the same sizes."""
    power, square = _ONE, _X8
    while size:
        if size & 1:
            power = _multiply(power, square)
        square = _multiply(square, square)
        size >>= 1
    return power
