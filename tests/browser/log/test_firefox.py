"""The core of the viewer in Firefox: a program of Node.js drives it over WebDriver BiDi, ``tests/node/firefox.mjs``."""

from __future__ import annotations

from tests.npm import Node

from .serving import LogSite


def test_it_opens_follows_searches_jumps_folds_and_copies(node: Node, site: LogSite, firefox: str) -> None:
    told = node.run("--test", "firefox.mjs", environment={"SITE": site.url, "FIREFOX": firefox})
    assert "# pass 8\n" in told, told
