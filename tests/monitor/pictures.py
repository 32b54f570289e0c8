"""Takes the pictures of a topic: ``python -m tests.monitor.pictures docs/images``; needs Chromium."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.chromium import launched
from tests.live.servers import ROOT

from .screenshots import DARK, LIGHT, Traffic, opened
from .serving import running_site

TOPIC = "/admin/django_agent_sse/logtopic/builds.41/change/"


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
                page.goto(f"{site.url}{TOPIC}")
                page.locator(".sl-line").nth(8).wait_for(state="attached")
                page.wait_for_timeout(800)
                page.screenshot(path=folder / f"monitor-{name}.png")
                page.context.close()
        finally:
            traffic.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
