"""The viewer in the admin, of Django and of Unfold: it is there, its styles hold, its buttons work."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from .demo import building
from .serving import LogSite
from .viewing import connection, text_of, wait_for_lines


def signed_in(page: Page, site: LogSite, path: str) -> None:
    page.goto(f"{site.url}/admin/login/?next=/admin/{path}")
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill("secret")
    page.locator("input[name=password]").press("Enter")
    page.wait_for_url(f"**/admin/{path}")


def styles_hold(page: Page) -> None:
    """What other styles of a page like to break."""
    look = page.evaluate("""() => {
      const of = (selector) => getComputedStyle(document.querySelector(selector));
      return {
        height: document.querySelector("sse-log").getBoundingClientRect().height,
        row: document.querySelector(".sl-line:not(.sl-title)").getBoundingClientRect().height,
        mono: of(".sl-view").fontFamily.includes("monospace"), fold: of(".sl-turn").borderTopWidth,
        search: document.querySelector(".sl-query").getBoundingClientRect().height,
        button: document.querySelector(".sl-button").getBoundingClientRect().width,
        shown: getComputedStyle(document.querySelector(".sl-news")).display,
        page: document.documentElement.scrollWidth <= innerWidth,
      };
    }""")
    assert look.pop("height") > 250
    assert look == {"row": 20, "mono": True, "fold": "0px", "search": 30, "button": 30, "shown": "none", "page": True}


def watched(page: Page, site: LogSite, number: int) -> None:
    topic = f"builds.{number}"
    signed_in(page, site, f"auth/group/{number}/change/")
    connection(page, "Live")
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    page.get_by_role("button", name="Start", exact=True).click()
    wait_for_lines(page, 1)
    site.publish(topic, *building(), prefix="")
    wait_for_lines(page, 30)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_hidden()
    styles_hold(page)
    page.locator(".sl-query").fill("test")
    expect(page.locator(".sl-found")).to_have_text(re.compile(r"^\d+ of \d+$"))
    found = page.locator(".sl-found").inner_text()
    page.locator(".sl-query").press("Enter")  # does not send the form that it may stand in
    expect(page.locator(".sl-found")).not_to_have_text(found)
    expect(page.locator(".sl-found")).to_have_text(re.compile(r"^\d+ of \d+$"))
    page.get_by_role("button", name="Cancel").click()
    connection(page, "Ended")
    expect(page.get_by_text("It is cancelled.")).to_be_visible()
    expect(page.locator(".sl-status")).to_have_text("Cancelled")
    assert text_of(page)[0] == "started"
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(lambda url: f"/{number}/" not in url)
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()


@pytest.mark.parametrize("width", [375, 1280])
def test_a_build_is_started_watched_cancelled_and_run_again(page: Page, site: LogSite, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    watched(page, site, 1 if width == 375 else 2)


@pytest.fixture(scope="module")
def unfold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LogSite]:
    """The site with Unfold's admin."""
    site = LogSite(tmp_path_factory.mktemp("unfold"), LOGSITE_UNFOLD="1")
    yield site
    site.kill()


if sys.version_info >= (3, 12):  # Unfold wants it

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_the_same_in_unfold(page: Page, unfold: LogSite, scheme: str) -> None:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": 1280, "height": 900})
        watched(page, unfold, 1 if scheme == "light" else 2)
        dark = page.evaluate("() => document.documentElement.classList.contains('dark')")
        assert page.evaluate("() => getComputedStyle(document.querySelector('sse-log')).colorScheme") == (
            "dark" if dark else "light"
        )


def test_a_run_took_as_long_as_it_did_wherever_the_browser_is(chromium: Browser, seeded: Path, tmp_path: Path) -> None:
    own = LogSite(tmp_path, like=seeded, LOGSITE_USE_TZ="0")
    context = chromium.new_context(timezone_id="America/New_York")
    try:
        page = context.new_page()
        signed_in(page, own, "auth/group/1/change/")
        connection(page, "Live")
        assert page.evaluate("new Date('2026-01-01T12:00').getTimezoneOffset()") == 300
        expect(page.locator(".sl-elapsed")).to_have_text(re.compile("^1 min [0-4][0-9] s$"))
        page.goto(f"{own.url}/logs/zones/?started=2026-01-01T12:00:00")
        assert page.locator("sse-log").get_attribute("started") == "2026-01-01T12:00:00+01:00"
        page.goto(f"{own.url}/logs/zones/?started=yesterday")
        connection(page, "Live")
        expect(page.locator(".sl-facts")).to_have_text("0 lines")
    finally:
        context.close()
        own.kill()
