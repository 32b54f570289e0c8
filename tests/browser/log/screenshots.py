"""Takes the pictures of the documentation: ``python -m tests.browser.log.screenshots docs/images``."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.chromium import launched

from .demo import building, failing, many_tests
from .serving import LogSite

DESK = {"width": 1200, "height": 800}
PHONE = {"width": 375, "height": 760}
PACE = 0.06
"""Seconds between two lines, so that groups have durations."""


def written(site: LogSite, topic: str, *, fails: bool) -> None:
    """A build as if it ran."""
    for line in [*building(), *(failing() if fails else [])]:
        site.publish(topic, line, prefix="")
        time.sleep(PACE * (8 if "endgroup" in line else 1))
    if fails:
        site.publish(topic, close="failed", prefix="")


def opened(browser: Browser, site: LogSite, number: int, scheme: str, size: dict[str, int], anchor: str = "") -> Page:
    """The page of a build in the admin."""
    page = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=2).new_page()  # type: ignore[arg-type]
    page.goto(f"{site.url}/admin/login/?next=/admin/auth/group/{number}/change/{anchor}")
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill("secret")
    page.locator("input[name=password]").press("Enter")
    page.locator(".sl-line").nth(12).wait_for(state="attached")
    page.wait_for_timeout(600)
    return page


def several(site: LogSite) -> None:
    """Three steps: one is done, one has failed, one runs."""
    site.publish("shop-lint", *building()[18:19])
    time.sleep(3)
    site.publish("shop-lint", *building()[19:20], close="completed")
    written(site, "logs.shop-test", fails=True)
    site.publish("shop-deploy", "Waiting for the tests…")


def steps(browser: Browser, site: LogSite, scheme: str, path: Path) -> None:
    """The steps beside the log of the one that failed."""
    page = browser.new_context(viewport=DESK, color_scheme=scheme, device_scale_factor=2).new_page()  # type: ignore[arg-type]
    page.goto(f"{site.url}/several/shop/")
    page.evaluate("""() => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(":root { color-scheme: light dark; } body { margin: 16px; background: light-dark(#fff, #0d1117); "
        + "color: light-dark(#1f2328, #e6edf3); font-family: system-ui; }");
      document.adoptedStyleSheets.push(sheet);
    }""")
    page.locator(".sl-line").nth(8).wait_for(state="attached")
    page.wait_for_timeout(600)
    page.locator("sse-logs").screenshot(path=path)


def main(folder: Path) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home, launched() as browser:
        site = LogSite(Path(home))
        try:
            written(site, "builds.1", fails=False)
            written(site, "builds.2", fails=True)
            site.publish("builds.3", *many_tests(), prefix="", close="failed")
            several(site)
            for scheme in ("light", "dark"):
                page = opened(browser, site, 1, scheme, DESK)
                page.screenshot(path=folder / f"live-log-{scheme}.png")
                page = opened(browser, site, 2, scheme, DESK)
                page.goto(f"{page.url.partition('#')[0]}#L38-L39")
                page.reload()
                page.locator(".sl-query").fill("assert")
                page.locator(".sl-found", has_text="of").wait_for()
                page.locator(".sl-view").focus()
                page.keyboard.press("t")
                page.evaluate("() => document.activeElement.blur()")
                page.wait_for_timeout(400)
                page.locator("sse-log").screenshot(path=folder / f"live-log-search-{scheme}.png")
                page = opened(browser, site, 3, scheme, DESK)
                page.locator(".sl-errors", has_text="1 error").wait_for()  # all of it is read
                page.locator("sse-log").screenshot(path=folder / f"live-log-failure-{scheme}.png")
                steps(browser, site, scheme, folder / f"live-log-steps-{scheme}.png")
            page = opened(browser, site, 1, "light", PHONE)
            page.locator("sse-log").scroll_into_view_if_needed()
            page.screenshot(path=folder / "live-log-phone.png")
        finally:
            site.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
