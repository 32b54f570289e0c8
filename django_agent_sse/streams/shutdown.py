"""SIGTERM and SIGINT end the open streams, then do what they would have done.

uvicorn, granian and hypercorn wait for open streams by default, for ever, and the flags that end the wait skip ``finally``
blocks. So a handler of ours is chained before the server's own. Servers put theirs back at times; each stream's
start looks again.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from .endings import Ending
from .registry import open_streams, registry

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WAIT_SECONDS = 5.0
"""How long streams get that the server does not wait for."""
POLL = 0.05

Previous = Callable[[int, FrameType | None], object] | int | None


class _Chained:
    """One installation: ends the streams, then calls what was installed before it.

    Each installation is an object of its own that keeps its own predecessor: with one that is shared, somebody else's
    handler between two of ours would call for ever in a circle.
    """

    __slots__ = ("previous",)

    def __init__(self, previous: Previous) -> None:
        self.previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        registry.end_all(Ending.SHUTDOWN)
        if self.previous == signal.SIG_DFL:
            _when_over(_anything, functools.partial(_die, number))
        elif callable(self.previous):
            # A server waits for its open requests, but knows nothing of a handler or a run that goes on without its client.
            _when_over(_outliving, functools.partial(self.previous, number, frame))


_installed: dict[int, _Chained] = {}


def watch_signals() -> None:
    """Chain the handlers where they are not in force; only the main thread can, elsewhere this does nothing.

    What is ignored stays so: it does not end the process, and so not its streams.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return
    for number in SIGNALS:
        current = signal.getsignal(number)
        if current is not signal.SIG_IGN and current is not _installed.get(number):
            chained = _installed[number] = _Chained(current)
            signal.signal(number, chained)


def _outliving() -> bool:
    return _companions() or any(stream.outlives_client for stream in open_streams())


def _anything() -> bool:
    return _companions() or bool(open_streams())


def _companions() -> bool:
    return any(companion.busy for companion in registry.companions)


def _when_over(waited_for: Callable[[], bool], then: Callable[[], object]) -> None:
    """Do ``then`` when nothing is left of what is waited for, at once or on the main thread's loop."""
    main = threading.main_thread().ident
    loop = next((state.loop for state in registry.loops() if state.thread == main and state.loop.is_running()), None)
    if loop is None or not waited_for():
        then()
    else:
        loop.call_soon_threadsafe(_poll, loop, loop.time() + WAIT_SECONDS, waited_for, then)


def _poll(loop: asyncio.AbstractEventLoop, deadline: float, waited_for: Callable[[], bool], then: Callable[[], object]) -> None:
    if waited_for() and loop.time() < deadline:
        loop.call_later(POLL, _poll, loop, deadline, waited_for, then)
    else:
        then()


def _die(number: int) -> None:
    with contextlib.suppress(ValueError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
