"""What is copied is what was printed, also what is folded, and what is not in the page while it is selected."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Page, expect

from .serving import LogSite
from .viewing import PATIENCE_MS, connection

LINES = 12_000
SELECT = """(number) => {
  const text = document.querySelector(`#L${number} > .sl-t`);
  getSelection().setBaseAndExtent(text.firstChild, 2, text.firstChild, 3);
}"""
SCROLL = "(part) => { const view = document.querySelector('.sl-view'); view.scrollTop = part * view.scrollHeight; }"


def copied(page: Page, count: int) -> list[str]:
    """The lines of the clipboard, when there are so many."""
    page.keyboard.press("Control+c")
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while len(lines := str(page.evaluate("navigator.clipboard.readText()")).split("\n")) != count:
        assert time.monotonic() < deadline, f"{len(lines)} of {count} lines"
        page.wait_for_timeout(100)
    return lines


def test_a_selection_reaches_over_lines_that_are_not_in_the_page(page: Page, site: LogSite) -> None:
    site.publish("reaches", *(f"line {n} " + "word " * (n % 30) for n in range(1, LINES + 1)), close="completed")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    page.goto(f"{site.url}/logs/reaches/#L100")
    connection(page, "Ended")
    expect(page.locator("#L100 .sl-t")).to_have_text(re.compile("^line 100 "))
    page.evaluate(SELECT, 100)
    for part in (0.3, 0.7, 1.0):
        page.evaluate(SCROLL, part)
        page.wait_for_function("() => !document.querySelector('#L100') && !document.querySelector('.sl-pending')")
    expect(page.locator(f"#L{LINES}")).to_be_in_viewport()
    box = page.locator(f"#L{LINES - 1} .sl-t").bounding_box()
    assert box
    page.keyboard.down("Shift")
    page.mouse.click(box["x"] + box["width"] - 30, box["y"] + box["height"] - 5)
    page.keyboard.up("Shift")
    lines = copied(page, LINES - 100)
    assert [lines[0], lines[-1].rstrip()] == [
        "ne 100 " + "word " * 10,
        f"line {LINES - 1} " + ("word " * ((LINES - 1) % 30)).rstrip(),
    ]
    assert [line.split()[1] for line in lines[1:]] == [str(n) for n in range(101, LINES)]
    page.evaluate("location.hash = '#L101'")
    page.wait_for_function("() => document.querySelector('#L100')")
    assert page.evaluate("getSelection().anchorNode.data").startswith("line 100 "), "it is selected where it is seen again"


def test_folded_lines_are_copied_and_of_a_filter_those_that_are_shown(page: Page, site: LogSite) -> None:
    lines = ["first", "::group::Step", "inside one", "", "inside two", "::endgroup::", "last"]
    site.publish("folded-copy", *lines, close="completed")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    page.goto(f"{site.url}/logs/folded-copy/")
    connection(page, "Ended")
    expect(page.get_by_text("inside one")).to_have_count(0)
    select = """([from, to]) => {
      const texts = [...document.querySelectorAll(".sl-line > .sl-t")];
      getSelection().setBaseAndExtent(texts.at(from), 0, texts.at(to), texts.at(to).childNodes.length);
    }"""
    page.evaluate(select, [0, -1])
    assert copied(page, len(lines)) == lines
    page.get_by_role("searchbox").fill("inside")
    page.get_by_role("button", name="Only matching lines").click()
    expect(page.locator(".sl-found")).to_have_text(re.compile("of 2$"))
    expect(page.locator(".sl-line")).to_have_count(2)
    page.locator(".sl-view").focus()
    page.evaluate(select, [0, -1])
    assert copied(page, 2) == ["inside one", "inside two"]
