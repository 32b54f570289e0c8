"""Clients that are slow: which of them have stopped, and which ones read, though a send waits for them.

A send may wait for long though the client reads all the time. Linux wakes whoever writes only when a third of the send buffer is
free, and a server's transport takes more only below a mark of its own: with a buffer of 4 MB and a client that reads 10 KB/s
that is minutes. The kernel counts what the client has acknowledged, and is asked now and then while a send waits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LOWEST_RATE = 240
"""Bytes a second: who takes less counts as one that takes nothing, or a byte a minute would hold megabytes for ever. Kestrel
(``MinResponseDataRate``) and IIS (``MinFileBytesPerSec``) ask for as much."""
LOOKS = 4
"""Looks at a client within the send time-out, at least: one that stops after it has read is ended a quarter of that time late."""


def first_look(send_timeout: float) -> float:
    """Return within how many seconds a send that waits must be seen, so that what comes after can be compared."""
    return send_timeout / 2


def next_look(now: float, send_timeout: float) -> float:
    """Return when to look again at a client that a send waits for."""
    return now + send_timeout / LOOKS


@dataclass(slots=True)
class SlowClient:
    """What a client takes while sends wait for it. Times are the loop's.

    Attributes:
        first: Since when the first of these sends waited.
        began: Since when the send waits.
        since: Since when the client has taken less than ``LOWEST_RATE``: the send time-out counts from here.
    """

    first: float
    began: float = math.nan
    since: float = math.nan
    _acknowledged: int = 0
    _counted_at: float = math.nan

    def look(self, began: float, acknowledged: int, now: float) -> bool:
        """Compare with the look at which the client was last seen to take something, or with the first one of this wait.

        Returns whether it has taken something since, in this wait or before it.

        Args:
            began: Since when the send waits.
            acknowledged: Bytes that the client has acknowledged on this connection.
            now: Loop time.
        """
        takes = acknowledged - self._acknowledged > LOWEST_RATE * (now - self._counted_at)
        if began != self.began:
            self.began = self.since = began
        elif takes:
            self.since = now
        else:
            return False
        self._acknowledged, self._counted_at = acknowledged, now
        return takes
