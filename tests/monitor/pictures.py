"""Takes the pictures of topics: ``python -m tests.monitor.pictures docs/images [theme]``; needs Chromium."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.chromium import launched
from tests.live.servers import ROOT

from .screenshots import PHONE, Traffic, looks, opened
from .serving import running_site

TOPICS = "/admin/django_agent_sse/logtopic/"
ONE = f"{TOPICS}builds.41/change/"


def some_topics(home: Path) -> None:
    """More than builds: written by another process, as a task would."""
    code = (
        "import django; django.setup(); from django_agent_sse import Topic\n"
        "for n in range(31, 41): Topic(f'builds.{n}').publish_many(['compiling'] * n * 7); "
        "Topic(f'builds.{n}').close('failed' if n % 4 == 0 else 'completed')\n"
        "for name in ('orders.eu', 'orders.us', 'notices.7', 'notices.8'): Topic(name).publish({'n': 1}, event='created')"
    )
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
            time.sleep(8)
            some_topics(Path(home))
            for look in looks(theme):
                name = "-phone" if look.size is PHONE else "-dark" if look.scheme == "dark" else ""
                page = opened(browser, site, look, TOPICS)
                page.wait_for_timeout(500)
                page.screenshot(path=folder / f"{prefix}topics{name}.png")
                page.goto(f"{site.url}{ONE}")
                page.locator(".sl-line").nth(8).wait_for(state="attached")
                page.wait_for_timeout(800)
                page.screenshot(path=folder / f"{prefix}topic{name}.png")
                page.context.close()
        finally:
            traffic.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
