"""Servers for the clients, and the clients of npm, one program of Node.js for a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.live.conftest import no_client_stays, pytest_runtest_makereport, sqlite, start, terminable
from tests.live.servers import Server
from tests.npm import Node

from .clients import Clients, Site, asking, serving

__all__ = ["no_client_stays", "pytest_runtest_makereport", "sqlite", "start", "terminable"]


@pytest.fixture(scope="module")
def site(start: Callable[..., Server], redis_url: str) -> Iterator[Site]:
    """Two servers, and the proxy."""
    with serving(start, redis_url) as site:
        yield site


@pytest.fixture(scope="module")
def clients(node: Node) -> Iterator[Clients]:
    """The clients of npm."""
    with asking(node) as clients:
        yield clients
