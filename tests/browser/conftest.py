"""Chromium, and the servers of the live tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.chromium import launched
from tests.live.conftest import (
    key,
    no_client_stays,
    pytest_runtest_makereport,
    session_key,
    sqlite,
    start,
    terminable,
    uvicorn,
)
from tests.live.servers import Server
from tests.npm import Node

__all__ = ["key", "no_client_stays", "pytest_runtest_makereport", "session_key", "sqlite", "start", "terminable", "uvicorn"]

PATIENCE_MS = 60_000
INSECURE = "insecure.test"
"""A name of this machine that browsers do not take for a secure context."""


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for all tests here. Not for the session: Playwright's event loop runs meanwhile, and no other can."""
    with launched(f"--host-resolver-rules=MAP {INSECURE} 127.0.0.1") as browser:
        yield browser


@pytest.fixture
def firefox() -> str:
    """The program. Where there is none the test is skipped and says so, but fails in continuous integration."""
    path = shutil.which("firefox-esr") or shutil.which("firefox")
    if path is None:
        message = "no Firefox on this machine: apt-get install firefox-esr"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def axe(node: Node) -> str:
    """The script of axe-core."""
    return (node.modules / "axe-core/axe.min.js").read_text()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A profile of its own, whose pages share an origin's locks, channels and connections."""
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, uvicorn: Server) -> Iterator[Page]:
    """A blank page of the site; an error that nobody caught in it fails the test."""
    errors: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{uvicorn.url}/_page/")
    yield page
    assert errors == []
