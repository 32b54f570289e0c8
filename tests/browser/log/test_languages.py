"""The viewer in German and in Arabic: its words, its numbers, and which way it runs; what was printed runs from left to right."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.languages import catalogs

from .conftest import EXPECTED
from .serving import LogSite
from .viewing import text_of, wait_for_lines

PICTURES = os.environ.get("PICTURES", "")
"""A folder for pictures to look at."""
SPOKEN = """() => {
  const log = document.querySelector("sse-log");
  const found = new Set();
  const take = (text) => text && text.trim() && found.add(text.trim().replace(/\\s+/g, " "));
  for (const element of [log, ...log.querySelectorAll("*")]) {
    if (element.closest(".sl-rows") || element.closest("svg")) continue;
    for (const name of ["aria-label", "title", "placeholder"]) take(element.getAttribute(name));
    for (const node of element.childNodes) if (node.nodeType === Node.TEXT_NODE) take(node.data);
  }
  return [...found];
}"""


@pytest.fixture(params=["de", "ar"])
def spoken(request: pytest.FixtureRequest, chromium: Browser, site: LogSite) -> Iterator[tuple[str, Page]]:
    """A reader of that language, and a page of theirs; what is wrong in its console fails the test."""
    wrong: list[str] = []
    context = chromium.new_context(locale=request.param, viewport={"width": 1100, "height": 700})
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    yield request.param, page
    context.close()
    assert [text for text in wrong if not any(part in text for part in EXPECTED)] == []


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def written(language: str) -> dict[Any, Any]:
    """The translation of each text without places, by the text."""
    return {message.id: message.string for message in catalogs.read(language) if isinstance(message.id, str)}


def test_every_word_of_the_viewer_is_in_the_language_of_the_reader(spoken: tuple[str, Page], site: LogSite) -> None:
    language, page = spoken
    name = f"spoken-{language}"
    lines = [f"line {number} (a) [b] -> c" for number in range(1, 1235)]
    failing: list[str | tuple[str, str]] = [
        "::group::install",
        "done",
        "::endgroup::",
        *lines,
        ("stderr", "ERROR: it failed, app.py:12"),
    ]
    site.publish(name, *failing, ("exit", '{"code": 1, "seconds": 75}'), close="failed")
    page.goto(f"{site.url}/log/{name}/")
    wait_for_lines(page, len(lines) + 4)
    expect(page.locator(".sl-status")).to_have_text({"de": "Fehlgeschlagen", "ar": "فشل"}[language])
    assert page.evaluate("document.documentElement.lang") == language
    known = written(language)
    expect(page.get_by_role("searchbox")).to_have_attribute("aria-label", known["Search the log"])
    facts = page.locator(".sl-facts").inner_text()
    for part in {"de": ["1 min 15 s", "Exit-Code 1", "1.238 Zeilen"], "ar": ["1 د 15 ث", "رمز الخروج", "سطرًا"]}[language]:
        assert part in facts
    said = set(page.evaluate(SPOKEN))
    assert {known["Copy"], known["Only matching lines"], known["Follow the end (f)"]} <= said
    english = {text for text, translated in known.items() if text != translated} - {
        "Esc",
        "Log",
    }  # a key, and the label that this page gives
    assert said & english == set()
    picture(page, f"log-{language}")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text(known["Wrap long lines"])
    picture(page, f"keys-{language}")


def test_what_was_printed_runs_from_left_to_right(spoken: tuple[str, Page], site: LogSite) -> None:
    language, page = spoken
    name = f"direction-{language}"
    printed = ["(1) open [x] -> y.", "git log --oneline # end!", "العربية ok."]
    site.publish(name, *printed, close="completed")
    page.goto(f"{site.url}/log/{name}/")
    wait_for_lines(page, len(printed))
    direction = {"de": "ltr", "ar": "rtl"}[language]
    styles = "(selector) => getComputedStyle(document.querySelector(selector)).direction"
    assert page.evaluate(styles, ".sl-bar") == direction
    assert page.evaluate(styles, ".sl-rows .sl-line .sl-t") == "ltr"
    assert text_of(page) == printed
    number, text = (page.locator(f".sl-rows .sl-line .{part}").first.bounding_box() for part in ("sl-n", "sl-t"))
    assert number is not None
    assert text is not None
    assert number["x"] < text["x"], "line numbers stand before their lines"
    find, more = (page.locator(part).bounding_box() for part in (".sl-find", ".sl-more"))
    assert find is not None
    assert more is not None
    if find["y"] == more["y"]:
        assert (find["x"] < more["x"]) == (direction == "ltr"), "the tools follow the page"
    overflow = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not overflow


def test_a_running_log_says_where_it_stands(spoken: tuple[str, Page], site: LogSite) -> None:
    language, page = spoken
    name = f"running-{language}"
    site.publish(name, "one")
    page.goto(f"{site.url}/log/{name}/")
    wait_for_lines(page, 1)
    expect(page.locator(".sl-connection")).to_have_text(written(language)["Live"])
    expect(page.locator(".sl-status")).to_have_text({"de": "Läuft", "ar": "قيد التشغيل"}[language])
    page.set_viewport_size({"width": 375, "height": 700})
    assert not page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    picture(page, f"phone-{language}")
