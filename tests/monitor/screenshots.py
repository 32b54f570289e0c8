"""Takes the pictures of the monitor: ``python -m tests.monitor.screenshots docs/images [unfold]``; needs Chromium."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.chromium import launched

from .serving import STAFF, MonitorSite, running_site

DESK = {"width": 1360, "height": 900}
PHONE = {"width": 375, "height": 812}
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
        self.site.open("prices/?pause=0&size=60000", wait=True, User_Agent=AGENTS[0])  # takes nothing
        for _ in range(2):
            self.site.open("fails/")

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


def opened(browser: Browser, site: MonitorSite, scheme: str, size: dict[str, int], where: str = STAFF) -> Page:
    """A page of the admin, of a superuser."""
    page = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=2).new_page()  # type: ignore[arg-type]
    page.goto(f"{site.url}/admin/login/?next={where}")
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill("secret")
    page.locator("input[name=password]").press("Enter")
    page.locator(".sse-mon").wait_for()
    return page


def main(folder: Path, theme: str) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    prefix = f"monitor-{theme}-" if theme else "monitor-"
    with (
        tempfile.TemporaryDirectory() as home,
        launched() as browser,
        running_site(Path(home), workers=2, MONITOR_UNFOLD="1" if theme == "unfold" else "0") as site,
    ):
        traffic = Traffic(site)
        traffic.begin()
        try:
            time.sleep(25)
            for scheme in ("light", "dark"):
                page = opened(browser, site, scheme, DESK)
                page.locator('[data-dot][data-state="live"]').wait_for()
                page.wait_for_timeout(3500)
                page.screenshot(path=folder / f"{prefix}{scheme}.png")
                if scheme == "light":
                    page.locator("[data-close]").first.click()
                    page.locator(".mon-confirm").wait_for()
                    page.screenshot(path=folder / f"{prefix}close.png")
            page = opened(browser, site, "light", PHONE)
            page.wait_for_timeout(3500)
            page.screenshot(path=folder / f"{prefix}phone.png")
        finally:
            traffic.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
