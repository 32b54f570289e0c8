"""A process that is told to end, or a worker that its server recycles, ends its streams: many of them in waves, see ``drain``.

SIGTERM and SIGINT: uvicorn, granian and hypercorn wait for open streams by default, for ever, and the flags that end the wait
skip ``finally`` blocks. So a handler of ours is chained before the server's own. Servers put theirs back at times, so each
request and each stream's start looks again: a stream may begin long after its request, when the process was told to end.

Recycling: uvicorn (``--limit-max-requests``), gunicorn (``--max-requests``) and hypercorn (``max_requests``) close the worker's
listening socket and then wait for its open requests, though no signal comes: for as long as a stream lives, nobody is answered.
The one sign is that socket, so it is looked for at the first request, and looked at while streams are open.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from ..runtime.process import PerProcess
from . import server_flags, sockets
from .callbacks import CLEANUP_SECONDS
from .endings import Ending
from .registry import open_streams, registry

SIGNALS = (signal.SIGTERM, signal.SIGINT)
WAIT_SECONDS = 5.0
"""How long streams get that the server does not wait for, after the last of them was told to end."""
POLL = 0.05
CHECK_INTERVAL = 1.0
"""Seconds between two checks whether this process still listens."""

SignalHandler = Callable[[int, FrameType | None], object]
Previous = SignalHandler | int | None


def _chained(previous: Previous) -> SignalHandler:
    """Return a handler that ends the streams, then calls what was installed before it.

    Each installation is one of its own that keeps its own predecessor: with one that is shared, somebody else's handler between
    two of ours would call for ever in a circle.
    """

    def handler(number: int, frame: FrameType | None) -> None:
        registry.end_all(Ending.SHUTDOWN)
        if server_flags.shares_socket() and (loop := _main_loop()) is not None:
            loop.call_soon_threadsafe(server_flags.stop_accepting)
        if previous == signal.SIG_DFL:
            _when_over(_anything, functools.partial(_die, number))
        elif callable(previous):
            # A server waits for its open requests, but knows nothing of a handler or a run that goes on without its client. One
            # that serves alone is told when its streams are over: until then it answers other requests, and whoever asks whether
            # it is ready. Others stop listening at once.
            waited_for = _anything if server_flags.serves_alone() else _outliving
            _when_over(waited_for, functools.partial(previous, number, frame))

    return handler


_installed: dict[int, SignalHandler] = {}


def watch_signals() -> None:
    """Chain the handlers where they are not in force; only the main thread can, elsewhere this does nothing.

    What is ignored stays so: it does not end the process, and so not its streams.
    """
    if threading.get_ident() != threading.main_thread().ident:
        return
    server_flags.look_at_flags(CLEANUP_SECONDS)
    for number in SIGNALS:
        current = signal.getsignal(number)
        if current is not signal.SIG_IGN and current is not _installed.get(number):
            chained = _installed[number] = _chained(current)
            signal.signal(number, chained)


def watch_end(scope: Mapping[str, Any]) -> None:
    """Hear of the end of this process from now on; called on the loop, with the scope of the request that it serves."""
    watch_signals()
    listener_watch.begin(registry.loop_state().loop, scope)


def _outliving() -> bool:
    return _companions() or any(stream.outlives_client for stream in open_streams())


def _anything() -> bool:
    return _companions() or bool(open_streams())


def _companions() -> bool:
    return any(companion.busy for companion in registry.companions)


def _when_over(waited_for: Callable[[], bool], then: Callable[[], object]) -> None:
    """Do ``then`` when nothing is left of what is waited for, at once or on the main thread's loop."""
    loop = _main_loop()
    if loop is None or not waited_for():
        then()
    else:
        deadline = loop.time() + registry.drain_left + WAIT_SECONDS
        loop.call_soon_threadsafe(_poll, loop, deadline, waited_for, then)


def _main_loop() -> asyncio.AbstractEventLoop | None:
    """Return the main thread's loop, where it has or had streams."""
    main = threading.main_thread().ident
    return next((state.loop for state in registry.loops() if state.thread == main and state.loop.is_running()), None)


def _poll(loop: asyncio.AbstractEventLoop, deadline: float, waited_for: Callable[[], bool], then: Callable[[], object]) -> None:
    if waited_for() and loop.time() < deadline:
        loop.call_later(POLL, _poll, loop, deadline, waited_for, then)
    else:
        then()


def _die(number: int) -> None:
    with contextlib.suppress(ValueError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


class ListenerWatch(PerProcess):
    """Checks whether this process still listens. One per process; ``reset()`` makes it new, also after a fork."""

    def reset(self) -> None:
        self._port: int | None = None
        self._descriptors: frozenset[int] = frozenset()
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, scope: Mapping[str, Any]) -> None:
        """A request comes or a stream begins on this loop: look from now on, until none is open. Costs nothing again."""
        if self._loop is not None and not self._loop.is_closed():
            return
        port = _port_of(scope)
        if port is None:
            return
        if port != self._port:
            self._port, self._descriptors = port, sockets.listeners(port)
        if self._descriptors:
            self._loop = loop
            self._check_later(loop)

    def _check_later(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(CHECK_INTERVAL, self._check, loop, context=contextvars.Context())

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        assert self._port is not None
        if not any(sockets.listens(descriptor, self._port) for descriptor in self._descriptors):
            self._descriptors = sockets.listeners(self._port)
        if not self._descriptors:
            self.reset()
            if not registry.closing:
                registry.end_all(Ending.SHUTDOWN)
        elif any(state.streams for state in registry.loops()) or _companions():
            self._check_later(loop)
        else:
            self._loop = None


def _port_of(scope: Mapping[str, Any]) -> int | None:
    try:
        return int(scope["server"][1])
    except (KeyError, TypeError, ValueError, IndexError):  # a Unix socket, or a scope that does not say
        return None


listener_watch = ListenerWatch()
