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
    site.produce("endless", RATE, SECONDS, size=SIZE)
    readings: list[tuple[float, float, int]] = []
    begun = time.monotonic()
    while page.locator(".sl-connection").inner_text() != "Ended":
        assert time.monotonic() - begun < 20 * SECONDS
        page.wait_for_timeout(1000 * SECONDS / 24)
        readings.append((page.evaluate("document.querySelector('sse-log').count"), *used(devtools)))
    for lines, megabytes, nodes in readings:
        print(f"\n{lines:,.0f} lines: {megabytes:.0f} MB, {nodes:,} nodes", end="")
    total = RATE * SECONDS
    early = [megabytes for lines, megabytes, _ in readings if 0.5 * total < lines < 0.7 * total]
    late = [megabytes for lines, megabytes, _ in readings if lines > 0.85 * total]
    assert early
    assert late
    assert max(late) < GROWTH * max(early)
    assert max(nodes for _, _, nodes in readings) < MOST_NODES
    assert page.evaluate("document.querySelector('sse-log').count") == total + 1
    assert page.get_by_role("button", name="Follow the end").get_attribute("aria-pressed") == "true"
