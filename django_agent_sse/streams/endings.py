"""How a stream can end: one word, shown alike in the log line, the signal, the metrics and the monitor."""

from __future__ import annotations

from enum import StrEnum


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
    def aborts(self) -> bool:
        """Whether ``on_abort`` runs and the handler is cancelled."""
        return self not in _REGULAR

    @property
    def complete(self) -> bool:
        """Whether the client has all there was to come. Any other answer is broken off where no control event can say so."""
        return self in _COMPLETE

    @property
    def announced(self) -> bool:
        """Whether the client is told with a last ``sse.end``, after which an EventSource gets 204."""
        return self in _ANNOUNCED

    @property
    def hurries(self) -> bool:
        """Whether somebody asked for it, so that a client which takes nothing more is not waited for."""
        return self in _ASKED_FOR

    @property
    def flushes(self) -> bool:
        """Whether what is queued is still sent."""
        return self not in (Ending.CLIENT_DISCONNECT, Ending.SLOW_CLIENT)


_COMPLETE = frozenset({Ending.COMPLETED, Ending.TOPIC_CLOSED})
_ASKED_FOR = frozenset({Ending.SHUTDOWN, Ending.KICKED, Ending.REVOKED})
_REGULAR = frozenset({Ending.COMPLETED, Ending.TOPIC_CLOSED, Ending.HANDLER_ERROR})
_ANNOUNCED = frozenset({Ending.COMPLETED, Ending.TOPIC_CLOSED, Ending.REVOKED, Ending.KICKED})
