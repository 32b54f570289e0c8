"""Streams that are ended together, from any thread: each on its own loop, some at a time, so that no loop is held up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from ..runtime.backoff import jittered
from ..wire.event import MAX_RETRY
from .endings import Ending
from .registry import OpenStream, registry

BATCH_SIZE = 100
"""Streams that are ended at once; more would hold up the others of the loop."""
BATCH_INTERVAL = 0.05
"""Seconds between two batches."""


def end_streams(streams: Iterable[OpenStream], ending: Ending, retry: int | None) -> None:
    """End streams of this process.

    Args:
        streams: Which.
        ending: How.
        retry: Milliseconds after which their clients may come back, more or less where they are many; ``None``: never.
    """
    wanted = set(streams)
    for loop_state in registry.loops():
        own = [stream for stream in tuple(loop_state.streams) if stream in wanted]
        if own:
            with contextlib.suppress(RuntimeError):  # the loop closed in between
                loop_state.loop.call_soon_threadsafe(_end_batch, own, ending, retry, len(wanted) > 1)


def _end_batch(streams: list[OpenStream], ending: Ending, retry: int | None, several: bool) -> None:
    for stream in streams[:BATCH_SIZE]:
        later = jittered(retry) if retry is not None and several else retry  # clients must not all come back at once
        stream.end(ending, retry=None if later is None else min(later, MAX_RETRY))
    if rest := streams[BATCH_SIZE:]:
        asyncio.get_running_loop().call_later(BATCH_INTERVAL, _end_batch, rest, ending, retry, several)
