"""How long large logs take. The figures are printed (``-s``); only gross bounds fail a test, machines differ.

The long form has 100,000 lines, and ten seconds of 2,000 lines each.

``python -m tests.browser.log.measure`` prints a table of any sizes.
"""

from __future__ import annotations

import re
import time

from playwright.sync_api import Browser, Page

from tests.timing import LONG, bound

from .measure import measure
from .serving import LogSite
from .viewing import connection, wait_for_lines

LINES = 100_000 if LONG else 20_000
POURING_SECONDS = 10 if LONG else 2
GROSS_SECONDS = bound(30.0, 120.0)
GROSS_MB = 300.0
GROSS_TASK_MS = bound(2_000.0, 20_000.0)
WATCH = """new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) (window.tasks ??= []).push(entry.duration);
}).observe({ entryTypes: ["longtask"] });"""


def longest_task(page: Page) -> float:
    """Milliseconds of the longest task so far that took more than 50; 0 without one."""
    return float(page.evaluate("() => Math.max(0, ...(window.tasks ?? []))"))


def test_very_many_coloured_lines(chromium: Browser, site: LogSite) -> None:
    coloured = (f"\x1b[3{n % 8}mline {n}\x1b[0m of the log, with some \x1b[1mmore\x1b[0m text in it" for n in range(1, LINES + 1))
    site.publish("large", *coloured, close="completed")
    measured = measure(chromium, site, "large", LINES)
    print(f"\n{LINES:,} lines: {measured}")
    assert measured.total == LINES // 100
    assert measured.end < GROSS_SECONDS
    assert measured.jump < GROSS_SECONDS
    assert measured.filter < GROSS_SECONDS
    assert measured.longest < GROSS_TASK_MS
    assert measured.memory < GROSS_MB


def test_the_modules_are_those_that_the_page_says_and_come_together(page: Page, site: LogSite) -> None:
    site.publish("modules", "one", close="completed")
    page.goto(f"{site.url}/logs/modules/")
    connection(page, "Ended")
    fetched = page.evaluate(
        """() => performance.getEntriesByType("resource").map(({ name }) => name).filter((name) => name.endsWith(".js"))"""
    )
    said = page.evaluate("""() => Array.from(document.querySelectorAll("link[rel=modulepreload]"), ({ href }) => href)""")
    script = page.evaluate("""() => document.querySelector("script[data-agent-sse]").src""")
    assert sorted(fetched) == sorted([script, *said]), "each once, and none that is not imported"
    assert len(said) > 20
    assert all(re.search(r"\.[0-9a-f]{12}\.js$", name) for name in fetched)
    links = page.evaluate("""() => performance.getEntriesByType("resource").filter(({ name }) => name.endsWith(".js"))
      .map(({ name, startTime }) => [name, startTime])""")
    begun = dict(links)
    ended = page.evaluate("(name) => performance.getEntriesByName(name)[0].responseEnd", script)
    assert min(begun[name] for name in said) < ended, "they do not wait for the script"


def test_two_thousand_lines_a_second_for_a_while(page: Page, site: LogSite) -> None:
    page.add_init_script(WATCH)
    page.goto(f"{site.url}/logs/pouring/")
    connection(page, "Live")
    site.produce("pouring", 2000, POURING_SECONDS)
    answers: list[float] = []
    for _ in range(2 * POURING_SECONDS):
        begun = time.perf_counter()
        page.locator(".sl-button.sl-wrap").click()
        answers.append(time.perf_counter() - begun)
        page.wait_for_timeout(400)
    wait_for_lines(page, 2_000 * POURING_SECONDS)
    connection(page, "Ended")
    at_end = page.locator(".sl-view").evaluate("(view) => view.scrollHeight - view.scrollTop - view.clientHeight")
    print(
        f"\n2,000 lines/s for {POURING_SECONDS} s: longest task {longest_task(page):.0f} ms, "
        f"slowest click {max(answers) * 1000:.0f} ms"
    )
    assert at_end < 30
    assert longest_task(page) < GROSS_TASK_MS
