"""Sync iterators on threads of their own.

Each runs item by item on a thread that it keeps for its life, with database connections of its own, from a bounded and counted
number of threads: it may block as it likes, and it is never drained into a list.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from asgiref.sync import sync_to_async

from ..runtime.connections import give_pooled_back
from ..runtime.worker_threads import ConnectionHold
from .containment import contained
from .lifelong import kept_pool, lifelong
from .threads import current, in_callers_thread

_END = object()


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
    hold: Any = ConnectionHold(kept_pool, stream.prepare if stream is not None else None, keeps=True)
    opened: list[Iterator[Any]] = []

    def advance() -> Any:
        if not opened:
            opened.append(iter(source))
        try:
            return next(opened[0], _END)
        except Exception:
            raise
        except BaseException as error:  # a GeneratorExit that comes out of a thread leaves asyncio's generators half-closed
            raise contained(error, "an iterator that is piped") from error
        finally:
            give_pooled_back()

    step_there: Callable[[], Awaitable[Any]] = sync_to_async(advance, thread_sensitive=False, executor=hold)
    try:
        while (item := await step_there()) is not _END:
            yield item
    finally:
        over: Future[None] = hold.submit(_finish, opened)
        over.add_done_callback(lambda _: _end(hold))
        await asyncio.shield(asyncio.wrap_future(over))


def _finish(opened: list[Iterator[Any]]) -> None:
    for iterator in opened:
        _close(iterator)


def _end(hold: ConnectionHold) -> None:
    """End the thread, and with it its connections."""
    hold.leave_pool()
    hold.end()
    lifelong.give_back()


def _close(iterator: Iterator[Any]) -> None:
    with contextlib.suppress(AttributeError):
        iterator.close()  # type: ignore[attr-defined]
