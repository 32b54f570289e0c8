"""Named pools of threads, for sync code that may not run on an event loop, or not on the thread of whoever asks."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, sync_to_async

from .connections import OwnConnections, give_connections_back
from .process import PerProcess
from .under_test import under_test

IDLE_SECONDS = 30.0
"""A thread of any pool that had nothing to do for so long gives its database connections back and ends."""

P = ParamSpec("P")
R = TypeVar("R")


class Call:
    __slots__ = ("_work", "future")

    def __init__(self, work: Callable[[], Any]) -> None:
        self.future: Future[Any] = Future()
        self._work = work

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._work())
        except BaseException as error:
            self.future.set_exception(error)


class Pool(Executor, PerProcess):
    """At most ``most`` threads, made when there is work and ended when there was none for ``IDLE_SECONDS``.

    They are daemons: a server that hangs keeps no process from ending. Each has database connections of its own, in autocommit.
    A forked child starts over without threads and without work.

    Args:
        name: What the threads are called.
        most: The most threads, or what is asked for it.
    """

    def __init__(self, name: str, most: int | Callable[[], int]) -> None:
        self._name = name
        self.most = most if callable(most) else lambda: most
        super().__init__()

    def reset(self) -> None:
        self._changed = threading.Condition()
        self._calls: deque[Call] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._closed = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call *fn* on one of the threads. ``RuntimeError`` where there is none, and none can be made."""
        call = Call(partial(fn, *args, **kwargs) if args or kwargs else fn)
        most = self.most()
        with self._changed:
            self._calls.append(call)
            # Idle threads may have been notified and not have come yet: more calls than they can take need one more thread.
            if len(self._calls) > self._idle and len(self._threads) < most:
                self._start(call)
            self._changed.notify()
        return call.future

    def _start(self, call: Call) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the interpreter ends, or the system has no more: those that there are come to it
            self._threads.discard(thread)
            if not self._threads:
                self._calls.remove(call)
                raise

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads once nothing is left to do; what is submitted later makes others."""
        with self._changed:
            threads = [*self._threads]
            self._closed = bool(threads)  # the last of them takes it back
            for call in [*self._calls] if cancel_futures else ():
                call.future.cancel()
            self._changed.notify_all()
        for thread in threads if wait else ():
            thread.join()

    def _run(self) -> None:
        connections = OwnConnections(commits=True)
        connections.enter()
        while (call := self._next()) is not None:
            call.run()
            del call  # what it holds is not kept until there is more
            connections.give_pooled_back()
            if under_test():
                give_connections_back()  # a runner that drops its database finds nobody in it
        give_connections_back()

    def _next(self) -> Call | None:
        """Wait for a call; ``None`` after the idle time: this thread is then no longer counted."""
        with self._changed:
            if not self._calls:
                self._idle += 1
                self._changed.wait_for(lambda: self._calls or self._closed, IDLE_SECONDS)
                self._idle -= 1
            if self._calls:
                return self._calls.popleft()
            self._threads.discard(threading.current_thread())
            self._closed = self._closed and bool(self._threads)  # with the last one the pool is as new
            return None


async def where_called(body: Callable[[], R], otherwise: Pool) -> R:
    """Run ``body`` where sync code of this context runs, and so in the transaction that is open there, if one can be.

    A task that has outlived its request has no such place any more: asgiref would refuse it, or make a thread for it alone.
    """
    scope = SyncToAsync.thread_sensitive_context.get(None)
    begun = False

    # asgiref refuses with the same RuntimeError that the body might raise: only whether it has begun tells them apart.
    def begin() -> R:
        nonlocal begun
        begun = True
        return body()

    caller = getattr(AsyncToSync.executors, "current", None)  # the executor of a sync caller above this task
    if scope is None or caller is not None or scope in SyncToAsync.context_to_thread_executor:
        try:
            return await sync_to_async(begin, thread_sensitive=True)()
        except RuntimeError:
            if begun:
                raise
    return await asyncio.wrap_future(otherwise.submit(body))


async def where_waited_for(body: Callable[[], R], otherwise: Pool) -> R:
    """Run ``body`` on the thread that waits for this event loop, as a test case does; on a server's loop nobody does."""
    loop = asyncio.get_running_loop()
    waits: Any = AsyncToSync.loop_thread_executors.get(loop)
    if waits is not None:
        return await loop.run_in_executor(waits, body)
    return await asyncio.wrap_future(otherwise.submit(body))


readers = Pool("sse-log-read", 2)
"""For what the feeds read: its tasks run in the context of whichever request or stream happened to be first."""
writers = Pool("sse-log-write", 2)
"""For what this package writes by itself, and for tasks that have outlived their request."""
outside = Pool("sse-log-outside", sys.maxsize)
"""For what is appended outside the caller's transaction: one for each caller, who waits for it. The caller may hold the lock that
another one's append waits for, so that none may wait for a thread until another one is done."""
