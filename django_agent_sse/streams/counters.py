"""What this process has counted since it began, by route: once for each stream, never for an event."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
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
class RouteTally:
    """The streams of one route that are over, and all that were opened.

    Attributes:
        opened: Streams whose response has begun.
        endings: Those that are over, by how they ended.
        refused: Requests that got no stream, by why.
        events: Sent by streams that are over.
        bytes: Likewise.
        seconds: Likewise, how long they were open, together.
        durations: How many lasted up to each of ``DURATIONS``, and longer.
    """

    opened: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    events: int = 0
    bytes: int = 0
    seconds: float = 0.0
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATIONS) + 1))


class Tally:
    """One per process; a lock is taken when a stream opens and when it is over."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Count from zero; also after a fork."""
        self._lock = threading.Lock()
        self._routes: dict[str, RouteTally] = {}

    def opened(self, route: str) -> None:
        """A response has begun."""
        with self._lock:
            self._of(route).opened += 1

    def closed(self, route: str, ending: Ending, *, events: int, bytes: int, seconds: float) -> None:
        """A stream is over."""
        with self._lock:
            tally = self._of(route)
            tally.endings[str(ending)] += 1
            tally.events += events
            tally.bytes += bytes
            tally.seconds += seconds
            tally.durations[bisect_left(DURATIONS, seconds)] += 1

    def refused(self, route: str, reason: Refusal) -> None:
        """A request got no stream."""
        with self._lock:
            self._of(route).refused[str(reason)] += 1

    def copy(self) -> dict[str, RouteTally]:
        """What was counted, at one moment."""
        with self._lock:
            return {
                route: RouteTally(
                    one.opened,
                    Counter(one.endings),
                    Counter(one.refused),
                    one.events,
                    one.bytes,
                    one.seconds,
                    [*one.durations],
                )
                for route, one in self._routes.items()
            }

    def _of(self, route: str) -> RouteTally:
        found = self._routes.get(route)
        if found is None:
            found = self._routes[route] = RouteTally()
        return found


tally = Tally()
on_fork(tally.reset)
