"""Commands of staff to all processes: show rows, close streams, drain. Orders of one topic; each process executes its own."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field
from typing import Any

from ...eventlog.validation import InternalTopic
from ...runtime.safe_text import printable
from ...streams.ending_many import end_streams
from ...streams.endings import Ending
from ...streams.registry import registry
from ...streams.snapshot import this_process
from ...topics.orders import LIFE_SECONDS, OrderRefused, OrderTopic
from .inspector import StreamInspector, StreamQuery

logger = logging.getLogger("django_agent_sse.monitor")

COMMANDS = InternalTopic("sse.monitor.commands")
DRAINED_SECONDS = 300.0
"""How long a drained process takes no streams, unless it is told otherwise before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What every command has: an id, by which a process knows one that comes twice."""

    id: str = field(default_factory=lambda: secrets.token_hex(6))


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRows(Command):
    """Report the rows that fit a query, until then (seconds since 1970)."""

    query: StreamQuery
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EndStreams(Command):
    """What the commands have that end streams.

    Attributes:
        retry: Milliseconds after which a client may come back; ``None``: it stays away.
        reason: For the log line.
        by: Who asked, for the log line.
    """

    retry: int | None = None
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(EndStreams):
    """End the streams of one of these: an id, a user, a route, a process."""

    stream: str = ""
    user: str = ""
    route: str = ""
    process: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain(EndStreams):
    """Take no new streams in a process and end those that are open; or take them again."""

    process: str
    on: bool = True


def _build(kind: type[WatchRows | Close | Drain], fields: dict[str, Any]) -> WatchRows | Close | Drain:
    if kind is WatchRows:
        query = fields["query"]
        fields["query"] = StreamQuery(**query | {"users": tuple(query.get("users", ()))})  # JSON has lists only
    return kind(**fields)


commands: OrderTopic[WatchRows | Close | Drain] = OrderTopic(
    name=COMMANDS, kinds={"watch": WatchRows, "close": Close, "drain": Drain}, build=_build
)
event_of, command_of = commands.event_of, commands.order_of
CommandRefused = OrderRefused
COMMAND_LIFE_SECONDS = LIFE_SECONDS


def execute(command: Close | Drain, inspector: StreamInspector) -> int:
    """Execute a command in this process, from any thread. Return how many streams it ends."""
    if isinstance(command, Drain):
        if command.process != this_process().id:
            return 0
        registry.drain(DRAINED_SECONDS if command.on else 0.0)
        streams = inspector.find(StreamQuery()) if command.on else []
    else:
        filters = {name: getattr(command, name) for name in ("stream", "user", "route", "process")}
        here = this_process().id
        elsewhere = (command.process or here) != here or (command.stream.partition(".")[0] or here) != here
        # A command that names nothing must close nothing, though a query without filters fits every stream.
        streams = [] if elsewhere or not any(filters.values()) else inspector.find(StreamQuery(**filters))
    if streams or isinstance(command, Drain):
        kind, by = type(command).__name__.lower(), printable(command.by, 150) or "somebody"
        reason = printable(command.reason) or "no reason"
        logger.warning("%s: %d streams are ended here, as %s asked (%s)", kind, len(streams), by, reason)
    end_streams(streams, Ending.KICKED, command.retry)
    return len(streams)
