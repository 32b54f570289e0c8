"""The identity of this process, for whoever looks at several of them."""

from __future__ import annotations

import os
import secrets
import socket
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process that serves streams.

    Attributes:
        id: Random, so that no two processes share one, not even where a pid comes back.
        host: The machine's name.
        pid: The process id on that machine.
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
    """Return this process; after a fork the child is another one."""
    global _this
    if _this is None or _this.pid != os.getpid():
        _this = Process(id=secrets.token_hex(5), host=socket.gethostname()[:60], pid=os.getpid(), since=time.time())
    return _this


_this: Process | None = None
