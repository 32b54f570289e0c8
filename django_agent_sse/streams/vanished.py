"""Clients that vanish: their machine loses its network, and nobody says goodbye.

The server's kernel learns of it when what was sent, a heartbeat at least, is not acknowledged. By itself it then tries for a
quarter of an hour. Told a time (``TCP_USER_TIMEOUT``, on Linux) it closes the connection after that, and the server sees its
client leave. To tell it takes a look at all descriptors of the process, so the streams that began within ``GATHERED`` seconds
share one, and the loop does other things between its parts. Each stream is told its descriptor, and needs no look of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from . import sockets
from .sockets import Addresses

GATHERED = 2.0
"""Seconds for which streams are gathered before their connections are looked for."""
PART = 64
"""Connections that are looked at before the loop does something else: half a millisecond."""
LEEWAY = 5.0
"""Seconds that the kernel gives a client beyond ``send_timeout``, at least: who stops reading is the stream's to end."""


def patience(send_timeout: float) -> float:
    """Return after how many seconds without an acknowledgement the kernel gives a client up."""
    return send_timeout + max(LEEWAY, send_timeout / 2)


class Connected(Protocol):
    """Whose connection it is: it is told the descriptor when that is found."""

    descriptor: int | None


class Vanished:
    """The connections of one event loop that the kernel is not told of yet."""

    __slots__ = ("_looking", "_loop", "_new")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._new: dict[Addresses, tuple[Connected, float]] = {}
        self._looking = False

    def watch(self, connected: Connected, addresses: Addresses, send_timeout: float) -> None:
        """Have the kernel give this client up if it vanishes; call it on the loop."""
        if sockets.CAN_LIMIT:
            self._new[addresses] = (connected, patience(send_timeout))
            if not self._looking:
                self._looking = True
                self._loop.call_later(GATHERED, self._begin, context=contextvars.Context())

    def unwatch(self, addresses: Addresses) -> None:
        """The stream is over, and its client's time is said by whoever ends it."""
        self._new.pop(addresses, None)

    def _begin(self) -> None:
        wanted, self._new = self._new, {}
        self._look(wanted, sockets.connections())

    def _look(self, wanted: dict[Addresses, tuple[Connected, float]], connections: Iterator[tuple[int, Addresses]]) -> None:
        part = [*islice(connections, PART)]
        for descriptor, addresses in part:
            if addresses in wanted:
                connected, seconds = wanted.pop(addresses)
                connected.descriptor = descriptor
                sockets.limit(descriptor, addresses, seconds=seconds)
        if part and wanted:  # those that are never found have left, or a proxy's word stands in their place
            self._loop.call_soon(self._look, wanted, connections, context=contextvars.Context())
        elif self._new:
            self._loop.call_later(GATHERED, self._begin, context=contextvars.Context())
        else:
            self._looking = False
