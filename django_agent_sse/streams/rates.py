"""How often something may happen: a rate, with so much at once, that costs one number for each that is counted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

MOST_COUNTED = 16_384
"""So many are remembered; the one that was seen the longest time ago is forgotten first. About 2 MB."""

ROUNDING = 1e-6
"""Seconds that sums of floats may be off."""


class Rates:
    """The rate of each of many, by the virtual scheduling form of the leaky bucket (GCRA, ITU-T I.371)."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due: OrderedDict[Hashable, float] = OrderedDict()

    def take(self, key: Hashable, now: float, rate: float, burst: float) -> float:
        """Count one more; return 0, or in how many seconds there would be room, where there is none: it is not counted then.

        Args:
            key: Whose.
            now: In seconds, of a clock that never goes back.
            rate: So many a second.
            burst: So many at once, where there were none for a while.
        """
        due = max(self._due.get(key, now), now)
        if (early := due - now - (burst - 1) / rate) > ROUNDING:
            return early
        self._due[key] = due + 1 / rate
        self._due.move_to_end(key)
        if len(self._due) > MOST_COUNTED:
            self._due.popitem(last=False)
        return 0.0
