"""What sync code pipes into a topic or a run: iterables, the lines of open files, text that is framed already."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..encoding import is_one_value
from ..exceptions import ArgumentInvalid
from ..streams.sources import speaks_for_its_stream, without_line_end
from ..wire import Decoder, Event


def items(source: Any, verb: str, *, lines: bool = True) -> Iterator[Any]:
    """Yield the items of a sync iterable, or the lines of a file, and close it whatever happens.

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
    is_file = lines and hasattr(source, "readline")
    try:
        for item in source:
            yield without_line_end(item) if is_file else item
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
