"""One database connection, as far as its driver knows it: whether a transaction is open, how it is reset, how it is closed."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("django_agent_sse.connections")

RESTED_SECONDS = 1.0
"""A kept connection that nobody used for so long is asked whether it still works before it is used again."""
KEPT_SECONDS = 60.0
"""How old a kept connection may grow where ``CONN_MAX_AGE`` is 0."""

_CHANGES_BY_ITSELF = frozenset(
    ["_adapters", "_autocommit", "_closed", "_notifies_backlog", "_num_transactions", "_pipeline", "_prepared", "lock", "pgconn"]
)
"""Attributes of a psycopg connection that are not a setting of its user's, or that Django sets whenever it connects."""
_OPEN = (True, 1, 2, 3)
"""libpq's states of a transaction that is open: a command runs, it waits for one, it has failed. Not: idle (0), broken (4)."""
_RESET = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DEALLOCATE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); "
    "DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)
"""What PostgreSQL documents ``DISCARD ALL`` to be, which cannot share a round trip with the time zone that Django sets."""


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open, also one that ``BEGIN`` has begun without Django's knowledge."""
    raw = connection.connection
    if connection.in_atomic_block:
        return True
    if raw is None:
        return False
    if connection.autocommit != connection.settings_dict["AUTOCOMMIT"]:
        return True
    status = getattr(getattr(raw, "info", None), "transaction_status", None)
    if status is None:
        status = getattr(raw, "in_transaction", not connection.autocommit)  # SQLite knows too
    return status in _OPEN


def pooled(connection: BaseDatabaseWrapper) -> bool:
    """Whether it is one of Django's own connection pool."""
    return bool(connection.settings_dict["OPTIONS"].get("pool"))


def close(connection: BaseDatabaseWrapper) -> None:
    """Close a connection of this thread, also where Django would not: in a transaction, or to an SQLite database in memory."""
    raw = connection.connection
    try:
        connection.close()
        # Django leaves SQLite in memory open, as a test's own must be: the database lives as long as its last connection. From a
        # thread that ended with one the collector would take it, with a ResourceWarning in somebody's test.
        if connection.connection is not None and not connection.allow_thread_sharing:
            raw.close()
            connection.connection = None
    except Exception:
        logger.debug("a connection to %r failed when it was closed", connection.alias, exc_info=True)


class Kept:
    """A driver's connection, as it may outlive the wrapper that Django has made for it.

    Attributes:
        raw: The driver's connection.
        attributes: What Django has set on the wrapper when it connected.
        rested_at: Since when nobody has it (monotonic time).
    """

    __slots__ = ("_born", "_settings", "attributes", "raw", "rested_at")

    def __init__(self, raw: Any, attributes: Mapping[str, Any]) -> None:
        self.raw = raw
        self.attributes = attributes
        self._settings = _settings_of(raw)
        self._born = self.rested_at = time.monotonic()

    def reset(self, connection: BaseDatabaseWrapper) -> bool:
        """Make it as good as new, in one round trip; false where it must be closed instead."""
        if connection.errors_occurred or in_transaction(connection):
            return False
        # Counted by references, since psycopg knows no list of its cursors: the wrapper's own is taken away meanwhile.
        connection.connection = None
        alone = _references(self) == _ALONE
        connection.connection = self.raw
        try:
            # A cursor that somebody has kept would run in the next user's session.
            if not alone or _settings_of(self.raw) != self._settings:
                return False
            _reset(connection, self.raw)
        except Exception:
            logger.debug("a connection to %r cannot be reset, and is closed", connection.alias, exc_info=True)
            return False
        self.rested_at = time.monotonic()
        return True

    def is_old(self, alias: str) -> bool:
        """Whether it has grown older than ``CONN_MAX_AGE`` lets it."""
        age: float | None = connections.settings[alias]["CONN_MAX_AGE"]
        return age is not None and time.monotonic() - self._born > (age or KEPT_SECONDS)

    def is_fit(self) -> bool:
        """Whether it still works: asked of the server only after a rest."""
        if self.raw.closed:
            return False
        if time.monotonic() - self.rested_at > RESTED_SECONDS:
            try:
                self.raw.execute("SELECT 1")
            except Exception:
                self.raw.close()
                return False
        return True


def _settings_of(raw: Any) -> dict[str, Any]:
    """What the client itself remembers of a psycopg connection: isolation level, factories, handlers."""
    known = vars(raw).items()
    return {name: tuple(value) if isinstance(value, list) else value for name, value in known if name not in _CHANGES_BY_ITSELF}


def _references(kept: Any) -> int:
    return sys.getrefcount(kept.raw)


_ALONE = _references(SimpleNamespace(raw=object()))


def can_be_reset(connection: BaseDatabaseWrapper, raw: Any) -> bool:
    """Whether one round trip makes it as good as new: with psycopg 3, as long as it prepares no statements by itself."""
    psycopg = any(base.__module__.partition(".")[0] == "psycopg" for base in type(raw).__mro__)
    return connection.vendor == "postgresql" and psycopg and raw.prepare_threshold is None


def set_up_pooled(connection: BaseDatabaseWrapper, raw: Any) -> None:
    """Reset a connection of Django's pool, and set what Django sets only when the pool makes one: time zone and role."""
    _reset(connection, raw)
    connection._configure_connection(raw)  # type: ignore[attr-defined]


def _reset(connection: BaseDatabaseWrapper, raw: Any) -> None:
    raw.autocommit = True
    zone = (connection.timezone_name or "").replace("'", "''")
    raw.execute(f"{_RESET}; SET TIME ZONE '{zone}'" if zone else _RESET)
