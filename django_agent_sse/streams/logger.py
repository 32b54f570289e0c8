"""The logger of one route: ordinary ``logging``, with context carried as fields of the record."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeAlias

TRACE = 5
"""Below ``DEBUG``, for the first of the six levels."""

LOGGER_NAME = "django_agent_sse.route"
FIELD_PREFIX = "field_"

_ExcInfo: TypeAlias = (
    bool | BaseException | tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None] | None
)

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

if logging.getLevelName(TRACE) == f"Level {TRACE}":
    logging.addLevelName(TRACE, "TRACE")


class RouteLogger:
    """Logs under ``django_agent_sse.route``; keyword arguments become attributes of the log record.

    ``c.logger.info("step %s is done", name, build=42)`` makes a record with ``record.build == 42``. A lone mapping after a
    message without ``%`` is taken as fields too. ``exc_info``, ``stack_info``, ``stacklevel`` and ``extra`` keep their meaning
    in ``logging``. A field named like an attribute that every record has (``name``, ``args``, ``message``, …) is kept as
    ``field_<name>``: ``logging`` would raise.
    """

    __slots__ = ("_fields", "_logger")

    def __init__(self, fields: Mapping[str, object] | None = None) -> None:
        self._logger = logging.getLogger(LOGGER_NAME)
        self._fields = _as_extra(fields or {})

    def child(self, /, **fields: object) -> RouteLogger:
        """A logger whose records carry these fields as well; a field given again replaces the older one."""
        return RouteLogger({**self._fields, **fields})

    def trace(self, msg: object, /, *args: object, **fields: Any) -> None:
        """Log at level ``TRACE`` (5)."""
        self._log(TRACE, msg, args, **fields)

    def debug(self, msg: object, /, *args: object, **fields: Any) -> None:
        """Log at level ``DEBUG``."""
        self._log(logging.DEBUG, msg, args, **fields)

    def info(self, msg: object, /, *args: object, **fields: Any) -> None:
        """Log at level ``INFO``."""
        self._log(logging.INFO, msg, args, **fields)

    def warning(self, msg: object, /, *args: object, **fields: Any) -> None:
        """Log at level ``WARNING``."""
        self._log(logging.WARNING, msg, args, **fields)

    warn = warning

    def error(self, msg: object, /, *args: object, **fields: Any) -> None:
        """Log at level ``ERROR``."""
        self._log(logging.ERROR, msg, args, **fields)

    def exception(self, msg: object, /, *args: object, exc_info: _ExcInfo = True, **fields: Any) -> None:
        """Log at level ``ERROR`` with the traceback of the exception being handled."""
        self._log(logging.ERROR, msg, args, exc_info=exc_info, **fields)

    def _log(
        self,
        level: int,
        msg: object,
        args: tuple[object, ...],
        /,
        *,
        exc_info: _ExcInfo = None,
        stack_info: bool = False,
        stacklevel: int = 1,
        extra: Mapping[str, object] | None = None,
        **fields: object,
    ) -> None:
        if not self._logger.isEnabledFor(level):
            return
        if len(args) == 1 and isinstance(args[0], Mapping) and "%" not in str(msg):
            fields = {**args[0], **fields}
            args = ()
        self._logger.log(
            level,
            msg,
            *args,
            exc_info=exc_info,
            stack_info=stack_info,
            stacklevel=stacklevel + 2,
            extra={**self._fields, **_as_extra(extra or {}), **_as_extra(fields)},
        )


def _as_extra(fields: Mapping[str, object]) -> dict[str, object]:
    return {f"{FIELD_PREFIX}{name}" if name in _RESERVED else str(name): value for name, value in fields.items()}
