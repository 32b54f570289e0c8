"""What happens beside a stream's handler: callbacks, signals, and waiting until all of it is over."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from .containment import ends_process

if TYPE_CHECKING:
    from .supervisor import Runner

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


class Aside:
    """The callbacks of one stream, and the tasks that run beside its handler. The stream is not over before they are."""

    __slots__ = ("_aborts", "_context", "_ends", "_over", "_runner", "_settled", "_tasks")

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._context: contextvars.Context | None = None
        self._aborts: tuple[Callback, ...] = ()
        self._ends: tuple[Callback, ...] = ()
        self._tasks = _NO_TASKS
        self._settled: tuple[asyncio.Future[None], ...] = ()
        self._over = False

    def enter(self, context: contextvars.Context) -> None:
        """Run in the handler's context from now on."""
        self._context = context

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something of the stream's in a task."""
        task = self._runner.here.loop.create_task(work, context=self._context)
        self._tasks |= {task}
        task.add_done_callback(self._task_over)

    def _task_over(self, task: asyncio.Task[Any]) -> None:
        self._tasks = self._tasks - {task} or _NO_TASKS
        self.mark_settled()

    def add_abort(self, callback: Callback) -> None:
        """Call back at an abort; at once where there was one."""
        ending = self._runner.ending
        if ending is None:
            self._aborts += (callback,)
        elif ending.aborts:
            self.spawn(run_callbacks((callback,), "on_abort", self._runner.route))

    def add_end(self, callback: Callback) -> None:
        """Call back when all is over; at once where it is."""
        if self._over:
            self.spawn(run_callbacks((callback,), "on_end", self._runner.route))
        else:
            self._ends += (callback,)

    def abort(self) -> None:
        """Run what waits for an abort, within ``CLEANUP_SECONDS``."""
        if self._aborts:
            self.spawn(self._run_aborts())

    async def _run_aborts(self) -> None:
        try:
            async with asyncio.timeout(CLEANUP_SECONDS):
                await run_callbacks(self._aborts, "on_abort", self._runner.route)
        except TimeoutError:
            logger.warning("on_abort of %s took over %.0f s and was cut", self._runner.route, CLEANUP_SECONDS)

    async def conclude(self) -> None:
        """Wait for the tasks, then run what was deferred to the end."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._runner.threads.cut()
        await run_callbacks(self._ends, "on_end", self._runner.route)
        self._over = True

    async def settle(self) -> None:
        """Wait for the handler and the tasks, as long as the runner waits for its handler."""
        if not self._is_settled:
            waiter: asyncio.Future[None] = self._runner.here.loop.create_future()
            self._settled += (waiter,)
            await waiter

    @property
    def _is_settled(self) -> bool:
        return self._runner.left_behind or (self._runner.handler_over and not self._tasks)

    def mark_settled(self) -> None:
        """Let ``settle()`` return, where there is nothing more to wait for."""
        if self._is_settled:
            for waiter in self._settled:
                if not waiter.done():
                    waiter.set_result(None)
