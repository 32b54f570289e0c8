"""Connections whose stream has ended: each is looked at until the client has taken everything, and cut off if it never does."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field

from . import sockets
from .sockets import Addresses

CHECK_INTERVAL = 0.1
"""Seconds between two checks of the connections, while there are any."""
CLOSING_TIMEOUT = 1.0
"""Seconds without progress that a client gets while the process ends."""
CLOSING_LIMIT = 4.0
"""Seconds that a client gets in all while the process ends, however it progresses."""
KERNEL_BYTES = 16_384
"""A stream that sent less always fits into the kernel's send buffer: no server waits for it (Linux's default, ``tcp_wmem``)."""


@dataclass(slots=True)
class _Departure:
    patience: float
    unfinished: bool
    since: float
    descriptor: int | None = None
    unsent: int = -1
    closing_since: float | None = None


@dataclass(slots=True, eq=False, repr=False)
class Departures:
    """The connections of one event loop whose response is over, and whose client may not have everything yet."""

    _loop: asyncio.AbstractEventLoop
    _is_closing: Callable[[], bool]
    _departing: dict[Addresses, _Departure] = field(default_factory=dict)
    _stalled: set[Addresses] = field(default_factory=set)
    _limited: set[Addresses] = field(default_factory=set)
    _timer: asyncio.TimerHandle | None = None

    def add(self, addresses: Addresses, patience: float, *, unfinished: bool) -> None:
        """Watch a connection whose response is over; call it on the loop.

        Args:
            addresses: The connection.
            patience: Seconds without progress after which the client is cut off, though the answer may be whole.
            unfinished: The answer was broken off: the connection is closed when the rest has gone out, here where the server
                does not do it.
        """
        self._departing[addresses] = _Departure(patience, unfinished, self._loop.time())
        if self._timer is None:
            self._check_later()

    def reset(self, addresses: Addresses) -> None:
        """Cut a client off that was given up, before anything that is scheduled from now on runs; call it on the loop."""
        self._soon(self._reset_stalled, self._stalled, addresses)

    def limit(self, addresses: Addresses) -> None:
        """Have the kernel give a client ``CLOSING_LIMIT`` seconds without progress, before anything that is scheduled later."""
        self._soon(self._limit_all, self._limited, addresses)

    def _soon(self, act: Callable[[], None], together: set[Addresses], addresses: Addresses) -> None:
        if not together:  # one pass over the descriptors for all that come together
            self._loop.call_soon(act, context=contextvars.Context())
        together.add(addresses)

    def _limit_all(self) -> None:
        limited, self._limited = self._limited, set()
        sockets.limit(limited, CLOSING_LIMIT)

    def _reset_stalled(self) -> None:
        stalled, self._stalled = self._stalled, set()
        for addresses, descriptor in sockets.find(stalled).items():
            sockets.shut(descriptor, addresses, reset=True)

    def _check_later(self) -> None:
        self._timer = self._loop.call_later(CHECK_INTERVAL, self._check, context=contextvars.Context())

    def _check(self) -> None:
        self._timer = None
        self._find_new()
        now, closing = self._loop.time(), self._is_closing()
        self._departing = {
            addresses: departure for addresses, departure in self._departing.items() if _stays(addresses, departure, now, closing)
        }
        if self._departing:
            self._check_later()

    def _find_new(self) -> None:
        new = [addresses for addresses, departure in self._departing.items() if departure.descriptor is None]
        if not new:
            return
        descriptors = sockets.find(frozenset(new))
        for addresses in new:
            if addresses in descriptors:
                self._departing[addresses].descriptor = descriptors[addresses]
            else:  # the server has closed it, or it cannot be seen
                del self._departing[addresses]


def _stays(addresses: Addresses, departure: _Departure, now: float, closing: bool) -> bool:
    """Do what is due for a connection; return whether to check it again."""
    assert departure.descriptor is not None
    unsent = sockets.unsent(departure.descriptor, addresses)
    if unsent is None:
        return False
    if _overdue(departure, unsent, now, closing):
        sockets.shut(departure.descriptor, addresses, reset=True)
        return False
    if unsent == departure.unsent == 0:  # twice: what a server had in its own buffer has gone to the kernel in between
        if departure.unfinished:
            sockets.shut(departure.descriptor, addresses, reset=False)
        return False
    if unsent != departure.unsent:
        departure.unsent, departure.since = unsent, now
    return True


def _overdue(departure: _Departure, unsent: int, now: float, closing: bool) -> bool:
    if not unsent:
        return False
    stuck = now - departure.since if unsent == departure.unsent else 0.0
    if not closing:
        return stuck > departure.patience
    if departure.closing_since is None:
        departure.closing_since = now
    return stuck > CLOSING_TIMEOUT or now - departure.closing_since > CLOSING_LIMIT
