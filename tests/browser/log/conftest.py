"""A site with logs, and pages on it that fail the test for an error or a violation of the policy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, Page

from .serving import LogSite

LISTEN = """document.addEventListener("securitypolicyviolation",
  (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));"""
EXPECTED = ("ERR_CONNECTION", "ERR_INTERNET", "ERR_INCOMPLETE", "ERR_NETWORK", "Failed to load resource")
"""What the console may say where a test cuts the network or is refused."""


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogSite]:
    """The site, shared: a test writes logs of its own names."""
    site = LogSite(tmp_path_factory.mktemp("logsite"))
    yield site
    site.kill()


@pytest.fixture
def page(context: BrowserContext, site: LogSite) -> Iterator[Page]:
    """A page; what is wrong in its console fails the test."""
    wrong: list[str] = []
    page = context.new_page()
    page.add_init_script(LISTEN)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    yield page
    assert [text for text in wrong if not any(part in text for part in EXPECTED)] == []
