"""The program of ``builds.keeper``: ends process groups. Standard library only; reads orders, one a line, until EOF."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

GRACE = 2.0
"""Seconds between SIGTERM and SIGKILL."""
POLL = 0.05


def main(orders: int) -> None:
    """Obey ``watch GROUP`` and ``end GROUP`` from the file descriptor ``orders``; at its end, end every watched group."""
    watched: set[int] = set()
    ending: dict[int, float] = {}
    rest = b""
    while True:
        if select.select([orders], [], [], POLL if ending else None)[0]:
            data = os.read(orders, 4096)
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                _obey(line.decode(), watched, ending)
        _press(ending)
    for group in watched:
        _end(group, ending)
    while ending:
        time.sleep(POLL)
        _press(ending)


def _obey(order: str, watched: set[int], ending: dict[int, float]) -> None:
    verb, group = order.split()
    if verb == "watch":
        watched.add(int(group))
    else:
        watched.discard(int(group))
        _end(int(group), ending)


def _end(group: int, ending: dict[int, float]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        ending[group] = time.monotonic() + GRACE


def _press(ending: dict[int, float]) -> None:
    """Forget the groups that are gone, and kill those whose time is over."""
    for group, deadline in list(ending.items()):
        try:
            os.killpg(group, 0)
            if time.monotonic() < deadline:
                continue
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        del ending[group]


if __name__ == "__main__":
    main(0)
