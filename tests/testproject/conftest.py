"""The test project on servers that the tests of a module share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .server import PROJECT, Server

LOG_LINES = 60
_running: list[Server] = []

sys.path.append(str(PROJECT))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """``start(kind)``: run one more server until the module's end."""
    with ExitStack() as stack:

        def start_one(kind: str) -> Server:
            server = Server(kind, Path(tmp_path_factory.mktemp(kind)))
            _running.append(server)
            stack.callback(_running.remove, server)
            stack.callback(server.stop)
            return server

        yield start_one


@pytest.fixture(scope="module")
def server(start: Callable[[str], Server]) -> Server:
    """The project on uvicorn, shared by the tests of a module, which must leave it alive."""
    return start("uvicorn")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Show the logs of the running servers under a test that failed."""
    report = yield
    if report.failed:
        for server in _running:
            report.sections.append((f"log of {server.kind}", "\n".join(server.log().splitlines()[-LOG_LINES:])))
    return report
