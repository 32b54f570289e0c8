"""What this process has counted since it began, by route: once for each stream, never for an event; and its runs."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from ..runtime.process import PerProcess
from .endings import Ending

DURATIONS = (1, 5, 15, 60, 300, 900, 3600, 14400)
"""Seconds: the upper bounds of the histogram of durations; there is one more bucket for what lasted longer."""


class Refusal(StrEnum):
    """Why a request got no stream. Compares equal to its text."""

    GUARD = "guard"  # a guard said no
    ORIGIN = "origin"  # a page of another origin sent cookies, and is not listed
    OVERLOADED = "overloaded"  # too many threads were busy, the log could not be read, or the process is being drained
    GONE = "gone"  # the client's position could not be honoured (410)
    NOT_FOUND = "not_found"  # the handler found nothing, or no topic can have the name made of what the client sent (404)
    ERROR = "error"  # the handler raised before the response had begun
    CLOSING = "closing"  # the process ends
    USER = "limit_user"  # this and the next ones: a limit of AGENT_SSE["LIMITS"] was met
    SESSION = "limit_session"
    ADDRESS = "limit_address"
    ROUTE = "limit_route"
    PROCESS = "limit_process"
    DESCRIPTORS = "limit_descriptors"
    CONNECTS = "limit_connects"
    ADDRESS_CONNECTS = "limit_address_connects"
    UNKNOWN = "limit_unknown"


@dataclass(slots=True, kw_only=True)
class RouteCounts:
    """One route in one process. ``Counters`` keeps what is over, a ``Snapshot`` adds what is open.

    Attributes:
        open: Streams whose response is under way.
        starting: Requests whose response has not begun.
        lingering: Handlers that go on without a client.
        slow: Open ones whose client takes nothing.
        opened: Streams whose response has begun since the process did.
        endings: Those that are over, by how they ended.
        refused: Requests that got no stream, by why.
        events: Sent since the process began; by streams that are over, in ``Counters``.
        bytes: Likewise.
        seconds: How long those that are over were open, together.
        durations: How many of them lasted up to each of ``DURATIONS``, and longer.
    """

    open: int = 0
    starting: int = 0
    lingering: int = 0
    slow: int = 0
    opened: int = 0
    endings: dict[str, int] = field(default_factory=Counter)
    refused: dict[str, int] = field(default_factory=Counter)
    events: int = 0
    bytes: int = 0
    seconds: float = 0.0
    durations: list[int] = field(default_factory=lambda: [0] * (len(DURATIONS) + 1))

    @property
    def errors(self) -> int:
        """Handlers that failed, before or after the response had begun."""
        return self.endings.get("handler_error", 0) + self.refused.get("error", 0)


class Counters(PerProcess):
    """One per process; a lock is taken when a stream opens and when it is over.

    Attributes:
        on_opened: Called after each stream that opens, on its event loop: must be quick, and must not raise. This is how
            reporting starts with the first stream, while nothing here knows who reports.
    """

    def __init__(self) -> None:
        self.on_opened: tuple[Callable[[], None], ...] = ()
        super().__init__()

    def reset(self) -> None:
        """Count from zero; also after a fork."""
        self._lock = threading.Lock()
        self._routes = defaultdict[str, RouteCounts](RouteCounts)
        self._runs = Counter[str]()

    def opened(self, route: str) -> None:
        with self._lock:
            self._routes[route].opened += 1
        for callback in self.on_opened:
            callback()

    def closed(self, route: str, ending: Ending, *, events: int, bytes: int, seconds: float) -> None:
        with self._lock:
            counts = self._routes[route]
            counts.endings[str(ending)] += 1
            counts.events += events
            counts.bytes += bytes
            counts.seconds += seconds
            counts.durations[bisect_left(DURATIONS, seconds)] += 1

    def refused(self, route: str, reason: Refusal) -> None:
        with self._lock:
            self._routes[route].refused[str(reason)] += 1

    def run_ended(self, ending: str) -> None:
        """Count a run that this process had."""
        with self._lock:
            self._runs[ending] += 1

    def runs(self) -> dict[str, int]:
        """Return how many runs are over, by how they ended."""
        with self._lock:
            return {**self._runs}

    def copy(self) -> dict[str, RouteCounts]:
        """Return what was counted, by route, at one moment; the copies are the caller's."""
        with self._lock:
            return {
                route: replace(counts, endings={**counts.endings}, refused={**counts.refused}, durations=[*counts.durations])
                for route, counts in self._routes.items()
            }


counters = Counters()
