"""Logs larger than a page holds: the end first, any line at once, rows near the view only, and what is seen stays where it is."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.timing import LONG

from .serving import LogSite
from .viewing import connection, flashed, text_of, wait_for_lines

LINES = 60_000 if LONG else 12_000
ROWS = 600
"""Rows that a page has at most, however long its log is."""
AT_END = "() => { const v = document.querySelector('.sl-view'); return v.scrollHeight - v.scrollTop - v.clientHeight < 3; }"
FRAMES = "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
END_AT_THE_WHEEL = """() => {
  const view = document.querySelector(".sl-view");
  view.addEventListener("wheel", () => { window.end = view.scrollHeight - view.clientHeight; }, { once: true, passive: true });
}"""
TOP = """() => {
  const top = document.querySelector(".sl-view").getBoundingClientRect().top;
  const row = [...document.querySelectorAll(".sl-line")].find((one) => one.getBoundingClientRect().bottom > top + 1);
  return row ? [row.querySelector(".sl-n").dataset.n, Math.round(row.getBoundingClientRect().top - top)] : [null, 0];
}"""


def large(site: LogSite, name: str, *, wide: bool = False, close: str = "completed") -> None:
    if site.count(name):
        return
    site.publish(name, *(f"line {n} " + "word " * (n * 7 % 60 if wide else 3) for n in range(1, LINES + 1)), close=close)


def test_the_end_is_asked_for_first_and_the_beginning_when_somebody_goes_there(page: Page, site: LogSite) -> None:
    large(site, "many")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/range/" in request.url else None)
    page.goto(f"{site.url}/logs/many/")
    connection(page, "Ended")
    expect(page.locator(f"#L{LINES}")).to_be_in_viewport()
    assert f"from={LINES - 999}&" in asked[0] or f"from={LINES - 1999}&" in asked[0]
    for number in (1, LINES // 2, 37, LINES - 5):
        page.evaluate(f"location.hash = '#L{number}'")
        expect(page.locator(f"#L{number}")).to_be_in_viewport()
        expect(page.locator(f"#L{number} .sl-t")).to_have_text(re.compile(f"^line {number} "))
    assert page.locator(".sl-line").count() < ROWS


GOES_AS_THE_PLACE_IS_WRITTEN = """async () => {
  document.querySelector(".sl-view").scrollTop -= 300;
  await new Promise((resolve) => setTimeout(resolve, 100));
  const due = performance.now() + 600;
  setTimeout(() => { location.hash = "#L37"; }, 1);
  while (performance.now() < due); // both timers are due then, and the event of the address comes after them
}"""


def test_an_address_that_changes_as_the_place_is_written_to_it_is_gone_to(page: Page, site: LogSite) -> None:
    large(site, "many")
    page.goto(f"{site.url}/logs/many/#L{LINES // 2}")
    connection(page, "Ended")
    expect(page.locator(f"#L{LINES // 2}")).to_be_in_viewport()
    page.evaluate(GOES_AS_THE_PLACE_IS_WRITTEN)
    expect(page.locator("#L37")).to_be_in_viewport()
    expect(page).to_have_url(re.compile("#L37$"))


def test_the_address_says_what_is_at_the_top_before_the_rows_there_are_drawn(page: Page, site: LogSite) -> None:
    large(site, "many")
    page.goto(f"{site.url}/logs/many/#at={LINES // 2}")
    connection(page, "Ended")
    page.wait_for_function(f"() => ({TOP})()[0] === '{LINES // 2}'")
    page.wait_for_timeout(500)  # a place that was to be written is written
    page.evaluate("() => { window.requestAnimationFrame = (draw) => setTimeout(draw, 5000); }")  # of a busy page
    height = page.evaluate("() => document.querySelector('.sl-line').offsetHeight")
    page.evaluate("(by) => { document.querySelector('.sl-view').scrollTop -= by; }", 100 * height)
    expect(page).to_have_url(re.compile(f"#at={LINES // 2 - 100}$"))


def test_lines_that_could_not_be_read_are_read_when_they_can_be(page: Page, site: LogSite) -> None:
    large(site, "many")
    refused: list[str] = []

    def answer(route: Route) -> None:
        if len(refused) < 2 and "from=1&" in route.request.url:
            refused.append(route.request.url)
            route.fulfill(status=503)
        else:
            route.continue_()

    page.route("**/range/**", answer)
    page.goto(f"{site.url}/logs/many/#L37")
    connection(page, "Ended")
    expect(page.locator("#L37 .sl-t")).to_have_text(re.compile("^line 37 "))
    assert len(refused) == 2


def resting(page: Page) -> Any:
    """What is at the top when it scrolls no more, as it does for a while after a wheel."""
    seen: list[Any] = [None]
    for _ in range(100):
        page.wait_for_timeout(200)
        page.evaluate(FRAMES)  # nothing scrolls without one, and a busy machine may have none for seconds
        seen.append(page.evaluate(TOP))
        if seen[-1] == seen[-2]:
            return seen[-1]
    raise AssertionError(f"it scrolls for ever: {seen[-5:]}")


class Held:
    """Requests that are answered when they are let go."""

    def __init__(self, page: Page, url: str | re.Pattern[str]) -> None:
        self.routes: list[Route] = []
        self._page = page
        self._is_over = False
        page.route(url, lambda route: route.continue_() if self._is_over else self.routes.append(route))

    def wait_for(self, part: str) -> None:
        """Wait until there is one with this in its address."""
        for _ in range(600):
            if any(part in route.request.url for route in self.routes):
                return
            self._page.wait_for_timeout(50)
        raise AssertionError(f"nobody asks for {part}: {[route.request.url for route in self.routes]}")

    def let_go(self) -> None:
        self._is_over = True
        for route in self.routes:
            route.continue_()


@pytest.mark.parametrize("by", ["wheel", "click", "j", "g"])
def test_who_goes_on_while_the_lines_of_a_place_are_read_is_not_brought_back(page: Page, site: LogSite, by: str) -> None:
    large(site, "many")
    held = Held(page, re.compile(r"/range/.*from=1&"))
    page.goto(f"{site.url}/logs/many/#L37")
    expect(page.locator("#L37")).to_be_in_viewport()
    expect(page.locator("#L37")).to_have_class(re.compile("sl-pending"))
    page.locator(".sl-view").hover()
    if by == "wheel":
        page.mouse.wheel(0, 2000)
    elif by == "click":
        page.locator("#L37 .sl-n").click()
        page.evaluate("() => { document.querySelector('.sl-view').scrollTop += 2000; }")
    else:
        page.keyboard.press(by)
        page.evaluate("() => { document.querySelector('.sl-view').scrollTop += 2000; }")
    page.wait_for_function(f"() => Number(({TOP})()[0]) > 100 && !document.querySelector('#L37')")
    before = resting(page)
    held.let_go()
    page.wait_for_function("() => !document.querySelector('.sl-pending')")
    page.wait_for_timeout(200)
    assert page.evaluate(TOP) == before


def test_who_goes_on_before_the_log_is_there_is_not_taken_to_its_first_failure(page: Page, site: LogSite) -> None:
    site.publish(
        "fails-late", *("error: it broke" if n == 700 else f"line {n} word word" for n in range(1, 3_001)), close="failed"
    )
    held = Held(page, "**/range/**")
    page.goto(f"{site.url}/logs/fails-late/#L2000")
    held.wait_for("/range/")
    page.keyboard.press("g")
    held.let_go()
    connection(page, "Ended")
    page.wait_for_function("() => document.querySelector('.sl-line') && !document.querySelector('.sl-pending')")
    page.wait_for_timeout(300)
    expect(page.locator("#L700")).not_to_be_in_viewport()


@pytest.mark.parametrize("by", ["G", "button"])
def test_who_goes_to_the_end_of_a_log_that_failed_stays_there(page: Page, site: LogSite, by: str) -> None:
    if not site.count("fails-far"):
        lines = ("error: it broke" if n == 500 else f"line {n} word word" for n in range(1, LINES + 1))
        site.publish("fails-far", *lines, close="failed")
    held = Held(page, re.compile(r"/range/.*from=1&"))
    page.goto(f"{site.url}/logs/fails-far/")
    held.wait_for("from=1&")
    if by == "G":
        page.keyboard.press("G")
    else:
        for _ in range(2):  # off, and on again
            page.get_by_role("button", name="Follow the end").click()
    held.let_go()
    connection(page, "Ended")
    page.wait_for_function("() => document.querySelector('.sl-line') && !document.querySelector('.sl-pending')")
    page.wait_for_timeout(1000)
    assert page.evaluate(AT_END)
    expect(page.locator("#L500")).not_to_be_in_viewport()


def test_who_clears_the_lines_of_an_address_before_they_are_there_is_not_taken_to_them(page: Page, site: LogSite) -> None:
    large(site, "many")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    held = Held(page, re.compile(r"/range/.*from=1&"))
    page.goto(f"{site.url}/logs/many/#L37&event=37")
    expect(page.locator("#L37")).to_have_class(re.compile("sl-pending"))
    page.keyboard.press("Escape")
    page.evaluate("() => { document.querySelector('.sl-view').scrollTop += 300; }")
    before = resting(page)
    held.let_go()
    page.wait_for_function("() => !document.querySelector('.sl-pending')")
    page.wait_for_timeout(200)
    assert page.evaluate(TOP) == before
    assert errors == []


@pytest.mark.parametrize("by", ["selection", "group", "title"])
def test_who_reads_on_is_not_taken_to_a_line_that_comes_later(page: Page, site: LogSite, by: str) -> None:
    name = f"comes-later-{by}"
    site.publish(name, "::group::Step", *(f"line {n}" for n in range(2, 81)))
    page.goto(f"{site.url}/logs/{name}/#L150")
    connection(page, "Live")
    if by == "selection":
        page.locator("#L10 .sl-t").dblclick()
    elif by == "group":
        page.locator("#L1 .sl-turn").click()
    else:
        page.evaluate("() => { document.querySelector('.sl-view').scrollTop = 200; }")
        page.locator(".sl-sticky").click()
    site.publish(name, *(f"line {n}" for n in range(81, 301)))
    wait_for_lines(page, 300)
    page.wait_for_timeout(300)
    expect(page.locator("#L150")).not_to_be_in_viewport()


@pytest.mark.parametrize("address", ["", "#L5000"])
def test_a_log_in_a_part_of_the_page_that_is_closed_keeps_the_place(page: Page, site: LogSite, address: str) -> None:
    large(site, "many")
    page.goto(f"{site.url}/logs/many/")
    page.evaluate("document.querySelector('sse-log').parentElement.hidden = true")
    if address:
        page.evaluate(f"location.hash = {address!r}")
        page.wait_for_timeout(200)
        page.evaluate("document.querySelector('sse-log').parentElement.hidden = false")
        expect(page.locator(address)).to_be_in_viewport()
        expect(page.locator(f"{address} .sl-t")).to_have_text(re.compile("^line 5000 "))
        return
    page.evaluate("document.querySelector('sse-log').parentElement.hidden = false")
    connection(page, "Ended")
    page.evaluate("() => { location.hash = '#L3000'; }")
    expect(page.locator("#L3000 .sl-t")).to_have_text(re.compile("^line 3000 "))
    before = resting(page)
    for _ in range(3):
        page.evaluate("document.querySelector('sse-log').parentElement.hidden = true")
        page.evaluate(FRAMES)
        page.evaluate("document.querySelector('sse-log').parentElement.hidden = false")
        page.evaluate(FRAMES)
    assert resting(page) == before


def test_the_focus_stays_in_the_viewer_when_its_row_is_far_away(page: Page, site: LogSite) -> None:
    large(site, "many")
    page.goto(f"{site.url}/logs/many/#L3000")
    expect(page.locator("#L3000 .sl-t")).to_have_text(re.compile("^line 3000 "))
    page.keyboard.press("j")
    page.wait_for_function("() => document.activeElement.matches('.sl-n')")
    page.evaluate("() => { document.querySelector('.sl-view').scrollTop += 10000; }")
    page.wait_for_function("() => !document.querySelector('#L3000')")
    expect(page.locator(".sl-view")).to_be_focused()


def test_a_wheel_that_moves_nothing_lets_a_line_that_is_not_there_yet_be_gone_to(page: Page, site: LogSite) -> None:
    site.publish("grows-to", "line 1", "line 2", "line 3")
    page.goto(f"{site.url}/logs/grows-to/#L150")
    connection(page, "Live")
    page.locator(".sl-view").hover()
    page.mouse.wheel(0, 4)
    page.mouse.wheel(0, -4)
    page.wait_for_timeout(200)
    site.publish("grows-to", *(f"line {n}" for n in range(4, 301)))
    expect(page.locator("#L150")).to_be_in_viewport()


@pytest.mark.parametrize("by", ["wheel", "End"])
def test_who_goes_on_while_a_match_is_sought_is_not_brought_back(page: Page, site: LogSite, by: str) -> None:
    large(site, "many")
    held = Held(page, re.compile("grep=|from=1&"))  # of the page with the match, and of what the server knows of it
    page.goto(f"{site.url}/logs/many/#L{LINES - 100}")
    connection(page, "Ended")
    expect(page.locator(f"#L{LINES - 100} .sl-t")).to_have_text(re.compile("^line "))
    page.get_by_role("searchbox").fill("line 37 ")
    held.wait_for("grep=")
    page.locator(".sl-view").hover()
    if by == "wheel":
        page.mouse.wheel(0, -4000)
        page.wait_for_function(f"() => Number(({TOP})()[0]) < {LINES - 200}")
    else:
        page.locator(".sl-view").focus()
        page.keyboard.press("End")
        page.wait_for_function(AT_END)
    before = resting(page)
    held.let_go()
    expect(page.locator(".sl-found")).to_have_text("– of 1")
    page.wait_for_timeout(200)
    assert page.evaluate(TOP) == before


def test_a_log_with_wrapped_lines_opens_at_its_end_on_a_phone_and_a_drag_goes_anywhere(page: Page, site: LogSite) -> None:
    large(site, "wide", wide=True)
    page.set_viewport_size({"width": 375, "height": 700})
    page.goto(f"{site.url}/logs/wide/")
    connection(page, "Ended")
    page.wait_for_function(AT_END)
    expect(page.locator(f"#L{LINES}")).to_be_in_viewport()
    for part in (0.5, 0.1, 0.0, 0.9, 1.0):
        page.evaluate("(part) => { const v = document.querySelector('.sl-view'); v.scrollTop = part * v.scrollHeight; }", part)
        page.evaluate(FRAMES)  # the rows there are made in the first
        page.wait_for_function("() => !document.querySelector('.sl-pending')")
        number = int(page.evaluate(TOP)[0])
        assert abs(number - part * LINES) < 0.1 * LINES + 50, f"{part} of it is at line {number}"
    page.wait_for_function(AT_END)
    assert page.locator(".sl-line").count() < ROWS


def test_what_is_seen_stays_where_it_is_when_pages_come_and_groups_close(page: Page, site: LogSite) -> None:
    large(site, "stays", wide=True, close="")
    page.goto(f"{site.url}/logs/stays/#L{LINES // 2}")
    expect(page.locator(f"#L{LINES // 2} .sl-t")).to_have_text(re.compile(f"^line {LINES // 2} "))
    connection(page, "Live")
    page.wait_for_timeout(500)
    before = page.evaluate(TOP)
    site.publish("stays", *(f"more {n}" for n in range(300)))
    expect(page.locator(".sl-news")).to_have_text("↓ 300 new lines")
    assert page.evaluate(TOP) == before
    page.set_viewport_size({"width": 900, "height": 720})
    page.evaluate(FRAMES)
    assert page.evaluate(TOP)[0] == before[0]


def test_a_small_step_up_pauses_and_end_follows_while_lines_pour(page: Page, site: LogSite) -> None:
    site.publish("pours", *(f"line {n}" for n in range(300)))
    page.goto(f"{site.url}/logs/pours/")
    wait_for_lines(page, 300)
    connection(page, "Live")
    site.produce("pours", 500, 6)
    wait_for_lines(page, 600)
    follow = page.get_by_role("button", name="Follow the end")
    page.locator(".sl-view").hover()
    page.evaluate(END_AT_THE_WHEEL)
    page.mouse.wheel(0, -4)
    expect(follow).to_have_attribute("aria-pressed", "false")
    page.wait_for_function("() => document.querySelector('.sl-view').scrollTop <= window.end - 3")  # a wheel scrolls later
    top = resting(page)
    page.wait_for_timeout(300)
    assert page.evaluate(TOP) == top, "it is not pulled back"
    page.locator(".sl-view").focus()
    page.keyboard.press("End")
    expect(follow).to_have_attribute("aria-pressed", "true")
    connection(page, "Ended")
    page.wait_for_function(AT_END)
    expect(page.locator("#L3300")).to_be_in_viewport()


def test_a_slow_drag_of_a_finger_pauses(page: Page, site: LogSite) -> None:
    site.publish("drags", *(f"line {n}" for n in range(300)))
    page.goto(f"{site.url}/logs/drags/")
    connection(page, "Live")
    wait_for_lines(page, 300)
    site.produce("drags", 20, 4)
    devtools = page.context.new_cdp_session(page)
    box = page.locator(".sl-view").bounding_box()
    assert box
    x, y = box["x"] + 200, box["y"] + 100
    devtools.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 19):
        devtools.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y + 10 * step}]})
        page.wait_for_timeout(25)
    devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.get_by_role("button", name="Follow the end")).to_have_attribute("aria-pressed", "false")
    connection(page, "Ended")
    expect(page.locator("#L380")).not_to_be_in_viewport()


def test_a_line_that_is_not_there_is_told_and_a_mark_can_be_cleared_and_the_place_is_kept(page: Page, site: LogSite) -> None:
    large(site, "many")
    page.goto(f"{site.url}/logs/many/#L{LINES + 5}")
    flashed(page, f"There is no line {LINES + 5}")
    page.goto(f"{site.url}/logs/many/")
    page.reload()
    connection(page, "Ended")
    page.keyboard.press("l")
    page.get_by_label("Number of the line").fill("4321")
    page.keyboard.press("Enter")
    expect(page.locator("#L4321")).to_have_class(re.compile("sl-target"))
    expect(page.locator("#L4321 .sl-t")).to_have_text(re.compile("^line 4321 "))  # not what stands there until it is read
    expect(page).to_have_url(re.compile("#L4321"))
    expect(page.locator(".sl-news")).to_be_hidden()
    page.locator("#L4321 .sl-n").click()
    page.wait_for_function("() => location.hash.includes('L4321') === false")
    page.evaluate("() => { document.querySelector('.sl-view').scrollTop -= 2000; }")
    page.wait_for_function(f"() => location.hash === `#at=${{({TOP})()[0]}}`")
    before = page.evaluate(TOP)
    page.reload()
    connection(page, "Ended")
    expect(page.locator(f"#L{before[0]}")).to_be_in_viewport()
    assert page.evaluate(TOP)[0] == before[0]


def test_lines_are_reached_linked_and_followed_by_the_keyboard(page: Page, site: LogSite) -> None:
    site.publish("keyboard", *(f"line {n} https://example.com/{n}" for n in range(1, 101)), close="completed")
    page.goto(f"{site.url}/logs/keyboard/#L50")
    connection(page, "Ended")
    expect(page.locator("#L50")).to_be_in_viewport()
    page.locator(".sl-view").focus()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#L52$"))
    page.keyboard.press("j")
    page.keyboard.press("Shift+Enter")
    expect(page).to_have_url(re.compile("#L52-L53$"))
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_attribute("href", "https://example.com/53")
    page.keyboard.press("k")
    page.keyboard.press("Escape")
    expect(page).not_to_have_url(re.compile("#.*L5"))
    expect(page.locator(".sl-target")).to_have_count(0)


def test_text_is_selected_and_copied_as_it_was_printed(page: Page, site: LogSite) -> None:
    lines = ["first", "", "::group::Step", "  indented\ttab", "", "\x1b[31mred\x1b[0m", "last"]
    site.publish("printed", *lines, close="failed")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    page.goto(f"{site.url}/logs/printed/")
    connection(page, "Ended")
    page.evaluate("""() => {
      const texts = [...document.querySelectorAll(".sl-line > .sl-t")];
      getSelection().setBaseAndExtent(texts[0].firstChild, 2, texts.at(-1).firstChild, 3);
    }""")
    page.keyboard.press("Control+c")
    copied = page.evaluate("navigator.clipboard.readText()")
    shown = text_of(page)
    assert [shown[1], shown[3]] == ["", "  indented\ttab"]
    assert copied == "\n".join(["rst", *shown[1:-1], "las"])
    page.get_by_role("button", name="Copy").click()
    flashed(page, "Copied 7 lines")
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(["first", *shown[1:]])


def test_it_is_printed_whole_and_light(page: Page, site: LogSite) -> None:
    site.publish("paper", "::group::Good", *(f"line {n}" for n in range(1, 400)), "::endgroup::", "the end", close="completed")
    page.emulate_media(color_scheme="dark")
    page.goto(f"{site.url}/logs/paper/")
    connection(page, "Ended")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".sl-line:visible").count() == 402
    assert page.evaluate("getComputedStyle(document.querySelector('sse-log')).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.querySelector('.sl-view').scrollHeight <= document.querySelector('.sl-view').clientHeight")
    expect(page.locator(".sl-unprinted")).to_have_count(0)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".sl-line").count() < 10


def test_what_is_not_held_is_not_printed_blank_but_said(page: Page, site: LogSite) -> None:
    large(site, "many")
    first, last = site.url + "/logs/many/range/?from=1&", f"from={LINES - 999}&"
    page.route(
        lambda url: "/range/" in url and last not in url and not url.startswith(first), lambda route: None
    )  # never answered
    page.goto(f"{site.url}/logs/many/")
    connection(page, "Ended")
    expect(page.locator(f"#L{LINES}")).to_be_in_viewport()
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    printed = page.locator(".sl-line:visible").count()
    assert 1000 <= printed < LINES
    assert page.locator(".sl-pending").count() == 0
    expect(page.locator(".sl-unprinted")).to_have_text([f"{LINES - printed:,} lines are not printed."])
    expect(page.locator(".sl-unprinted")).to_be_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(page.locator(".sl-unprinted")).to_have_count(0)


def test_the_text_begins_in_one_place_however_long_its_number_is(page: Page, site: LogSite) -> None:
    large(site, "many")
    page.goto(f"{site.url}/logs/many/#L10000")
    expect(page.locator("#L10000")).to_be_in_viewport()
    begins = page.evaluate(
        "['#L9999', '#L10000'].map((id) => document.querySelector(`${id} .sl-t`).getBoundingClientRect().left)"
    )
    assert abs(begins[0] - begins[1]) < 0.5
    page.keyboard.press("w")
    expect(page.locator("sse-log.sl-nowrap")).to_be_visible()
    left = page.evaluate("document.querySelector('#L10000 .sl-t').getBoundingClientRect().left")
    assert abs(left - begins[0]) < 0.5
