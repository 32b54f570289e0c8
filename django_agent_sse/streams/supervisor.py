"""The owner of one stream: it runs the handler in a task of its own and decides, once and in one place, how the stream ends."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable

from django.http import HttpResponseBase

from ..exceptions import StreamClosed
from ..signals import stream_opened
from . import messages
from .buffer import Buffer
from .callbacks import CLEANUP_SECONDS, Aside
from .containment import contained, ends_process
from .context import Context
from .endings import Ending
from .handlers import Handler
from .options import StreamOptions
from .recycling import listener_watch
from .registry import registry
from .shutdown import watch_signals
from .stats import Watched
from .stream import Stream, late_error
from .threads import stream_context
from .transport import OPENING_INTERVAL, Transport

logger = logging.getLogger("django_agent_sse.stream")


class Runner(Watched):
    """Owns one stream, from the handler's first step to the last callback. Belongs to one event loop.

    Attributes:
        answer: A response that the handler returned instead of streaming.
        control: Whether the client gets control events.
        ending: How the stream ended; set once, by ``end()``.
        error: What the handler raised.
        handler_over: The handler and its ``finally`` blocks are over.
        threads: Where its sync code runs, from ``begin()`` on.
        left_behind: The handler did not heed its cancellation, and nobody waits for it any more.
    """

    __slots__ = (
        "__weakref__",
        "_alarm",
        "_failure",
        "_last_resort",
        "_on_error",
        "_started",
        "_task",
        "answer",
        "aside",
        "buffer",
        "context",
        "control",
        "ending",
        "error",
        "handler_over",
        "here",
        "left_behind",
        "number",
        "options",
        "route",
        "streak",
        "stream",
        "threads",
        "transport",
    )

    def __init__(
        self,
        context: Context,
        options: StreamOptions,
        *,
        route: str,
        control: bool,
        streak: messages.ErrorStreak,
        on_error: messages.OnError | None = None,
    ) -> None:
        self.here = registry.here()
        self.context = context
        self.options = options
        self.route = route
        self.control = control
        self.streak = streak
        self._on_error = on_error
        self.buffer = Buffer(self.here, options.buffer_bytes, options.buffer_events)
        self.stream = Stream(self)
        self.transport = Transport(self)
        self.aside = Aside(self)
        self.answer: HttpResponseBase | None = None
        self.ending: Ending | None = None
        self.error: BaseException | None = None
        self._failure: BaseException | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._started = self.handler_over = self.left_behind = False

    async def begin(self, handler: Handler) -> None:
        """Start the handler and return when the response may begin, or when there is an ``answer`` instead.

        Raises:
            Exception: What the handler raised before that.
        """
        watch_signals()
        context, self.threads = stream_context(self.context, pinned=self.options.pinned)
        listener_watch.begin(self.here.loop, getattr(self.context.request, "scope", {}))
        self.here.add(self)
        self.aside.enter(context)
        self._task = self.here.loop.create_task(self._run(handler), context=context)
        self._task.add_done_callback(self.threads.end)
        if registry.closing:
            self.end(Ending.SHUTDOWN)
        self._last_resort = self.here.loop.call_later(self.options.commit_after, self.commit)
        try:
            await self.buffer.wait()
        except asyncio.CancelledError:
            self.transport.over()
            await self.settle()
            raise
        finally:
            self._last_resort.cancel()
        if self._failure is not None:
            raise self._failure
        if self.answer is None:
            self.here.loop.call_later(OPENING_INTERVAL, self.transport.await_opening, context=contextvars.Context())

    def commit(self) -> None:
        """Let the response begin: with the first event, or with a comment."""
        if not self.context.started:
            self.context.started = True
            self.buffer.beat()

    def hold(self) -> None:
        """Let the response wait for the next verb, however long that takes: it may turn out to be another one."""
        self._last_resort.cancel()

    def transport_opened(self) -> None:
        """The response is being sent."""
        self.note_opened()
        if stream_opened.has_listeners(Stream):
            self.aside.spawn(stream_opened.asend_robust(sender=Stream, stream=self.stream))

    async def _run(self, handler: Handler) -> None:
        self._started = True
        try:
            if self.ending is None:
                work = handler(self.stream)
                del handler  # its arguments need not stay for as long as the stream
                self._returned(await work)
        except asyncio.CancelledError as error:
            await self._cancelled(error)
        except BaseException as error:
            if ends_process(error, self._task):
                self.error = error
                self.end(Ending.HANDLER_ERROR)
                raise
            await self._fail(error)
        finally:
            self.handler_over = True
            self.end(Ending.TOPIC_CLOSED if self.stream.followed else Ending.COMPLETED)
            self.aside.mark_settled()
            self._set_alarm(0, None)
        await self._conclude()

    def _returned(self, result: object) -> None:
        self.streak.length = 0
        if not isinstance(result, HttpResponseBase):
            return
        if self.context.started:
            logger.error("%s returned a response after the stream had begun; it was dropped", self.route)
            result.close()
            return
        self.answer = result
        self._never_opened(Ending.COMPLETED)

    async def _cancelled(self, error: asyncio.CancelledError) -> None:
        if not self._task.cancelling():  # nobody cancelled the task: it is an error of the handler's own
            await self._fail(messages.own_cancel(error, self.route))
        self._heed_cancel()
        self.end(Ending.SHUTDOWN)  # where it was not us who cancelled, the loop is being closed

    def _heed_cancel(self) -> None:
        self.handler_over = True
        while self._task.cancelling():
            self._task.uncancel()

    async def _fail(self, error: BaseException) -> None:
        self.error = error
        if self.ending is not None:
            if not isinstance(error, StreamClosed):
                logger.error("%s failed after its end", self.route, exc_info=error, extra={"route": self.route})
        elif self.context.started:
            try:
                await messages.report(self, error, self._on_error)
            except asyncio.CancelledError:  # the stream ended in another way while it was told
                self._heed_cancel()
            self.end(Ending.HANDLER_ERROR)
        else:
            self._failure = contained(error, f"the handler of {self.route}")
            self._never_opened(Ending.HANDLER_ERROR)

    def _never_opened(self, ending: Ending) -> None:
        """The handler is over before the response began: there is no stream."""
        self.ending = ending
        self.transport.gone = True
        self.buffer.finish()

    async def _conclude(self) -> None:
        """After the handler: wait for the transport, then do what was deferred to the end."""
        try:
            await self.transport.wait_gone()
            await self.aside.conclude()
        finally:
            self.here.discard(self)
        if self.transport.opened is not None:
            await messages.tell_closed(self, self.here.loop.time() - self.transport.opened)

    def end(self, ending: Ending, *, retry: int | None = None) -> bool:
        """Decide how the stream ends: the one place. False where that was decided before.

        Args:
            ending: The word.
            retry: With ``kicked``: the client may come back, after so many milliseconds.
        """
        if self.ending is not None:
            if ending is Ending.SHUTDOWN and not self._task.cancelling():  # twice would cut its cleanup
                self._cancel_handler()
            return False
        self.ending = ending
        self.context.started = True
        if ending.hurries:  # before the rest goes out, and the server may close what is the kernel's alone then
            self.transport.limit()
        self.buffer.finish(messages.last_event(self, ending, retry))
        if ending.aborts:
            self._abort(ending)
        elif not self.handler_over:
            self._set_alarm(self.options.close_grace, self._cancel_handler)
        return ending.flushes or self.discard()

    def _abort(self, ending: Ending) -> None:
        # Callbacks are scheduled first, so that they begin before the handler learns of it; it is cancelled now and not
        # after them: what it waits for is over too, and a late cancel would cut its cleanup.
        self.aside.abort()
        if not self._detached:
            self._cancel_handler()
        if ending.hurries:
            self.transport.hurry()

    def discard(self) -> bool:
        """Drop what was not sent."""
        if self.ending is not None:
            self.buffer.discard(False if self._detached else late_error(self.ending))
        return True

    def late(self) -> asyncio.Future[bool]:
        """What a write after the end gets: ``StreamClosed``, but where the handler goes on without its client."""
        assert self.ending is not None
        if self._detached:
            return self.here.dropped
        raise late_error(self.ending)

    @property
    def breaks_off(self) -> bool:
        """Whether the answer must not look finished: it is not whole, and no control event can tell the client."""
        return not self.control and self.ending is not None and not self.ending.complete

    @property
    def _detached(self) -> bool:
        """Whether the handler goes on without its client."""
        return self.ending is Ending.CLIENT_DISCONNECT and self.options.on_disconnect == "continue"

    @property
    def lingers(self) -> bool:
        """Whether the handler, or what was deferred to the end, goes on though the transport is over."""
        return self.transport.gone

    def _cancel_handler(self) -> None:
        if not self.handler_over:
            if self._started:
                self._task.cancel()
            self._set_alarm(CLEANUP_SECONDS, self._leave_behind)

    def _set_alarm(self, seconds: float, then: Callable[[], None] | None) -> None:
        """What comes next if the handler does not end by itself: one thing at a time."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self.here.loop.call_later(seconds, then) if then else None

    def _leave_behind(self) -> None:
        if not self.handler_over:
            told = "the handler of %s goes on %.0f s after it was cancelled; it is cancelled once more and left behind"
            logger.warning(told, self.route, CLEANUP_SECONDS, extra={"route": self.route})
            self.left_behind = True
            self.aside.mark_settled()
            self._task.cancel()

    async def settle(self) -> None:
        """After an abort, wait for callbacks and the handler's ``finally`` blocks."""
        if self.ending is not None and self.ending.aborts and not self._detached:
            await self.aside.settle()
