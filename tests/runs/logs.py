"""The event logs that runs are tried on, each one empty and as a project has it by its settings."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from django.test import override_settings

from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog

FOUR = ["memory", "sqlite", "postgres", "redis"]


@contextmanager
def empty_log(kind: str, request: pytest.FixtureRequest) -> Iterator[EventLog]:
    """The project's log, of one of the ``FOUR`` kinds."""
    about: dict[str, Any] = {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}
    if kind == "redis":
        options = {"url": request.getfixturevalue("redis_url"), "prefix": f"t{secrets.token_hex(6)}"}
        about = {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}
    elif kind != "memory":
        alias = request.getfixturevalue(f"{kind}_alias")
        about = {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {"ALIAS": alias}}
    database = request.getfixturevalue("django_db_blocker").unblock() if kind in ("sqlite", "postgres") else nullcontext()
    backend.reset()
    with database, override_settings(AGENT_SSE={"EVENT_LOG": about}):
        backend.event_log().clear_all()
        yield backend.event_log()
        backend.event_log().clear_all()
    backend.reset()
