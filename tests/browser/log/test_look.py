"""How the viewer looks and sounds in the admin of Django and in Unfold: axe finds nothing, and it fits."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from .demo import building, failing
from .serving import LogSite

WIDTHS = (375, 768, 1280, 1920)
ADMINS = ["django", *(["unfold"] if sys.version_info >= (3, 12) else [])]  # Unfold wants it
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="module", params=ADMINS)
def admin(request: pytest.FixtureRequest, site: LogSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogSite]:
    """A site with a build that has failed."""
    own = site if request.param == "django" else LogSite(tmp_path_factory.mktemp("look"), LOGSITE_UNFOLD="1")
    own.publish("builds.5", *building(), *failing(), prefix="", close="failed")
    yield own
    if own is not site:
        own.kill()


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Scheme:
    """What the reader likes."""
    return "dark" if request.param == "dark" else "light"


def opened(chromium: Browser, site: LogSite, **about: Any) -> Page:
    """The page of the build, in a browser of its own."""
    page = chromium.new_context(**about).new_page()
    page.goto(f"{site.url}/admin/login/?next=/admin/auth/group/5/change/")
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill("secret")
    page.locator("input[name=password]").press("Enter")
    expect(page.locator(".sl-errors")).to_be_visible()
    return page


def violations(page: Page, axe: str) -> list[tuple[str, list[str]]]:
    """What axe finds in the viewer, whatever its impact."""
    page.evaluate(axe)
    found = page.evaluate("axe.run('sse-log')")["violations"]
    return [(one["id"], [node["html"] + node["failureSummary"] for node in one["nodes"]][:3]) for one in found]


def test_axe_finds_nothing_at_any_width_and_it_fits(chromium: Browser, admin: LogSite, axe: str, scheme: Scheme) -> None:
    page = opened(chromium, admin, color_scheme=scheme)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        expect(page.locator("#L39")).to_be_attached()
        page.wait_for_function(f"() => document.documentElement.scrollWidth <= {width}")  # Unfold moves its bar away
        page.wait_for_function(f"() => ({_OUTSIDE})().length === 0")
        assert violations(page, axe) == [], f"at {width} px"
    page.context.close()


def test_axe_finds_nothing_in_what_opens(chromium: Browser, admin: LogSite, axe: str, scheme: Scheme) -> None:
    page = opened(chromium, admin, color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page.locator(".sl-errors").click()
    expect(page.get_by_role("dialog", name="Errors and warnings")).to_contain_text("tests/test_prices.py:41")
    expect(page.get_by_role("dialog")).not_to_contain_text("::error")
    assert violations(page, axe) == []
    page.keyboard.press("Escape")
    for key, name in (("?", "Keys"), ("l", "Go to a line")):
        page.locator(".sl-view").focus()
        page.keyboard.press(key)
        expect(page.get_by_role("dialog", name=name)).to_be_visible()
        assert violations(page, axe) == []
        page.keyboard.press("Escape")
    page.get_by_role("searchbox", name="Search the log").fill("prices")
    page.get_by_role("button", name="Only matching lines").click()
    expect(page.locator(".sl-found")).to_contain_text("of")
    assert violations(page, axe) == []
    page.locator(".sl-which").select_option("error")
    expect(page.locator(".sl-around")).to_be_visible()
    assert violations(page, axe) == []
    page.context.close()


def test_nothing_is_told_by_colour_alone(chromium: Browser, admin: LogSite, axe: str, scheme: Scheme) -> None:
    page = opened(chromium, admin, color_scheme=scheme, forced_colors="active", viewport={"width": 1280, "height": 900})
    expect(page.locator("#L39 .sl-n")).to_have_accessible_name("Line 39, Error")
    expect(page.locator("#L32 .sl-n")).to_have_accessible_name("Line 32, Warning")
    expect(page.locator("#L33 .sl-n")).to_have_accessible_name("Line 33")
    borders = {line: page.evaluate(_BORDER, line) for line in ("#L31", "#L32", "#L39")}
    assert len(set(borders.values())) == 3, borders
    begins = page.evaluate("[...document.querySelectorAll('.sl-rows .sl-line .sl-t')].slice(-12).map((one) => one.offsetLeft)")
    assert len(set(begins)) == 1, "marks move no text"
    assert violations(page, axe) == []
    page.context.close()


def test_nothing_moves_for_who_wants_it_so(chromium: Browser, admin: LogSite) -> None:
    moving = "[...document.querySelector('sse-log').getAnimations({ subtree: true })].length"
    admin.publish("builds.4", "one", prefix="")
    for motion, count in (("no-preference", 1), ("reduce", 0)):
        page = opened(chromium, admin, reduced_motion=motion)
        page.goto(f"{admin.url}/admin/auth/group/4/change/")
        expect(page.locator(".sl-connection")).to_have_text("Live")
        expect(page.locator(".sl-status")).to_have_text("Running")
        assert page.evaluate(moving) == count
        page.context.close()


def test_in_an_admin_that_runs_from_right_to_left_the_log_does_not(chromium: Browser, admin: LogSite, axe: str) -> None:
    page = opened(chromium, admin, locale="ar", viewport={"width": 1280, "height": 900})
    assert page.evaluate("document.documentElement.lang") == "ar"
    of = "(selector) => getComputedStyle(document.querySelector(selector)).direction"
    directions = {
        selector: page.evaluate(of, selector) for selector in ("html", ".sl-bar", ".sl-tools", ".sl-view", "#L39 .sl-t")
    }
    assert directions == {"html": "rtl", ".sl-bar": "rtl", ".sl-tools": "rtl", ".sl-view": "ltr", "#L39 .sl-t": "ltr"}
    expect(page.locator(".sl-status")).to_have_text("فشل")
    assert violations(page, axe) == []
    page.locator(".sl-errors").click()
    expect(page.get_by_role("dialog")).to_contain_text("tests/test_prices.py:41")
    assert page.evaluate(of, ".sl-item-text") == "ltr"
    assert violations(page, axe) == []
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 375, "height": 800})
    page.wait_for_function("() => document.documentElement.scrollWidth <= 375")  # Unfold moves its bar away
    page.context.close()


def test_on_a_phone_the_header_is_no_taller_than_it_must_be(chromium: Browser, admin: LogSite) -> None:
    page = opened(chromium, admin, viewport={"width": 375, "height": 760})
    query, previous, case, which = (page.locator(f".sl-{name}").bounding_box() for name in ("query", "previous", "case", "which"))
    assert query is not None
    assert previous is not None
    assert case is not None
    assert which is not None
    assert query["width"] > 220, "the search has the room that there is"
    assert abs(query["y"] + query["height"] / 2 - previous["y"] - previous["height"] / 2) <= 1
    assert abs(which["y"] + which["height"] / 2 - case["y"] - case["height"] / 2) <= 1, "what it says of lines stands together"
    above = page.evaluate("document.querySelector('.sl-main').offsetTop")
    assert above <= 200
    page.locator(".sl-view").press("t")
    page.locator(".sl-view").press("t")
    expect(page.get_by_role("button", name="Times: clock (t)")).to_be_attached()
    expect(page.locator("#L33 .sl-n")).to_have_attribute("data-t", re.compile(r"\d:\d\d:\d\d"))
    assert set(page.evaluate(_SHORT)) == {20}, "a time is in one line"
    page.context.close()


def test_the_list_of_errors_follows_the_page(chromium: Browser, admin: LogSite) -> None:
    page = opened(chromium, admin, locale="ar", viewport={"width": 1280, "height": 900})
    page.locator(".sl-errors").click()
    page.locator(".sl-item-text").nth(1).wait_for()
    texts = page.evaluate(_TEXTS)
    assert max(texts) - min(texts) <= 1, "each text begins beside its level"
    page.context.close()


def test_what_stands_around_matches_can_be_read(chromium: Browser, admin: LogSite, axe: str, scheme: Scheme) -> None:
    page = opened(chromium, admin, color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page.locator(".sl-which").select_option("error")
    page.locator(".sl-around").select_option("3")
    expect(page.locator(".sl-line:not(.sl-hit)")).not_to_have_count(0)
    page.locator(".sl-view").press("t")
    expect(page.locator(".sl-n[data-t]")).not_to_have_count(0)
    assert violations(page, axe) == []
    page.context.close()


_OUTSIDE = """() => {
  const box = document.querySelector("sse-log").getBoundingClientRect();
  const parts = document.querySelectorAll("sse-log :is(.sl-bar, .sl-tools) :is(button, a, input, select, span)");
  return [...parts].filter((one) => {
    const { left, right, width } = one.getBoundingClientRect();
    return width && (left < box.left || right > box.right);
  }).map((one) => one.className);
}"""
"""The parts of header and tools that are not inside of the viewer."""
_BORDER = """(line) => {
  const style = getComputedStyle(document.querySelector(`${line} .sl-n`));
  return `${style.borderLeftStyle} ${style.borderLeftColor}`;
}"""
_TEXTS = """() => [...document.querySelectorAll(".sl-item-text")].map((one) => {
  const range = document.createRange();
  range.selectNodeContents(one);
  return range.getBoundingClientRect().right;
})"""
"""Where the texts of the list end on the right."""
_SHORT = """() => [...document.querySelectorAll(".sl-rows .sl-line:not(.sl-title)")]
  .filter((one) => one.querySelector(".sl-n").dataset.t && one.querySelector(".sl-t").textContent.length < 16)
  .map((one) => one.offsetHeight)"""
"""How tall rows of little text are, which have a time."""
