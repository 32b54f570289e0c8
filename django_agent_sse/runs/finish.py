"""How the run of a route ends its topic: what the wire says, by what the topic holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

from ..eventlog.base import EventLog
from ..exceptions import EventLogError
from ..wire.event import Event
from .async_run import AsyncRun
from .endings import RunEnding
from .lifecycle import Action, Effect
from .run import Run
from .run_base import BATCH_SECONDS, logger
from .wire import Wire


class Finish:
    """The last events of one run."""

    def __init__(self, wire: Wire, log: EventLog, topic: str) -> None:
        self._wire = wire
        self._log = log
        self._topic = topic

    def __call__(self, ending: RunEnding) -> list[Event]:
        """Return them. Reads the topic where the wire looks at it: not for an event loop."""
        events: Iterator[Event] = self._events()
        if self._wire.fold is not None:
            events = iter(self._wire.fold(events))
        return [*self._wire.last(ending, events)]

    def _events(self) -> Iterator[Event]:
        offset = 0
        while True:
            page = self._log.read_after(self._topic, offset)
            yield from (record.event for record in page.records)
            if not page.records:
                return
            offset = page.records[-1].offset


class TaskRun(AsyncRun):
    """The run of a coroutine that a route has started.

    Attributes:
        on_cancel: Called on the loop, just before the code is cancelled.
    """

    def __init__(self, log: EventLog, topic: str, id: str, seconds: float, wire: Wire) -> None:
        super().__init__(log, topic, id, seconds, lambda _: self._final)
        self._finish = Finish(wire, log, topic)
        self._final: list[Event] = []
        self.on_cancel: Callable[[], object] = bool

    def put(self, event: Event) -> bool:
        """Keep an event for the next append; whether that is due now, and not in a moment.

        Raises:
            RunStopped: The run ends.
        """
        due = self._take([event])
        if not due and self._timer is None:
            self._timer = self._loop.call_later(BATCH_SECONDS, self._flush_now)
        return due

    def _do(self, effects: Iterable[Effect]) -> None:
        effects = tuple(effects)
        if Action.CANCEL_PRODUCER in effects:
            self.on_cancel()
        super()._do(effects)

    async def _close(self, ending: RunEnding) -> None:
        with suppress(EventLogError):  # then it goes with the end, or that fails too
            await self.flush()
        try:
            self._final = await self.log._run_read(partial(self._finish, ending))
        except Exception:  # the end itself is worth more to readers
            logger.exception("run %s ends the topic %r without the last events that it should have", self.id, self.topic)
        await super()._close(ending)

    def close_interrupted(self) -> None:
        """See ``KeptRun``."""
        events = self._taken()
        if events:
            self.log.append(self.topic, events, holder=self.id, outside_transaction=True)
        self._final = self._finish(RunEnding.INTERRUPTED)
        super().close_interrupted()


class ThreadRun(Run):
    """The run of a plain function that a route has started."""

    def __init__(self, log: EventLog, topic: str, id: str, seconds: float, wire: Wire) -> None:
        super().__init__(log, topic, id, seconds, Finish(wire, log, topic))

    def _close(self, ending: RunEnding) -> None:
        with suppress(EventLogError):
            self.flush()
        super()._close(ending)
