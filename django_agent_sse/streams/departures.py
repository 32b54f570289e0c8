"""Connections whose stream has ended: each is looked at until the client has taken everything, and cut off if it never does.

What is left is at most what the kernel and the server hold of a connection, and whoever takes less than ``LOWEST_RATE`` bytes a
second counts as one that takes nothing, as while a stream is open: 4 MB are taken within five hours, or the client is cut off.
Only ``send_timeout=None`` waits for ever, and where the kernel does not tell what a client takes (not on Linux), any progress
counts.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from . import sockets
from .slow_clients import SlowClient
from .sockets import Addresses

CHECK_INTERVAL = 0.1
"""Seconds between two checks of the connections, while there are any."""
CLOSING_TIMEOUT = 1.0
"""Seconds without progress that a client gets while the process ends."""
CLOSING_LIMIT = 4.0
"""Seconds that a client gets in all while the process ends, however it progresses."""
KERNEL_BYTES = 16_384
"""A stream that sent less always fits into the kernel's send buffer: no server waits for it (Linux's default, ``tcp_wmem``)."""


Act: TypeAlias = Callable[[int, Addresses], None]
"""What is done to a connection, by its descriptor."""
_reset: Act = partial(sockets.shut, reset=True)
_limit: Act = partial(sockets.limit, seconds=CLOSING_LIMIT)


@dataclass(slots=True)
class _Departure:
    patience: float
    unfinished: bool
    began: float
    client: SlowClient
    descriptor: int | None = None
    unsent: int = -1
    closing_since: float | None = None

    def look(self, unsent: int, acknowledged: int | None, now: float) -> None:
        """Compare with the look before; ``client.since`` is then since when it takes nothing, or less than it has to."""
        if acknowledged is not None:
            self.client.look(self.began, acknowledged, now)
        elif unsent != self.unsent:
            self.client.since = now
        self.unsent = unsent


@dataclass(slots=True, eq=False, repr=False)
class Departures:
    """The connections of one event loop whose response is over, and whose client may not have everything yet."""

    _loop: asyncio.AbstractEventLoop
    is_closing: Callable[[], bool]
    _departing: dict[Addresses, _Departure] = field(default_factory=dict)
    _due: dict[Act, set[Addresses]] = field(default_factory=dict)
    _timer: asyncio.TimerHandle | None = None

    def add(self, addresses: Addresses, patience: float, *, unfinished: bool) -> None:
        """Watch a connection whose response is over; call it on the loop.

        Args:
            addresses: The connection.
            patience: Seconds without progress after which the client is cut off, though the answer may be whole.
            unfinished: The answer was broken off: the connection is closed when the rest has gone out, here where the server
                does not do it.
        """
        now = self._loop.time()
        self._departing[addresses] = _Departure(patience, unfinished, now, SlowClient(now, since=now))
        if self.is_closing():
            self.limit(addresses)
        if self._timer is None:
            self._check_later()

    def limit_all(self) -> None:
        """The process ends, perhaps before the next check; only the kernel knows these connections then."""
        for addresses in self._departing:
            self.limit(addresses)

    def reset(self, addresses: Addresses) -> None:
        """Cut a client off that was given up, before anything that is scheduled from now on runs; call it on the loop."""
        self._soon(_reset, addresses)

    def limit(self, addresses: Addresses) -> None:
        """Have the kernel give a client ``CLOSING_LIMIT`` seconds without progress, before anything that is scheduled later."""
        if sockets.CAN_LIMIT:
            self._soon(_limit, addresses)

    def _soon(self, act: Act, addresses: Addresses) -> None:
        if act not in self._due:  # one pass over the descriptors for all that come together
            self._loop.call_soon(self._do, act, context=contextvars.Context())
        self._due.setdefault(act, set()).add(addresses)

    def _do(self, act: Act) -> None:
        for addresses, descriptor in sockets.find(self._due.pop(act)).items():
            act(descriptor, addresses)

    def _check_later(self) -> None:
        self._timer = self._loop.call_later(CHECK_INTERVAL, self._check, context=contextvars.Context())

    def _check(self) -> None:
        self._timer = None
        self._find_new()
        now, closing = self._loop.time(), self.is_closing()
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
    before = departure.unsent
    departure.look(unsent, sockets.acknowledged(departure.descriptor, addresses), now)
    if _overdue(departure, now, closing):
        _reset(departure.descriptor, addresses)
        return False
    if unsent == before == 0:  # twice: what a server had in its own buffer has gone to the kernel in between
        if departure.unfinished:
            sockets.shut(departure.descriptor, addresses, reset=False)
        return False
    return True


def _overdue(departure: _Departure, now: float, closing: bool) -> bool:
    if not departure.unsent:
        return False
    stuck = now - departure.client.since
    if not closing:
        return stuck > departure.patience
    if departure.closing_since is None:
        departure.closing_since = now
    return stuck > CLOSING_TIMEOUT or now - departure.closing_since > CLOSING_LIMIT
