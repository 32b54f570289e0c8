"""A stream as the monitor sees it: read from another thread, at any moment, and never written there."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from ..contrib.monitor.options import monitor_options
from ..contrib.monitor.service import monitor
from ..contrib.monitor.stats import SLOW_SECONDS, Facts, Measure, State
from ..exceptions import AgentSSEError
from ..runtime.safe_text import printable
from .buffer import Buffer
from .context import Context
from .counters import tally
from .stream import Stream
from .transport import Transport


def note_opened(route: str) -> None:
    """Count a response that has begun."""
    tally.opened(route)
    monitor.begin()


def measure(now: float, stream: Stream, buffer: Buffer, transport: Transport) -> Measure:
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
    return Measure(state, buffer.events, buffer.bytes, transport.opened, transport.last_sent, lag)


def facts(context: Context, heartbeat: float | None) -> Facts:
    """Return what does not change about a stream."""
    address, agent = context._describe_client(monitor_options())
    return Facts(context.route, printable(_user_id(context), 2000), address, printable(agent), heartbeat)


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
