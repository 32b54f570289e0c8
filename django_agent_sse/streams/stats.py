"""The stats of an open stream: read from any thread, at any moment, and never written there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings

from ..exceptions import AgentSSEError
from ..runtime.safe_text import printable
from .client import client_options
from .counters import counters
from .state import SLOW_SECONDS, State, StreamInfo, StreamStats

if TYPE_CHECKING:
    from .buffer import Buffer
    from .context import Context
    from .endings import Ending
    from .options import StreamOptions
    from .stream import Stream
    from .transport import Transport


class Watched:
    """What a runner shows of its stream; see ``OpenStream``."""

    __slots__ = ()

    if TYPE_CHECKING:
        number: int
        route: str
        context: Context
        stream: Stream
        buffer: Buffer
        transport: Transport
        options: StreamOptions
        ending: Ending | None

    def note_opened(self) -> None:
        """The response has begun."""
        counters.opened(self.route)

    @property
    def heartbeat(self) -> float | None:
        return self.options.heartbeat

    @property
    def topics(self) -> Sequence[str]:
        return self.stream.topics

    @property
    def last_id(self) -> str | None:
        try:
            return self.stream.last_event_id
        except (ValueError, IndexError):  # it stops following at this very moment
            return None

    def stats(self, now: float) -> StreamStats:
        """Return its numbers at a time of its loop."""
        transport, buffer = self.transport, self.buffer
        lag = self.stream.behind + buffer.waiting
        if transport.gone:
            state = State.LINGERING
        elif transport.opened is None:
            state = State.STARTING
        elif self.ending is not None:
            state = State.CLOSING
        elif (since := transport.sending_since) is not None and now - since >= SLOW_SECONDS:
            state = State.SLOW
        else:
            state = State.REPLAYING if lag else State.LIVE
        return StreamStats(state, buffer.events, buffer.bytes, transport.opened, transport.last_sent, lag)

    def info(self) -> StreamInfo:
        """Return what does not change about it."""
        address, agent = self.context.client(client_options())
        return StreamInfo(self.route, printable(_user_id(self.context), 2000), address, printable(agent), self.options.heartbeat)


def _user_id(context: Context) -> str:
    """Return the primary key of a user of the project; of anybody else that a guard has put there, also what that is."""
    try:
        key: Any = context.user_pk
    except AgentSSEError:  # it was never loaded
        return ""
    if key is None:
        return ""
    label = context.user_label
    return str(key) if label in ("", settings.AUTH_USER_MODEL.lower()) else f"{label}:{key}"
