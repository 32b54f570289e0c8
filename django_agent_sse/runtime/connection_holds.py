"""``ConnectionHold``: the executor of one request or stream, with a thread, and its database connections, to itself."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, Protocol, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

from .connections import OwnConnections

P = ParamSpec("P")
R = TypeVar("R")
Prepare = Callable[[BaseDatabaseWrapper], object]


class Call:
    """One call and where its result goes."""

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


class ConnectionHold(Executor):
    """The executor of one request or one stream.

    It is false, so that asgiref, which shuts down what is true, does not start a joining thread for every request that ends; and
    its ``shutdown()`` does nothing: ``end()`` does.

    Args:
        pool: Where threads come from.
        prepare: Called with each of Django's wrappers for connections before it is used.
        keeps: Keep the thread from the first call until ``release()``, not only while there is work.
    """

    __slots__ = ("_pool", "calls", "cut_off", "ended", "keeps", "kept", "pinned", "prepare", "worker")

    def __init__(self, pool: Pool, prepare: Prepare | None = None, *, keeps: bool = False) -> None:
        self._pool = pool
        self.prepare = prepare
        self.keeps = keeps
        self.kept = 0
        self.cut_off = self.ended = self.pinned = False
        self.calls: deque[Call] | None = None
        self.worker: WorkerThread | None = None

    def __bool__(self) -> bool:
        return False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run ``fn`` on the thread that this has, or on the next one that it gets."""
        call = Call(partial(fn, *args, **kwargs))
        self._pool.add(self, call)
        return call.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing; see ``end``."""

    def keep(self) -> None:
        """Keep the thread and its connections, once it has one, until ``let_go()``."""
        self.kept += 1

    def let_go(self) -> None:
        """The opposite of ``keep()``."""
        self.kept -= 1
        self._wake()

    def release(self) -> None:
        """Keep nothing from now on but while there is work."""
        self.keeps = False
        self._wake()

    def cut(self) -> None:
        """Let go now of what was left open: a transaction is rolled back. What is done later begins anew."""
        if self.worker is not None:
            self.cut_off = True
            self._wake()

    def end(self) -> None:
        """Let go of all, and keep nothing between two calls any more."""
        self.ended, self.keeps = True, False
        self._wake()

    def _wake(self) -> None:
        worker = self.worker
        if worker is not None:
            worker.wake()

    def leave_pool(self) -> bool:
        """Take the thread that this has out of the pool, which may then make another; false where it has none."""
        return self._pool.let_leave(self)


class Pool(Protocol):
    """What lends threads."""

    def add(self, hold: ConnectionHold, call: Call) -> None:
        """Have ``call`` run on the thread of ``hold``, or on the next one that is free."""

    def let_leave(self, hold: ConnectionHold) -> bool:
        """See ``ConnectionHold.leave_pool``."""


class WorkerThread:
    """One thread with its connections, lent to one ``ConnectionHold`` at a time.

    It is a daemon: a database that hangs keeps no process from ending.

    Args:
        name: Of the thread.
        target: What it does, with this.
        holder: Whose it is first.
        cleans_pooled: See ``OwnConnections``.

    Attributes:
        holder: Whose it is.
        own: Whether it is no longer its pool's, and ends with its holder.
    """

    def __init__(self, name: str, target: Callable[[WorkerThread], None], holder: ConnectionHold, *, cleans_pooled: bool) -> None:
        self._news: SimpleQueue[None] = SimpleQueue()
        self.holder: ConnectionHold | None = holder
        self.own = False
        self.connections = OwnConnections(self.wake, cleans_pooled=cleans_pooled)
        self.thread = threading.Thread(target=target, args=(self,), name=name, daemon=True)

    def wake(self) -> None:
        """See that the thread looks at what there is to do. From anywhere, also from the garbage collector."""
        self._news.put(None)

    def wait(self, seconds: float | None) -> None:
        """Wait for news."""
        with contextlib.suppress(Empty):
            self._news.get(timeout=seconds)
