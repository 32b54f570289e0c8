"""Nothing pinned: the few threads that all streams of a process share.

Django's ASGI handler gives every request a thread of its own for sync code and keeps it, with its database connection,
until the response ends; a stream would hold both for hours. So when a stream starts, the request's executor in
asgiref is replaced by a facade over ``THREADS`` one-thread executors whose ``shutdown()`` does nothing. Taking
the executor away is not enough: the next ORM call would make another, and so does Django's ``response.close()``.

The names of asgiref that are used here are pinned by ``tests/streams/test_threads.py``.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, Protocol, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from .. import conf
from ..eventlog.threads import give_connections_back

P = ParamSpec("P")
R = TypeVar("R")

QUIET_SECONDS = 30.0
"""A shared thread that ran nothing for so long gives its database connections back."""
RESTED_SECONDS = 1.0
"""After a pause of so long ``CONN_HEALTH_CHECKS`` looks at a connection again, as it does for each request."""


class Borrower(Protocol):
    """Who used a database connection of a lane: a stream, which holds a lease on it until its next verb."""

    def progress(self) -> int | None:
        """A number that each of the stream's verbs changes; ``None`` once the stream is over."""


borrower: contextvars.ContextVar[Borrower | None] = contextvars.ContextVar("django_agent_sse.borrower", default=None)
"""The stream whose handler runs in this context."""


class Lane(Executor):
    """One shared thread, as the executor of many requests and streams.

    It is false, so that asgiref, which shuts down what is true, does not start a joining thread for every stream that
    ends; and its ``shutdown()`` does nothing.
    """

    def __init__(self, number: int) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sse-lane-{number}")
        self.scope = ThreadSensitiveContext()
        SyncToAsync.context_to_thread_executor[self.scope] = self
        self._leases: weakref.WeakKeyDictionary[Borrower, int | None] = weakref.WeakKeyDictionary()
        self._last_used = 0.0
        self._watcher: asyncio.AbstractEventLoop | None = None
        self._failed = False

    def __bool__(self) -> bool:
        return False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run ``fn`` on the thread, and note the lease of the stream that asked."""
        stream = borrower.get()
        if stream is not None:
            self._leases[stream] = stream.progress()
        now = time.monotonic()
        rested = now - self._last_used > RESTED_SECONDS
        self._last_used = now
        if self._watcher is None or self._watcher.is_closed():
            self._watch()
        return self._thread.submit(self._run, rested, functools.partial(fn, *args, **kwargs))

    def _run(self, rested: bool, work: Callable[[], R]) -> R:
        """Do ``work`` with connections that are fit; they are looked at after a pause and after an error, not each time."""
        _on_a_lane.here = True
        if rested or self._failed:
            self._failed = False
            _mend_connections(rested)
        try:
            return work()
        except BaseException:
            self._failed = True
            raise

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing: other streams use the thread."""

    def stop(self) -> None:
        """Give the connections back and end the thread, for tests that need a clean process."""
        self._thread.submit(give_connections_back)
        self._thread.shutdown()

    def _watch(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._watcher = loop
        self._look_later(loop, QUIET_SECONDS)

    def _look_later(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        # In a context of its own: the caller's would keep the stream that happens to be the first for as long.
        loop.call_later(seconds, self._look, loop, context=contextvars.Context())

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        rest = self._last_used + QUIET_SECONDS - time.monotonic()
        if rest > 0 or self._is_leased():
            self._look_later(loop, max(rest, QUIET_SECONDS / 10))
        else:
            self._watcher = None
            self._leases.clear()
            self._thread.submit(give_connections_back)

    def _is_leased(self) -> bool:
        return any(mark is not None and stream.progress() == mark for stream, mark in self._leases.items())


_on_a_lane = threading.local()


def _keep(connection: BaseDatabaseWrapper, **_: object) -> None:
    """Let a new connection of a lane grow as old as it may.

    Each request's end calls ``close_old_connections()`` on the lane; without an age there is nothing old for it, and the
    cursor of another stream stays whole. The lane closes its connections itself, when it is quiet.
    """
    if getattr(_on_a_lane, "here", False):
        connection.close_at = None


connection_created.connect(_keep, dispatch_uid="django_agent_sse.lanes")


def _mend_connections(rested: bool) -> None:
    """Close what broke, and have what rested looked at, as ``close_old_connections()`` would."""
    for connection in connections.all(initialized_only=True):
        if rested:
            connection.health_check_done = False  # type: ignore[attr-defined]
        if connection.errors_occurred and not connection.in_atomic_block and connection.connection is not None:
            if connection.is_usable():
                connection.errors_occurred = False
            else:
                connection.close()


class _Lanes:
    """The lanes of this process."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._lock = threading.Lock()
        self._lanes: tuple[Lane, ...] = ()
        self._turn = itertools.count()

    def next(self) -> Lane:
        if not self._lanes:
            with self._lock:
                if not self._lanes:
                    self._lanes = tuple(Lane(number) for number in range(thread_count()))
        return self._lanes[next(self._turn) % len(self._lanes)]

    def stop(self) -> None:
        lanes = self._lanes
        self.forget()
        for lane in lanes:
            lane.stop()


_lanes = _Lanes()
os.register_at_fork(after_in_child=_lanes.forget)


def thread_count() -> int:
    """How many threads the process's streams share: ``AGENT_SSE["THREADS"]``.

    Raises:
        ConfigurationError: It cannot be that.
    """
    count: int = conf.setting("THREADS")
    return count


def next_lane() -> Lane:
    """The shared thread whose turn it is."""
    return _lanes.next()


def reset() -> None:
    """End the shared threads and their connections; the next stream makes new ones."""
    _lanes.stop()


def in_callers_thread() -> bool:
    """Whether sync code of this context runs on the thread of a test case or test client."""
    return bool(getattr(AsyncToSync.executors, "current", None))


def stream_context(stream: Borrower) -> contextvars.Context:
    """Take the request's thread and connections back, and return the context for the stream's task.

    The context is a copy of the caller's with a thread-sensitive scope that outlives the request, and without the
    ``CurrentThreadExecutor`` of a sync middleware, which is over once the view has returned.

    Where the caller is no server (a test case, a test client), sync code stays on the caller's own thread, so
    that a test's transaction is seen.
    """
    context = contextvars.copy_context()
    request_scope = SyncToAsync.thread_sensitive_context.get(None)
    caller = AsyncToSync.loop_thread_executors.get(asyncio.get_running_loop())
    if request_scope is None or caller is not None:
        context.run(_enter, None, caller, stream)
        return context
    own = SyncToAsync.context_to_thread_executor.get(request_scope)
    if isinstance(own, Lane):
        lane = own
    else:
        lane = next_lane()
        if getattr(request_scope, "_executor", None) is None:  # one that was handed in belongs to whoever did
            SyncToAsync.context_to_thread_executor[request_scope] = lane
            if isinstance(own, ThreadPoolExecutor):
                own.submit(give_connections_back)
                own.shutdown(wait=False)
    context.run(_enter, lane.scope, None, stream)
    return context


def _enter(scope: ThreadSensitiveContext | None, caller: Any, stream: Borrower) -> None:
    if scope is not None:
        SyncToAsync.thread_sensitive_context.set(scope)
    if getattr(AsyncToSync.executors, "current", None) is not caller:
        AsyncToSync.executors.current = caller
    borrower.set(stream)
