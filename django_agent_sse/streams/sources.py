"""What can be piped: async and sync iterators, lines of files, text that is framed already.

A sync iterator runs item by item on a thread that it keeps for its life, with database connections of its own, from a bounded and
counted number of threads: it may block as it likes, and it is never drained into a list.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from asgiref.sync import sync_to_async

from ..connections.own import OwnConnections
from ..exceptions import ConfigurationError
from ..wire import Decoder, Event
from .lifelong import lifelong
from .threads import current, in_callers_thread

READY = (list, tuple, deque, range, dict, set, frozenset)
"""Iterables that cannot block: no thread is needed."""
_END = object()


async def items_of(source: Any) -> AsyncIterator[Any]:
    """The items of anything that ``stream.pipe`` takes; closes the source, also when cancelled."""
    if hasattr(source, "readline"):
        inner = _lines_of(source)
    elif hasattr(source, "__aiter__"):
        inner = source.__aiter__()
    elif isinstance(source, READY):
        for item in source:
            yield item
        return
    elif hasattr(source, "__iter__") and not isinstance(source, str | bytes):
        inner = in_thread(source)
    else:
        raise ConfigurationError(
            f"a {type(source).__name__} cannot be piped; give an async or sync iterator, or a file; write() sends one value"
        )
    try:
        async for item in inner:
            yield item
    finally:
        if hasattr(inner, "aclose"):
            await inner.aclose()


async def _lines_of(source: Any) -> AsyncIterator[Any]:
    lines = source.__aiter__() if hasattr(source, "__aiter__") else in_thread(source)
    try:
        async for line in lines:
            yield without_line_end(line)
    finally:
        if hasattr(lines, "aclose"):
            await lines.aclose()


def without_line_end(line: Any) -> Any:
    """A line of text or bytes without its one line end."""
    for end in ("\r\n", "\n", "\r") if isinstance(line, str) else (b"\r\n", b"\n", b"\r"):
        if line.endswith(end):
            return line[: -len(end)]
    return line


async def in_thread(source: Iterable[Any]) -> AsyncIterator[Any]:
    """Iterate a sync iterable on one thread, one item at a time, in the caller's context.

    Raises:
        TooManyThreads: ``AGENT_SSE["PINNED_THREADS"]`` threads are kept.
    """
    if in_callers_thread():
        iterator = await sync_to_async(iter)(source)
        step: Callable[[Iterator[Any], object], Awaitable[Any]] = sync_to_async(next)
        try:
            while (item := await step(iterator, _END)) is not _END:
                yield item
        finally:
            await sync_to_async(_close)(iterator)
        return
    lifelong.take()
    stream = current.get()
    connections = OwnConnections()
    connections.begin(stream.prepare if stream is not None else None)
    executor = ThreadPoolExecutor(1, thread_name_prefix="sse-iterator", initializer=connections.enter)
    opened: list[Iterator[Any]] = []

    def advance() -> Any:
        if not opened:
            opened.append(iter(source))
        try:
            return next(opened[0], _END)
        finally:
            connections.give_pooled_back()

    step_there: Callable[[], Awaitable[Any]] = sync_to_async(advance, thread_sensitive=False, executor=executor)
    try:
        while (item := await step_there()) is not _END:
            yield item
    finally:
        over: Future[None] = executor.submit(_finish, opened, connections)
        over.add_done_callback(lambda _: lifelong.give_back())
        executor.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(over))


def _finish(opened: list[Iterator[Any]], connections: OwnConnections) -> None:
    try:
        for iterator in opened:
            _close(iterator)
    finally:
        connections.close()


def _close(iterator: Iterator[Any]) -> None:
    with contextlib.suppress(AttributeError):
        iterator.close()  # type: ignore[attr-defined]


async def events_of(source: Any) -> AsyncIterator[Event]:
    """The events of text that is framed already, cut anywhere; ``sse.*`` events of the other end are left out."""
    decoder = Decoder()
    items = items_of([source] if isinstance(source, str | bytes) else _unlined(source))
    try:
        async for item in items:
            for event in decoder.feed(item.encode() if isinstance(item, str) else item):
                if not is_reserved(event):
                    yield event
        decoder.finish()
    finally:
        await items.aclose()  # type: ignore[attr-defined]


def is_reserved(event: Event) -> bool:
    """Whether an event speaks for the stream that carried it."""
    return (event.event or "").startswith("sse.") or (event.id or "").startswith("sse.")


def _unlined(source: Any) -> Any:
    """A file as an iterator that is no file: framing needs the line ends."""
    if hasattr(source, "readline"):
        return (line async for line in source) if hasattr(source, "__aiter__") else (line for line in source)
    return source
