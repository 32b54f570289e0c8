"""What sync code pipes into a topic or a run: iterables, the lines of open files, text that is framed already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from ..encoding import is_one_value
from ..exceptions import ArgumentInvalid
from ..streams.sources import MAX_LINE_BYTES, as_bytes, read_chunks, speaks_for_its_stream, told
from ..wire import Decoder, Event
from ..wire.drawing import DrawnLines


def items(source: Any, verb: str, *, lines: bool = True, event: str | None = None) -> Iterator[Any]:
    """Yield the items of a sync iterable, or the lines of a file, and close it whatever happens; ``event`` as for ``items_of``.

    Raises:
        ArgumentInvalid: It has no items, or only asynchronous ones.
    """
    if is_one_value(source) or isinstance(source, type) or not hasattr(source, "__iter__"):
        hint = "publish() and write() take one value, as one event"
        if hasattr(source, "__aiter__"):
            hint = f"it is for coroutines, where a{verb}() of a topic takes it, and {verb}() of `async with produce(…)`"
        raise ArgumentInvalid(
            f"{type(source).__name__} cannot be given to {verb}(): it takes an iterable or an open file; {hint}"
        )
    if lines and hasattr(source, "readline"):
        drawn = DrawnLines(MAX_LINE_BYTES)
        with closing(read_chunks(source, lined=True)) as chunks:
            for chunk in chunks:
                yield from (told(change, event) for change in drawn.feed(as_bytes(chunk)))
        yield from (told(change, event) for change in drawn.finish())
        return
    try:
        yield from source
    finally:
        if hasattr(source, "close"):
            source.close()


def framed_events(source: Any) -> Iterator[Event]:
    """Yield the events of framed text, cut anywhere, without ids; ``sse.*`` events of the upstream are left out."""
    decoder = Decoder()
    pieces = [source] if isinstance(source, str | bytes) else items(source, "pipe_sse", lines=False)
    for piece in pieces:
        for found in decoder.feed(piece.encode() if isinstance(piece, str) else piece):
            if not speaks_for_its_stream(found):
                yield without_id(found)
    decoder.finish()


def without_id(event: Event) -> Event:
    """Return an event without its id: the log numbers its events."""
    return event if event.id is None else Event(event.data, event=event.event, retry=event.retry)
