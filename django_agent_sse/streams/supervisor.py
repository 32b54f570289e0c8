"""The owner of one stream: runs its handler, tells its lifecycle what happens, and carries out what that decides.

The one module that knows all the others. Nothing else knows it, but for the view that makes a supervisor: a stream sees a
``StreamPort``, a transport sees ``TransportCallbacks``, and the registry sees an ``OpenStream``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import InitVar, dataclass, field

from django.conf import settings
from django.http import HttpResponseBase

from ..exceptions import StreamClosed
from ..signals import stream_opened
from ..wire.encoder import comment
from . import reporting
from .buffer import Buffer
from .callbacks import CLEANUP_SECONDS, Callback, Callbacks, contained, ends_process, heed_cancel
from .context import Context
from .counters import counters
from .endings import Ending
from .handlers import Handler
from .lifecycle import Action, Deadline, Effects, Finish, Lifecycle, Outcome, WatchDeparture
from .messages import last_event
from .options import StreamOptions
from .registry import LoopState, StreamInfo, StreamStats, StreamWatch, registry
from .reporting import ErrorStreak, OnError, own_cancel
from .shutdown import watch_end
from .stream import Stream, late_error
from .threads import StreamThreads, stream_context
from .topic_access import check_follow_access
from .transport import Transport

logger = logging.getLogger("django_agent_sse.stream")

USUAL_HEARTBEAT = 15
"""Seconds that the client in ``client.js`` expects; a route with another heartbeat says so in a comment before all else."""


@dataclass(slots=True, weakref_slot=True, eq=False, repr=False)
class Supervisor:
    """Owns one stream, from the handler's first step to the last callback. Belongs to one event loop.

    Attributes:
        context: The request's.
        error: What the handler raised.
        number: Another one for each stream of the process.
    """

    context: Context
    _options: StreamOptions
    _streak: ErrorStreak
    _watches: list[StreamWatch]
    control: InitVar[bool]
    _on_error: OnError | None = None
    error: BaseException | None = None
    number: int = field(init=False)
    _loop_state: LoopState = field(default_factory=registry.loop_state)
    _lifecycle: Lifecycle = field(init=False)
    _buffer: Buffer = field(init=False)
    _stream: Stream | None = field(init=False)
    _transport: Transport = field(init=False)
    _callbacks: Callbacks = field(init=False)
    _task: asyncio.Task[None] = field(init=False)
    _threads: StreamThreads = field(init=False)
    _commit_timer: asyncio.TimerHandle | None = None
    _deadline: asyncio.TimerHandle | None = None
    _concluded: asyncio.Future[None] | None = None
    _instead: HttpResponseBase | Exception | None = None

    def __post_init__(self, control: bool) -> None:
        context, options = self.context, self._options
        self._lifecycle = Lifecycle(control=control, on_disconnect=options.on_disconnect, final_on_error=options.final_on_error)
        self._buffer = Buffer(self._loop_state, options.buffer_bytes, options.buffer_events)
        self._stream = Stream(self, self._buffer, context._position, control, options.retry)
        self._transport = Transport(context.request, self, self._buffer, self._loop_state, options)
        self._callbacks = Callbacks(context.route)

    async def begin(self, handler: Handler) -> Transport | HttpResponseBase:
        """Start the handler. When the response may begin, return what to send, or the response that the handler returned instead.

        Raises:
            Exception: What the handler raised before that.
        """
        loop = self._loop_state.loop
        watch_end(getattr(self.context.request, "scope", {}))
        context, self._threads = stream_context(self.context, pinned=self._options.pinned)
        self._loop_state.add(self)
        self._callbacks.context = context
        self._task = loop.create_task(self._run(handler), context=context)
        self._task.add_done_callback(self._threads.end)
        try:
            for watch in self._watches:
                watch.begun(self, context)
            registry.end_late(self)
            self._commit_timer = loop.call_later(self._options.commit_after, self.touch)
            # Everything that lets a response begin shows there: a frame, a heartbeat, an end. So nothing else need be waited for.
            await self._buffer.wait()
        except BaseException:  # it is cancelled, or a watch has raised: the handler must not run on without a place
            self._transport.mark_closed()
            await self.settle()
            raise
        finally:
            self.pause_commit_timer()
        if isinstance(self._instead, Exception):
            raise self._instead
        if self._instead is not None:
            return self._instead
        self._transport.expect_opening(self._threads)
        if (heartbeat := self._options.heartbeat or 0) != USUAL_HEARTBEAT and self._lifecycle.control:
            self._buffer.put_first(comment(f"heartbeat {heartbeat:g}"))
        return self._transport

    # The handler

    async def _run(self, handler: Handler) -> None:
        # Errors are reported where they are caught: receivers and on_error may ask sys.exc_info(), as error trackers do.
        outcome = Outcome.RETURNED
        try:
            if Action.RUN_HANDLER in self._lifecycle.started():
                assert self._stream is not None
                work = handler(self._stream)
                del handler  # its arguments need not stay for as long as the stream
                result = await work
                self._streak.length = 0
                if isinstance(result, HttpResponseBase):
                    self._instead, outcome = result, Outcome.ANSWERED
        except asyncio.CancelledError as error:
            if heed_cancel(self._task):
                outcome = Outcome.CANCELLED
            else:
                outcome, self.error = Outcome.RAISED, own_cancel(error, self.route)
            await self._handler_done(outcome)
        except BaseException as error:
            self.error = error
            if ends_process(error, self._task):
                self._execute(self._lifecycle.handler_done(Outcome.INTERRUPTED))
                raise
            await self._handler_done(Outcome.WRITE_REFUSED if isinstance(error, StreamClosed) else Outcome.RAISED)
        else:
            await self._handler_done(outcome)
        await self._conclude()

    async def _handler_done(self, outcome: Outcome) -> None:
        assert self._stream is not None
        followed, whole = self._stream.followed is not None, not self._stream._incomplete
        effects = self._lifecycle.handler_done(outcome, followed=followed, whole=whole)
        self._execute(effects)
        if Action.REPORT_ERROR in effects:
            await self._report_error()

    async def _conclude(self) -> None:
        """After the handler: wait for the transport, then do what was deferred to the end."""
        try:
            if not self._lifecycle.concluded:
                self._concluded = self._loop_state.loop.create_future()
                await self._concluded
            await self._callbacks.conclude(self._threads.cut, self._end_watches)
        finally:
            self._loop_state.discard(self)
            self._end_watches()
        stream, self._stream = self._stream, None  # each knows the other, and nobody should wait for the garbage collector
        if stream is not None and self._lifecycle.was_open:
            await reporting.report_closed(stream, self._buffer, self._transport.seconds_open)

    def _end_watches(self) -> None:
        while self._watches:  # they know the stream
            self._watches.pop().over()

    async def _report_error(self) -> None:
        assert self.error is not None
        assert self._stream is not None
        try:
            await reporting.report_error(self.context, self._stream, self.error, self._on_error, slim=self._options.slim)
        except asyncio.CancelledError:  # the stream ended in another way meanwhile
            heed_cancel(self._task)
        self._execute(self._lifecycle.error_reported())

    # Effects

    def _execute(self, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case Finish():
                    self.context.started = True
                    self._buffer.finish(self._last_event(effect))
                case Deadline():
                    self._set_deadline(effect)
                case WatchDeparture():
                    self._transport.watch_departure(unfinished=effect.unfinished)
                case Action():
                    if (act := ACTS.get(effect)) is not None:
                        act(self)

    def _begin_response(self) -> None:
        self.context.started = True
        self._buffer.request_heartbeat()

    def _last_event(self, finish: Finish) -> bytes:
        assert self.ending is not None
        assert self._stream is not None
        stream, failed = self._stream, finish.last_event == "sse.error"
        return last_event(
            *(finish, self.ending),
            last_id=stream.last_event_id,
            retry=self._streak.next_retry(self._options.retry) if failed else finish.retry,
            closed=None if stream.followed is None else stream.followed.reason,
            error=self.error,
            debug=settings.DEBUG,
        )

    def _set_deadline(self, deadline: Deadline) -> None:
        self._clear_deadline()
        seconds = CLEANUP_SECONDS if deadline is Deadline.CLEANUP else self._options.close_grace
        self._deadline = self._loop_state.loop.call_later(seconds, lambda: self._execute(self._lifecycle.deadline()))

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _raise_error(self) -> None:
        assert self.error is not None
        self._instead = contained(self.error, f"the handler of {self.route}")
        self._never_open()

    def _log_late_error(self) -> None:
        logger.error("%s failed after its end", self.route, exc_info=self.error, extra={"route": self.route})

    def _tell_opened(self) -> None:
        counters.opened(self.route, time.monotonic() - self.context._began)
        if stream_opened.has_listeners(Stream):
            self._callbacks.spawn(stream_opened.asend_robust(sender=Stream, stream=self._stream))

    def _never_open(self) -> None:
        self._transport.never_open()
        self._buffer.finish()

    def _drop_answer(self) -> None:
        assert isinstance(self._instead, HttpResponseBase)
        logger.error("%s returned a response after the stream had begun; it was dropped", self.route)
        self._instead.close()
        self._instead = None

    def _abandon_handler(self) -> None:
        message = "the handler of %s goes on %.0f s after it was cancelled; it is cancelled once more and left behind"
        logger.warning(message, self.route, CLEANUP_SECONDS, extra={"route": self.route})
        self._callbacks.abandon()
        self._task.cancel()

    def _discard_unsent(self) -> None:
        assert self.ending is not None
        self._buffer.discard(False if self._lifecycle.outlives_client else late_error(self.ending))

    def _release_end(self) -> None:
        if self._concluded is not None and not self._concluded.done():
            self._concluded.set_result(None)

    # What the transport sees: TransportCallbacks

    def transport_opened(self) -> None:
        self._execute(self._lifecycle.opened())

    async def settle(self) -> bool:
        if self._lifecycle.awaits_cleanup:
            await self._callbacks.settled()
        return Action.BREAK_OFF in self._lifecycle.drained()

    async def conclude(self) -> None:
        if registry.closing and not self._callbacks.abandoned:
            await asyncio.wait({self._task}, timeout=CLEANUP_SECONDS)

    def transport_closed(self) -> None:
        self._execute(self._lifecycle.client_gone())

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
        if self._commit_timer is not None:
            self._commit_timer.cancel()
            self._commit_timer = None  # a cancelled one would take memory for as long as the stream

    def close(self) -> None:
        self._execute(self._lifecycle.ended(Ending.COMPLETED))

    def write_after_end(self) -> asyncio.Future[bool]:
        assert self.ending is not None
        if Action.DROP_WRITE in self._lifecycle.wrote():
            return self._loop_state.dropped
        raise late_error(self.ending)

    def wait_closed(self) -> Awaitable[object]:
        return self._transport.wait_closed()

    def on_abort(self, callback: Callback) -> None:
        effects = self._lifecycle.abort_callback_added()
        if Action.KEEP_CALLBACK in effects:
            self._callbacks.add_abort(callback)
        elif Action.RUN_CALLBACK in effects:
            self._callbacks.run_late_abort(callback)

    def on_end(self, callback: Callback) -> None:
        self._callbacks.add_end(callback)

    def connection(self) -> AbstractAsyncContextManager[None]:
        return self._threads.held()

    async def check_follow_access(self, topics: Sequence[str]) -> None:
        self.pause_commit_timer()
        await check_follow_access(self.context, topics, lambda: self.end(Ending.REVOKED))

    # What the registry and the monitor see: OpenStream

    @property
    def outlives_client(self) -> bool:
        return self._transport.closed

    @property
    def heartbeat(self) -> float | None:
        return self._options.heartbeat

    @property
    def topics(self) -> Sequence[str]:
        return () if (stream := self._stream) is None else stream.topics

    @property
    def last_id(self) -> str | None:
        try:
            return None if (stream := self._stream) is None else stream.last_event_id
        except (ValueError, IndexError):  # it stops following at this very moment, on its own thread
            return None

    def stats(self, now: float) -> StreamStats:
        return self._transport.stats(now, self.ending, 0 if (stream := self._stream) is None else stream.behind)

    def info(self) -> StreamInfo:
        return self.context._info(self._options.heartbeat)._replace(patience=self._options.send_timeout)

    def end(self, ending: Ending, *, retry: int | None = None) -> bool:
        first = self.ending is None
        self._execute(self._lifecycle.ended(ending, retry=retry))
        return first


ACTS: Mapping[Action, Callable[[Supervisor], object]] = {
    Action.BEGIN_RESPONSE: Supervisor._begin_response,
    Action.TELL_OPENED: Supervisor._tell_opened,
    Action.LOG_LATE_ERROR: Supervisor._log_late_error,
    Action.RAISE_ERROR: Supervisor._raise_error,
    Action.ANSWER: Supervisor._never_open,
    Action.DROP_ANSWER: Supervisor._drop_answer,
    Action.LIMIT_CLIENT: lambda self: self._transport.limit_client(),
    Action.RUN_ABORT_CALLBACKS: lambda self: self._callbacks.run_aborts(),
    Action.CANCEL_HANDLER: lambda self: self._task.cancel(),
    Action.ABANDON_HANDLER: Supervisor._abandon_handler,
    Action.CLEAR_DEADLINE: Supervisor._clear_deadline,
    Action.SET_DRAIN_DEADLINE: lambda self: self._transport.set_drain_deadline(),
    Action.DISCARD_UNSENT: Supervisor._discard_unsent,
    Action.BREAK_SEND: lambda self: self._transport.break_send(),
    Action.RELEASE: lambda self: self._callbacks.handler_over(),
    Action.CONCLUDE: Supervisor._release_end,
}
"""What is done for an action. The others are answers to whoever told the lifecycle, and are looked for there."""
