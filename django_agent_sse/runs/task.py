"""The task of a run that a request starts: the package's own, with its own context, threads and connections.

It outlives the request: neither the end of the response nor a reader who leaves cancels it. It ends when its code does, when
somebody stops it, and when the process ends: then as ``interrupted``, see ``Keeper.shut_down``.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import Http404

from ..eventlog.backend import log_to_publish_to
from ..eventlog.base import EventLog
from ..exceptions import EventLogError, IdempotencyKeyReused, QueryInvalid, RequestBodyError, RunExists, RunStopped
from ..runtime.safe_text import without_run_id
from ..streams.callbacks import Callback, contained, ends_process, run_callbacks
from ..streams.context import Context
from ..streams.kept_thread import KeptThread
from ..streams.reporting import own_cancel
from ..streams.shutdown import watch_end
from ..streams.threads import StreamThreads, preparing, task_context
from .endings import RunEnding
from .ids import claim_name
from .produce import Producing, nothing
from .run import Run
from .run_base import logger
from .task_run import TaskRun
from .wire import Wire

LOOKS, LOOK_SECONDS = 40, 0.05
"""How often, and at what distance, a request looks whether the same one before it gets its run begun."""
REFUSALS = (RequestBodyError, QueryInvalid, Http404, PermissionDenied, SuspiciousOperation, BadRequest)
"""What code raises that will not serve this request: no fault of its own, and answered with what the client did wrong."""
_tasks: set[asyncio.Task[None]] = set()
"""Else the collector could take a task that nobody else holds."""


@dataclass(slots=True, kw_only=True)
class RunTask:
    """One run that a request starts.

    Attributes:
        c: What its code gets.
        topic: The name of its topic.
        id: Its own.
        key: One run at a time has it.
        lease: Seconds.
        wire: How it ends.
        code: Takes the run; a plain function where ``blocks``, which then runs on a thread of its own.
        request: What tells the request from others with its idempotency key; ``None`` without one. With one, others may begin the
            very same run at the same moment.
        ends: Called when all is over.
        refusal: What its code has raised instead of serving the request: no run is left.
    """

    c: Context
    topic: str
    id: str
    key: str | None
    lease: float
    wire: Wire
    code: Callable[[Any], Any]
    blocks: bool = False
    request: str | None = None
    ends: list[Callback] = field(default_factory=list)
    refusal: Exception | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _answered: bool = False
    _begun: asyncio.Future[None] = field(init=False)
    _first: asyncio.Future[None] = field(init=False)
    _producing: Producing = field(init=False)
    _claimed: str | None = None

    async def start(self) -> None:
        """Begin; return when the run has its lease. Where the caller is cancelled meanwhile, it begins all the same.

        Raises:
            RunExists, TopicClosed, EventLogError: See ``produce``; nothing has begun.
            TooManyThreads: Its code blocks, and there is no thread for it.
        """
        loop = asyncio.get_running_loop()
        watch_end(getattr(self.c.request, "scope", {}))
        self._first = loop.create_future()
        thread = KeptThread(preparing(self.c)) if self.blocks else None
        self._begun = begun = loop.create_future()
        begun.add_done_callback(lambda future: future.cancelled() or future.exception())  # nobody may wait for it any more
        context, threads = task_context(self.c)
        task = loop.create_task(self._run(begun, threads, thread), context=context)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        task.add_done_callback(threads.end)
        await asyncio.shield(begun)

    async def may_answer(self, seconds: float) -> None:
        """Return when the code has written or is over, or after so many seconds: the request may be answered then.

        Raises:
            Exception: What the code has refused the request with, before it wrote anything. No run is left.
        """
        await asyncio.wait((self._first,), timeout=seconds)
        with self._lock:
            self._answered = True
        if self.refusal is not None:
            await asyncio.wait((self._first,))
            raise self.refusal

    async def stop(self) -> None:
        """Have it stopped, also where it is only about to begin."""
        await asyncio.wait((self._begun,))
        await log_to_publish_to().arequest_stop(self.topic, self.id)

    async def _run(self, begun: asyncio.Future[None], threads: StreamThreads, thread: KeptThread | None) -> None:
        try:
            log = await self._begin(begun)
            if log is not None:
                began = time.monotonic()
                work = self._in_thread(log, begun, thread) if thread is not None else self._here(log, begun)
                try:
                    ending = await work
                except Exception as error:
                    if begun.done():
                        raise
                    try:
                        await self._leave_nothing(log)
                    finally:
                        begun.set_exception(error)
                    return
                finally:
                    self._wrote()
                threads.cut()
                await run_callbacks(self.ends, "on_end", self.c.route)
                if self.refusal is None:
                    logger.info(
                        *("run ended: %s %s after %.3f s", self.c.route, ending, time.monotonic() - began),
                        extra={"route": self.c.route, "ending": ending, "run": without_run_id(self.id)},
                    )
        finally:
            if thread is not None:
                thread.end()

    async def _begin(self, begun: asyncio.Future[None]) -> EventLog | None:
        log: EventLog | None = None
        try:
            if self.request is not None:
                self._claimed = await self._claim(log_to_publish_to(), self.request)
            self._producing = Producing(self.topic, self.key, self.lease, wire=self.wire, id=self.id)
            log = await self._producing.abegin()
            await self._confirm_claim(log)
        except Exception as error:
            try:
                if log is None or isinstance(error, RunExists):  # the lease is not there, or whoever has the claim has it too
                    await self._give_claim_back(log_to_publish_to())
                else:
                    await self._leave_nothing(log)
            finally:
                begun.set_exception(error)
            return None
        except BaseException:
            begun.cancel()
            raise
        return log

    async def _confirm_claim(self, log: EventLog) -> None:
        """Say that the claim has got its lease, after which nobody takes it over.

        Raises:
            RunExists: Somebody has taken it over meanwhile.
        """
        if self._claimed is None:
            return
        confirmed = f"{self._claimed}.begun"
        if await log.amove_pointer(claim_name(self.topic), confirmed, expect=self._claimed) != confirmed:
            raise RunExists(f"the run {self.id!r} was begun meanwhile, by the same request", self.topic)
        self._claimed = confirmed

    async def _give_claim_back(self, log: EventLog) -> None:
        """Have the same request be sent again at once, or another one with its idempotency key."""
        if self._claimed is not None:
            with suppress(EventLogError):
                await log.amove_pointer(claim_name(self.topic), None, expect=self._claimed)

    def _wrote(self) -> None:
        if not self._first.done():
            self._first.set_result(None)

    def _refuses(self, run: Run | TaskRun, failure: BaseException | None) -> bool:
        """Whether the code will not serve the request, which can still be answered so."""
        with self._lock:
            if not isinstance(failure, REFUSALS) or run.wrote or self._answered or run.ending is not None:
                return False
            self.refusal = failure
        return True

    async def _leave_nothing(self, log: EventLog) -> None:
        try:
            await log._run(partial(self._producing.undo, log))
        except EventLogError as error:  # its lease runs out by itself
            logger.warning(
                "the lease of the topic %r, whose run was refused, cannot be given back: %s", without_run_id(self.topic), error
            )
        await self._give_claim_back(log)

    async def _claim(self, log: EventLog, request: str) -> str:
        """Be the one who begins this run, and return what the claim of it leads to then: a name that begins with the request.

        The lease cannot tell, for whoever asks for it again by the same name has it. A claim whose request has not got the lease
        after ``LOOKS`` looks is nobody's any more: its process has died, or the run is no longer kept.

        Raises:
            RunExists: The same request has begun it before.
            IdempotencyKeyReused: Another one has.
        """
        name, mine, other = claim_name(self.topic), f"{request}.{secrets.token_urlsafe(12)}", None
        for _ in range(LOOKS):
            if other is None and (other := await log.amove_pointer(name, mine, expect=None)) == mine:
                return mine
            if other is not None and not other.startswith(f"{request}."):
                raise IdempotencyKeyReused(
                    "this Idempotency-Key came before, with another method, path, query or body. Send the same request to get "
                    "its run, or another key to start another one. Nothing was started"
                )
            if await log.alease(self.topic) is not None:
                raise RunExists(f"the run {self.id!r} was begun before, with the same idempotency key", self.topic)
            await asyncio.sleep(LOOK_SECONDS)
            other = await log.apointer(name)
        taken = await log.amove_pointer(name, mine, expect=other) == mine
        return mine if taken else await self._claim(log, request)

    async def _here(self, log: EventLog, begun: asyncio.Future[None]) -> RunEnding | None:
        run = TaskRun(log, self.topic, self.id, self.lease, nothing, self.wire)
        run.on_first = self._wrote
        await run._enter()
        begun.set_result(None)
        task = asyncio.current_task()
        assert task is not None
        failure: BaseException | None = None
        try:
            outcome: Any = self.code(run)
            if isinstance(outcome, Awaitable):
                await outcome
        except asyncio.CancelledError as error:
            failure = error if task.cancelling() else own_cancel(error, self.c.route)
            await self._exit(run, failure)
        except BaseException as error:
            failure = error if ends_process(error, task) else contained(error, f"the run of {self.c.route}")
            if self._refuses(run, failure):
                await run._withdraw()
                await self._leave_nothing(log)
                return None
            await self._exit(run, failure)
            if failure is error and not isinstance(error, Exception):
                raise
        else:
            await self._exit(run, None)
        await self._report(run.ending, failure)
        return run.ending

    async def _exit(self, run: TaskRun, failure: BaseException | None) -> None:
        try:
            await run._exit(failure)
        except EventLogError as error:  # whoever follows it sees it lost at the deadline
            logger.warning("the topic %r of a run cannot be closed: %s", without_run_id(self.topic), error)

    async def _in_thread(self, log: EventLog, begun: asyncio.Future[None], thread: KeptThread) -> RunEnding | None:
        run = Run(log, self.topic, self.id, self.lease, nothing, self.wire)
        run.on_first = partial(_tell, asyncio.get_running_loop(), self._wrote)
        run._enter()
        begun.set_result(None)
        try:
            failure = await thread.call(partial(self._blocking, run))
        except asyncio.CancelledError:  # its loop ends, and nobody waits for the thread
            run.interrupt()
            raise
        except RuntimeError as error:  # there is no thread to call it on
            failure = error
            await log._run(partial(self._exit_blocking, run, error))
        if self.refusal is not None:
            await self._leave_nothing(log)
        await self._report(run.ending, failure)
        return run.ending

    def _blocking(self, run: Run) -> BaseException | None:
        failure: BaseException | None = None
        try:
            self.code(run)
        except RunStopped as error:
            failure = error
        except BaseException as error:
            failure = contained(error, f"the run of {self.c.route}")
        if self._refuses(run, failure):
            run._withdraw()
            return failure
        self._exit_blocking(run, failure)
        return failure

    def _exit_blocking(self, run: Run, failure: BaseException | None) -> None:
        try:
            run._exit(failure)
        except EventLogError as error:
            logger.warning("the topic %r of a run cannot be closed: %s", without_run_id(self.topic), error)

    async def _report(self, ending: RunEnding | None, failure: BaseException | None) -> None:
        """Tell the log and error tracking of what the code raised, unless that is how it was stopped."""
        if failure is None or ending is not RunEnding.FAILED or self.refusal is not None:
            return
        route, id = self.c.route, without_run_id(self.id)
        if isinstance(failure, REFUSALS):  # too late for an answer, and still what the client did wrong
            about = {"route": route, "run": id}
            logger.warning("the run %s of %s refused its request too late: %s", id, route, failure, extra=about)
            return
        logger.error(
            "the run %s of %s failed: %s",
            *(id, route, type(failure).__name__),
            exc_info=failure,
            extra={"route": route, "run": id, "request": self.c.request},
        )
        await got_request_exception.asend_robust(sender=RunTask, request=self.c.request)


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the loop is closed, and nobody waits there
        loop.call_soon_threadsafe(call)
