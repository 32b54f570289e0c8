"""What runs beside a stream's handler: callbacks and signals. A stream is not over before they are."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from .containment import ends_process

logger = logging.getLogger("django_agent_sse.stream")

Callback = Callable[[], object]

CLEANUP_SECONDS = 5.0
"""How long callbacks, and then ``finally`` blocks, are awaited after an abort; daphne cuts at 10."""


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


_NO_TASKS: frozenset[asyncio.Task[Any]] = frozenset()


class Callbacks:
    """The callbacks of one stream, and the tasks that run beside its handler. Belongs to one event loop."""

    __slots__ = ("_abandoned", "_aborts", "_context", "_ends", "_handler_over", "_ran", "_route", "_tasks", "_waiters")

    def __init__(self, route: str) -> None:
        self._route = route
        self._context: contextvars.Context | None = None
        self._aborts: tuple[Callback, ...] = ()
        self._ends: tuple[Callback, ...] = ()
        self._tasks = _NO_TASKS
        self._waiters: tuple[asyncio.Future[None], ...] = ()
        self._handler_over = self._abandoned = self._ran = False

    def enter(self, context: contextvars.Context) -> None:
        """Run in the handler's context from now on."""
        self._context = context

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something of the stream's in a task."""
        task = asyncio.get_running_loop().create_task(work, context=self._context)
        self._tasks |= {task}
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks = self._tasks - {task} or _NO_TASKS
        self._wake()

    def add_abort(self, callback: Callback) -> None:
        """Keep a callback for ``run_aborts()``."""
        self._aborts += (callback,)

    def run_late_abort(self, callback: Callback) -> None:
        """Run a callback that was added after the abort."""
        self.spawn(run_callbacks((callback,), "on_abort", self._route))

    def add_end(self, callback: Callback) -> None:
        """Keep a callback for ``run_ends()``, or run it at once where they have run."""
        if self._ran:
            self.spawn(run_callbacks((callback,), "on_end", self._route))
        else:
            self._ends += (callback,)

    def run_aborts(self) -> None:
        """Begin to run the ``on_abort`` callbacks, within ``CLEANUP_SECONDS``."""
        if self._aborts:
            self.spawn(self._run_aborts())

    async def _run_aborts(self) -> None:
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await run_callbacks(self._aborts, "on_abort", self._route)
        except TimeoutError:
            logger.warning("on_abort of %s took over %.0f s and was cut", self._route, CLEANUP_SECONDS)

    async def wait_tasks(self) -> None:
        """Wait for the tasks beside the handler."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def run_ends(self) -> None:
        """Run the ``on_end`` callbacks."""
        await run_callbacks(self._ends, "on_end", self._route)
        self._ran = True

    async def settled(self) -> None:
        """Wait for the handler and the tasks beside it, or until the handler is abandoned."""
        if not self._is_settled:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters += (waiter,)
            await waiter

    def handler_over(self) -> None:
        """Let ``settled()`` return when the tasks are over too."""
        self._handler_over = True
        self._wake()

    def abandon_handler(self) -> None:
        """Let ``settled()`` return now."""
        self._abandoned = True
        self._wake()

    @property
    def _is_settled(self) -> bool:
        return self._abandoned or (self._handler_over and not self._tasks)

    def _wake(self) -> None:
        if self._is_settled:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
