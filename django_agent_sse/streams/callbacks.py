"""A project's code: callbacks and signals, which run beside a stream's handler, and what an exception of such code may end.

One bad handler ends one stream. A ``SystemExit`` in a task ends the loop, and with it every stream of the process; ``argparse``
in code that a handler calls is enough. Only what the process itself is told, by a signal, may end it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from ..exceptions import CodeExited
from .registry import registry

logger = logging.getLogger("django_agent_sse.stream")

Callback = Callable[[], object]

CLEANUP_SECONDS = 5.0
"""How long callbacks, and then ``finally`` blocks, are awaited after an abort; daphne cuts at 10."""


def contained(error: BaseException, code: str) -> Exception:
    """Return the error to report for what ``code`` ("the handler of builds/") raised; ``CodeExited`` where it would end more."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    outside = CodeExited(
        f"{code} raised {type(error).__name__}({', '.join(map(repr, error.args))}), which ends this stream only; "
        "raise an ordinary exception, or catch it where the code that exits is called"
    )
    outside.__cause__ = error
    return outside


def ends_process(error: BaseException, task: asyncio.Task[object] | None) -> bool:
    """Whether an exception of code in ``task`` is not its own: Ctrl-C, or the end of a coroutine that nobody will finish."""
    if isinstance(error, KeyboardInterrupt):
        return registry.closing  # the handler of SIGINT has been here
    try:
        return isinstance(error, GeneratorExit) and asyncio.current_task() is not task
    except RuntimeError:  # it is collected where no loop runs
        return task is not None


def heed_cancel(task: asyncio.Task[object]) -> bool:
    """Take a task's cancellation as done, so that it may await again; whether there was one."""
    cancelled = task.cancelling() > 0
    while task.cancelling():
        task.uncancel()
    return cancelled


async def run_callbacks(callbacks: Iterable[Callback], moment: str, route: str) -> None:
    """Call each in turn and await what is awaitable; one that fails is logged and stops nobody."""
    task = asyncio.current_task()
    for callback in callbacks:
        try:
            outcome = callback()
            if inspect.isawaitable(outcome):
                await outcome
        except BaseException as error:
            if ends_process(error, task) or (
                isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling()
            ):
                raise  # it is we who are cancelled, not something that the callback awaited
            logger.exception("an %s callback of %s failed: %r", moment, route, callback, extra={"route": route})


@dataclass(slots=True, eq=False, repr=False)
class Callbacks:
    """The callbacks of one stream, and the tasks that run beside its handler, in its ``context``. Belongs to one event loop.

    Attributes:
        abandoned: The handler, or a task beside it, goes on after its time, and nobody waits for it.
    """

    _route: str
    context: contextvars.Context | None = None
    _aborts: tuple[Callback, ...] = ()
    _ends: tuple[Callback, ...] = ()
    _tasks: frozenset[asyncio.Task[Any]] = frozenset()
    abandoned: bool = False
    _waiters: tuple[asyncio.Future[None], ...] = ()
    _handler_over: bool = False
    _ran: bool = False

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=self.context)
        self._tasks |= {task}
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks = self._tasks - {task} or frozenset()
        self._wake()

    def add_abort(self, callback: Callback) -> None:
        self._aborts += (callback,)

    def run_late_abort(self, callback: Callback) -> None:
        self.spawn(self._run_aborts((callback,)))

    def add_end(self, callback: Callback) -> None:
        """Keep a callback for ``conclude()``, or run it at once where they have run."""
        if self._ran:
            self.spawn(run_callbacks((callback,), "on_end", self._route))
        else:
            self._ends += (callback,)

    def run_aborts(self) -> None:
        """Begin to run the ``on_abort`` callbacks, within ``CLEANUP_SECONDS``."""
        if self._aborts:
            self.spawn(self._run_aborts(self._aborts))

    async def _run_aborts(self, callbacks: Iterable[Callback]) -> None:
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await run_callbacks(callbacks, "on_abort", self._route)
        except TimeoutError:
            logger.warning("on_abort of %s took over %.0f s and was cut", self._route, CLEANUP_SECONDS)

    async def conclude(self, before_ends: Callable[[], object], late: Callable[[], object]) -> None:
        """Wait for the tasks, call ``before_ends``, and run the ``on_end`` callbacks.

        Nothing is cut, as what is saved here may be saved nowhere else. But what hangs keeps nobody waiting, and no place: after
        ``CLEANUP_SECONDS`` it is abandoned, and ``late`` is called.
        """
        loop = asyncio.get_running_loop()
        timer = loop.call_later(CLEANUP_SECONDS, self._late, late, context=contextvars.Context())
        try:
            while self._tasks:
                await asyncio.wait(self._tasks)
            before_ends()
            while self._ends:  # one may add another
                ends, self._ends = self._ends, ()
                await run_callbacks(ends, "on_end", self._route)
            self._ran = True
            self._aborts = ()  # they know the stream
        finally:
            timer.cancel()

    def _late(self, late: Callable[[], object]) -> None:
        message = "callbacks of %s go on %.0f s after its client and its handler; they are counted in no limit any more"
        logger.warning(message, self._route, CLEANUP_SECONDS, extra={"route": self._route})
        self.abandon()
        late()

    async def settled(self) -> None:
        """Wait for the handler and the tasks beside it, or until they are abandoned."""
        if not self._is_settled:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters += (waiter,)
            await waiter

    def handler_over(self) -> None:
        """Let ``settled()`` return when the tasks are over too."""
        self._handler_over = True
        self._wake()

    def abandon(self) -> None:
        """Let ``settled()`` return now."""
        self.abandoned = True
        self._wake()

    @property
    def _is_settled(self) -> bool:
        return self.abandoned or (self._handler_over and not self._tasks)

    def _wake(self) -> None:
        if self._is_settled:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
