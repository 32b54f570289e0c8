"""The stats of an open stream: read from any thread, at any moment, and never written there."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from ..exceptions import AgentSSEError
from ..runtime.safe_text import printable
from .buffer import Buffer
from .client import client_options
from .context import Context
from .state import SLOW_SECONDS, State, StreamInfo, StreamStats
from .stream import Stream
from .transport import Transport


def stats_of(now: float, stream: Stream, buffer: Buffer, transport: Transport) -> StreamStats:
    """Return what a stream does at this moment; ``now`` is the time of its loop."""
    lag = stream.behind + buffer.waiting
    if transport.closed:
        state = State.LINGERING
    elif transport.opened is None:
        state = State.STARTING
    elif stream.ending is not None:
        state = State.CLOSING
    elif (since := transport.sending_since) is not None and now - since >= SLOW_SECONDS:
        state = State.SLOW
    else:
        state = State.REPLAYING if lag else State.LIVE
    return StreamStats(state, buffer.events, buffer.bytes, transport.opened, transport.last_sent, lag)


def last_id_of(stream: Stream) -> str | None:
    """Return the last id that the client was sent, or came with."""
    try:
        return stream.last_event_id
    except (ValueError, IndexError):  # it stops following at this very moment, on its own thread
        return None


def info_of(context: Context, heartbeat: float | None) -> StreamInfo:
    """Return what does not change about a stream."""
    address, agent = context._describe_client(client_options())
    return StreamInfo(context.route, printable(_user_id(context), 2000), address, printable(agent), heartbeat)


def _user_id(context: Context) -> str:
    """Return the primary key of a user of the project; of anybody else that a guard has put there, also what that is."""
    try:
        key: Any = context.user_pk
    except AgentSSEError:  # it was never loaded
        return ""
    if key is None:
        return ""
    label = context._user_label
    return str(key) if label in ("", settings.AUTH_USER_MODEL.lower()) else f"{label}:{key}"
