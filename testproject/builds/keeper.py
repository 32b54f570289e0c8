"""Sees to it that nothing a build has started outlives the process that runs the build."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

PROGRAM = Path(__file__).with_name("keeper_process.py")


class Keeper:
    """A small process beside this one that ends process groups: on request, and all of them when this process is gone.

    Neither signal handlers nor ``finally`` blocks can promise that: a process may be killed. The kernel closes its pipes in
    every case, and that is what the keeper waits for. It sends SIGTERM, two seconds later SIGKILL, and goes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def watch(self, group: int) -> None:
        """End the process group ``group`` when this process is gone."""
        with self._lock:
            self._groups.add(group)
            self._tell(f"watch {group}")

    def end(self, group: int) -> None:
        """End what there is of the process group, in the background: SIGTERM, then SIGKILL."""
        with self._lock:
            self._groups.discard(group)
            self._tell(f"end {group}")

    def _forget(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()

    def _tell(self, order: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._write(order)
            return
        # Somebody ended the keeper: a new one has to know all of it.
        self._discard()
        self._write(*(f"watch {group}" for group in self._groups), order)

    def _discard(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()

    def _write(self, *orders: str) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                bufsize=0,
                start_new_session=True,  # Ctrl-C in the server's terminal is not for it
            )
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{order}\n" for order in orders).encode())


keeper = Keeper()
