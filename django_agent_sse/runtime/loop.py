"""The background loop: one event loop in a thread of its own, for all that this process does beside its requests and streams.

Notifications across processes, the poll, Redis pub/sub and the monitor's reports are tasks on it. They only compare and pass on:
what may block (a connect, a query, a question to Redis) goes to a pool of threads, so that no task waits for another's server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .pools import Pool
from .process import on_exit, on_fork

logger = logging.getLogger("django_agent_sse")

THREAD_NAME = "sse-background"
STOP_TIMEOUT = 1.0
"""Seconds that the end of the process waits for the thread."""
BLOCKING_CALLS = 8
"""Blocking calls of background tasks that run at a time."""

_T = TypeVar("_T")
_Body = Callable[[], Coroutine[Any, Any, None]]


class BackgroundTask:
    """One task on the background loop, as other threads see it; it goes on until ``body`` returns or is cancelled."""

    def __init__(self, owner: BackgroundLoop, worker: _Worker, name: str, body: _Body) -> None:
        self._owner = owner
        self._worker = worker
        self._name = name
        self._body = body
        self._task: asyncio.Task[None] | None = None
        self.over = threading.Event()

    @property
    def done(self) -> bool:
        """Whether it is over, with all that it had to clean up."""
        return self.over.is_set() or not self._worker.thread.is_alive()

    def call(self, call: Callable[[], object]) -> None:
        """Call *call* on the background loop, soon; from any thread. Nothing happens where the loop has ended."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self._worker.loop.call_soon_threadsafe(call)

    def cancel(self) -> None:
        """Have it end; from any thread."""
        self.call(self._cancel)

    def wait(self, seconds: float) -> bool:
        """Wait until it is over, for so long at most; whether it is. The background thread itself does not wait.

        Whoever waits for the last task waits for the end of the thread too.
        """
        if self._worker.thread is not threading.current_thread():
            self.over.wait(seconds)
            if self.over.is_set() and not self._worker.tasks:
                self._worker.thread.join(seconds)
        return self.done

    def _begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._end)

    async def _run(self) -> None:
        try:
            await self._body()
        except Exception:
            logger.exception("the background task %r has failed; the others go on", self._name)

    def _cancel(self) -> None:
        # It has begun, since the loop calls in the order in which it was asked to.
        assert self._task is not None
        self._task.cancel()

    def _end(self, _: object) -> None:
        self._owner._discard(self._worker, self)
        self.over.set()


class BackgroundLoop:
    """The thread is made by the first task and ends with the last one; a forked child has none until it starts a task."""

    def __init__(self) -> None:
        self._abandoned: list[object] = []
        self._begin()
        on_fork(self._forked)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    @property
    def thread(self) -> threading.Thread | None:
        """The thread, while there is one."""
        worker = self._worker
        return worker.thread if worker is not None else None

    def start(self, name: str, body: _Body) -> BackgroundTask:
        """Start a task; from any thread. ``RuntimeError`` where the interpreter ends, or the system has no more threads."""
        with self._lock:
            worker = self._worker
            if worker is None or not worker.thread.is_alive():
                self._worker = worker = _Worker()
            task = BackgroundTask(self, worker, name, body)
            worker.tasks.add(task)
        task.call(task._begin)
        return task

    def _discard(self, worker: _Worker, task: BackgroundTask) -> None:
        """Forget a task that is over. With the last one the thread ends; whoever comes later gets another."""
        with self._lock:
            worker.tasks.discard(task)
            if worker.tasks:
                return
            if self._worker is worker:
                self._worker = None
        worker.stopped.set()

    def stop(self, seconds: float = STOP_TIMEOUT) -> None:
        """Cancel all tasks and end the thread, as at the end of the process."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is None:
            return
        with contextlib.suppress(RuntimeError):  # its loop is closed: it has ended
            worker.loop.call_soon_threadsafe(worker.stopped.set)
        if worker.thread is not threading.current_thread():
            worker.thread.join(seconds)

    def _forked(self) -> None:
        """Start over in a child, without touching what the parent's thread uses."""
        # Collecting it would close the loop, and with it the selector that the parent waits on (epoll is shared across a fork).
        self._abandoned.append(self._worker)
        self._begin()


class _Worker:
    def __init__(self) -> None:
        self.loop = asyncio.SelectorEventLoop()  # whatever policy the project's loops have
        self.thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self.tasks: set[BackgroundTask] = set()
        self.stopped = asyncio.Event()
        try:
            self.thread.start()
        except RuntimeError:
            self.loop.close()
            raise

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                runner.run(self.stopped.wait())
        finally:
            for task in [*self.tasks]:  # it was not begun yet
                task.over.set()


background = BackgroundLoop()
on_exit(background.stop)
blocking = Pool("sse-background-call", BLOCKING_CALLS)
"""For what background tasks wait for, and for what runs write in coroutines."""


async def in_pool(body: Callable[[], _T]) -> _T:
    """Run a blocking call of a background task on a thread of its own."""
    return await asyncio.wrap_future(blocking.submit(body))
