"""A site with logs, and pages on it that fail the test for an error or a violation of the policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from .serving import LogSite

LISTEN = """document.addEventListener("securitypolicyviolation",
  (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
window.flashed = []; // what was shown for a moment
new MutationObserver((changes) => {
  for (const { addedNodes } of changes) {
    for (const one of addedNodes) if (one.classList?.contains("sl-flash")) window.flashed.push(one.textContent);
  }
}).observe(document, { childList: true, subtree: true });"""
EXPECTED = ("ERR_CONNECTION", "ERR_INTERNET", "ERR_INCOMPLETE", "ERR_NETWORK", "Failed to load resource")
"""What the console may say where a test cuts the network or is refused."""


@pytest.fixture(scope="package")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a site that has its users and no log, to be copied."""
    site = LogSite(tmp_path_factory.mktemp("seeded"))
    site.kill()
    return site.home


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, seeded: Path) -> Iterator[LogSite]:
    """The site of a file, shared: a test writes logs of its own names, whatever other files have run on this worker."""
    site = LogSite(tmp_path_factory.mktemp("logsite"), seeded)
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
