"""Fixtures for every test below."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_agent_sse.eventlog.eviction import evictions

pytest_plugins = ["tests.services", "tests.npm"]


@pytest.fixture(autouse=True)
def _no_late_line() -> Iterator[None]:
    """What one test has evicted is not logged a second later, in another one."""
    yield
    evictions.reset()
