"""Commands of staff to all processes: show rows, close streams, drain. Events of one topic; each process executes its own.

Each is signed with the project's ``SECRET_KEY``, so that whoever can write to the log cannot command anything. The signature
covers the time, so that a copy of an old command does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from django.core import signing

from ...eventlog.base import EventLog
from ...eventlog.notify.local import local_notifier
from ...eventlog.notify.notifier import notifier
from ...eventlog.validation import InternalTopic
from ...runtime.safe_text import printable
from ...streams.endings import Ending
from ...streams.registry import OpenStream, registry
from ...streams.reporting import jittered
from ...streams.snapshot import this_process
from ...wire.event import MAX_RETRY, Event
from .inspector import StreamInspector, StreamQuery

logger = logging.getLogger("django_agent_sse.monitor")

COMMANDS = InternalTopic("sse.monitor.commands")
COMMAND_LIFE_SECONDS = 120.0
"""Seconds for which a command holds after it was signed. The clocks of machines may differ by as much."""
MAX_BYTES = 65_536
"""The most bytes of a signed command. What the admin's pages send, whatever is typed there, has fewer."""
BATCH_SIZE = 100
"""Streams that are ended at once; more would hold up the others of the loop."""
BATCH_INTERVAL = 0.05
"""Seconds between two batches."""
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


_KINDS: dict[str, type[WatchRows | Close | Drain]] = {"watch": WatchRows, "close": Close, "drain": Drain}


class CommandRefused(ValueError):
    """An event among the commands in the log must not be executed."""


def event_of(command: Command) -> Event:
    kind = next(word for word, command_type in _KINDS.items() if type(command) is command_type)
    return Event(_signer().sign_object([kind, time.time(), dataclasses.asdict(command)]), event=kind)


def command_of(event: Event) -> WatchRows | Close | Drain:
    """Return the command that an event of the log holds.

    Raises:
        CommandRefused: It is not signed, or was not signed lately, or another version wrote it.
    """
    if len(event.data) > MAX_BYTES:
        raise CommandRefused(f"it has {len(event.data):,} characters, more than any command has")
    try:
        kind, at, payload = _signer().unsign_object(event.data)
        age = time.time() - at
        if kind == "watch":
            payload["query"] = StreamQuery(**payload["query"])
        command = _KINDS[kind](**payload)
    except signing.BadSignature:
        raise CommandRefused("it is not signed with this process's SECRET_KEY, or one of its SECRET_KEY_FALLBACKS") from None
    except (TypeError, ValueError, KeyError) as error:
        raise CommandRefused(f"another version of the package has written it ({printable(error)})") from error
    if not -COMMAND_LIFE_SECONDS <= age <= COMMAND_LIFE_SECONDS:
        when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s from now"
        raise CommandRefused(f"it was signed {when}: it was copied, or the clocks of machines differ")
    return command


def _signer() -> signing.Signer:
    return signing.Signer(salt=f"django_agent_sse.{COMMANDS}")


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
    _end(streams, command.retry)
    return len(streams)


def _end(streams: Sequence[OpenStream], retry: int | None) -> None:
    wanted = set(streams)
    for loop_state in registry.loops():
        own = [stream for stream in tuple(loop_state.streams) if stream in wanted]
        if own:
            with contextlib.suppress(RuntimeError):  # the loop closed in between
                loop_state.loop.call_soon_threadsafe(_end_batch, own, retry, len(wanted) > 1)


def _end_batch(streams: list[OpenStream], retry: int | None, several: bool) -> None:
    for stream in streams[:BATCH_SIZE]:
        later = jittered(retry) if retry is not None and several else retry  # clients must not all come back at once
        stream.end(Ending.KICKED, retry=None if later is None else min(later, MAX_RETRY))
    if rest := streams[BATCH_SIZE:]:
        asyncio.get_running_loop().call_later(BATCH_INTERVAL, _end_batch, rest, retry, several)


async def subscribe(log: EventLog, on_notify: Callable[[object], None]) -> Callable[[], None]:
    """Have ``on_notify`` called on the running loop when a log has new commands. Return what ends that."""
    local_notifier.listen(on_notify, only=COMMANDS)
    if (own := log.notifier) is not None:
        await own.follow(COMMANDS)
        return lambda: own.unfollow(COMMANDS)
    watch = notifier.watch(log, on_notify)
    watch.add(COMMANDS)
    return lambda: watch.discard(COMMANDS)
