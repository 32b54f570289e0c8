"""The life of one stream as a state machine: every rule about its start and its end, and nothing that does anything.

Whoever runs a stream tells the machine what happened, and carries out the effects that it returns, in their order. It knows no
event loop, no clock and no socket, so that every order of events can be tried in a test without any.

The life of a stream, with the inputs in their usual order::

    started()        the handler's task takes its first step
    committed()      the response may begin: the handler's first verb, or the commit timer
    opened()         the response is being sent
    ended(why)       somebody decides that it ends: the handler, staff, a signal, a guard, the clock
    handler_done(…)  the handler and its ``finally`` blocks are over
    drained()        the client has taken everything
    client_gone()    the transport is over, in whichever way

Any of them may come in any order, or twice: the client may leave before anything else happens, and a handler may return while its
error is reported. The first ending wins. What comes after it changes nothing but what is still to be tidied up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from .endings import Ending


class Action(Enum):
    """An effect that says everything by its name."""

    RUN_HANDLER = auto()  # call the handler
    BEGIN_RESPONSE = auto()  # let the response begin, with a comment if there is nothing better to send
    TELL_OPENED = auto()  # count the stream, and send ``stream_opened``
    REPORT_ERROR = auto()  # tell error tracking, the log and ``on_error`` what the handler raised; then ``error_reported()``
    LOG_LATE_ERROR = auto()  # log what the handler raised after the end
    RAISE_ERROR = auto()  # let Django answer what the handler raised: no response has begun
    ANSWER = auto()  # answer with the response that the handler returned: there is no stream
    DROP_ANSWER = auto()  # log and close the response that the handler returned too late
    LIMIT_CLIENT = auto()  # have the kernel give up on a client that takes nothing more
    RUN_ABORT_CALLBACKS = auto()  # run the ``on_abort`` callbacks, beside the handler
    CANCEL_HANDLER = auto()  # cancel the handler's task
    ABANDON_HANDLER = auto()  # cancel the handler once more, and wait for it no longer
    CLEAR_DEADLINE = auto()  # forget the deadline that was set
    SET_DRAIN_DEADLINE = auto()  # give the client a moment to take what is left
    DISCARD_UNSENT = auto()  # drop what waits for the client, and let waiting writes go
    BREAK_SEND = auto()  # give up on a send that waits for the client
    BREAK_OFF = auto()  # end the response without its end, so that nobody takes it for whole
    REFUSE_WRITE = auto()  # raise ``StreamClosed``
    DROP_WRITE = auto()  # say that it was dropped
    KEEP_CALLBACK = auto()  # keep an ``on_abort`` callback until the stream is aborted
    RUN_CALLBACK = auto()  # run it now: the stream was aborted before
    RELEASE = auto()  # let the response go on that waits for the handler's end
    CONCLUDE = auto()  # handler and transport are over: run ``on_end``, and tell of the end of a stream that had begun


class Deadline(Enum):
    """Call ``deadline()`` later, for what comes next if the handler does not end by itself; replaces the one that was set."""

    CLOSE_GRACE = auto()  # its code after a regular end has had its time: it is cancelled
    CLEANUP = auto()  # its ``finally`` blocks have had their time: it is abandoned


@dataclass(frozen=True, slots=True)
class Finish:
    """Nothing is written after this.

    Attributes:
        last_event: The control event that goes out last, if one does.
        final: It carries the end id: a client that comes back gets 204.
        retry: The client may come back after so many milliseconds; an ``sse.error`` has one of its own.
    """

    last_event: Literal["sse.end", "sse.error", "sse.overloaded"] | None = None
    final: bool = False
    retry: int | None = None


@dataclass(frozen=True, slots=True)
class WatchDeparture:
    """Look after the connection until the client has taken what the server still holds; if ``unfinished``, close it then."""

    unfinished: bool


Effect = Action | Deadline | Finish | WatchDeparture
Effects = tuple[Effect, ...]


class Outcome(Enum):
    """How a handler was over."""

    RETURNED = auto()
    ANSWERED = auto()  # it returned a response
    RAISED = auto()
    WRITE_REFUSED = auto()  # it raised ``StreamClosed``, which is no mistake after the end
    CANCELLED = auto()  # it was cancelled, by us or by whoever closes the event loop
    INTERRUPTED = auto()  # it raised what ends the process: Ctrl-C


class _Handler(Enum):
    WAITING = auto()
    RUNNING = auto()
    REPORTING = auto()
    OVER = auto()


@dataclass(slots=True, eq=False, kw_only=True)
class Lifecycle:
    """The state of one stream. Each method is an input, and returns what must be done, in this order.

    Attributes:
        control: The client takes control events.
        on_disconnect: Whether the handler is cancelled (``"cancel"``) or goes on (``"continue"``) when the client leaves.
        final_on_error: A client that comes back after ``handler_error`` gets 204.
        ending: How the stream ended; set once.
        concluded: Both the handler and the transport are over.
        was_open: The response was sent, or some of it: whoever was told of the opening is told of the end.
    """

    control: bool
    on_disconnect: str = "cancel"
    final_on_error: bool = False
    ending: Ending | None = None
    concluded: bool = False
    was_open: bool = False
    _handler: _Handler = _Handler.WAITING
    _deadline: Deadline | None = None
    _committed: bool = False
    _closed: bool = False
    _cancelled: bool = False
    _broken: bool = False

    # What follows from the state

    @property
    def outlives_client(self) -> bool:
        """Whether the handler goes on without its client: what it writes is dropped, not refused."""
        return self.on_disconnect == "continue" and self.ending is Ending.CLIENT_DISCONNECT

    @property
    def awaits_cleanup(self) -> bool:
        """Whether the response waits for the callbacks and the handler's ``finally`` blocks."""
        return self.ending is not None and self.ending.aborts and not self.outlives_client

    @property
    def breaks_off(self) -> bool:
        """Whether the response must not look finished: it is not whole, and no control event can tell the client."""
        return not self.control and self.ending is not None and (self._broken or not self.ending.rules.whole)

    # Inputs

    def started(self) -> Effects:
        """The handler's task has taken its first step. A stream that ended before never calls its handler."""
        if self._handler is not _Handler.WAITING:
            return ()
        self._handler = _Handler.RUNNING
        return (Action.RUN_HANDLER,) if self.ending is None else ()

    def committed(self) -> Effects:
        """The response may begin: the handler has used the stream, or the commit timer has run out."""
        if self._committed:
            return ()
        self._committed = True
        return (Action.BEGIN_RESPONSE,)

    def opened(self) -> Effects:
        """The response is being sent."""
        if self.was_open or self._closed:
            return ()
        self.was_open = True
        return (Action.TELL_OPENED,)

    def ended(self, ending: Ending, *, retry: int | None = None) -> Effects:
        """Somebody decides that the stream ends. The first ending stays.

        A client that was ``kicked``, or whose process ends, may come back after ``retry`` milliseconds.
        """
        if self.ending is not None and ending is Ending.SHUTDOWN:
            return self._cancel()  # it cuts the grace short, and ends a handler that goes on without its client
        return self._end(ending, retry)

    def send_timed_out(self) -> Effects:
        """A send has waited for the client for too long."""
        return () if self._closed else (*self.ended(Ending.SLOW_CLIENT), Action.BREAK_SEND)

    def client_gone(self) -> Effects:
        """The transport is over. That is the client's doing, unless the stream had ended before."""
        if self._closed:
            return ()
        self._closed = True
        effects = self._end(Ending.CLIENT_DISCONNECT) or (Action.DISCARD_UNSENT,)
        if self.was_open and self.ending is not Ending.CLIENT_DISCONNECT:  # the server may still hold some of it
            effects += (WatchDeparture(unfinished=self.breaks_off),)
        return effects + self._conclude()

    def wrote(self) -> Effects:
        """The handler writes. Nothing is written after the end."""
        if self.ending is None:
            return ()
        return (Action.DROP_WRITE,) if self.outlives_client else (Action.REFUSE_WRITE,)

    def abort_callback_added(self) -> Effects:
        """The handler has an ``on_abort`` callback more. After a regular end it is never called."""
        if self.ending is None:
            return (Action.KEEP_CALLBACK,)
        return (Action.RUN_CALLBACK,) if self.ending.aborts else ()

    def drained(self) -> Effects:
        """The client has taken everything, and what the response waited for is over."""
        return (Action.BREAK_OFF,) if self.breaks_off else ()

    def handler_done(self, outcome: Outcome, *, followed: bool = False, whole: bool = True) -> Effects:
        """The handler is over, or will be when its error is reported.

        ``followed``: all topics that it followed had ended; ``whole``: none of them before its time.
        """
        if self._handler in (_Handler.REPORTING, _Handler.OVER):
            return ()
        self._broken = not whole
        if outcome in (Outcome.RAISED, Outcome.WRITE_REFUSED) and self._committed and self.ending is None:
            self._handler = _Handler.REPORTING  # it is not over: on_error may write, and another ending may come first
            return (Action.REPORT_ERROR,)
        self._handler = _Handler.OVER
        return self._judge(outcome, followed) + self._tidy_up()

    def error_reported(self) -> Effects:
        """Everybody was told of the handler's error."""
        if self._handler is not _Handler.REPORTING:
            return ()
        self._handler = _Handler.OVER
        return self._end(Ending.HANDLER_ERROR) + self._tidy_up()

    def deadline(self) -> Effects:
        """The deadline that was set last has passed."""
        passed, self._deadline = self._deadline, None
        if passed is Deadline.CLOSE_GRACE:
            return self._cancel()
        return (Action.ABANDON_HANDLER,) if passed is Deadline.CLEANUP else ()

    # Rules

    def _end(self, ending: Ending, retry: int | None = None) -> Effects:
        if self.ending is not None:
            return ()
        rules = ending.rules
        self.ending = ending
        self._committed = True
        # Before the rest goes out: a server may close the connection then, and only the kernel knows it afterwards.
        effects: list[Effect] = [Action.LIMIT_CLIENT] if rules.requested else []
        effects.append(self._finish(ending, retry))
        if rules.aborts:
            # Callbacks are scheduled first, so that they begin before a handler that waits learns of it. It is cancelled now and
            # not after them: what it waits for is over too, and a late cancel would cut its cleanup.
            effects.append(Action.RUN_ABORT_CALLBACKS)
            if not self.outlives_client:
                effects += self._cancel()
            if rules.requested:
                effects.append(Action.SET_DRAIN_DEADLINE)
        elif self._handler is not _Handler.OVER:
            effects.append(self._set(Deadline.CLOSE_GRACE))
        if not rules.flushes:
            effects.append(Action.DISCARD_UNSENT)
        return tuple(effects)

    def _finish(self, ending: Ending, retry: int | None) -> Finish:
        rules = ending.rules
        if not self.control or rules.last_event is None or (rules.last_event == "sse.overloaded" and retry is None):
            return Finish()
        final = self.final_on_error if ending is Ending.HANDLER_ERROR else rules.final and retry is None
        return Finish(rules.last_event, final=final, retry=retry)

    def _cancel(self) -> Effects:
        """Cancel the handler, once: a second cancel would cut its cleanup."""
        if self._cancelled or self._handler is _Handler.OVER:
            return ()
        self._cancelled = True
        cleanup = self._set(Deadline.CLEANUP)
        # A task that has not begun would be cancelled without a single step, and nobody would tell of the stream's end.
        return (cleanup,) if self._handler is _Handler.WAITING else (Action.CANCEL_HANDLER, cleanup)

    def _set(self, deadline: Deadline) -> Deadline:
        self._deadline = deadline
        return deadline

    def _judge(self, outcome: Outcome, followed: bool) -> Effects:
        """What a handler's end means for the stream."""
        match outcome:
            case Outcome.RETURNED:
                return self._end(Ending.TOPIC_CLOSED if followed else Ending.COMPLETED)
            case Outcome.ANSWERED if self._committed:
                return (Action.DROP_ANSWER, *self._judge(Outcome.RETURNED, followed))
            case Outcome.ANSWERED:
                return self._never_begin(Ending.COMPLETED, Action.ANSWER)
            case Outcome.CANCELLED:  # where we did not do it, the event loop is being closed
                return self._end(Ending.SHUTDOWN)
            case Outcome.INTERRUPTED:
                return self._end(Ending.HANDLER_ERROR)
            case Outcome.WRITE_REFUSED if self.ending is not None:
                return ()
            case _ if self.ending is not None:
                return (Action.LOG_LATE_ERROR,)
            case _:
                return self._never_begin(Ending.HANDLER_ERROR, Action.RAISE_ERROR)

    def _never_begin(self, ending: Ending, instead: Action) -> Effects:
        """The handler is over before the response began: there is no stream, and so nothing to send and nobody to tell."""
        self.ending = ending
        self._committed = self._closed = True
        return (instead,)

    def _tidy_up(self) -> Effects:
        effects: Effects = (Action.RELEASE,)
        if self._deadline is not None:
            self._deadline = None
            effects += (Action.CLEAR_DEADLINE,)
        return effects + self._conclude()

    def _conclude(self) -> Effects:
        self.concluded = self._closed and self._handler is _Handler.OVER
        return (Action.CONCLUDE,) if self.concluded else ()
