"""The log viewer in Chromium: what it shows, and what people do with it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from .serving import LogSite
from .viewing import connection, numbers_of, plain, text_of, wait_for_lines

EXIT = ("exit", '{"code": 0, "seconds": 12.5}')


def test_a_log_that_is_over_is_shown_whole_with_its_end(page: Page, site: LogSite) -> None:
    site.publish("over", "one", ("stderr", "two"), ("log", "three\nfour"), EXIT, close="completed")
    page.goto(f"{site.url}/logs/over/")
    connection(page, "Ended")
    assert text_of(page) == ["one", "two", "three", "four"]
    assert numbers_of(page) == [1, 2, 3, 4]
    expect(page.locator(".sl-status")).to_have_text("Succeeded")
    expect(page.locator(".sl-facts")).to_contain_text("12.5 s")
    expect(page.locator(".sl-facts")).to_contain_text("exit code 0")
    expect(page.locator(".sl-facts")).to_contain_text("4 lines")
    expect(page.locator(".sl-facts")).to_contain_text("1 on stderr")
    expect(page.locator(".sl-stderr")).to_have_count(1)
    expect(page).to_have_title("✓ Log over")
