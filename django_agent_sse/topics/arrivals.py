"""How long after their append events are known in this process: counted once for each read of a topic, never for an event."""

from __future__ import annotations

import time
from bisect import bisect_left

from ..runtime.process import PerProcess

ARRIVALS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds: the upper bounds of the histogram; there is one more bucket for what took longer."""


class Arrivals(PerProcess):
    """One per process. The clocks of machines may differ, and so may what is counted here of what others have published."""

    def reset(self) -> None:
        """Count from zero; also after a fork."""
        self._counts = [0] * (len(ARRIVALS) + 1)

    def count(self, at: float) -> None:
        """Count a read of a topic whose first event was appended then, in seconds since 1970."""
        self._counts[bisect_left(ARRIVALS, time.time() - at)] += 1

    def copy(self) -> list[int]:
        return [*self._counts]


arrivals = Arrivals()
