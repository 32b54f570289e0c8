"""What staff asks of all processes: to see rows, to close streams, to drain. Events of one topic, obeyed by whom they are for."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..eventlog.base import EventLog
from ..eventlog.bell import bell
from ..eventlog.ringer import ringer
from ..wire.event import Event
from .endings import Ending
from .loops import LoopStreams, OpenStream
from .measuring import Looker, Question, id_of
from .process import this_process
from .registry import registry

logger = logging.getLogger("django_agent_sse.monitor")

COMMANDS = "sse.monitor.commands"
WAVE = 100
"""Streams that are ended at once; more would hold up the others of the loop."""
PAUSE = 0.05
"""Seconds between two waves."""
JITTER = 0.5
"""With more than one stream, each client's ``retry`` is drawn from this share around what staff asked for."""
DRAINED_SECONDS = 300.0
"""How long a process that was drained takes no streams, unless it is told otherwise before."""


def _new_id() -> str:
    return secrets.token_hex(6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Report the rows that fit a question, until then (seconds since 1970)."""

    id: str = field(default_factory=_new_id)
    question: Question
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """End the streams of one of these: an id, a user, a route, a process.

    Attributes:
        retry: Milliseconds after which a client may come back; ``None``: it stays away.
        reason: For the log line.
        by: Who asked, for the log line.
    """

    id: str = field(default_factory=_new_id)
    stream: str = ""
    user: str = ""
    route: str = ""
    process: str = ""
    retry: int | None = None
    reason: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Take no new streams in a process and end those that are open; or take them again."""

    id: str = field(default_factory=_new_id)
    process: str
    on: bool = True
    retry: int | None = None
    reason: str = ""
    by: str = ""


Command = Watch | Close | Drain
_KINDS: dict[str, type[Watch] | type[Close] | type[Drain]] = {"watch": Watch, "close": Close, "drain": Drain}


def event_of(command: Command) -> Event:
    """As it stands in the log."""
    return Event(json.dumps(dataclasses.asdict(command)), event=type(command).__name__.lower())


def command_of(event: Event) -> Command | None:
    """What stands in the log; ``None`` where it is none of these, or of another version."""
    kind = _KINDS.get(event.event or "")
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        told = json.loads(event.data)
        if kind is Watch:
            told["question"] = Question(**told["question"])
        return kind(**told) if kind is not None else None
    return None


def obey(command: Close | Drain, looker: Looker) -> int:
    """Do it in this process; how many streams are ended by it. From any thread."""
    if isinstance(command, Drain):
        if command.process != this_process().id:
            return 0
        registry.drain(DRAINED_SECONDS if command.on else 0.0)
        streams = looker.find(Question()) if command.on else []
    else:
        streams = _meant(command, looker)
    if streams or isinstance(command, Drain):
        told = "%s: %d streams are ended here, as %s asked (%s)"
        logger.warning(
            told, type(command).__name__.lower(), len(streams), command.by or "somebody", command.reason or "no reason"
        )
    _end(streams, command.retry)
    return len(streams)


def _meant(command: Close, looker: Looker) -> list[OpenStream]:
    if command.stream:
        if not command.stream.startswith(f"{this_process().id}."):
            return []
        return [stream for stream in looker.find(Question()) if id_of(stream) == command.stream]
    if not (command.user or command.route or command.process):
        return []
    return looker.find(Question(user=command.user, route=command.route, process=command.process)) if _here(command) else []


def _here(command: Close) -> bool:
    return command.process in ("", this_process().id)


def _end(streams: Sequence[OpenStream], retry: int | None) -> None:
    wanted = set(streams)
    for mine in registry.loops():
        own = [stream for stream in tuple(mine.streams) if stream in wanted]
        if own:
            with contextlib.suppress(RuntimeError):  # the loop closed in between
                mine.loop.call_soon_threadsafe(_end_wave, mine, own, retry, len(wanted) > 1)


def _end_wave(mine: LoopStreams, streams: list[OpenStream], retry: int | None, several: bool) -> None:
    for stream in streams[:WAVE]:
        later = int(retry * random.uniform(1 - JITTER, 1 + JITTER)) if retry is not None and several else retry
        stream.end(Ending.KICKED, retry=later)
    if rest := streams[WAVE:]:
        asyncio.get_running_loop().call_later(PAUSE, _end_wave, mine, rest, retry, several)


async def hear(log: EventLog, told: Callable[[object], None]) -> Callable[[], None]:
    """Have ``told`` called on the running loop, which is the caller's own, for commands in a log; what ends that."""
    bell.listen(told, only=COMMANDS)
    if (doorbell := log.doorbell) is not None:
        await doorbell.follow(COMMANDS)
        return lambda: doorbell.unfollow(COMMANDS)
    watch = ringer.watch(log, told)
    watch.add(COMMANDS)
    return lambda: watch.discard(COMMANDS)
