"""Standard input, line by line, in batches that wait no longer than a moment."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO, Final

BATCH_SECONDS: Final = 0.05
"""How long a line waits for others to be appended with."""
BATCH_LINES: Final = 256
BATCH_BYTES: Final = 1_048_576
READ: Final = 65536
WAITING: Final = 16
"""Chunks that are read ahead: whoever writes faster than the log takes is held by a full pipe."""

Line = tuple[int, bytes]
"""Its number, from 1, and its bytes without the line end."""


class _Cutter:
    """Cuts chunks into lines, in linear time. Of a line it holds ``longest`` bytes and a chunk, and drops the rest."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that ``chunk`` completes; an empty one, which is the end, completes the last line."""
        *ended, rest = chunk.split(b"\n") if chunk else ([b""] if not self._rest else [b"", b""])
        if ended:
            ended[0] = bytes(self._rest) + ended[0]
            self._rest.clear()
        if len(self._rest) <= self._longest:
            self._rest += rest
        return ended


def batches_of(source: BinaryIO, longest: int) -> Iterator[list[Line]]:
    """The lines of ``source`` as they come: those that come within ``BATCH_SECONDS`` in one batch, up to ``BATCH_LINES``.

    ``BATCH_BYTES`` end a batch too. A line of more than ``longest`` bytes is cut short, to more than that: the caller refuses it.
    """
    chunks: queue.Queue[bytes] = queue.Queue(WAITING)
    threading.Thread(target=_read, args=(source, chunks), name="sse-publish-stdin", daemon=True).start()
    batch: list[Line] = []
    cutter = _Cutter(longest + len(b"\r"))
    number, size, deadline = 1, 0, 0.0
    while True:
        try:
            chunk = chunks.get(timeout=max(0.0, deadline - time.monotonic()) if batch else None)
        except queue.Empty:
            yield batch
            batch, size = [], 0
            continue
        ended = cutter.feed(chunk)
        if ended and not batch:
            deadline = time.monotonic() + BATCH_SECONDS
        for line in ended:
            batch.append((number, line.removesuffix(b"\r")))
            number += 1
            size += len(line)
            if len(batch) == BATCH_LINES or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
                deadline = time.monotonic() + BATCH_SECONDS
        if not chunk or (batch and time.monotonic() >= deadline):
            if batch:
                yield batch
            batch, size = [], 0
        if not chunk:
            return


def _read(source: BinaryIO, chunks: queue.Queue[bytes]) -> None:
    """To the end, which is an empty chunk; a terminal's line is a chunk of its own."""
    try:
        number = source.fileno()
        while chunk := os.read(number, READ):
            chunks.put(chunk)
    except (OSError, AttributeError, ValueError):  # no file of the system's
        chunks.put(source.read() if not source.closed else b"")
    chunks.put(b"")
