"""Logs in a real server, each with a prefix of its own."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest

from django_agent_sse.eventlog.redis import RedisEventLog


@pytest.fixture
def new_log(redis_url: str) -> Callable[..., RedisEventLog]:
    """``new_log(MAX_EVENTS=3)``: an empty log; ``prefix=`` that of another one shares its topics."""
    return lambda **options: RedisEventLog(
        **{"url": f"{redis_url}?socket_timeout=60", "prefix": f"t{secrets.token_hex(6)}", **options}
    )


@pytest.fixture
def log(new_log: Callable[..., RedisEventLog]) -> RedisEventLog:
    """An empty log."""
    return new_log()
