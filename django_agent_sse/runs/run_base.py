"""What a run is in sync code and in coroutines: what it has written and not appended yet, and what the log says to it.

What is written goes out in batches: a row of a database for each token would cost more than the token. A batch is appended when
it has ``BATCH_BYTES``, or ``BATCH_SECONDS`` after its first event; at once where nothing was appended for so long before that. So
nothing is held back when the code pauses, and who writes slowly pays nothing for batches.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from ..encoding import event_of
from ..eventlog.base import EventLog
from ..eventlog.leases import LOST, Lease
from ..eventlog.validation import sized
from ..exceptions import AgentSSEError, EventLogError, EventLogUnavailable, LeaseLost, RunStopped, TopicClosed
from ..runtime.backoff import Backoff, FailureLog
from ..runtime.safe_text import without_run_id
from ..streams.callbacks import Callback
from ..streams.counters import counters
from ..topics.reading import history
from ..wire.event import Event
from .endings import RunEnding
from .lifecycle import Action, Effects, Outcome, RunLifecycle
from .wire import NO_WIRE, Wire, no_events

logger = logging.getLogger("django_agent_sse.runs")

BATCH_BYTES = 4096
BATCH_SECONDS = 0.03
CLEANUP_SECONDS = 5.0
"""Seconds that code gets to end by itself once it was asked to; after that its topic is closed without it."""

CLOSE_SECONDS = 5.0
"""Seconds for which an end is tried again while the log is away; after that its topic is lost at the deadline of its lease."""
AGAIN_SECONDS, LONGEST_PAUSE = 0.1, 2.0
"""The first pause before what the log could not take is tried again, and the longest."""

Last = Callable[[RunEnding], Iterable[object]]
"""What a topic ends with, by the ending; each value like ``data`` of ``publish()``."""


class RunBase:
    """One run. The lifecycle decides; `Run` and `AsyncRun` carry out.

    Attributes:
        topic: The name of its topic.
        id: The run's own.
        log: Where the topic is.
        seconds: How long its lease lasts.
        wire: How its protocol spells it.
        wrote: It has written something.
        on_first: Called with the first of it, by whichever thread.
    """

    def __init__(self, log: EventLog, topic: str, id: str, seconds: float, last: Last, wire: Wire | None = None) -> None:
        self.log = log
        self.topic = topic
        self.id = id
        self.seconds = seconds
        self.wire = NO_WIRE if wire is None else wire
        self.wrote = False
        self.on_first: Callable[[], object] = bool
        self._last = last
        self._speaks = self.wire.last is not no_events
        self._ends: list[Callback] = []
        self._life = RunLifecycle()
        self._lock = threading.RLock()
        self._appending = threading.RLock()  # what was written is in the log or in `_unsent` while nobody has it
        self._unsent: list[Event] = []
        self._unsent_bytes = 0
        self._taken_at = float("-inf")
        self._top = self._unsure = 0
        self._ending_now = self._counted = False
        self._trouble = FailureLog(
            f"what the run {without_run_id(id)} writes to the topic {without_run_id(topic)!r} cannot be appended",
            "It is kept, and appended when that works again.",
            logger=logger.name,
            first=AGAIN_SECONDS,
            longest=LONGEST_PAUSE,
        )

    @property
    def stopping(self) -> bool:
        """Whether the code should end: somebody asked it to, the process ends, or the lease is lost. Writing raises then."""
        return self._life.stopping

    @property
    def ending(self) -> RunEnding | None:
        """How it ended; ``None`` while it goes on."""
        return self._life.ending

    def on_end(self, callback: Callback) -> Callback:
        """Call back once when the run has ended, whatever the ending, which is there then: the place to save what there is.

        Each is called where the ``with`` is, in order, and one that fails is logged and stops nobody. Works as a decorator too.
        """
        self._ends.append(callback)
        return callback

    def _take(self, events: Iterable[Event]) -> bool:
        """Keep what is written for the next append. Return whether that is due now."""
        checked = sized(events, self.log.limits.max_event_bytes)
        with self._lock:
            if self._life.wrote() != (Action.APPEND,):
                raise self._refused()
            if not self.wrote:
                self.wrote = True
                self.on_first()
            self._unsent += [event for event, _ in checked]
            self._unsent_bytes += sum(size for _, size in checked)
            return self._unsent_bytes >= BATCH_BYTES

    def _refused(self) -> RunStopped:
        ending = self._life.ending or RunEnding.FINISHED
        return RunStopped(
            f"the run {self.id!r} is over or about to end ({ending}), and takes no more events: let this exception pass, so that "
            "`finally` blocks run and the `with` ends",
            ending,
        )

    def _taken(self) -> list[Event]:
        with self._lock:
            events, self._unsent, self._unsent_bytes = self._unsent, [], 0
            if events:
                self._taken_at = time.monotonic()
            return events

    def _due_in(self) -> float:
        """Return in how many seconds what is written now shall be appended."""
        return BATCH_SECONDS if time.monotonic() < self._taken_at + BATCH_SECONDS else 0.0

    def _put_back(self, events: list[Event]) -> None:
        """Keep for another try what the log may have taken or not: its answer was lost."""
        with self._lock:
            self._unsent[:0] = events
            self._unsure = self._unsure or len(events)

    def _append_unsent(self) -> None:
        """Append what was written, but for what an earlier try has appended. May wait for the log.

        It is taken here and no sooner: whoever waits for this may be cancelled, or its event loop be stopped.
        """
        with self._appending:
            events = self._taken()
            try:
                events = self._not_appended(events)
                if events:
                    self._top = self.log.append(self.topic, events, holder=self.id, outside_transaction=True).last
            except (LeaseLost, TopicClosed):
                raise
            except BaseException:  # also what interrupts it: it was accepted
                self._put_back(events)
                raise

    def _not_appended(self, events: list[Event]) -> list[Event]:
        count = self._unsure
        if not count:
            return events
        found = self.log.read_after(self.topic, self._top, count).records
        self._unsure = 0
        if [(record.offset, record.event) for record in found] != [*enumerate(events[:count], self._top + 1)]:
            return events
        self._top += count
        return events[count:]

    def _events_at_end(self, ending: RunEnding) -> list[Event]:
        """Return what was not appended yet, the run's own last events, and its wire's; without what cannot be appended."""
        with self._appending:
            unsent = self._taken()
            try:
                unsent = self._not_appended(unsent)
                return [*unsent, *self._last_events(ending, unsent)]
            except EventLogUnavailable:
                self._put_back(unsent)
                raise

    def _last_events(self, ending: RunEnding, unsent: list[Event]) -> list[Event]:
        events: list[Event] = []
        try:
            for value in self._last(ending):
                try:
                    events += self._fitting([value])
                except AgentSSEError:
                    self._miss_last_events()
        except Exception:  # the end itself is worth more to readers
            self._miss_last_events()
        return [*events, *self._words_at_end(ending, [*unsent, *events])]

    def _words_at_end(self, ending: RunEnding, events: list[Event]) -> list[Event]:
        alone = partial(self.wire.last, ending, ())  # whatever came before, the protocol's end of a run is said
        for words in (*(partial(words, ending, self._folded(events)) for words in self.wire.words), alone):
            if not self._speaks:
                break
            try:
                return self._fitting(words())
            except Exception as error:
                if isinstance(error, EventLogUnavailable) and error.kind == "store":
                    raise  # it may be there in a moment
                self._miss_last_events()
        return []

    def _fitting(self, values: Iterable[object]) -> list[Event]:
        return [event for event, _ in sized(map(event_of, values), self.log.limits.max_event_bytes)]

    def _miss_last_events(self) -> None:
        topic = without_run_id(self.topic)
        logger.exception("run %s ends the topic %r without the last events that it should have", without_run_id(self.id), topic)

    def _text(self) -> str:
        """Return the text of the run so far, by its wire. Reads the topic."""
        with self._appending:
            return self.wire.text(self._folded([*self._unsent]))

    def _folded(self, unsent: list[Event]) -> Iterable[Event]:
        """Return all events of the run, folded: those in the topic, read page by page, and those that are not there yet."""
        return self.wire.folded(history(self.log, self.topic, unsent))

    def forked(self) -> None:
        """See ``KeptRun``. What was not appended yet, and the callbacks, are the parent's."""
        self._lock, self._appending = threading.RLock(), threading.RLock()
        self._life.forked()
        self._taken()
        self._ends.clear()

    def close_interrupted(self) -> None:
        """See ``KeptRun``."""
        self._ending_now = True
        last = self._events_at_end(RunEnding.INTERRUPTED)
        if self.log.close(self.topic, RunEnding.INTERRUPTED, last=last, holder=self.id, outside_transaction=True):
            self._count(RunEnding.INTERRUPTED)

    def _count(self, ending: RunEnding) -> None:
        with self._lock:
            counted, self._counted = self._counted, True
        if not counted:
            counters.run_ended(ending)

    def _closed_before(self, ending: RunEnding, reason: str) -> TopicClosed | None:
        """Return what it means that the topic was closed already: nothing where that was this run, whose answer was lost."""
        return None if reason == ending else TopicClosed("", reason)

    def _overruled(self, error: LeaseLost | TopicClosed) -> Effects:
        """What follows from what the log said."""
        with self._lock:
            lost = isinstance(error, LeaseLost)
            return self._life.lease_lost() if lost else self._life.closed_elsewhere(lost=error.reason == LOST)  # type: ignore[union-attr]

    def _seen(self, lease: Lease | None, reason: str | None) -> Effects:
        """What follows from a look at the lease."""
        with self._lock:
            if self._ending_now:
                return ()  # what the log says to that comes by itself
            if lease is None or lease.holder != self.id or lease.expired:
                return self._life.lease_lost()
            if not lease.deadline:
                return self._life.closed_elsewhere(lost=reason == LOST)
            return self._life.stop_requested() if lease.stop else ()

    def _close_pauses(self) -> Iterator[float]:
        """Yield how long to wait before the end is tried once more; until its time is over."""
        until, backoff = time.monotonic() + CLOSE_SECONDS, Backoff(AGAIN_SECONDS, LONGEST_PAUSE)
        while (now := time.monotonic()) < until:
            yield min(backoff.next(), until - now)

    def _reason(self) -> str:
        return self.log.state(self.topic).closed or ""


def outcome_of(error: BaseException | None) -> Outcome:
    """Return how a block was over that raised this, or nothing."""
    if error is None:
        return Outcome.RETURNED
    if isinstance(error, RunStopped):
        return Outcome.WRITE_REFUSED
    cancelled = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit | GeneratorExit)
    return Outcome.CANCELLED if cancelled else Outcome.RAISED


def try_to_expire(log: EventLog, topic: str) -> None:
    """Have the log close the topic of a lost run, unless somebody has."""
    try:
        log.expire(topic)
    except EventLogError as error:
        logger.warning("the topic %r of a lost run cannot be closed from here: %s", without_run_id(topic), error)
