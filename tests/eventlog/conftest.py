"""The logs that the contract holds for, each by both of its doors."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.database import DatabaseEventLog
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.eventlog.redis import RedisEventLog

LOGS = ("memory", "sqlite", "postgres", "mariadb", "redis", "redis-shards")


class Door:
    """A log asked by its sync verbs, or by their twins."""

    def __init__(self, log: EventLog, twin: bool) -> None:
        self.log = log
        self._twin = twin

    def __getattr__(self, verb: str) -> Any:
        return async_to_sync(getattr(self.log, f"a{verb}")) if self._twin else getattr(self.log, verb)


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def alias(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[str]:
    """Each of the databases, with empty tables."""
    name: str = request.getfixturevalue(f"{request.param}_alias")
    with django_db_blocker.unblock():
        DatabaseEventLog(ALIAS=name).clear_all()
        yield name


@pytest.fixture(params=LOGS)
def new_log(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[Callable[..., EventLog]]:
    """``new_log(MAX_EVENTS=3)``: an empty log with these options."""
    if request.param == "memory":
        yield MemoryEventLog
        return
    if request.param.startswith("redis"):
        url = f"{request.getfixturevalue('redis_url')}?socket_timeout=60"
        urls = url if request.param == "redis" else [f"{url}&db=1", f"{url}&db=2"]
        yield lambda **options: RedisEventLog(url=urls, prefix=f"t{secrets.token_hex(6)}", **options)
        return
    name = request.getfixturevalue(f"{request.param}_alias")
    with django_db_blocker.unblock():
        DatabaseEventLog(ALIAS=name).clear_all()
        yield partial(DatabaseEventLog, ALIAS=name)


@pytest.fixture(params=["sync", "async"])
def open_log(new_log: Callable[..., EventLog], request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Like ``new_log``, behind a door."""
    return lambda **options: Door(new_log(**options), request.param == "async")


@pytest.fixture
def log(open_log: Callable[..., Any]) -> Any:
    """An empty log with its defaults, behind a door."""
    return open_log()
