"""Search in a log, and what is shown of it: text, patterns, levels, sources, only what matches; and all of it in the address."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, Route, expect

from tests.timing import bound

from .serving import LogSite
from .test_speed import WATCH, longest_task
from .viewing import connection, rows_of, text_of, wait_for_lines

ERRORS = ["::error file=app.js,line=12::it broke", "WARNING: old", "FAILED tests/test_a.py::test_b", "fine"]

TOP = """() => {
  const { top } = document.querySelector(".sl-view").getBoundingClientRect();
  return Number([...document.querySelectorAll(".sl-line")].find((row) => row.getBoundingClientRect().bottom > top).id.slice(1));
}"""


def opened(page: Page, site: LogSite, name: str, hash: str = "") -> None:
    page.goto(f"{site.url}/logs/{name}/{hash}")
    connection(page, re.compile("Live|Ended"))


def test_search_counts_exactly_steps_and_shows_only_matching_lines(page: Page, site: LogSite) -> None:
    site.publish("searched", *(f"{'Error' if n % 10 == 0 else 'fine'} error number {n}" for n in range(1, 1001)))
    opened(page, site, "searched")
    wait_for_lines(page, 1000)
    page.keyboard.press("g")
    found = page.locator(".sl-found")
    page.get_by_role("searchbox").fill("error")
    expect(found).to_have_text("1 of 1,100")
    page.get_by_role("button", name="Match case").click()
    expect(found).to_have_text("1 of 1,000")
    page.get_by_role("searchbox").press("Enter")
    expect(found).to_have_text("2 of 1,000")
    page.get_by_role("searchbox").press("Shift+Enter")
    page.get_by_role("searchbox").press("Shift+Enter")
    expect(found).to_have_text("1,000 of 1,000")
    expect(page.locator("#L1000")).to_be_in_viewport()
    page.get_by_role("searchbox").fill("^Error .* [0-9]+5?0$")
    expect(found).to_have_text("No match")
    page.get_by_role("button", name="Regular expression").click()
    expect(found).to_have_text(re.compile("of 100$"))
    page.get_by_role("button", name="Only matching lines").click()
    expect(found).to_have_text(re.compile("of 100$"))
    assert text_of(page) == [f"Error error number {n}" for n in range(10, 1001, 10)]
    site.publish("searched", "Error error number 1010", "fine")
    expect(found).to_have_text(re.compile("of 101$"))
    page.get_by_role("searchbox").fill("(")
    expect(found).to_have_text(re.compile("^Invalid pattern: .*group"))
    assert "(" in (found.get_attribute("title") or ""), "it says why"
    page.get_by_role("searchbox").fill(r"a{|\-")
    expect(found).to_have_text("No match")
    page.get_by_role("searchbox").press("Escape")
    assert len(text_of(page)) == 1002


def test_enter_seeks_what_was_typed_last(page: Page, site: LogSite) -> None:
    site.publish("entered", *(f"line {n}" for n in range(1, 31)), close="completed")
    opened(page, site, "entered")
    typed = """(query) => {
      const field = document.querySelector(".sl-query");
      field.value = query;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
    }"""
    page.keyboard.press("g")
    for query, said in {"line": "1 of 30", "line 3": "1 of 2"}.items():
        page.evaluate(typed, query)
        expect(page.locator(".sl-found")).to_have_text(said)
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator(".sl-found")).to_have_text("2 of 2")


def test_how_many_matches_there_are_is_said_once_and_not_with_each_line_that_comes(page: Page, site: LogSite) -> None:
    site.publish("counted", "needle")
    opened(page, site, "counted")
    page.evaluate("""() => {
      window.heard = [];
      const said = document.querySelector("sse-log [role=status]");
      const hear = new MutationObserver(() => window.heard.push(said.textContent));
      hear.observe(said, { childList: true, characterData: true, subtree: true });
    }""")
    assert page.locator(".sl-found[aria-live]").count() == 0
    page.get_by_role("searchbox").fill("needle")
    page.wait_for_function("() => window.heard.includes('1 of 1')")
    for count in range(2, 8):
        site.publish("counted", "needle")
        expect(page.locator(".sl-found")).to_have_text(f"1 of {count}")
    page.get_by_role("searchbox").press("Enter")
    page.wait_for_function("() => window.heard.includes('2 of 7')")
    heard = page.evaluate("window.heard.filter((text) => text.includes(' of '))")
    assert heard == ["1 of 1", "2 of 7"]


def test_a_search_that_could_not_be_made_is_said_and_made_again(page: Page, site: LogSite) -> None:
    site.publish("refused", *(f"line {n}" for n in range(1, 12_001)), close="completed")
    page.route(re.compile(r"/range/.*from=1&"), lambda route: route.fulfill(status=403))
    opened(page, site, "refused")
    page.route("**/range/**", lambda route: route.fulfill(status=403))
    page.get_by_role("searchbox").fill("line 37")
    expect(page.locator(".sl-found")).not_to_have_text(re.compile("Searching"))
    page.get_by_role("searchbox").fill("line 37$")
    page.get_by_role("button", name="Regular expression").click()
    expect(page.locator(".sl-found")).to_have_text("The search failed")
    page.unroute_all()
    page.get_by_role("searchbox").press("Enter")
    expect(page.locator(".sl-found")).to_have_text("1 of 1")
    expect(page.locator("#L37")).to_be_in_viewport()


def test_a_viewer_that_is_taken_away_leaves_no_match_behind(page: Page, site: LogSite) -> None:
    site.publish("removed", "needle", close="completed")
    opened(page, site, "removed")
    page.get_by_role("searchbox").fill("needle")
    size = "() => ['match', 'current'].reduce((sum, name) => sum + (CSS.highlights.get(`sse-log-${name}`)?.size ?? 0), 0)"
    page.wait_for_function(f"() => ({size})() > 0")
    page.evaluate("document.querySelector('sse-log').remove()")
    assert page.evaluate(size) == 0


def test_search_begins_where_one_reads(page: Page, site: LogSite) -> None:
    site.publish("from-here", *(f"word {n}" for n in range(1, 2001)), close="completed")
    opened(page, site, "from-here", "#L1500")
    expect(page.locator("#L1500")).to_be_in_viewport()
    top = page.evaluate(TOP)
    page.get_by_role("searchbox").fill("word")
    expect(page.locator(".sl-found")).to_have_text(f"{top:,} of 2,000")


def test_the_match_before_is_gone_to_when_it_is_known_which_it_is(page: Page, site: LogSite) -> None:
    named = {5, 10_010, 69_000}
    site.publish("far", *(f"needle {n}" if n in named else f"line {n}" for n in range(1, 70_001)), close="completed")
    held: list[Route] | None = []
    asked: list[str] = []
    page.route(re.compile("/range/.*before="), lambda route: route.continue_() if held is None else held.append(route))
    page.on("request", lambda request: asked.append(request.url))
    opened(page, site, "far", "#L10000")
    expect(page.locator("#L10000")).to_be_in_viewport()
    page.get_by_role("searchbox").fill("needle")
    found = page.locator(".sl-found")
    expect(found).to_have_text("– of 2+")
    page.get_by_role("searchbox").press("Shift+Enter")
    expect(found).to_have_text("– of 2+")
    expect(page.locator("#L10010")).to_be_in_viewport()
    waiting, held = held, None
    for route in waiting:
        route.continue_()
    expect(page.locator("#L5")).to_be_in_viewport()
    expect(found).to_have_text("1 of 3")
    page.get_by_role("searchbox").press("Enter")
    expect(found).to_have_text("2 of 3")
    searches = [url for url in asked if "grep=" in url]
    assert searches
    assert all("places=1" in url for url in searches)


def test_only_matching_lines_are_all_of_them_with_those_around(page: Page, site: LogSite) -> None:
    lines: list[str] = []
    for group in range(50):
        lines += [
            f"::group::step {group}",
            *(f"line {group}.{n}" for n in range(40)),
            f"needle {group}",
            *(f"tail {group}.{n}" for n in range(9)),
            "::endgroup::",
        ]
    site.publish("folded", *lines, close="completed")
    opened(page, site, "folded")
    page.get_by_role("searchbox").fill("needle")
    page.get_by_role("button", name="Only matching lines").click()
    expect(page.locator(".sl-found")).to_have_text(re.compile("of 50$"))
    assert text_of(page) == [f"needle {group}" for group in range(50)], "also of groups that are folded"
    page.get_by_label("Lines around each match").select_option("1")
    rows = rows_of(page)
    assert [row["text"] for row in rows] == [
        text for group in range(50) for text in (f"line {group}.39", f"needle {group}", f"tail {group}.0")
    ]
    assert [row["number"] for row in rows][:3] == [41, 42, 43]
    assert ["sl-gap" in row["names"] for row in rows[:6]] == [True, False, False, True, False, False]


def test_a_pattern_that_explodes_stops_nothing_and_is_given_up(page: Page, site: LogSite) -> None:
    site.publish("explodes", *["a" * 40 + "!"] * 5, close="completed")
    page.add_init_script(WATCH)
    opened(page, site, "explodes")
    page.get_by_role("button", name="Regular expression").click()
    page.get_by_role("searchbox").fill("(a+)+$")
    expect(page.locator(".sl-found")).to_have_text("The pattern takes too long")
    begun = time.perf_counter()
    page.evaluate("1")
    assert time.perf_counter() - begun < bound(2.0, 20.0)
    page.get_by_role("searchbox").fill("a+!")
    expect(page.locator(".sl-found")).to_have_text("1 of 5")
    assert longest_task(page) < bound(1_000.0, 20_000.0)


def test_lines_of_a_level_or_a_source_alone(page: Page, site: LogSite) -> None:
    site.publish("levels-of", *(("stderr" if n == 3 else "stdout", line) for n, line in enumerate(ERRORS)), close="failed")
    opened(page, site, "levels-of")
    which = page.get_by_label("Which lines")
    which.select_option("error")
    assert text_of(page) == [ERRORS[0], ERRORS[2]]
    which.select_option("error,warning")
    assert text_of(page) == ERRORS[:3]
    which.select_option("stderr")
    assert text_of(page) == [ERRORS[3]]
    assert "#from=stderr" in page.evaluate("new Promise((resolve) => setTimeout(() => resolve(location.hash), 600))")
    page.reload()
    connection(page, "Ended")
    assert text_of(page) == [ERRORS[3]], "the address says it"
    which.select_option("")
    assert text_of(page) == ERRORS


def test_what_is_sought_stands_in_the_address_and_is_there_again(page: Page, site: LogSite) -> None:
    site.publish("shared", *(f"line {n}" for n in range(1, 301)), close="completed")
    opened(page, site, "shared")
    page.get_by_role("button", name="Regular expression").click()
    page.get_by_role("button", name="Only matching lines").click()
    page.get_by_role("searchbox").fill("line 1.5$")
    expect(page.locator(".sl-found")).to_have_text(re.compile("of 10$"))
    page.wait_for_function("() => location.hash.includes('q=line%201.5%24&re=1&only=1')")
    other = page.context.new_page()
    other.goto(page.url)
    expect(other.locator(".sl-found")).to_have_text(re.compile("of 10$"))
    assert text_of(other) == [f"line 1{n}5" for n in range(10)]
    other.close()


def test_the_first_failure_is_shown_counted_listed_and_stepped_through(page: Page, site: LogSite) -> None:
    lines = [f"line {n}" for n in range(1, 2001)]
    lines[300], lines[900], lines[1500] = ERRORS[0], ERRORS[1], ERRORS[2]
    site.publish("failure", *lines, ("exit", '{"code": 1}'), close="failed")
    opened(page, site, "failure")
    expect(page.locator("#L301")).to_be_in_viewport()
    expect(page.locator(".sl-errors")).to_have_text("2 errors1 warning")
    page.keyboard.press("e")
    expect(page.locator("#L1501")).to_be_in_viewport()
    page.keyboard.press("E")
    expect(page.locator("#L301")).to_be_in_viewport()
    page.locator(".sl-errors").click()
    items = page.locator(".sl-item")
    expect(items).to_have_count(3)
    expect(items.nth(0)).to_contain_text("app.js:12")
    expect(items.nth(0)).to_contain_text("Error")
    items.nth(1).click()
    expect(page.locator("#L901")).to_be_in_viewport()
    expect(page.locator(".sl-news")).to_be_hidden()


@pytest.mark.parametrize("wraps", [True, False])
def test_a_match_in_a_line_larger_than_the_view_is_brought_into_it(page: Page, site: LogSite, wraps: bool) -> None:
    name = f"large-{wraps}".lower()
    site.publish(name, "before", "x" * 15_000 + " needle " + "y" * 4_000, "after", close="completed")
    opened(page, site, name)
    if not wraps:
        page.keyboard.press("w")
    page.get_by_role("searchbox").fill("needle")
    expect(page.locator(".sl-found")).to_have_text("1 of 1")
    inside = """() => {
      const [range] = CSS.highlights.get("sse-log-current") ?? [];
      const [at, box] = [range?.getBoundingClientRect(), document.querySelector(".sl-view").getBoundingClientRect()];
      return at && at.top >= box.top && at.bottom <= box.bottom && at.left >= box.left && at.right <= box.right;
    }"""
    page.wait_for_function(inside)


def test_two_viewers_on_a_page_have_a_search_each(page: Page, site: LogSite) -> None:
    site.publish("two-a", "one needle", close="completed")
    site.publish("two-b", "two needle needle", close="completed")
    page.goto(f"{site.url}/logs/two-a/?also=two-b")
    expect(page.locator("sse-log").nth(1).locator(".sl-connection")).to_have_text("Ended")
    marks = "[CSS.highlights.get('sse-log-match')?.size ?? 0, CSS.highlights.get('sse-log-current')?.size ?? 0]"
    page.locator("sse-log").nth(0).get_by_role("searchbox").fill("needle")
    page.wait_for_function(f"() => {marks}.join() === '0,1'")
    page.locator("sse-log").nth(1).get_by_role("searchbox").fill("needle")
    page.wait_for_function(f"() => {marks}.join() === '1,2'")
    page.locator("sse-log").nth(0).get_by_role("searchbox").fill("")
    page.wait_for_function(f"() => {marks}.join() === '1,1'")
    assert page.locator("[id='L1']").count() == 1
