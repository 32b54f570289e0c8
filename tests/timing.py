"""Bounds of time: narrow in the long forms, where nothing else runs; wide otherwise, as a machine may be busy for seconds.

What a test proves by a bound is that something does not wait for a heartbeat, a time-out or the end of a stream, and the wide
bound is still below that. How fast it is, the long forms and ``benchmarks/`` say.
"""

from __future__ import annotations

import os

LONG = "LONG_PROOFS" in os.environ


def bound(seconds: float, busy: float) -> float:
    """The seconds that something may take; ``busy`` of them on a machine that does other work meanwhile."""
    return seconds if LONG else busy
