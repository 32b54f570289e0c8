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
READ: Final = 65536
WAITING: Final = 16
"""Chunks that are read ahead: whoever writes faster than the log takes is held by a full pipe."""

Line = tuple[int, bytes]
"""Its number, from 1, and its bytes without the line end."""


def batches_of(source: BinaryIO) -> Iterator[list[Line]]:
    """The lines of ``source`` as they come: those that come within ``BATCH_SECONDS``, up to ``BATCH_LINES``, in one batch."""
    chunks: queue.Queue[bytes] = queue.Queue(WAITING)
    threading.Thread(target=_read, args=(source, chunks), name="sse-publish-stdin", daemon=True).start()
    batch: list[Line] = []
    number, rest, deadline = 1, b"", 0.0
    while True:
        try:
            chunk = chunks.get(timeout=max(0.0, deadline - time.monotonic()) if batch else None)
        except queue.Empty:
            yield batch
            batch = []
            continue
        *ended, rest = (rest + chunk).split(b"\n") if chunk else ([rest, b""] if rest else [b""])
        if ended and not batch:
            deadline = time.monotonic() + BATCH_SECONDS
        for line in ended:
            batch.append((number, line.removesuffix(b"\r")))
            number += 1
            if len(batch) == BATCH_LINES:
                yield batch
                batch = []
                deadline = time.monotonic() + BATCH_SECONDS
        if not chunk or (batch and time.monotonic() >= deadline):
            if batch:
                yield batch
            batch = []
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
