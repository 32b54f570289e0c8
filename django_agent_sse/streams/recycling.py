"""A worker that its server recycles ends its streams, though no signal comes.

uvicorn (``--limit-max-requests``), gunicorn (``--max-requests``) and hypercorn (``max_requests``) close the worker's listening
socket and then wait for its open requests: for as long as a stream lives, nobody is answered. The one sign is that socket, so
it is looked at while streams are open.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from typing import Any

from ..runtime.process import on_fork
from . import sockets
from .endings import Ending
from .registry import registry

CHECK_INTERVAL = 1.0
"""Seconds between two checks."""


class ListenerWatch:
    """Checks whether this process still listens. One per process; ``reset()`` makes it new, also after a fork."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Know of no listening socket."""
        self._port: int | None = None
        self._descriptors: frozenset[int] = frozenset()
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, scope: Mapping[str, Any]) -> None:
        """A stream begins on this loop: look from now on, until none is open there. Costs nothing where that is so already."""
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
            registry.end_all(Ending.SHUTDOWN)
        elif registry.loop_state().streams or any(companion.busy for companion in registry.companions):
            self._check_later(loop)
        else:
            self._loop = None


def _port_of(scope: Mapping[str, Any]) -> int | None:
    try:
        return int(scope["server"][1])
    except (KeyError, TypeError, ValueError, IndexError):  # a Unix socket, or a scope that does not say
        return None


listener_watch = ListenerWatch()
on_fork(listener_watch.reset)
