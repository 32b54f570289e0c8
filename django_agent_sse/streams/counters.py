"""What this process has counted since it began, by route: once for each stream, never for an event."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ..runtime.process import on_fork
from .endings import Ending

DURATIONS = (1, 5, 15, 60, 300, 900, 3600, 14400)
"""Seconds: the upper bounds of the histogram of durations; there is one more bucket for what lasted longer."""


class Refusal(StrEnum):
    """Why a request got no stream. Compares equal to its text."""

    GUARD = "guard"
    """A guard said no."""
    OVERLOADED = "overloaded"
    """Too many threads were busy, the log could not be read, or the process is being drained."""
    GONE = "gone"
    """The client's position could not be honoured (410)."""
    NOT_FOUND = "not_found"
    """The handler found nothing there, or no topic can have the name that was made of what the client sent (404)."""
    ERROR = "error"
    """The handler raised before the response had begun."""


@dataclass(slots=True)
class RouteCounters:
    """The streams of one route that are over, and all that were opened.

    Attributes:
        opened: Streams whose response has begun.
        endings: Those that are over, by how they ended.
        refused: Requests that got no stream, by why.
        events: Sent by streams that are over.
        bytes: Likewise.
        seconds: How long streams that are over were open, together.
        durations: How many lasted up to each of ``DURATIONS``, and longer.
    """

    opened: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    events: int = 0
    bytes: int = 0
    seconds: float = 0.0
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATIONS) + 1))


class Counters:
    """One per process; a lock is taken when a stream opens and when it is over.

    Attributes:
        on_opened: Called after each stream that opens, on its event loop: must be quick, and must not raise. This is how
            reporting starts with the first stream, while nothing here knows who reports.
    """

    def __init__(self) -> None:
        self.on_opened: tuple[Callable[[], None], ...] = ()
        self.reset()

    def reset(self) -> None:
        """Count from zero; also after a fork."""
        self._lock = threading.Lock()
        self._routes: dict[str, RouteCounters] = {}

    def opened(self, route: str) -> None:
        """Count a response that has begun."""
        with self._lock:
            self._of(route).opened += 1
        for callback in self.on_opened:
            callback()

    def closed(self, route: str, ending: Ending, *, events: int, bytes: int, seconds: float) -> None:
        """Count a stream that is over."""
        with self._lock:
            found = self._of(route)
            found.endings[str(ending)] += 1
            found.events += events
            found.bytes += bytes
            found.seconds += seconds
            found.durations[bisect_left(DURATIONS, seconds)] += 1

    def refused(self, route: str, reason: Refusal) -> None:
        """Count a request that got no stream."""
        with self._lock:
            self._of(route).refused[str(reason)] += 1

    def copy(self) -> dict[str, RouteCounters]:
        """Return what was counted, by route, at one moment."""
        with self._lock:
            return {
                route: replace(own, endings=own.endings.copy(), refused=own.refused.copy(), durations=[*own.durations])
                for route, own in self._routes.items()
            }

    def _of(self, route: str) -> RouteCounters:
        found = self._routes.get(route)
        if found is None:
            found = self._routes[route] = RouteCounters()
        return found


counters = Counters()
on_fork(counters.reset)
