"""Sync iterators on threads of their own.

Each runs item by item on a thread that it keeps for its life, from a bounded and counted number of threads: it may block as it
likes, and it is never drained into a list.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from asgiref.sync import sync_to_async

from ..eventlog.threads import give_connections_back
from ..exceptions import TooManyThreads
from .threads import in_callers_thread

MAX_THREADS = 64
"""Sync iterators that may run at a time in a process; beyond it a stream is answered as overloaded."""
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
