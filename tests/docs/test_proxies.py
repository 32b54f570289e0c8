"""The configurations on the page about proxies are the files that the tests run."""

from __future__ import annotations

import re

from tests.live.proxies import DOCUMENTED, PAGES

from .blocks import DOCS, blocks_of

PAGE = DOCS / "howto" / "proxies.rst"


def test_the_page_shows_the_files_that_proxies_run_with_in_tests() -> None:
    shown = re.findall(r"^\.\. literalinclude:: (\S+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [PAGE.parent / file for file in shown] == [PAGES / file for file in DOCUMENTED.values()]
    assert sorted(path.name for path in PAGES.iterdir()) == sorted(DOCUMENTED.values())


def test_no_page_has_a_configuration_that_nothing_runs() -> None:
    written = [str(block) for page in DOCS.rglob("*.rst") for block in blocks_of(page) if block.language in ("nginx", "caddy")]
    assert written == []
