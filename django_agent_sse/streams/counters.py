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
STARTS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds from a request to the first byte of its stream: likewise."""
BEHIND = (0, 1, 10, 100, 1_000, 10_000)
"""Events that an open stream is behind: likewise."""
CAUSES = 40
"""Different causes of errors and refusals that are counted of one route; others are ``OTHER``."""
OTHER = "other"
WHO = 200
"""Users and addresses that are remembered for what they were refused; who comes after them is ``OTHER``."""


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
        starts: How many had their first byte within each of ``STARTS``, and later.
        start_seconds: How long that took, together.
        behind: How many open ones are behind by up to each of ``BEHIND`` events, and by more.
        causes: What errors and refusals came of, by ``word/cause``: ``error/ValueError``, ``guard/403``.
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
    starts: list[int] = field(default_factory=lambda: [0] * (len(STARTS) + 1))
    start_seconds: float = 0.0
    behind: list[int] = field(default_factory=lambda: [0] * (len(BEHIND) + 1))
    causes: dict[str, int] = field(default_factory=Counter)

    @property
    def errors(self) -> int:
        """Handlers that failed, before or after the response had begun."""
        return self.endings.get("handler_error", 0) + self.refused.get("error", 0)


class Counters(PerProcess):
    """One per process; a lock is taken when a stream opens and when it is over.

    Attributes:
        on_opened: Called after each stream that opens and each request that gets none, on its event loop: must be quick, and
            must not raise. This is how reporting starts with the first of them, while nothing here knows who reports.
    """

    def __init__(self) -> None:
        self.on_opened: tuple[Callable[[], None], ...] = ()
        super().__init__()

    def reset(self) -> None:
        """Count from zero; also after a fork."""
        self._lock = threading.Lock()
        self._routes = defaultdict[str, RouteCounts](RouteCounts)
        self._runs = Counter[str]()
        self._who = Counter[tuple[str, str, str]]()

    def opened(self, route: str, seconds: float = 0.0) -> None:
        """Count a stream whose response begins, so many seconds after its request came."""
        with self._lock:
            counts = self._routes[route]
            counts.opened += 1
            counts.start_seconds += seconds
            counts.starts[bisect_left(STARTS, seconds)] += 1
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

    def refused(self, route: str, reason: Refusal, cause: str = "", *, user: str = "", address: str = "") -> None:
        """Count a request that got no stream.

        Args:
            route: Its route.
            reason: Why.
            cause: Of few values: an exception's class, a status; nothing that a client has sent.
            user: Whose it was, where it is known and matters: for a limit that was met. A primary key as text.
            address: From where it came, likewise: as it may be shown.
        """
        with self._lock:
            counts = self._routes[route]
            counts.refused[str(reason)] += 1
            _add_cause(counts, str(reason), cause)
            if user or address:
                key = str(reason), user, address
                self._who[key if key in self._who or len(self._who) < WHO else (str(reason), "", OTHER)] += 1
        for callback in self.on_opened:
            callback()

    def failed(self, route: str, cause: str) -> None:
        """Note what a handler has failed with, whose stream is counted when it is over."""
        with self._lock:
            _add_cause(self._routes[route], str(Ending.HANDLER_ERROR), cause)

    def run_ended(self, ending: str) -> None:
        """Count a run that this process had."""
        with self._lock:
            self._runs[ending] += 1

    def runs(self) -> dict[str, int]:
        """Return how many runs are over, by how they ended."""
        with self._lock:
            return {**self._runs}

    def refused_most(self, most: int) -> list[tuple[str, str, str, int]]:
        """Return who was refused the most often: the reason, the user, the address, and how often."""
        with self._lock:
            return [(*key, count) for key, count in self._who.most_common(most)]

    def copy(self) -> dict[str, RouteCounts]:
        """Return what was counted, by route, at one moment; the copies are the caller's."""
        with self._lock:
            return {
                route: replace(
                    counts,
                    endings={**counts.endings},
                    refused={**counts.refused},
                    durations=[*counts.durations],
                    starts=[*counts.starts],
                    behind=[*counts.behind],
                    causes={**counts.causes},
                )
                for route, counts in self._routes.items()
            }


def _add_cause(counts: RouteCounts, word: str, cause: str) -> None:
    if cause:
        key = f"{word}/{cause}"
        counts.causes[key if key in counts.causes or len(counts.causes) < CAUSES else f"{word}/{OTHER}"] += 1


counters = Counters()
