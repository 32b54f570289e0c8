"""How many descriptors this process may still open, told in a few microseconds and without a look at those that it has."""

from __future__ import annotations

import os

try:
    import resource
except ImportError:  # Windows, where sockets are no descriptors
    resource = None  # type: ignore[assignment]

FEWEST_KEPT = 64
"""Descriptors that are kept for others at least: a log, a database's and some clients', where the limit itself is small."""


def limit() -> int | None:
    """Return how many descriptors this process may have open at once; ``None`` where there is no limit, or nobody knows it."""
    if resource is None:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def kept(most: int, share: float) -> int:
    """Return how many of so many are kept for others."""
    return min(max(FEWEST_KEPT, int(most * share)), most // 2)


def exhausted(share_kept: float) -> bool:
    """Whether opening more would take from the share that is kept.

    A new descriptor is always the lowest that is free (POSIX), so it tells that all below it are taken.
    """
    most = limit()
    if most is None:
        return False
    try:
        lowest = os.open(os.devnull, os.O_RDONLY)  # never a file's duplicate: closing that would give up the file's locks
    except OSError:
        return True
    os.close(lowest)
    return lowest >= most - kept(most, share_kept)
