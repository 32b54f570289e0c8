"""What the server around this process does when it is told to end, as far as its command line and its objects show it."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import itertools
import logging
import multiprocessing
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from .. import conf
from ..exceptions import ConfigurationError

logger = logging.getLogger("django_agent_sse.stream")


class Flag(NamedTuple):
    """A flag that limits how long a server waits for open requests.

    Attributes:
        name: On the command line.
        variable: The environment variable that sets it too.
        default: Seconds; ``None`` for no limit.
        attribute: Of the server's configuration, where that can be found.
    """

    name: str
    variable: str
    default: float | None
    attribute: str


TIMEOUT = "--timeout"
_HYPERCORN = Flag("--graceful-timeout", "", 3.0, "graceful_timeout")
FLAGS: Mapping[str, tuple[Flag, ...]] = {
    "uvicorn": (Flag("--timeout-graceful-shutdown", "UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN", None, "timeout_graceful_shutdown"),),
    # A worker that ends says no more that it is alive, and so is killed after the second of them at a reload.
    "gunicorn": (Flag("--graceful-timeout", "", 30.0, "graceful_timeout"), Flag(TIMEOUT, "", 30.0, "timeout")),
    # From Python 3.12 on hypercorn waits for the connections first, for as long as they last, and then by this flag.
    "hypercorn": (_HYPERCORN,) if sys.version_info < (3, 12) else (),
    "granian": (Flag("--workers-kill-timeout", "GRANIAN_WORKERS_KILL_TIMEOUT", None, ""),),
    "daphne": (),  # it waits for nothing, and so is not told before the streams are over
}
_OPENED_BEFORE = ("--fd", "fd:", "systemd:")
"""How words of daphne's command line begin that name such a socket, also after ``-e``."""
GUNICORN_ARGUMENTS = "GUNICORN_CMD_ARGS"
"""An environment variable with words of its command line. Those on the line itself come after them."""


class Grace(NamedTuple):
    """How long a server waits, and the flag that says so."""

    seconds: float
    flag: str
    server: str

    @property
    def sure(self) -> float:
        """Seconds after the signal that it waits in any case.

        gunicorn counts ``--timeout`` from a worker's last sign of life. Workers of uvicorn give one every half of it, and look
        at the clock once a second.
        """
        return self.seconds / 2 - 1.0 if self.flag == TIMEOUT else self.seconds

    def enough_for(self, seconds: float) -> float:
        """Return what the flag has to be for ``sure`` to be so many seconds."""
        return 2 * (seconds + 1.0) if self.flag == TIMEOUT else seconds


@functools.cache
def server() -> str:
    """Return the name of the server that runs this process, ``""`` where it is none of those that are known."""
    return _started() or next((name for name, _ in _configurations()), "")


def _started() -> str:
    """Return the name of the server that was started as a command."""
    path = PurePath(sys.argv[0] if sys.argv else "")
    name = path.parent.name if path.name in ("__main__.py", "__main__") else path.stem
    return name if name in FLAGS else ""


def _configurations() -> Iterator[tuple[str, object]]:
    """Yield what servers that have called us were configured with, the outermost first: also what a file or a program says.

    gunicorn, uvicorn and hypercorn load the project, and run its loop, in a function that knows it.
    """
    found, frame = [], inspect.currentframe()
    while frame is not None:
        for owner in (frame.f_locals.get("self"), frame.f_locals.get("config")):
            name = type(owner).__module__.partition(".")[0]
            if name in FLAGS:
                found.append((name, getattr(owner, "cfg", getattr(owner, "config", owner))))
        frame = frame.f_back
    yield from reversed(found)


def serves_alone() -> bool:
    """Whether the server listens in this process only, and hears of a signal from nobody but the handler that it has installed.

    hypercorn, granian and gunicorn's own worker hear of it from the event loop. With several processes, what one refuses by no
    longer listening another takes.
    """
    return server() in ("uvicorn", "daphne") and multiprocessing.parent_process() is None


@functools.cache
def shares_socket() -> bool:
    """Whether the server is daphne on a socket that was open before it: other processes accept from it as well, or will."""
    return server() == "daphne" and any(word.startswith(_OPENED_BEFORE) for word in sys.argv)


def stop_accepting() -> None:
    """Leave new connections to those that share the socket; for daphne, which accepts until it is stopped. On its loop."""
    reactor: Any = importlib.import_module("twisted.internet.reactor")
    ports: Any = importlib.import_module("twisted.internet.tcp").Port
    for port in [reader for reader in reactor.getReaders() if isinstance(reader, ports)]:
        port.stopReading()


@functools.cache
def grace() -> Grace | None:
    """Return how long the server waits for open requests once it is told to end; ``None``: for ever, or nobody can see it.

    One that serves alone is told when the streams are over, and so has no part in how long they take.
    """
    name = "" if serves_alone() else server()
    limits = [Grace(seconds, flag.name, name) for flag in FLAGS.get(name, ()) if (seconds := _seconds(name, flag)) is not None]
    return min(limits, key=lambda limit: limit.sure, default=None)


def _seconds(name: str, flag: Flag) -> float | None:
    """Return what a flag is, ``None`` for no limit."""
    for configured, about in _configurations():
        if configured == name and flag.attribute and hasattr(about, flag.attribute):
            with contextlib.suppress(TypeError, ValueError):  # no number: not set
                return _limit(flag, float(getattr(about, flag.attribute)))
            return None
    given = _given(flag)
    return flag.default if given is None else _limit(flag, given)


def _limit(flag: Flag, seconds: float) -> float | None:
    """gunicorn's ``--timeout 0`` is none."""
    return None if flag.attribute == "timeout" and not seconds else seconds


def _given(flag: Flag) -> float | None:
    """Return what the command line, else the environment, says. The last word on a command line holds."""
    words = [*shlex.split(os.environ.get(GUNICORN_ARGUMENTS, "")), *sys.argv[1:]] if _started() == "gunicorn" else sys.argv[1:]
    found = [word.partition("=")[2] for word in words if word.startswith(f"{flag.name}=")]
    found += [after for word, after in itertools.pairwise(words) if word == flag.name]
    text = found[-1] if found else os.environ.get(flag.variable, "")
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        return None


_said: set[str] = set()


def look_at_start(cleanup: float) -> None:
    """Say it when a server begins that was started as a command. Of others it is said when the first stream begins."""
    if _started():
        with contextlib.suppress(ConfigurationError):  # a setting that cannot be used; checks say it, and the first stream
            look_at_flags(cleanup)


def look_at_flags(cleanup: float) -> None:
    """Say once in the log what does not fit: a server that gives up on streams before they have ended in their turn.

    ``cleanup`` is how many seconds a handler may take after it was cancelled.
    """
    if (known := server()) in _said:
        return
    _said.add(known)
    limit, window = grace(), conf.setting("DRAIN_SECONDS") or 0
    if limit is not None and limit.sure < window + cleanup:
        logger.warning(
            "%s %s is %g s: when it is told to end, %s may wait no longer than %g s for streams. AGENT_SSE['DRAIN_SECONDS'] is "
            "%g, and their handlers may clean up for %g s more; give the flag %g or more, or lower that setting. The window is "
            "cut to fit until then",
            *(limit.server, limit.flag, limit.seconds, limit.server, max(0.0, limit.sure)),
            *(window, cleanup, limit.enough_for(window + cleanup)),
        )
