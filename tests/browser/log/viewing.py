"""What a test does with a viewer."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

PATIENCE_MS = 120_000
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def all_rows(page: Page, within: float = PATIENCE_MS) -> None:
    """Wait until no line is plain text any more."""
    page.wait_for_function("() => !document.querySelector('.sl-later')", timeout=within)


def text_of(page: Page) -> list[str]:
    """The lines in the rows of the page, as a reader sees them."""
    all_rows(page)
    return list(page.evaluate("[...document.querySelectorAll('.sl-line:not(.sl-note) > .sl-t')].map((one) => one.textContent)"))


def numbers_of(page: Page) -> list[int]:
    """The numbers beside them."""
    all_rows(page)
    return [
        int(n) for n in page.evaluate("[...document.querySelectorAll('.sl-line > .sl-n[data-n]')].map((one) => one.dataset.n)")
    ]


def wait_for_lines(page: Page, count: int, within: float = PATIENCE_MS) -> None:
    """Wait until the page has so many lines in rows."""
    page.wait_for_function(
        "(count) => document.querySelectorAll('.sl-line:not(.sl-note)').length >= count", arg=count, timeout=within
    )


def connection(page: Page, words: str | re.Pattern[str], within: float = PATIENCE_MS) -> None:
    """Wait until the viewer says so of its connection, and has painted the lines that came before."""
    expect(page.locator(".sl-connection")).to_have_text(words, timeout=within)
    page.evaluate("new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)))")


def plain(line: str) -> str:
    """A line without its colours."""
    return _COLOURS.sub("", line)
