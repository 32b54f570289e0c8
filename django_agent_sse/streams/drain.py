"""How the streams of a process that ends are spread: over a window, in waves, and the time after which each client comes back.

All clients that came back at one moment would meet whatever serves next at once. So at most ``RECONNECTS`` a second are sent
away, for ``DRAIN_SECONDS`` at most; where these do not suffice for all, the others are told to come back later, each at a time of
its own, so that as many a second come back as without the bound on the window. What cannot be told that, since it takes no
control events, comes back after its own time.
"""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

from .. import conf
from .server_flags import grace

AT_ONCE = 0.25
"""Seconds for which nobody is made to wait: so few streams end at once."""
MARGIN = 0.7
"""The share of the bound that is planned for: one wave is late, the next is in time, and their clients meet."""
WAVE = 0.05
"""Seconds between two waves, half of that more or less."""
USUAL_RETRY = 3_000
"""Milliseconds, where the project says none."""
GOLDEN = (5**0.5 - 1) / 2
GRACE_LEFT = 1.0
"""Seconds that a server must wait longer than the window: handlers clean up, and what was written goes out."""


class Drain(NamedTuple):
    """How to end what is open.

    Attributes:
        window: Seconds over which streams are ended; 0 for at once.
        spread: Seconds over which their clients come back beyond that.
    """

    window: float
    spread: float

    def retry(self, turn: float) -> int:
        """Return the milliseconds after which a client shall come back whose stream ends after this share of the window.

        The later its turn the longer it waits: so clients come back at an even pace, over window and spread together. Two times
        drawn apart would add up to a peak.
        """
        return int(1000 * self.spread * turn + (conf.setting("RETRY") or USUAL_RETRY) * (0.5 + _evenly()))


_first = random.random()
_turns = itertools.count()


def _evenly() -> float:
    """Return a number from 0 to 1 that nobody foresees, as far as possible from those before it.

    Where each was drawn by itself, some seconds had half as many again as others. Multiples of the golden ratio
    fill a range evenly.
    """
    return (_first + next(_turns) * GOLDEN) % 1.0


NOW = Drain(0.0, 0.0)


def plan(streams: int) -> Drain:
    """Return how to end so many streams of this process, as the settings say and as its server lets it."""
    pace = conf.setting("RECONNECTS")
    if pace is None:
        return NOW
    if streams / pace <= AT_ONCE:
        return NOW
    needed = streams / (pace * MARGIN)
    window: float = min(needed, conf.setting("DRAIN_SECONDS") or 0.0)
    limit = grace()
    if limit is not None and window > limit.sure - GRACE_LEFT:
        window = max(0.0, limit.sure - GRACE_LEFT)
    return Drain(window, needed - window)


def next_wave() -> float:
    """Return in how many seconds the next wave goes."""
    return WAVE * random.uniform(0.5, 1.5)
