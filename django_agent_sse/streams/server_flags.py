"""What the server around this process does when it is told to end, as far as its command line and its objects show it."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import NamedTuple

from .. import conf

logger = logging.getLogger("django_agent_sse.stream")


class Flag(NamedTuple):
    """A flag that limits how long a server waits for open requests.

    Attributes:
        name: On the command line.
        variable: The environment variable that sets it too.
        default: Seconds; ``None`` for no limit.
    """

    name: str
    variable: str
    default: float | None


FLAGS: Mapping[str, Flag] = {
    "uvicorn": Flag("--timeout-graceful-shutdown", "UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN", None),
    "gunicorn": Flag("--graceful-timeout", "", 30.0),
    # From Python 3.12 on hypercorn waits for the connections first, and for as long as they last.
    "hypercorn": Flag("--graceful-timeout", "", 3.0 if sys.version_info < (3, 12) else None),
    "granian": Flag("--workers-kill-timeout", "GRANIAN_WORKERS_KILL_TIMEOUT", None),
    "daphne": Flag("", "", None),  # it waits for nothing, and so is not told before the streams are over
}


class Grace(NamedTuple):
    """How long a server waits, and the flag that says so."""

    seconds: float
    flag: str
    server: str


@functools.cache
def server() -> str:
    """Return the name of the server that was started, ``""`` where it is none of those that are known."""
    path = PurePath(sys.argv[0] if sys.argv else "")
    name = path.parent.name if path.name in ("__main__.py", "__main__") else path.stem
    return name if name in FLAGS else ""


def serves_alone() -> bool:
    """Whether the server listens in this process only, and hears of a signal from nobody but the handler that it has installed.

    hypercorn, granian and gunicorn's own worker hear of it from the event loop. With several processes, what one refuses by no
    longer listening another takes.
    """
    return server() in ("uvicorn", "daphne") and multiprocessing.parent_process() is None


@functools.cache
def grace() -> Grace | None:
    """Return how long the server waits for open requests once it is told to end; ``None``: for ever, or nobody can see it."""
    name = server()
    if not name:
        return None
    flag = FLAGS[name]
    seconds = _configured()
    if seconds is None:
        seconds = _given(flag)
    if seconds is None:
        seconds = flag.default
    return None if seconds is None else Grace(seconds, flag.name, name)


def _given(flag: Flag) -> float | None:
    """Return what the command line, else the environment, says. The last word on a command line holds."""
    words = sys.argv[1:]
    found = [word.partition("=")[2] for word in words if word.startswith(f"{flag.name}=")]
    found += [after for word, after in itertools.pairwise(words) if word == flag.name]
    text = found[-1] if found and flag.name else os.environ.get(flag.variable, "")
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        return None


def _configured() -> float | None:
    """Return what a file has configured, of workers of gunicorn that leave a trace of it: uvicorn's."""
    worker = getattr(signal.getsignal(signal.SIGUSR1), "__self__", None) if hasattr(signal, "SIGUSR1") else None
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        return float(worker.cfg.graceful_timeout)  # type: ignore[union-attr]
    return None


_said: set[str] = set()


def look_at_flags(cleanup: float) -> None:
    """Say once in the log what does not fit: a server that gives up on streams before they have ended in their turn.

    ``cleanup`` is how many seconds a handler may take after it was cancelled.
    """
    if (known := server()) in _said:
        return
    _said.add(known)
    limit, window = grace(), conf.setting("DRAIN_SECONDS") or 0
    if limit is not None and limit.seconds < window + cleanup:
        logger.warning(
            "%s %s is %g s: when it is told to end, %s waits no longer for streams. AGENT_SSE['DRAIN_SECONDS'] is %g, and "
            "their handlers may clean up for %g s more; give the flag %g or more, or lower that setting. The window is cut to "
            "fit until then",
            *(limit.server, limit.flag, limit.seconds, limit.server, window, cleanup, window + cleanup),
        )
