"""The core of the viewer in Firefox: a program of Node.js drives it over WebDriver BiDi, ``tests/node/firefox.mjs``."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.npm import Node

from .serving import LogSite


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


def test_it_opens_follows_searches_jumps_folds_and_copies(node: Node, site: LogSite, firefox: str) -> None:
    told = node.run("--test", "firefox.mjs", environment={"SITE": site.url, "FIREFOX": firefox})
    assert "# pass 8\n" in told, told
