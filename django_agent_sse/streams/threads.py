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
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, iscoroutinefunction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.module_loading import import_string

from .. import conf
from ..eventlog.backend import event_log
from ..exceptions import ConfigurationError, TooManyThreads
from ..runtime.connections import Prepare, give_connections_back
from ..runtime.pools import readers, writers
from ..runtime.process import PerProcess
from ..runtime.worker_threads import ConnectionHold, WorkerPool
from .context import Context

P = ParamSpec("P")
R = TypeVar("R")


class Lifelong(PerProcess):
    """Counts the threads that streams of this process keep."""

    def reset(self) -> None:
        self._lock = threading.Lock()
        self.taken = 0

    def take(self) -> None:
        """Count one more; raise ``TooManyThreads`` where ``AGENT_SSE["PINNED_THREADS"]`` are taken."""
        with self._lock:
            if self.taken >= conf.setting("PINNED_THREADS"):
                raise TooManyThreads(
                    f"{self.taken} streams of this process keep a thread of their own, as sync generators, blocking iterators in "
                    "pipe() and pinned routes do, and AGENT_SSE['PINNED_THREADS'] lets no more; write the handler as an async "
                    "generator, which needs none, or raise that number"
                )
            self.taken += 1

    def give_back(self) -> None:
        with self._lock:
            self.taken -= 1


lifelong = Lifelong()
stream_pool = WorkerPool("sse-stream", "THREADS")
request_pool = WorkerPool("sse-request", "REQUEST_THREADS", cleans_pooled=False)
kept_pool = WorkerPool("sse-kept", "PINNED_THREADS", at_once=None)
"""Of threads that streams keep for their life; these are counted before they are asked for, so that none waits in line."""


def reset() -> None:
    """End the threads of these pools and close their connections; the next stream makes new ones."""
    for pool in (stream_pool, request_pool, kept_pool):
        pool.stop()


def most_connections(alias: str) -> int:
    """The most connections to a database that the streams of a process hold at once, with the event log's own where it is there.

    Those of requests that are answered, and of threads that streams keep for their life (``PINNED_THREADS``), come on top.
    """
    log = event_log()
    own = readers.most() + writers.most() if log.transactional and log.alias == alias else 0
    threads: int = conf.setting("THREADS")
    return threads + own


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


current: contextvars.ContextVar[StreamThreads | None] = contextvars.ContextVar("django_agent_sse.threads", default=None)
"""The threads of the stream whose handler runs in this context."""


@dataclass(slots=True, eq=False)
class StreamThreads:
    """Where the sync code of one stream runs: on its ``hold``; ``None`` where that is the caller's thread, as under a test case.

    Attributes:
        prepare: What is done with each connection that the stream takes.
    """

    _hold: ConnectionHold | Pinned | None
    prepare: Prepare | None
    _request_scope: ThreadSensitiveContext | None = None

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
            await asyncio.get_running_loop().run_in_executor(hold, lambda: None)  # to have a thread
            yield
        finally:
            hold.let_go()

    def cut(self) -> None:
        """The handler is over: what it left open is let go, so that nothing that comes after it is part of that."""
        if self._hold is not None:
            self._hold.cut()

    def end(self, _: object = None) -> None:
        if self._hold is not None:
            self._hold.end()


class _Afterwards(Executor):
    """Where what is left of requests runs once their streams have begun: each call on a thread, and with connections, of its own.

    Not on the stream's: ``close_old_connections()``, which is a part of each request's end, closes what is in a transaction too,
    and a stream's handler may go on without its client.
    """

    def __bool__(self) -> bool:
        return False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        hold = ConnectionHold(stream_pool)
        hold.end()
        return hold.submit(fn, *args, **kwargs)


_afterwards = _Afterwards()


@dataclass(eq=False)
class Pinned(Executor):
    """The request's own thread, kept for the stream's life: what plain Django does.

    A sync middleware that waits on that thread for the view has its own way to run things there: the ``bridge``.
    """

    _thread: ConnectionHold | ThreadPoolExecutor
    _bridge: Executor | None
    _ended: bool = False

    def __bool__(self) -> bool:
        return False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        if self._ended:
            return _afterwards.submit(fn, *args, **kwargs)
        if self._bridge is not None:
            try:
                return self._bridge.submit(fn, *args, **kwargs)
            except RuntimeError:  # the middleware is through
                self._bridge = None
        return self._thread.submit(fn, *args, **kwargs)

    def keep(self) -> None:
        """Nothing: all is kept."""

    let_go = cut = keep

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._thread.submit(give_connections_back)
            if isinstance(self._thread, ConnectionHold):
                self._thread.leave_pool()
                self._thread.end()
            else:
                self._thread.shutdown(wait=False)
            lifelong.give_back()


def preparing(c: Context) -> Prepare | None:
    """What is done with each connection that is taken for ``c``; ``ConfigurationError`` where it cannot be."""
    function = on_connection()
    return None if function is None else lambda connection: function(connection, c)


def in_callers_thread() -> bool:
    """Whether sync code of this context runs on the thread of a test case or test client."""
    return bool(getattr(AsyncToSync.executors, "current", None))


def stream_context(c: Context, *, pinned: bool) -> tuple[contextvars.Context, StreamThreads]:
    """Take the request's thread and connections back, and return the context for the stream's task.

    The context is a copy of the caller's with a thread-sensitive scope that outlives the request, and without the
    ``CurrentThreadExecutor`` of a sync middleware, which is over once the view has returned.

    Where the caller is no server (a test case, a test client), sync code stays on the caller's own thread, so
    that a test's transaction is seen.

    ``pinned``: keep the request's thread, and its connections as they are, for the stream's life.

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
