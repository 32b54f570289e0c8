"""What staff asks of all processes: to see rows, to close streams, to drain. Events of one topic, obeyed by whom they are for.

Each is signed with the project's ``SECRET_KEY``, so that whoever can write to the log cannot command anything, and says when that
was: a copy of an old one is not obeyed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import random
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
from ...streams.loop_state import LoopStreams, OpenStream
from ...streams.registry import registry
from ...wire.event import MAX_RETRY, Event
from .inspector import Looker, Question, id_of
from .process import this_process

logger = logging.getLogger("django_agent_sse.monitor")

COMMANDS = InternalTopic("sse.monitor.commands")
LIFE = 120.0
"""Seconds for which a command holds after it was signed, by clocks that may be as far apart."""
MAX_BYTES = 65_536
"""Bytes of a signed command; what is larger is none. What the admin's pages ask for, whatever is typed there, has fewer."""
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


class CommandRefused(ValueError):
    """What stands in the log among commands is none that may be obeyed."""


def event_of(command: Command) -> Event:
    """As it stands in the log: signed now."""
    kind = type(command).__name__.lower()
    return Event(_signer().sign_object([kind, time.time(), dataclasses.asdict(command)]), event=kind)


def command_of(event: Event) -> Command:
    """What stands in the log.

    Raises:
        CommandRefused: It is not signed, or not lately, or of another version.
    """
    if len(event.data) > MAX_BYTES:
        raise CommandRefused(f"it has {len(event.data):,} characters, more than any command")
    try:
        kind, at, told = _signer().unsign_object(event.data)
        age = time.time() - at
        if kind == "watch":
            told["question"] = Question(**told["question"])
        command = _KINDS[kind](**told)
    except signing.BadSignature:
        raise CommandRefused("it is not signed with this process's SECRET_KEY, or one of its SECRET_KEY_FALLBACKS") from None
    except (TypeError, ValueError, KeyError) as error:
        raise CommandRefused(f"another version of the package has written it ({printable(error)})") from error
    if not -LIFE <= age <= LIFE:
        when = f"{age:.0f} s ago" if age > 0 else f"{-age:.0f} s from now"
        raise CommandRefused(f"it was signed {when}: it was copied, or the clocks of machines differ")
    return command


def _signer() -> signing.Signer:
    return signing.Signer(salt=f"django_agent_sse.{COMMANDS}")


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
        by, reason = printable(command.by, 150) or "somebody", printable(command.reason) or "no reason"
        logger.warning(told, type(command).__name__.lower(), len(streams), by, reason)
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
        stream.end(Ending.KICKED, retry=None if later is None else min(later, MAX_RETRY))
    if rest := streams[WAVE:]:
        asyncio.get_running_loop().call_later(PAUSE, _end_wave, mine, rest, retry, several)


async def hear(log: EventLog, told: Callable[[object], None]) -> Callable[[], None]:
    """Have ``told`` called on the running loop, which is the caller's own, for commands in a log; what ends that."""
    local_notifier.listen(told, only=COMMANDS)
    if (own := log.notifier) is not None:
        await own.follow(COMMANDS)
        return lambda: own.unfollow(COMMANDS)
    watch = notifier.watch(log, told)
    watch.add(COMMANDS)
    return lambda: watch.discard(COMMANDS)
