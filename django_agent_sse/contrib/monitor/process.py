"""Who this process is, for those who look at it from another one."""

from __future__ import annotations

import os
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path

_SPAWNED = b"multiprocessing.spawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process that serves streams.

    Attributes:
        id: Another one for each process that ever ran.
        host: The machine's name.
        pid: Its number there.
        since: When it began to count, in seconds since 1970.
    """

    id: str
    host: str
    pid: int
    since: float

    @property
    def name(self) -> str:
        """``host:pid``."""
        return f"{self.host}:{self.pid}"


def this_process() -> Process:
    """This one; another one after a fork."""
    global _this
    if _this is None or _this.pid != os.getpid():
        _this = Process(id=secrets.token_hex(5), host=socket.gethostname()[:60], pid=os.getpid(), since=time.time())
    return _this


_this: Process | None = None


def siblings() -> int:
    """How many processes look like workers of the same server as this one, with it; 1 where nobody can tell."""
    try:
        parent, mine = os.getppid(), _command(os.getpid())
        if parent <= 1:
            return 1
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return max(1, sum(_alike(mine, _command(int(child))) for child in children))
    except (OSError, ValueError):  # no Linux, or a parent of somebody else
        return 1


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


def _alike(mine: bytes, theirs: bytes) -> bool:
    return bool(mine) and (mine == theirs or (_SPAWNED in mine and _SPAWNED in theirs))
