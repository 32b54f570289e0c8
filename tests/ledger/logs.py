"""Logs that cross processes, as the environment of a site that keeps its topics there."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import seed

DATABASE: dict[str, Any] = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}}
LOGS = ("sqlite", "postgres", "redis")


def environment_of(log: str, request: pytest.FixtureRequest, directory: Path) -> dict[str, str]:
    """The environment of a site with a new, migrated database and its topics in this log."""
    database, agent_sse = str(directory / "site.sqlite3"), DATABASE
    if log == "postgres":
        database = _new_database(request.getfixturevalue("postgres_url"))
    if log == "redis":
        options = {"url": request.getfixturevalue("redis_url"), "prefix": f"ledger-{os.getpid()}-{time.monotonic_ns()}"}
        agent_sse = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}}
    seed(database)
    return {"SITE_DATABASE": database, "SITE_MIDDLEWARE": "none", "SITE_AGENT_SSE": json.dumps(agent_sse)}


def _new_database(url: str) -> str:
    import psycopg

    name = f"site_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url.replace("/postgres?", f"/{name}?")
