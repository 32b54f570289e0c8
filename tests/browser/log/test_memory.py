"""A log that goes on and on takes no more memory of its tab: text far away is let go of, and rows are near the view only.

The long form is ten minutes of 500 lines a second.
"""

from __future__ import annotations

import time

from playwright.sync_api import CDPSession, Page

from tests.timing import LONG

from .serving import LogSite
from .viewing import connection

RATE, SECONDS, SIZE = (500, 600, 400) if LONG else (400, 24, 10_000)
"""Lines a second, for how long, and characters of a line: what is held at most has come before the half of it in either form."""
MOST_NODES = 6_000
GROWTH = 1.15


def used(devtools: CDPSession) -> tuple[float, int]:
    """Megabytes of the heap after a collection, and nodes of the page."""
    devtools.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
    return metrics["JSHeapUsedSize"] / 1e6, int(metrics["Nodes"])


def test_the_memory_of_a_tab_that_follows_is_bounded(page: Page, site: LogSite) -> None:
    site.publish("endless", "begun")
    page.goto(f"{site.url}/logs/endless/")
    connection(page, "Live")
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable")

    def count() -> int:
        return int(page.evaluate("document.querySelector('sse-log').count"))

    def readings(share: float, *, ends: bool = False) -> list[tuple[float, int]]:
        """What is used while so much of the log comes."""
        due, until = count() + round(RATE * share * SECONDS), time.monotonic() + 20 * SECONDS
        site.produce("endless", RATE, share * SECONDS, size=SIZE, ends=ends)
        found: list[tuple[float, int]] = []
        while count() < due:
            assert time.monotonic() < until, f"{count():,} of {due:,} lines"
            page.wait_for_timeout(500 * SECONDS / 24)
            found.append(used(devtools))
            print(f"\n{count():,} lines: {found[-1][0]:.0f} MB, {found[-1][1]:,} nodes", end="")
        return found

    early, more, late = readings(0.7), readings(0.15), readings(0.15, ends=True)
    assert max(megabytes for megabytes, _ in late) < GROWTH * max(megabytes for megabytes, _ in early)
    assert max(nodes for _, nodes in early + more + late) < MOST_NODES
    connection(page, "Ended")
    assert count() == RATE * SECONDS + 1
    assert page.get_by_role("button", name="Follow the end").get_attribute("aria-pressed") == "true"
