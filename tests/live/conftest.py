"""Fixtures of the live tests. A module says with ``SITE = {…}`` how its site is set up; see ``tests.live.servers``."""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import warm

from .client import close_all
from .servers import ASGI, ROOT, Server, environment_of, running

LOG_LINES = 80
_running: list[Server] = []


def seed(database: str) -> dict[str, Any]:
    """Migrate and fill a database; return what ``tests.site.seed`` tells about it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment_of({}, database)}
    done = warm.run(
        [sys.executable, "-m", "tests.site.seed"], cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300
    )
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="session")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """A filled SQLite database, to be copied, and what is in it."""
    database = str(tmp_path_factory.mktemp("seed") / "site.sqlite3")
    return database, seed(database)


@pytest.fixture(scope="session")
def session_key(sqlite: tuple[str, dict[str, Any]]) -> str:
    """The key of a session that is logged in as ``user-000``."""
    return str(sqlite[1]["session"])


@pytest.fixture
def key() -> str:
    """A name for this test's entries in the journal."""
    return uuid.uuid4().hex


@pytest.fixture(scope="module")
def terminable() -> Iterator[None]:
    """Let a SIGTERM (``timeout``, a runner's cancel button) end the servers too: they are sessions of their own."""
    previous = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM", returncode=143))
    yield
    signal.signal(signal.SIGTERM, previous)


@pytest.fixture(scope="module")
def start(
    terminable: None, sqlite: tuple[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """``start(kind, **site)``: run one more server until the module's end; ``database=`` for another than the SQLite file."""
    with ExitStack() as stack:

        def start_one(kind: str, *, database: str = sqlite[0], **site: Any) -> Server:
            directory = Path(tmp_path_factory.mktemp(kind))
            server = stack.enter_context(running(kind, directory, database, **site))
            _running.append(server)
            stack.callback(_running.remove, server)
            return server

        yield start_one


@pytest.fixture(scope="module", params=ASGI)
def server(request: pytest.FixtureRequest, start: Callable[..., Server]) -> Server:
    """Each of the four servers, shared by the tests of a module, which must leave it alive."""
    return start(request.param, **getattr(request.module, "SITE", {}))


@pytest.fixture(scope="module")
def uvicorn(request: pytest.FixtureRequest, start: Callable[..., Server]) -> Server:
    """uvicorn, shared by the tests of a module."""
    return start("uvicorn", **getattr(request.module, "SITE", {}))


@pytest.fixture(autouse=True)
def no_client_stays() -> Iterator[None]:
    """Close the connections that a failing test left open."""
    yield
    close_all()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Show the logs of the running servers under a test that failed."""
    report = yield
    if report.failed:
        for server in _running:
            tail = "\n".join(server.log().splitlines()[-LOG_LINES:])
            report.sections.append((f"log of {server.kind} at {server.url}", tail))
    return report
