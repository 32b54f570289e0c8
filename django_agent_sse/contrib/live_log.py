"""``with live_log("jobs.42"):`` what a block of code logs, in a topic that is closed with its outcome."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import partial
from types import TracebackType
from typing import Final

from ..eventlog.backend import log_to_publish_to, refuse_on_a_loop
from ..eventlog.base import EventLog
from ..eventlog.validation import valid_topic
from ..exceptions import EventLogUnavailable, TopicClosed
from ..runs.topic import Topic
from ..runtime.loop import in_pool
from .logging import TopicHandler

COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

_active: ContextVar[frozenset[int]] = ContextVar("django_agent_sse_live_logs", default=frozenset())
"""The live logs whose blocks this code runs in."""


class live_log:  # noqa: N801  # it is used as a function
    """Publish what a block of code logs, and close the topic with the outcome: ``with live_log("jobs.42"):``, or ``async with``.

    The topic is closed as ``completed``; as ``failed`` where the block raised, with the traceback as its last line; as
    ``cancelled`` where it was cancelled or interrupted. What the block raises goes on. A log that is away hinders nothing.

    Args:
        topic: The topic's name.
        loggers: The names of the loggers; the root logger where none is given. Each has ``level`` at least while the block runs.
        level: The level from which on records are taken.
        everywhere: Take what other threads and requests log meanwhile, too; else what is logged in the block, and in the tasks
            and ``sync_to_async`` calls that it makes.
        replace: Forget what the topic has first; else a topic that is closed is refused, and one that is open is continued.
        details: As for ``TopicHandler``.
        format: How a record reads, as for ``logging.Formatter``.

    Raises:
        TopicNameInvalid: No topic can have that name.
        TopicClosed: It is closed: from ``with``, and the block does not run.
        AsyncRequired: ``with`` where an event loop runs.
    """

    def __init__(
        self,
        topic: str,
        *loggers: str,
        level: int | str = logging.INFO,
        everywhere: bool = False,
        replace: bool = False,
        details: bool = True,
        format: str = "%(message)s",
    ) -> None:
        self._topic = valid_topic(topic)
        self._loggers = [logging.getLogger(name) for name in loggers or (None,)]
        self._everywhere = everywhere
        self._replace = replace
        self._handler = TopicHandler(self._topic, level, details=details)
        self._handler.setFormatter(logging.Formatter(format))
        self._handler.addFilter(self._is_ours)
        self._token: Token[frozenset[int]] | None = None

    def __enter__(self) -> Topic:
        refuse_on_a_loop("live_log", twin=False)
        self._prepare(log_to_publish_to())
        return self._begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._handler.close_topic(self._end(error))

    async def __aenter__(self) -> Topic:
        await in_pool(partial(self._prepare, log_to_publish_to()))
        return self._begin()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        closing = asyncio.ensure_future(in_pool(partial(self._handler.close_topic, self._end(error))))
        await asyncio.shield(closing)

    def _prepare(self, log: EventLog) -> None:
        with suppress(EventLogUnavailable):  # the handler tries again
            if self._replace:
                log.delete(self._topic)
            elif (reason := log.state(self._topic).closed) is not None:
                raise TopicClosed(
                    f"the topic {self._topic!r} is closed ({reason}): it has the log of an earlier run. replace=True forgets "
                    "that, or take another name. The block was not run"
                )

    def _begin(self) -> Topic:
        self._token = _active.set(_active.get() | {id(self)})
        for logger in self._loggers:
            levels.lower(logger, self._handler.level)
            logger.addHandler(self._handler)
        return Topic(self._topic)

    def _end(self, error: BaseException | None) -> str:
        """Take the handler away. Return what the topic is closed with."""
        for logger in self._loggers:
            logger.removeHandler(self._handler)
            levels.restore(logger)
        if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            reason = COMPLETED
        elif isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
            reason = CANCELLED
        else:
            reason = FAILED
            about = (type(error), error, error.__traceback__)
            frame = _last_frame(error)
            record = logging.LogRecord(
                self._loggers[0].name, logging.ERROR, *frame, f"{type(error).__name__}: {error}", None, about
            )
            self._handler.emit(record)
        if self._token is not None:
            with suppress(ValueError):  # another context ends it than began it
                _active.reset(self._token)
        return reason

    def _is_ours(self, record: logging.LogRecord) -> bool:
        return self._everywhere or id(self) in _active.get()


class _Levels:
    """Levels of loggers that are lower while somebody wants them to be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: dict[logging.Logger, list[int]] = {}

    def lower(self, logger: logging.Logger, level: int) -> None:
        """Let a logger have this level at least, until it is restored as often as it was lowered."""
        with self._lock:
            held = self._before.setdefault(logger, [0, logger.level])
            held[0] += 1
            if logger.getEffectiveLevel() > level:
                logger.setLevel(level)

    def restore(self, logger: logging.Logger) -> None:
        """Give a logger back the level that it had before all who lowered it."""
        with self._lock:
            held = self._before[logger]
            held[0] -= 1
            if not held[0]:
                del self._before[logger]
                logger.setLevel(held[1])


levels = _Levels()


def _last_frame(error: BaseException) -> tuple[str, int]:
    """Return the file and the line that raised."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    return ("", 0) if where is None else (where.tb_frame.f_code.co_filename, where.tb_lineno)
