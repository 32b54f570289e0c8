"""The life of one run as a state machine: every rule about its end, and nothing that does anything.

Whoever runs a run tells the machine what happened, and carries out the effects that it returns, in their order. It knows no event
loop, no clock and no log, so that every order of events can be tried in a test without any.

The inputs, in their usual order::

    started()           the lease is held: the code of the run may begin
    wrote()             it writes
    stop_requested()    somebody wants it to stop: the flag at the lease says so
    shutdown()          the process ends
    producer_done(…)    the code and its ``finally`` blocks are over
    close_done()        the log has taken the last events and the end

Two more may come at any time, and are the log's word, which is the last: ``lease_lost()`` and ``closed_elsewhere(…)``.

What is decided first counts: a run that was asked to stop is ``stopped`` though its code returns a moment later, and one whose
code is over is not stopped any more. Only the log overrules it: a run whose lease ran out before it could close its topic is
``lost``, whatever it had been up to. Readers see the same word, for it is in the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from .endings import RunEnding


class Action(Enum):
    """An effect that says everything by its name."""

    RUN_PRODUCER = auto()
    """Call the code of the run."""
    APPEND = auto()
    """Take what is written."""
    REFUSE_WRITE = auto()
    """Raise: the run has ended, or is about to."""
    CANCEL_PRODUCER = auto()
    """Cancel the code where it waits, if it can be; a sync one learns of it when it writes."""
    SET_DEADLINE = auto()
    """Call ``deadline()`` when its ``finally`` blocks have had their time."""
    CLEAR_DEADLINE = auto()
    """Forget that."""
    ABANDON_PRODUCER = auto()
    """Wait for the code no longer."""
    DISCARD_UNSENT = auto()
    """Drop what was written and not appended yet."""
    EXPIRE = auto()
    """Have the log close the topic with ``lost``, unless somebody has."""
    STOP_RENEWING = auto()
    """Renew the lease no more."""
    LOG_LATE_ERROR = auto()
    """Log what the code raised after the end was decided."""
    CONCLUDE = auto()
    """It is over: run the ``on_end`` callbacks."""


@dataclass(frozen=True, slots=True)
class Close:
    """Append what was written and not appended yet, then the last events of this ending, and close the topic: one append.

    ``close_done()`` follows, or what the log said instead.
    """

    ending: RunEnding


Effect = Action | Close
Effects = tuple[Effect, ...]


class Outcome(Enum):
    """How the code of a run was over."""

    RETURNED = auto()
    RAISED = auto()
    WRITE_REFUSED = auto()
    """It raised what a refused write had raised, which is no mistake."""
    CANCELLED = auto()
    """It was cancelled, by us or by somebody else."""


class _Producer(Enum):
    WAITING = auto()
    RUNNING = auto()
    OVER = auto()


class RunLifecycle:
    """The state of one run whose lease is held. Each method is an input, and returns what must be done, in this order.

    Attributes:
        ending: How it ends. Decided once; after that only the log may change it, until the topic is closed.
        concluded: Everything is over.
    """

    __slots__ = ("_abandoned", "_closing", "_producer", "_settled", "concluded", "ending")

    def __init__(self) -> None:
        self._producer = _Producer.WAITING
        self._closing = self._settled = self._abandoned = False
        self.ending: RunEnding | None = None
        self.concluded = False

    @property
    def stopping(self) -> bool:
        """Whether the code should end by itself: what it writes is refused."""
        return self.ending is not None

    # Inputs

    def started(self) -> Effects:
        """The code may begin. Where the end was decided before, it never does."""
        if self._producer is not _Producer.WAITING:
            return ()
        if self.ending is not None:
            self._producer = _Producer.OVER
            return self._close()
        self._producer = _Producer.RUNNING
        return (Action.RUN_PRODUCER,)

    def wrote(self) -> Effects:
        """The code writes. Nothing is written once the end is decided."""
        return (Action.APPEND,) if self.ending is None else (Action.REFUSE_WRITE,)

    def stop_requested(self) -> Effects:
        """Somebody wants it to stop."""
        return self._decide(RunEnding.STOPPED)

    def shutdown(self) -> Effects:
        """The process ends."""
        return self._decide(RunEnding.INTERRUPTED)

    def producer_done(self, outcome: Outcome) -> Effects:
        """The code is over, with its ``finally`` blocks."""
        if self._producer is _Producer.OVER:
            return ()
        deadline = self._producer is _Producer.RUNNING and self.ending is not None and not self._abandoned
        self._producer = _Producer.OVER
        effects: Effects = (Action.CLEAR_DEADLINE,) if deadline else ()
        if self.ending is None:
            self.ending = _BY_OUTCOME[outcome]
        elif outcome is Outcome.RAISED:
            effects += (Action.LOG_LATE_ERROR,)
        return effects + self._close()

    def forked(self) -> Effects:
        """This is a copy in another process: it has no part in the run any more."""
        self._producer, self.ending = _Producer.OVER, self.ending or RunEnding.LOST
        self._settled = self.concluded = True
        return ()

    def withdrawn(self) -> Effects:
        """The code has refused its request before it wrote anything: it shall be as if it had never begun. Nothing is closed."""
        if self._producer is not _Producer.RUNNING or self.ending is not None:
            return ()
        self._producer, self.ending = _Producer.OVER, RunEnding.FAILED
        self._settled = self.concluded = True
        return (Action.STOP_RENEWING,)

    def deadline(self) -> Effects:
        """Its ``finally`` blocks have had their time. Readers do not wait for it any longer."""
        if self._producer is not _Producer.RUNNING or self.ending is None or self._abandoned:
            return ()
        self._abandoned = True
        return (Action.ABANDON_PRODUCER, *self._close())

    def close_done(self) -> Effects:
        """The log has taken the end."""
        return self._settle() if self._closing and not self._settled else ()

    def lease_lost(self) -> Effects:
        """The log refused a renewal, an append or the end; or the lease has run out unrenewed, as far as is known here."""
        return self._overruled(RunEnding.LOST, expire=True)

    def closed_elsewhere(self, *, lost: bool) -> Effects:
        """Somebody else has closed the topic.

        Args:
            lost: Since the lease had run out; else somebody wanted it closed.
        """
        return self._overruled(RunEnding.LOST if lost else RunEnding.STOPPED, expire=False)

    # Rules

    def _decide(self, ending: RunEnding) -> Effects:
        """End it from outside, unless the end was decided before."""
        if self.ending is not None:
            return ()
        self.ending = ending
        return self._cancel()

    def _cancel(self) -> Effects:
        """Cancel the code, which has a moment for its ``finally`` blocks. What has not begun never does: see ``started``."""
        if self._producer is not _Producer.RUNNING:
            return ()
        return (Action.CANCEL_PRODUCER, Action.SET_DEADLINE)

    def _close(self) -> Effects:
        if self._settled:
            return self._conclude()
        if self._closing or self.ending is None:
            return ()
        self._closing = True
        return (Close(self.ending),)

    def _overruled(self, ending: RunEnding, *, expire: bool) -> Effects:
        """The topic is closed, or is no longer ours to close."""
        if self._settled:
            return ()
        decided, self.ending = self.ending, ending
        effects: Effects = (Action.DISCARD_UNSENT, *((Action.EXPIRE,) if expire else ()))
        if decided is None:
            effects += self._cancel()
        return effects + self._settle()

    def _settle(self) -> Effects:
        """The log has the end: no lease is left to be renewed."""
        self._settled = True
        return (Action.STOP_RENEWING, *self._conclude())

    def _conclude(self) -> Effects:
        if self.concluded or not self._settled or not (self._producer is _Producer.OVER or self._abandoned):
            return ()
        self.concluded = True
        return (Action.CONCLUDE,)


_BY_OUTCOME = {
    Outcome.RETURNED: RunEnding.FINISHED,
    Outcome.RAISED: RunEnding.FAILED,
    Outcome.WRITE_REFUSED: RunEnding.FAILED,
    Outcome.CANCELLED: RunEnding.INTERRUPTED,
}
