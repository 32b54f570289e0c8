"""What can be piped: async and sync iterators, lines of files, text that is framed already.

A sync iterator runs item by item on a thread that it keeps for its life, from a bounded and counted number of threads: it may
block as it likes, and it is never drained into a list.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from asgiref.sync import sync_to_async

from ..encoding import is_one_value
from ..eventlog.threads import give_connections_back
from ..exceptions import ArgumentInvalid, TooManyThreads
from ..wire import Decoder, Event
from ..wire.event import is_reserved
from .threads import in_callers_thread

MAX_THREADS = 64
"""Sync iterators that may run at a time in a process; beyond it a stream is answered as overloaded."""
FED = 65_536
"""Bytes of framed text that are read in one step, between which others have their turn."""
READY = (list, tuple, deque, range, dict, set, frozenset)
"""Iterables that cannot block: no thread is needed."""
_END = object()


class _Threads:
    """Counts the threads that sync iterators keep."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """None is taken, as after a fork."""
        self._lock = threading.Lock()
        self.taken = 0

    @property
    def exhausted(self) -> bool:
        return self.taken >= MAX_THREADS

    def take(self) -> ThreadPoolExecutor:
        with self._lock:
            if self.exhausted:
                raise TooManyThreads(
                    f"{MAX_THREADS} sync generators are streaming in this process, each on a thread of its own; "
                    "write the handler as an async generator, which needs none"
                )
            self.taken += 1
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix="sse-iterator")

    def give_back(self, executor: ThreadPoolExecutor) -> None:
        with self._lock:
            self.taken -= 1
        executor.shutdown(wait=False)


iterator_threads = _Threads()
os.register_at_fork(after_in_child=iterator_threads.reset)


async def items_of(source: Any) -> AsyncIterator[Any]:
    """The items of anything that ``stream.pipe`` takes; closes the source, also when cancelled.

    Raises:
        ArgumentInvalid: It is nothing that has items.
    """
    if (is_one_value(source) and not isinstance(source, Mapping)) or isinstance(source, type):
        raise _not_piped(source, "write() sends one value, as one event")
    if hasattr(source, "readline"):
        inner = _lines_of(source)
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
        f"event, or a file, each line of which is one; {hint or 'write() sends one value, as one event'}"
    )


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
        TooManyThreads: ``MAX_THREADS`` of them are running.
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
    executor = iterator_threads.take()
    opened: list[Iterator[Any]] = []

    def advance() -> Any:
        if not opened:
            opened.append(iter(source))
        return next(opened[0], _END)

    step_there: Callable[[], Awaitable[Any]] = sync_to_async(advance, thread_sensitive=False, executor=executor)
    try:
        while (item := await step_there()) is not _END:
            yield item
    finally:
        over: Future[None] = executor.submit(_finish, opened)
        over.add_done_callback(lambda _: iterator_threads.give_back(executor))
        await asyncio.shield(asyncio.wrap_future(over))


def _finish(opened: list[Iterator[Any]]) -> None:
    try:
        for iterator in opened:
            _close(iterator)
    finally:
        give_connections_back()


def _close(iterator: Iterator[Any]) -> None:
    with contextlib.suppress(AttributeError):
        iterator.close()  # type: ignore[attr-defined]


async def events_of(source: Any) -> AsyncIterator[Event]:
    """The events of text that is framed already, cut anywhere; ``sse.*`` events of the other end are left out."""
    decoder = Decoder()
    items = items_of([source] if isinstance(source, str | bytes) else _unlined(source))
    try:
        async for item in items:
            data = item.encode() if isinstance(item, str) else item
            for start in range(0, len(data), FED):
                for event in decoder.feed(data[start : start + FED]):
                    if not speaks_for_its_stream(event):
                        yield event
                if len(data) > FED:
                    await asyncio.sleep(0)
        decoder.finish()
    finally:
        await items.aclose()  # type: ignore[attr-defined]


def speaks_for_its_stream(event: Event) -> bool:
    """Whether an event, or its id, means the stream that carried it, and nobody whom it is passed on to."""
    return is_reserved(event.event or "") or is_reserved(event.id or "")


def _unlined(source: Any) -> Any:
    """A file as an iterator that is no file: framing needs the line ends."""
    if hasattr(source, "readline"):
        return (line async for line in source) if hasattr(source, "__aiter__") else (line for line in source)
    return source
