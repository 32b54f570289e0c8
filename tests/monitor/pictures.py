"""Takes the pictures of topics and of a run: ``python -m tests.monitor.pictures docs/images``; needs Chromium."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
from django.contrib.admin.utils import quote
from playwright.sync_api import Browser, Page

from tests.chromium import launched
from tests.live.servers import ROOT

from .screenshots import DARK, LIGHT, Traffic, opened
from .serving import MonitorSite, running_site

TOPICS = "/admin/django_agent_sse/logtopic/"
TOPIC = f"{TOPICS}builds.41/change/"
LEASE = 2.0
"""Seconds after which the run of a killed process is lost."""
ENDED = f"""
import os, django; django.setup()
from django_agent_sse import produce
with produce("chats.3") as out: out.pipe(["It ", "is ", "done."])
try:
    with produce("chats.4") as out:
        out.write("I shall look")
        raise LookupError("nothing there")
except LookupError: pass
out = produce("chats.5", lease={LEASE}).__enter__()
out.write("Let me th")
out.flush()
os._exit(0)
"""


def some_topics(home: Path) -> None:
    """More than builds: written by another process, as a task would."""
    code = (
        "import django; django.setup(); from django_agent_sse import Topic\n"
        "for n in range(31, 41): Topic(f'builds.{n}').publish_many(['compiling'] * n * 7); "
        "Topic(f'builds.{n}').close('failed' if n % 4 == 0 else 'completed')\n"
        "for name in ('orders.eu', 'orders.us', 'notices.7', 'notices.8'): Topic(name).publish({'n': 1}, event='created')"
    )
    elsewhere(home, code)


def elsewhere(home: Path, code: str) -> None:
    """Run code of the site in another process."""
    subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.monitor.site.settings",
            "PYTHONPATH": str(ROOT),
            "MONITOR_HOME": str(home),
        },
        cwd=ROOT,
        check=True,
        timeout=60,
    )


def some_runs(site: MonitorSite, home: Path) -> str:
    """One of each ending, and one that goes on: its topic."""
    elsewhere(home, ENDED)
    told = [httpx.post(f"{site.url}/chats/{chat}/", headers={"Prefer": "respond-async"}, timeout=60).json() for chat in (1, 2)]
    assert httpx.post(f"{site.url}{told[1]['stop']}", timeout=60).status_code == 202
    time.sleep(LEASE)
    return f"chats.1.{told[0]['run']}"


def filled(page: Page, address: str) -> None:
    """Go to a topic's page until all processes have told who reads it; its lines are there then."""
    page.goto(address)
    while "–" in page.locator(".mon-facts").inner_text():
        page.reload()
    page.locator(".sl-line").nth(8).wait_for(state="attached")
    page.wait_for_timeout(800)


def of_runs(browser: Browser, site: MonitorSite, topic: str, folder: Path) -> None:
    """Take the list, and the page of one that goes on."""
    for name, look in {"": LIGHT, "-dark": DARK}.items():
        page = opened(browser, site, look)
        page.goto(f"{site.url}{TOPICS}?q=chats.")
        page.get_by_text("lost", exact=True).wait_for()
        page.screenshot(path=folder / f"monitor-runs{name}.png")
        filled(page, f"{site.url}{TOPICS}{quote(topic)}/change/")
        page.screenshot(path=folder / f"monitor-run{name}.png")
        page.context.close()


def main(folder: Path) -> None:
    """Take them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as home,
        launched() as browser,
        running_site(Path(home), workers=2) as site,
    ):
        traffic = Traffic(site)
        traffic.begin()
        try:
            time.sleep(8)
            some_topics(Path(home))
            for name, look in {"topic": LIGHT, "topic-dark": DARK}.items():
                page = opened(browser, site, look)
                filled(page, f"{site.url}{TOPIC}")
                page.screenshot(path=folder / f"monitor-{name}.png")
                page.context.close()
            of_runs(browser, site, some_runs(site, Path(home)), folder)
        finally:
            traffic.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
