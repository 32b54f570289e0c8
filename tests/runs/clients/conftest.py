"""Servers for the clients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.live.conftest import no_client_stays, pytest_runtest_makereport, sqlite, start, terminable
from tests.live.servers import Server
from tests.npm import Node

from .program import Program, running
from .site import Site, serving

__all__ = ["no_client_stays", "pytest_runtest_makereport", "sqlite", "start", "terminable"]


@pytest.fixture(scope="module")
def site(start: Callable[..., Server], redis_url: str) -> Iterator[Site]:
    """Two servers and a proxy, for all tests of a module."""
    with serving(start, redis_url) as site:
        yield site


@pytest.fixture(scope="module")
def clients(site: Site, node: Node) -> Iterator[Program]:
    """Those of npm for agents, and for runs without a protocol. They go before the servers do: none waits for an answer then."""
    with running(node, "agents.mjs") as clients:
        yield clients
