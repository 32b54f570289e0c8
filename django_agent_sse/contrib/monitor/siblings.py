"""How many workers the server of this process seems to have, as far as the operating system tells."""

from __future__ import annotations

import os
from pathlib import Path

_SPAWNED = b"multiprocessing.spawn"


def siblings() -> int:
    """Count the processes that look like workers of the same server as this one, with it; 1 where nobody can tell."""
    try:
        parent, mine = os.getppid(), _command(os.getpid())
        if parent <= 1:
            return 1
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return max(1, sum(_alike(mine, _command(int(child))) for child in children))
    except (OSError, ValueError):  # not Linux, or the parent belongs to somebody else
        return 1


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


def _alike(mine: bytes, theirs: bytes) -> bool:
    # A spawned worker's command line names its own pipe, so that no two are equal.
    return bool(mine) and (mine == theirs or (_SPAWNED in mine and _SPAWNED in theirs))
