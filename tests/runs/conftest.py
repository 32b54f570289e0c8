"""Databases that processes share."""

from __future__ import annotations

from tests.eventlog.conftest import postgres_alias, sqlite_alias

__all__ = ["postgres_alias", "sqlite_alias"]
