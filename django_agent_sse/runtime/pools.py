"""A few threads of the event log's own, for what may not use the thread, or the transaction, of whoever asks."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async

from .connections import OwnConnections, give_connections_back
from .under_test import under_test

QUIET_SECONDS = 30.0
"""A thread that had nothing to do for so long gives its database connections back, and ends."""

_T = TypeVar("_T")
_Work = tuple["Future[Any]", Callable[[], Any]]


class Threads:
    """At most ``most`` threads, made when there is work. They are daemons: a database that hangs keeps no process from ending."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self.most = most
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._news = threading.Condition()
        self._work: deque[_Work] = deque()
        self._threads = self._idle = 0

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Do ``work`` on one of the threads."""
        future: Future[_T] = Future()
        with self._news:
            self._work.append((future, work))
            if len(self._work) > self._idle and self._threads < self.most:
                self._threads += 1
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
            self._news.notify()
        return future

    def _run(self) -> None:
        connections = OwnConnections()
        connections.enter()
        while (found := self._next()) is not None:
            _do(*found)
            del found  # what it holds is not kept until there is more
            connections.give_pooled_back()
            if under_test():
                give_connections_back()  # a runner that drops its database finds nobody in it
        give_connections_back()

    def _next(self) -> _Work | None:
        """What there is to do, or ``None`` after the quiet time: this thread is then no longer counted."""
        with self._news:
            if not self._work:
                self._idle += 1
                self._news.wait_for(lambda: self._work, QUIET_SECONDS)
                self._idle -= 1
            if self._work:
                return self._work.popleft()
            self._threads -= 1
            return None


def _do(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)


async def where_called(body: Callable[[], _T], otherwise: Threads) -> _T:
    """Run ``body`` where sync code of this context runs, and so in the transaction that is open there, if one can be.

    A task that has outlived its request has no such place any more: asgiref would refuse it, or make a thread for it alone.
    """
    scope = SyncToAsync.thread_sensitive_context.get(None)
    begun = False

    def begin() -> _T:
        nonlocal begun
        begun = True
        return body()

    if scope is None or _caller() is not None or scope in SyncToAsync.context_to_thread_executor:
        try:
            return await sync_to_async(begin, thread_sensitive=True)()
        except RuntimeError:
            if begun:
                raise
    return await asyncio.wrap_future(otherwise.submit(body))


async def where_waited_for(body: Callable[[], _T], otherwise: Threads) -> _T:
    """Run ``body`` on the thread that waits for this event loop, as a test case does; on a server's loop nobody does."""
    loop = asyncio.get_running_loop()
    waits: Any = AsyncToSync.loop_thread_executors.get(loop)
    if waits is not None:
        return await loop.run_in_executor(waits, body)
    return await asyncio.wrap_future(otherwise.submit(body))


def _caller() -> object:
    """The executor of a sync caller above this task."""
    return getattr(AsyncToSync.executors, "current", None)


readers = Threads("sse-log-read", 2)
"""For what the hub reads: its tasks run in the context of whichever request or stream happened to be first."""
writers = Threads("sse-log-write", 2)
"""For what is appended outside the caller's transaction, and by tasks that have outlived their request."""
