"""What nearly every handler of this site does: tell the journal how its life goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from . import journal

if TYPE_CHECKING:
    from django_agent_sse.streams.context import Context
    from django_agent_sse.streams.stream import Stream

Note = Callable[..., None]

CLEANUP_SECONDS = 0.01
"""What ``finally`` and ``on_end`` await, so that one which is cut short does not look finished."""


def notes(c: Context) -> Note:
    """``note("what", **details)`` under the request's ``key``."""
    return partial(journal.record, c.query.get("key", ""))


@asynccontextmanager
async def watched(c: Context, stream: Stream) -> AsyncIterator[Note]:
    """Record ``started``, ``on_abort``, ``cancelled``, ``finally`` and ``on_end`` of a handler's body."""
    note = notes(c)
    note("started", last_event_id=c.last_event_id)
    stream.on_abort(lambda: note("on_abort", ending=stream.ending))

    @stream.on_end
    async def over() -> None:
        await asyncio.sleep(CLEANUP_SECONDS)
        note("on_end", ending=stream.ending, error=repr(stream.error))

    try:
        yield note
    except asyncio.CancelledError:
        note("cancelled")
        raise
    finally:
        await asyncio.sleep(CLEANUP_SECONDS)
        note("finally")
