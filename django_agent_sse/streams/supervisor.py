"""The owner of one stream: runs its handler, tells its lifecycle what happens, and carries out what that decides.

The one module that knows all the others. Nothing else knows it, but for the view that makes a supervisor: a stream sees a
``StreamPort``, a transport sees ``TransportCallbacks``, and the registry sees an ``OpenStream``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager

from django.conf import settings
from django.http import HttpResponseBase

from ..contrib.monitor.stats import Facts, Measure
from ..exceptions import StreamClosed
from ..signals import stream_opened
from . import messages, stats
from .buffer import Buffer
from .callbacks import CLEANUP_SECONDS, Callback, Callbacks
from .containment import contained, ends_process
from .context import Context
from .endings import Ending
from .handlers import Handler
from .lifecycle import Action, Deadline, Effects, Finish, Lifecycle, Outcome, SetDeadline, WatchDeparture
from .options import StreamOptions
from .reconnection import ErrorStreak
from .recycling import listener_watch
from .registry import registry
from .reporting import OnError, own_cancel, report_closed, report_error
from .shutdown import watch_signals
from .stream import Stream, late_error
from .threads import stream_context
from .transport import Transport

logger = logging.getLogger("django_agent_sse.stream")

OPENING_INTERVAL = 0.25
"""Seconds between two looks whether a response that was made is being sent."""


class Supervisor:
    """Owns one stream, from the handler's first step to the last callback. Belongs to one event loop.

    Attributes:
        context: The request's.
        error: What the handler raised.
        number: Another one for each stream of the process.
    """

    __slots__ = (
        "__weakref__",
        "_answer",
        "_buffer",
        "_callbacks",
        "_commit_timer",
        "_concluded",
        "_deadline",
        "_failure",
        "_lifecycle",
        "_loop_state",
        "_on_error",
        "_options",
        "_streak",
        "_stream",
        "_task",
        "_threads",
        "_transport",
        "context",
        "error",
        "number",
    )
    number: int

    def __init__(
        self,
        context: Context,
        options: StreamOptions,
        *,
        control: bool,
        streak: ErrorStreak,
        on_error: OnError | None = None,
    ) -> None:
        """Make the parts of a stream.

        Args:
            context: The request's.
            options: The route's.
            control: The client takes control events.
            streak: The errors of the route.
            on_error: The route's.
        """
        self.context = context
        self._options = options
        self._streak = streak
        self._on_error = on_error
        self._loop_state = registry.loop_state()
        self._lifecycle = Lifecycle(control=control, on_disconnect=options.on_disconnect, final_on_error=options.final_on_error)
        self._buffer = Buffer(self._loop_state, options.buffer_bytes, options.buffer_events)
        self._stream = Stream(self, self._buffer, position=context.position, control=control, retry=options.retry)
        self._transport = Transport(self, self._buffer, request=context.request, loop_state=self._loop_state, options=options)
        self._callbacks = Callbacks(context.route)
        self._answer: HttpResponseBase | None = None
        self._failure: BaseException | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._concluded: asyncio.Future[None] | None = None
        self.error: BaseException | None = None

    async def begin(self, handler: Handler) -> Transport | HttpResponseBase:
        """Start the handler, and return when the response may begin.

        Returns:
            What to send, or a response that the handler returned instead.

        Raises:
            Exception: What the handler raised before that.
        """
        loop = self._loop_state.loop
        watch_signals()
        context, self._threads = stream_context(self.context, pinned=self._options.pinned)
        listener_watch.begin(loop, getattr(self.context.request, "scope", {}))
        self._loop_state.add(self)
        self._callbacks.enter(context)
        self._task = loop.create_task(self._run(handler), context=context)
        self._task.add_done_callback(self._threads.end)
        if registry.closing:
            self.end(Ending.SHUTDOWN)
        self._commit_timer = loop.call_later(self._options.commit_after, self.touch)
        try:
            await self._buffer.wait()
        except asyncio.CancelledError:
            self._transport.mark_closed()
            await self.settle()
            raise
        finally:
            self._commit_timer.cancel()
        if self._failure is not None:
            raise self._failure
        if self._answer is not None:
            return self._answer
        loop.call_later(OPENING_INTERVAL, self._await_opening, context=contextvars.Context())
        return self._transport

    def _await_opening(self) -> None:
        """Look whether the response is sent at all: a client that leaves while a middleware has it leaves it to the collector."""
        if self._transport.opened is not None or self._transport.closed:
            return
        if self._threads.request_is_over:
            self._transport.mark_closed()
        else:
            self._loop_state.loop.call_later(OPENING_INTERVAL, self._await_opening, context=contextvars.Context())

    # The handler

    async def _run(self, handler: Handler) -> None:
        outcome = Outcome.RETURNED
        try:
            if Action.RUN_HANDLER in self._lifecycle.started():
                work = handler(self._stream)
                del handler  # its arguments need not stay for as long as the stream
                outcome = self._returned(await work)
        except asyncio.CancelledError as error:
            outcome = self._cancelled(error)
        except BaseException as error:
            self.error = error
            if ends_process(error, self._task):
                self._execute(self._lifecycle.handler_done(Outcome.INTERRUPTED))
                raise
            outcome = Outcome.WRITE_REFUSED if isinstance(error, StreamClosed) else Outcome.RAISED
        await self._conclude(outcome)

    def _returned(self, result: object) -> Outcome:
        self._streak.length = 0
        if not isinstance(result, HttpResponseBase):
            return Outcome.RETURNED
        self._answer = result
        return Outcome.ANSWERED

    def _cancelled(self, error: asyncio.CancelledError) -> Outcome:
        if self._task.cancelling():
            self._heed_cancel()
            return Outcome.CANCELLED
        self.error = own_cancel(error, self.route)  # nobody cancelled the task
        return Outcome.RAISED

    def _heed_cancel(self) -> None:
        while self._task.cancelling():
            self._task.uncancel()

    async def _conclude(self, outcome: Outcome) -> None:
        """After the handler: wait for the transport, then do what was deferred to the end."""
        effects = self._lifecycle.handler_done(outcome, followed=self._stream.followed is not None)
        self._execute(effects)
        if Action.REPORT_ERROR in effects:
            await self._report_error()
        try:
            if not self._lifecycle.concluded:
                self._concluded = self._loop_state.loop.create_future()
                await self._concluded
            await self._callbacks.wait_tasks()
            self._threads.cut()
            await self._callbacks.run_ends()
        finally:
            self._loop_state.discard(self)
        opened = self._transport.opened
        if opened is not None and self.ending is not None:
            await report_closed(self._stream, self._buffer, self.ending, self._loop_state.loop.time() - opened)

    async def _report_error(self) -> None:
        assert self.error is not None
        try:
            await report_error(self.context, self._stream, self.error, self._on_error, slim=self._options.slim)
        except asyncio.CancelledError:  # the stream ended in another way meanwhile
            self._heed_cancel()
        self._execute(self._lifecycle.error_reported())

    # Effects

    def _execute(self, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Finish():
                    self.context.started = True
                    self._buffer.finish(self._last_event(effect))
                case SetDeadline():
                    self._set_deadline(effect.deadline)
                case WatchDeparture():
                    self._transport.watch_departure(unfinished=effect.unfinished)
                case Action():
                    self._do(effect)

    def _do(self, action: Action) -> None:
        match action:
            case Action.RUN_HANDLER | Action.REPORT_ERROR | Action.BREAK_OFF:
                pass  # done by the coroutine that asked
            case Action.BEGIN_RESPONSE:
                self.context.started = True
                self._buffer.request_heartbeat()
            case Action.TELL_OPENED:
                self._tell_opened()
            case Action.LOG_LATE_ERROR:
                logger.error("%s failed after its end", self.route, exc_info=self.error, extra={"route": self.route})
            case Action.RAISE_ERROR:
                assert self.error is not None
                self._failure = contained(self.error, f"the handler of {self.route}")
                self._never_open()
            case Action.ANSWER:
                self._never_open()
            case Action.DROP_ANSWER:
                self._drop_answer()
            case Action.LIMIT_CLIENT:
                self._transport.limit_client()
            case Action.RUN_ABORT_CALLBACKS:
                self._callbacks.run_aborts()
            case Action.CANCEL_HANDLER:
                self._task.cancel()
            case Action.ABANDON_HANDLER:
                self._abandon_handler()
            case Action.CLEAR_DEADLINE:
                self._clear_deadline()
            case Action.SET_DRAIN_DEADLINE:
                self._transport.set_drain_deadline()
            case Action.DISCARD_UNSENT:
                self._discard_unsent()
            case Action.BREAK_SEND:
                self._transport.break_send()
            case Action.RELEASE:
                self._callbacks.handler_over()
            case Action.CONCLUDE:
                if self._concluded is not None and not self._concluded.done():
                    self._concluded.set_result(None)

    def _last_event(self, finish: Finish) -> bytes:
        assert self.ending is not None
        last_id = self._stream.last_event_id
        if finish.last_event == "sse.end":
            followed = self._stream.followed
            closed = None if followed is None else followed.reason
            return messages.end_event(self.ending, last_id=last_id, final=finish.final, retry=finish.retry, closed=closed)
        if finish.last_event == "sse.error":
            retry = self._streak.next_retry(self._options.retry)
            return messages.error_event(self.error, last_id=last_id, final=finish.final, retry=retry, debug=settings.DEBUG)
        return b""

    def _set_deadline(self, deadline: Deadline) -> None:
        self._clear_deadline()
        seconds = CLEANUP_SECONDS if deadline is Deadline.CLEANUP else self._options.close_grace
        self._deadline = self._loop_state.loop.call_later(seconds, self._deadline_passed)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _deadline_passed(self) -> None:
        self._execute(self._lifecycle.deadline())

    def _tell_opened(self) -> None:
        stats.note_opened(self.route)
        if stream_opened.has_listeners(Stream):
            self._callbacks.spawn(stream_opened.asend_robust(sender=Stream, stream=self._stream))

    def _never_open(self) -> None:
        self._transport.never_open()
        self._buffer.finish()

    def _drop_answer(self) -> None:
        dropped, self._answer = self._answer, None
        logger.error("%s returned a response after the stream had begun; it was dropped", self.route)
        if dropped is not None:
            dropped.close()

    def _abandon_handler(self) -> None:
        logger.warning(
            "the handler of %s goes on %.0f s after it was cancelled; it is cancelled once more and left behind",
            *(self.route, CLEANUP_SECONDS),
            extra={"route": self.route},
        )
        self._callbacks.abandon_handler()
        self._task.cancel()

    def _discard_unsent(self) -> None:
        assert self.ending is not None
        self._buffer.discard(False if self._lifecycle.outlives_client else late_error(self.ending))

    # What the transport sees: TransportCallbacks

    def transport_opened(self) -> None:
        self._execute(self._lifecycle.opened())

    async def settle(self) -> bool:
        if self._lifecycle.awaits_cleanup:
            await self._callbacks.settled()
        return Action.BREAK_OFF in self._lifecycle.drained()

    def transport_closed(self) -> None:
        self._execute(self._lifecycle.client_gone())

    def max_duration_reached(self) -> None:
        self._execute(self._lifecycle.ended(Ending.MAX_DURATION))

    def send_timed_out(self) -> None:
        self._execute(self._lifecycle.send_timed_out())

    # What the handler's stream sees: StreamPort

    @property
    def route(self) -> str:
        return self.context.route

    @property
    def ending(self) -> Ending | None:
        return self._lifecycle.ending

    def touch(self) -> None:
        if not self.context.started:
            self._execute(self._lifecycle.committed())

    def pause_commit_timer(self) -> None:
        self._commit_timer.cancel()

    def close(self) -> None:
        self._execute(self._lifecycle.ended(Ending.COMPLETED))

    def write_after_end(self) -> asyncio.Future[bool]:
        assert self.ending is not None
        if self._lifecycle.outlives_client:
            return self._loop_state.dropped
        raise late_error(self.ending)

    def wait_closed(self) -> Awaitable[object]:
        return self._transport.wait_closed()

    def on_abort(self, callback: Callback) -> None:
        if self.ending is None:
            self._callbacks.add_abort(callback)
        elif self.ending.aborts:
            self._callbacks.run_late_abort(callback)

    def on_end(self, callback: Callback) -> None:
        self._callbacks.add_end(callback)

    def connection(self) -> AbstractAsyncContextManager[None]:
        return self._threads.held()

    # What the registry and the monitor see: OpenStream

    @property
    def outlives_client(self) -> bool:
        return self._transport.closed

    @property
    def heartbeat(self) -> float | None:
        return self._options.heartbeat

    @property
    def topics(self) -> Sequence[str]:
        return self._stream.topics

    @property
    def last_id(self) -> str | None:
        try:
            return self._stream.last_event_id
        except (ValueError, IndexError):  # it stops following at this very moment
            return None

    def measure(self, now: float) -> Measure:
        return stats.measure(now, self._stream, self._buffer, self._transport)

    def facts(self) -> Facts:
        return stats.facts(self.context, self._options.heartbeat)

    def end(self, ending: Ending, *, retry: int | None = None) -> bool:
        first = self.ending is None
        self._execute(self._lifecycle.ended(ending, retry=retry))
        return first
