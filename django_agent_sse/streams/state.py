"""What can be seen of an open stream from outside: its state, its numbers, and what does not change about it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

SLOW_SECONDS = 1.0
"""A send that has waited for the client for so long makes the stream a slow one."""
SLOWEST_HEARTBEAT = 55
"""Seconds: load balancers and nginx close a connection that was silent for 60."""


class State(StrEnum):
    """What a stream is doing."""

    STARTING = "starting"
    """Its response has not begun."""
    LIVE = "live"
    """The client has everything."""
    REPLAYING = "replaying"
    """Events wait for it."""
    SLOW = "slow"
    """The client has taken nothing for ``SLOW_SECONDS``."""
    CLOSING = "closing"
    """Its end is decided, and the last of it is being sent."""
    LINGERING = "lingering"
    """The client is gone; the handler goes on."""

    @property
    def connected(self) -> bool:
        """Whether there is a response under way."""
        return self not in (State.STARTING, State.LINGERING)


class StreamStats(NamedTuple):
    """One stream, in numbers. Times are those of its event loop, in seconds."""

    state: State
    events: int
    bytes: int
    opened: float | None
    wrote: float
    lag: int


class StreamInfo(NamedTuple):
    """What does not change about a stream. ``user`` is a primary key as text, ``""`` for nobody."""

    route: str
    user: str
    address: str
    agent: str
    heartbeat: float | None
