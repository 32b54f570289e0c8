"""The run of a coroutine that a route has started."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..wire.event import Event
from .async_run import AsyncRun
from .lifecycle import Action, Effect


class TaskRun(AsyncRun):
    """The run of a coroutine that a route has started.

    Attributes:
        on_cancel: Called on the loop, just before the code is cancelled.
    """

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.on_cancel: Callable[[], object] = bool

    def put(self, event: Event) -> bool:
        """Keep an event for the next append; whether that is due now, and not in a moment.

        Raises:
            RunStopped: The run ends.
        """
        due = self._take([event])
        if not due and self._timer is None:
            self._timer = self._loop.call_later(self._due_in(), self._flush_now)
        return due

    def _do(self, effects: Iterable[Effect]) -> None:
        effects = tuple(effects)
        if Action.CANCEL_PRODUCER in effects:
            self.on_cancel()
        super()._do(effects)
