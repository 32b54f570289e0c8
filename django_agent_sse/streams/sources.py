"""What can be piped: async and sync iterators, the lines of outputs, text that is framed already."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ..encoding import is_one_value
from ..exceptions import ArgumentInvalid
from ..wire import Decoder, Event
from ..wire.event import is_reserved
from .iterators import in_thread
from .outputs import chunks_of, is_output, lines_of

CHUNK_BYTES = 65_536
"""Bytes of framed text that are read in one step, between which others have their turn."""
READY = (list, tuple, deque, range, dict, set, frozenset)
"""Iterables that cannot block: no thread is needed."""


async def items_of(source: Any) -> AsyncIterator[Any]:
    """Yield the items of anything that ``stream.pipe`` takes; close the source, also when cancelled.

    Raises:
        ArgumentInvalid: It has no items.
    """
    if (is_one_value(source) and not isinstance(source, Mapping)) or isinstance(source, type):
        raise _not_piped(source, "write() sends one value, as one event")
    if is_output(source):
        inner: AsyncIterator[Any] = lines_of(source)
    elif hasattr(source, "__aiter__"):
        inner = source.__aiter__()
    elif isinstance(source, READY):
        for item in source:
            yield item
        return
    elif hasattr(source, "__iter__"):
        inner = in_thread(source)
    else:
        raise _not_piped(source, "")
    try:
        async for item in inner:
            yield item
    finally:
        if hasattr(inner, "aclose"):
            await inner.aclose()


def _not_piped(source: Any, hint: str) -> ArgumentInvalid:
    name = getattr(source, "__name__", "")
    if inspect.iscoroutine(source):
        source.close()  # else Python warns that nobody awaited it
        hint = f"await it first: pipe(await {name}(…))"
    elif inspect.isroutine(source):
        hint = f"call it: pipe({name}(…))"
    return ArgumentInvalid(
        f"{type(source).__name__} cannot be piped: pipe() takes an async or sync iterator or iterable, each item of which is an "
        f"event, or a file, a pipe or a process, each line of which is one; {hint or 'write() sends one value, as one event'}"
    )


def without_line_end(line: Any) -> Any:
    """Return a line of text or bytes without its line end."""
    for end in ("\r\n", "\n", "\r") if isinstance(line, str) else (b"\r\n", b"\n", b"\r"):
        if line.endswith(end):
            return line[: -len(end)]
    return line


async def events_of(source: Any) -> AsyncIterator[Event]:
    """Yield the events of text that is framed already, cut anywhere; ``sse.*`` events of the upstream are left out."""
    decoder = Decoder()
    items: Any = chunks_of(source) if is_output(source) else items_of([source] if isinstance(source, str | bytes) else source)
    try:
        async for item in items:
            data = item.encode() if isinstance(item, str) else item
            for start in range(0, len(data), CHUNK_BYTES):
                for event in decoder.feed(data[start : start + CHUNK_BYTES]):
                    if not speaks_for_its_stream(event):
                        yield event
                if len(data) > CHUNK_BYTES:
                    await asyncio.sleep(0)
        decoder.finish()
    finally:
        await items.aclose()


def speaks_for_its_stream(event: Event) -> bool:
    """Return whether an event, or its id, is about the stream that carried it, and so must not be passed on."""
    return is_reserved(event.event or "") or is_reserved(event.id or "")
