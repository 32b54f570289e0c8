"""Databases of a test's own beside the project's: an alias in ``DATABASES`` while the test runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from asgiref.sync import SyncToAsync
from django.db import connections
from django.db.utils import load_backend

from django_agent_sse.streams import threads


@contextlib.contextmanager
def extra_database(alias: str, settings: Mapping[str, Any]) -> Iterator[str]:
    """Have a database more in ``DATABASES``; afterwards no thread of ours is left that has a connection to it."""
    whole = connections.configure_settings({"default": {}, alias: dict(settings)})
    threads.reset()
    connections.databases[alias] = whole[alias]
    try:
        yield alias
    finally:
        threads.reset()
        for run in (_here, SyncToAsync.single_thread_executor.submit):
            run(_forget, alias)
        pools = getattr(load_backend(settings["ENGINE"]).DatabaseWrapper, "_connection_pools", {})
        if pool := pools.pop(alias, None):
            pool.close()
        del connections.databases[alias]


def _here(function: Any, alias: str) -> None:
    function(alias)


def _forget(alias: str) -> None:
    """Close this thread's connection."""
    if hasattr(connections._connections, alias):
        connections[alias].close()
        del connections[alias]


def asked(alias: str, sql: str, *params: Any) -> Any:
    """The first column of the first row; ``None`` where there is none."""
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()[0] if cursor.description else None
