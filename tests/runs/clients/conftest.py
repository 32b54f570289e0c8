"""Servers for the clients."""

from __future__ import annotations

from tests.live.conftest import no_client_stays, pytest_runtest_makereport, sqlite, start, terminable

__all__ = ["no_client_stays", "pytest_runtest_makereport", "sqlite", "start", "terminable"]
