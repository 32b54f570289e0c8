"""Processes that are stopped, as of a virtual machine that is moved; never while they hold a lock of SQLite."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

PATIENCE = 60.0


def stop(pid: int) -> None:
    """Send ``SIGSTOP``, and wait until every thread stands still: one that runs on another core goes on for a moment."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE
    while not _stands_still(pid):
        assert time.monotonic() < deadline, f"{pid} does not stop"
        time.sleep(0.001)


def _stands_still(pid: int) -> bool:
    try:
        stats = [(thread / "stat").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):  # a thread has ended meanwhile
        return False
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)


def is_locked(file: str) -> bool:
    """Whether somebody reads or writes a file of SQLite: where that one is stopped, nobody can write."""
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
    return False
