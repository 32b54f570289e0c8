"""How a stream can end: one word, alike in the log line, the signal, the metrics and the monitor, and what follows from each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal


class Ending(StrEnum):
    """Why a stream ended. Compares equal to its text: ``stream.ending == "completed"``."""

    COMPLETED = "completed"
    """The handler returned, or called ``stream.close()``."""
    TOPIC_CLOSED = "topic_closed"
    """Every topic that was followed is closed."""
    HANDLER_ERROR = "handler_error"
    """The handler raised after the response had begun."""
    CLIENT_DISCONNECT = "client_disconnect"
    """The client left."""
    SLOW_CLIENT = "slow_client"
    """The client took nothing for ``SEND_TIMEOUT`` seconds."""
    MAX_DURATION = "max_duration"
    """The stream was open for ``MAX_DURATION`` seconds."""
    SHUTDOWN = "shutdown"
    """The process was told to end."""
    REVOKED = "revoked"
    """A guard said no when it was asked again."""
    KICKED = "kicked"
    """Staff closed the stream."""

    @property
    def rules(self) -> Rules:
        """What follows from this ending."""
        return ENDINGS[self]

    @property
    def aborts(self) -> bool:
        """Whether ``on_abort`` callbacks run and the handler is cancelled."""
        return ENDINGS[self].aborts


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What follows from one ending.

    Attributes:
        aborts: ``on_abort`` callbacks run and the handler is cancelled; else the handler has returned or gets ``close_grace``.
        last_event: The control event that the client is sent last, where it takes control events; ``sse.overloaded`` only where
            it is told when to come back.
        final: That event carries the end id, so that a client which comes back gets 204. After an error the route decides, and
            staff may let a client come back that they closed the stream of.
        whole: The client has all there was to come. Any other response is broken off where no control event can say so.
        flushes: What was written before the end is still sent.
        requested: Somebody asked for the end, so a client that takes nothing more is not waited for.
    """

    aborts: bool
    last_event: Literal["sse.end", "sse.error", "sse.overloaded"] | None = None
    final: bool = False
    whole: bool = False
    flushes: bool = True
    requested: bool = False


ENDINGS: Final[Mapping[Ending, Rules]] = {
    Ending.COMPLETED: Rules(aborts=False, last_event="sse.end", final=True, whole=True),
    Ending.TOPIC_CLOSED: Rules(aborts=False, last_event="sse.end", final=True, whole=True),
    Ending.HANDLER_ERROR: Rules(aborts=False, last_event="sse.error"),
    Ending.CLIENT_DISCONNECT: Rules(aborts=True, flushes=False),
    Ending.SLOW_CLIENT: Rules(aborts=True, flushes=False),
    Ending.MAX_DURATION: Rules(aborts=True),
    Ending.SHUTDOWN: Rules(aborts=True, last_event="sse.overloaded", requested=True),
    Ending.REVOKED: Rules(aborts=True, last_event="sse.end", final=True, requested=True),
    Ending.KICKED: Rules(aborts=True, last_event="sse.end", final=True, requested=True),
}
"""The table of endings: ``lifecycle`` obeys it, and a test compares the one in the docs with it."""
