"""Connections whose stream has ended: each is looked at until the client has taken everything, and cut off if it never does."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from . import sockets
from .sockets import Addresses

LOOK_INTERVAL = 0.1
"""Seconds between two looks at the connections, while there are any."""
CLOSING_TIMEOUT = 1.0
"""Seconds without progress that a client gets while the process ends."""
CLOSING_LIMIT = 4.0
"""Seconds that a client gets in all while the process ends, however it progresses."""
KERNEL_BYTES = 16_384
"""A stream that sent less always fits into the kernel's send buffer: no server waits for it (Linux's default, ``tcp_wmem``)."""


class Departure(Enum):
    """What is to become of a connection."""

    FINISHED = "finished"
    """The answer is whole: the server keeps the connection, if the client takes the rest."""
    UNFINISHED = "unfinished"
    """The answer was broken off: closed when the rest has gone out, by us where the server does not."""
    STALLED = "stalled"
    """The client was given up: reset at once, so that the kernel gives its memory back."""


@dataclass(slots=True)
class _Leaving:
    departure: Departure
    patience: float
    descriptor: int | None = None
    unsent: int = -1
    since: float = 0.0
    closing_since: float | None = None


class Departures:
    """The connections of one event loop that are being left."""

    __slots__ = ("_is_closing", "_leaving", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, is_closing: Callable[[], bool]) -> None:
        """Make an empty one.

        Args:
            loop: Where the looks take place.
            is_closing: Whether the process is ending.
        """
        self._loop = loop
        self._is_closing = is_closing
        self._leaving: dict[Addresses, _Leaving] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, addresses: Addresses, departure: Departure, patience: float) -> None:
        """Look after a connection; call it on the loop.

        Args:
            addresses: Which one.
            departure: How its stream ended.
            patience: Seconds without progress after which the client is cut off.
        """
        self._leaving[addresses] = _Leaving(departure, patience, since=self._loop.time())
        if self._timer is None:
            self._look_later()

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(LOOK_INTERVAL, self._look, context=contextvars.Context())

    def _look(self) -> None:
        self._timer = None
        self._find_new()
        now, closing = self._loop.time(), self._is_closing()
        self._leaving = {addresses: one for addresses, one in self._leaving.items() if _stays(addresses, one, now, closing)}
        if self._leaving:
            self._look_later()

    def _find_new(self) -> None:
        new = [addresses for addresses, one in self._leaving.items() if one.descriptor is None]
        if not new:
            return
        found = sockets.find(frozenset(new))
        for addresses in new:
            if addresses in found:
                self._leaving[addresses].descriptor = found[addresses]
            else:  # the server has closed it, or it cannot be seen
                del self._leaving[addresses]


def _stays(addresses: Addresses, one: _Leaving, now: float, closing: bool) -> bool:
    """Do what is due for a connection; whether to look at it again."""
    assert one.descriptor is not None
    unsent = sockets.unsent(one.descriptor, addresses)
    if unsent is None:
        return False
    if one.departure is Departure.STALLED or _overdue(one, unsent, now, closing):
        sockets.shut(one.descriptor, addresses, reset=True)
        return False
    if unsent == one.unsent == 0:  # twice: what a server had in its own buffer has gone to the kernel in between
        if one.departure is Departure.UNFINISHED:
            sockets.shut(one.descriptor, addresses, reset=False)
        return False
    if unsent != one.unsent:
        one.unsent, one.since = unsent, now
    return True


def _overdue(one: _Leaving, unsent: int, now: float, closing: bool) -> bool:
    """Whether a client has had its time."""
    if not unsent:
        return False
    stuck = now - one.since if unsent == one.unsent else 0.0
    if not closing:
        return stuck > one.patience
    if one.closing_since is None:
        one.closing_since = now
    return stuck > CLOSING_TIMEOUT or now - one.closing_since > CLOSING_LIMIT
