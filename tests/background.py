"""A runner in the background: what it starts has the signals of a program that was started at a terminal.

Named as a pytest plugin by ``tests/conftest.py``. A shell without job control makes what it starts with ``&`` ignore SIGINT and
SIGQUIT, ``nohup`` SIGHUP, and what is ignored stays so in every child: a server or command that a test starts would not hear the
signal that the test sends it. A signal that has a handler is a child's default again, so the runner gets one that does nothing.
"""

from __future__ import annotations

import signal
from types import FrameType

HEARD = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)


def pytest_configure() -> None:
    """Go on ignoring what is ignored, in a way that children do not inherit."""
    for number in HEARD:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _do_nothing)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass
