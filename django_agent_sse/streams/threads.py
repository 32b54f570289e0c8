"""Nothing pinned, nothing shared: where the sync code of requests and streams runs.

Django's ASGI handler gives every request a thread of its own for sync code and keeps it, with its database connection, until the
response ends; a stream would hold both for hours. So when a stream starts, the request's executor in asgiref is replaced by a
``ConnectionHold``: an executor that has a thread, and its connections, only while there is work. Taking the executor away is not
enough: the next ORM call would make another, and so does Django's ``response.close()``.

The names of asgiref that are used here are pinned by ``tests/streams/test_threads.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, iscoroutinefunction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string

from .. import conf
from ..eventlog.backend import event_log
from ..exceptions import ConfigurationError
from ..runtime.connection_holds import ConnectionHold, Prepare
from ..runtime.connections import give_connections_back
from ..runtime.pools import readers, writers
from ..runtime.worker_threads import WorkerPool
from .context import Context
from .lifelong import kept_pool, lifelong

P = ParamSpec("P")
R = TypeVar("R")


def thread_count(name: str = "THREADS") -> int:
    """One of the settings that say how many threads there may be.

    Raises:
        ConfigurationError: It is not a whole number from 1.
    """
    count: int = conf.setting(name)
    return count


stream_pool = WorkerPool("sse-stream", thread_count, "THREADS", cleans_pooled=True)
request_pool = WorkerPool(
    "sse-request", functools.partial(thread_count, "REQUEST_THREADS"), "REQUEST_THREADS", cleans_pooled=False
)


def reset() -> None:
    """End the threads of these pools and close their connections; the next stream makes new ones."""
    for pool in (stream_pool, request_pool, kept_pool):
        pool.stop()


def most_connections(alias: str) -> int:
    """The most connections to a database that the streams of a process hold at once, with the event log's own where it is there.

    Those of requests that are answered, and of threads that streams keep for their life (``PINNED_THREADS``), come on top.
    """
    log = event_log()
    own = readers.most + writers.most if log.transactional and log.alias == alias else 0
    return thread_count() + own


def request_hold() -> ConnectionHold:
    """A thread and connections for one request from its first call on, until it is answered."""
    return ConnectionHold(request_pool, keeps=True)


OnConnection = Callable[[BaseDatabaseWrapper, Context], object]


def on_connection() -> OnConnection | None:
    """What ``AGENT_SSE["ON_CONNECTION"]`` names.

    Raises:
        ConfigurationError: It cannot be imported, or is not a plain function of a connection and a context.
    """
    setting = conf.setting("ON_CONNECTION")
    try:
        function = import_string(setting) if isinstance(setting, str) else setting
    except ImportError as error:
        raise ConfigurationError(f"AGENT_SSE['ON_CONNECTION'] is {setting!r}, which cannot be imported: {error}") from error
    if function is not None and (not callable(function) or iscoroutinefunction(function)):
        raise ConfigurationError(
            f"AGENT_SSE['ON_CONNECTION'] must be, or name, a function (connection, c) that is not async, or None; not {setting!r}"
        )
    return function  # type: ignore[no-any-return]


def preparing(c: Context) -> Prepare | None:
    """``ON_CONNECTION`` for one stream."""
    function = on_connection()
    return None if function is None else lambda connection: function(connection, c)


current: contextvars.ContextVar[StreamThreads | None] = contextvars.ContextVar("django_agent_sse.threads", default=None)
"""The threads of the stream whose handler runs in this context."""


class StreamThreads:
    """Where the sync code of one stream runs.

    Args:
        hold: Its thread; ``None`` where that is the caller's, as under a test case.
        prepare: What is done with each connection that the stream takes.
        request_scope: That of the request; ``None`` where there is none.
    """

    __slots__ = ("_hold", "_request_scope", "prepare")

    def __init__(
        self, hold: ConnectionHold | Pinned | None, prepare: Prepare | None, request_scope: ThreadSensitiveContext | None = None
    ) -> None:
        self._hold = hold
        self._request_scope = request_scope
        self.prepare = prepare

    @property
    def request_is_over(self) -> bool:
        """Whether Django's handler is done with the request: asgiref has forgotten its scope."""
        scope = self._request_scope
        return scope is not None and scope not in SyncToAsync.context_to_thread_executor

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Keep one thread and its connections meanwhile. Waits until there is one."""
        hold = self._hold
        if hold is None:
            yield
            return
        hold.keep()
        try:
            await asyncio.get_running_loop().run_in_executor(hold, _nothing)
            yield
        finally:
            hold.let_go()

    def cut(self) -> None:
        """The handler is over: what it left open is let go, so that nothing that comes after it is part of that."""
        if self._hold is not None:
            self._hold.cut()

    def end(self, _: object = None) -> None:
        """The stream is over."""
        if self._hold is not None:
            self._hold.end()


def _nothing() -> None:
    """Need a thread."""


class _Afterwards(Executor):
    """Where what is left of requests runs once their streams have begun: each call on a thread, and with connections, of its own.

    Not on the stream's: ``close_old_connections()``, which is a part of each request's end, closes what is in a transaction too,
    and a stream's handler may go on without its client.
    """

    def __bool__(self) -> bool:
        return False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run ``fn``."""
        hold = ConnectionHold(stream_pool)
        hold.end()
        return hold.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing is kept."""


_afterwards = _Afterwards()


class Pinned(Executor):
    """The request's own thread, kept for the stream's life: what plain Django does.

    Args:
        thread: The thread.
        bridge: The executor of a sync middleware that waits on that thread for the view; its own way to run things there.

    Raises:
        TooManyThreads: ``PINNED_THREADS`` of them are kept.
    """

    def __init__(self, thread: ConnectionHold | ThreadPoolExecutor, bridge: Executor | None) -> None:
        self._bridge = bridge
        self._thread: ConnectionHold | ThreadPoolExecutor = thread
        self._ended = False

    def __bool__(self) -> bool:
        return False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run ``fn`` on the thread; after the stream's end on any one."""
        if self._ended:
            return _afterwards.submit(fn, *args, **kwargs)
        if self._bridge is not None:
            try:
                return self._bridge.submit(fn, *args, **kwargs)
            except RuntimeError:  # the middleware is through
                self._bridge = None
        return self._thread.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing; see ``end``."""

    def keep(self) -> None:
        """Nothing: all is kept."""

    let_go = cut = keep

    def end(self) -> None:
        """Close the connections and end the thread."""
        if not self._ended:
            self._ended = True
            self._thread.submit(give_connections_back)
            if isinstance(self._thread, ConnectionHold):
                self._thread.leave_pool()
                self._thread.end()
            else:
                self._thread.shutdown(wait=False)
            lifelong.give_back()


def in_callers_thread() -> bool:
    """Whether sync code of this context runs on the thread of a test case or test client."""
    return bool(getattr(AsyncToSync.executors, "current", None))


def stream_context(c: Context, *, pinned: bool) -> tuple[contextvars.Context, StreamThreads]:
    """Take the request's thread and connections back, and return the context for the stream's task.

    The context is a copy of the caller's with a thread-sensitive scope that outlives the request, and without the
    ``CurrentThreadExecutor`` of a sync middleware, which is over once the view has returned.

    Where the caller is no server (a test case, a test client), sync code stays on the caller's own thread, so
    that a test's transaction is seen.

    Args:
        c: The stream's.
        pinned: Keep the request's thread, and its connections as they are, for the stream's life.

    Raises:
        ConfigurationError: A setting cannot be used.
        TooManyThreads: ``PINNED_THREADS`` are kept already.
    """
    context = contextvars.copy_context()
    prepare = preparing(c)
    request_scope = SyncToAsync.thread_sensitive_context.get(None)
    caller = AsyncToSync.loop_thread_executors.get(asyncio.get_running_loop())
    if request_scope is None or caller is not None:
        threads = StreamThreads(None, prepare)
        context.run(_enter, None, caller, threads)
        return context, threads
    own = SyncToAsync.context_to_thread_executor.get(request_scope)
    hold = _pin(own) if pinned else ConnectionHold(stream_pool, prepare)
    if getattr(request_scope, "_executor", None) is None:  # one that was handed in belongs to whoever did
        SyncToAsync.context_to_thread_executor[request_scope] = _afterwards
        if isinstance(own, ThreadPoolExecutor) and not pinned:
            own.submit(give_connections_back)
            own.shutdown(wait=False)
    elif isinstance(own, ConnectionHold) and not pinned:
        own.release()
    scope = ThreadSensitiveContext()
    SyncToAsync.context_to_thread_executor[scope] = hold
    threads = StreamThreads(hold, prepare, request_scope)
    context.run(_enter, scope, None, threads)
    return context, threads


def task_context(c: Context) -> tuple[contextvars.Context, StreamThreads]:
    """Return the context for a task that outlives its request, and takes nothing away from it.

    A copy of the caller's, with a thread-sensitive scope of its own: see ``stream_context``.

    Raises:
        ConfigurationError: A setting cannot be used.
    """
    context = contextvars.copy_context()
    prepare = preparing(c)
    caller = AsyncToSync.loop_thread_executors.get(asyncio.get_running_loop())
    if SyncToAsync.thread_sensitive_context.get(None) is None or caller is not None:
        threads = StreamThreads(None, prepare)
        context.run(_enter, None, caller, threads)
        return context, threads
    hold = ConnectionHold(stream_pool, prepare)
    scope = ThreadSensitiveContext()
    SyncToAsync.context_to_thread_executor[scope] = hold
    threads = StreamThreads(hold, prepare)
    context.run(_enter, scope, None, threads)
    return context, threads


def _pin(own: Executor | None) -> Pinned:
    lifelong.take()
    if isinstance(own, ConnectionHold) and own.leave_pool():
        own.pinned = True
    elif not isinstance(own, ThreadPoolExecutor):
        own = ConnectionHold(kept_pool, keeps=True)
    return Pinned(own, getattr(AsyncToSync.executors, "current", None))


def _enter(scope: ThreadSensitiveContext | None, caller: Any, threads: StreamThreads) -> None:
    if scope is not None:
        SyncToAsync.thread_sensitive_context.set(scope)
    if getattr(AsyncToSync.executors, "current", None) is not caller:
        AsyncToSync.executors.current = caller
    current.set(threads)
