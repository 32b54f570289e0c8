"""Takes the pictures of the monitor: ``python -m tests.monitor.screenshots docs/images [unfold]``; needs Chromium.

In light, in dark, on a phone, and the page that asks before it closes; with Unfold around the admin one, in light.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
from playwright.sync_api import Browser, Page

from tests.chromium import launched

from .serving import PATIENCE, STAFF, MonitorSite, running_site

DESK = {"width": 1360, "height": 900}
PHONE = {"width": 375, "height": 812}
BEFORE = 120
"""Seconds of traffic before the first picture, so that its sparklines have something to tell."""
STAY = 7
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:148.0) Gecko/20100101 Firefox/148.0",
    "curl/8.14.1",
)


class Traffic:
    """Clients that read what they get, so that something happens on the page."""

    def __init__(self, site: MonitorSite) -> None:
        self.site = site
        self.over = False
        self._slow: list[object] = []
        self._threads: list[threading.Thread] = []

    def begin(self) -> None:
        """Open them."""
        people = ["alice", "bob", "carol", "dan", "admin"]
        cookies = {name: self.site.cookie_of(name) for name in people}
        for number in range(26):
            about = {
                "User_Agent": AGENTS[number % len(AGENTS)],
                "Cookie": cookies.get(people[number % 7] if number % 7 < 5 else ""),
            }
            about = {name: value for name, value in about.items() if value}
            path = ("prices/", f"builds/{number % 3 + 41}/log/", "notifications/", "prices/?pause=2")[number % 4]
            if path != "notifications/" or "Cookie" in about:
                self._read(path, **about)
        self._read("publish/41/", User_Agent=AGENTS[3])
        self._read("publish/42/", User_Agent=AGENTS[3])
        self.one_is_slow()
        for _ in range(2):
            self.site.open("fails/")
        for _ in range(3):
            httpx.get(f"{self.site.url}/notifications/", timeout=60)  # of nobody: refused

    def one_is_slow(self) -> None:
        """It takes nothing, for as long as the site bears that."""
        self.site.open("prices/?pause=0&size=60000", User_Agent=AGENTS[0])

    def go_on(self, seconds: float) -> None:
        """Some more come and go meanwhile."""
        until, number = time.monotonic() + seconds, 0
        while (left := until - time.monotonic()) > 0:
            number += 1
            some = self.site.open("prices/?pause=1", 3 + number * 5 % 11, User_Agent=AGENTS[number % 3])
            time.sleep(min(STAY, left))
            for client in some:
                client.close()

    def _read(self, path: str, **about: str | None) -> None:
        (client,) = self.site.open(path, wait=False, **about)

        def read() -> None:
            while not self.over:
                try:
                    client._receive(time.monotonic() + 1)
                except TimeoutError:
                    continue
                except Exception:
                    return

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        self._threads.append(thread)

    def end(self) -> None:
        """Close them."""
        self.over = True
        for thread in self._threads:
            thread.join(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a page is looked at: in light or dark, on a desk or a phone, and how sharply."""

    scheme: Literal["light", "dark"]
    size: Any
    sharp: float


LIGHT = Look(scheme="light", size=DESK, sharp=2)
DARK = Look(scheme="dark", size=DESK, sharp=2)
ON_A_PHONE = Look(scheme="light", size=PHONE, sharp=2)
IN_UNFOLD = Look(scheme="light", size=DESK, sharp=1.25)


def opened(browser: Browser, site: MonitorSite, look: Look, where: str = STAFF) -> Page:
    """A page of the admin, of a superuser."""
    page = browser.new_context(viewport=look.size, color_scheme=look.scheme, device_scale_factor=look.sharp).new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(f"{site.url}/admin/login/?next={where}")
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill("secret")
    page.locator("input[name=password]").press("Enter")
    page.locator(".sse-mon").wait_for()
    return page


def _picture(browser: Browser, site: MonitorSite, traffic: Traffic, look: Look, path: Path) -> None:
    page = opened(browser, site, look)
    try:
        page.locator('[data-dot][data-state="live"]').wait_for()
        traffic.one_is_slow()
        page.locator('[data-state="slow"]').first.wait_for()
        page.wait_for_timeout(3500)
        page.screenshot(path=path)
        if look is LIGHT:
            page.locator('[data-rows] tr:has-text("builds."):has-text("alice") [data-close]').first.click()
            page.locator(".mon-confirm").wait_for()
            page.screenshot(path=path.with_name("monitor-close.png"))
            for view in ("routes", "problems"):
                page.goto(f"{site.url}{STAFF}?view={view}")
                page.locator('[data-dot][data-state="live"]').wait_for()
                page.screenshot(path=path.with_name(f"monitor-{view}.png"))
    finally:
        page.context.close()


def main(folder: Path, *, unfold: bool) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"unfold-light": IN_UNFOLD} if unfold else {"light": LIGHT, "dark": DARK, "phone": ON_A_PHONE}
    with (
        tempfile.TemporaryDirectory() as home,
        launched() as browser,
        running_site(Path(home), workers=2, MONITOR_UNFOLD=str(int(unfold))) as site,
    ):
        traffic = Traffic(site)
        traffic.begin()
        try:
            traffic.go_on(BEFORE)
            for name, look in pictures.items():
                _picture(browser, site, traffic, look, folder / f"monitor-{name}.png")
        finally:
            traffic.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), unfold=sys.argv[2:] == ["unfold"])
