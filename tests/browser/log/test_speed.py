"""How long large logs take. The figures are printed (``-s``); only gross bounds fail a test, machines differ.

The long form has 100,000 lines, and ten seconds of 2,000 lines each.

Nothing is asked for by its role, and nothing expected: for both Playwright looks at every element of the page.
"""

from __future__ import annotations

import time

from playwright.sync_api import Page

from tests.timing import LONG, bound

from .serving import LogSite
from .viewing import connection, wait_for_lines

LINES = 100_000 if LONG else 20_000
POURING_SECONDS = 10 if LONG else 2
GROSS_SECONDS = bound(30.0, 120.0)
GROSS_TASK_MS = bound(2_000.0, 20_000.0)
WATCH = """addEventListener("sse-log:end", () => { window.endAt = performance.now(); });
(function last() {
  const block = document.querySelector("sse-log")?.count >= LINES && document.querySelector(".sl-view").lastElementChild;
  if (!block || !/the needle in it\\n?$/.test(block.textContent)) requestAnimationFrame(last);
  else requestAnimationFrame(() => { window.lastAt = performance.now(); }); // the frame with it has been painted
})();
new MutationObserver((changes, observer) => {
  if (!document.querySelector(".sl-line")) return;
  window.firstAt = performance.now();
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) (window.tasks ??= []).push(entry.duration);
}).observe({ entryTypes: ["longtask"] });""".replace("LINES", str(LINES))

ALL_ROWS = "() => document.querySelector('.sl-later') ? 0 : performance.now()"


def longest_task(page: Page) -> float:
    """Milliseconds of the longest task so far that took more than 50; 0 without one."""
    return float(page.evaluate("() => Math.max(0, ...(window.tasks ?? []))"))


def native_find(page: Page, text: str) -> tuple[bool, float]:
    """Whether the browser's own search finds it, and after how many milliseconds."""
    return tuple(  # type: ignore[return-value]
        page.evaluate(
            """(text) => {
              const begun = performance.now();
              return [window.find(text, true, false, true), performance.now() - begun];
            }""",
            text,
        )
    )


def test_very_many_coloured_lines(page: Page, site: LogSite) -> None:
    lines = [f"\x1b[3{n % 8}mline {n}\x1b[0m of the log, with some \x1b[1mmore\x1b[0m text in it" for n in range(LINES - 1)]
    site.publish("large", *lines, "the needle in it", close="completed")
    page.add_init_script(WATCH)
    page.goto(f"{site.url}/logs/large/", wait_until="commit")
    page.wait_for_function("() => window.lastAt && window.endAt", timeout=GROSS_SECONDS * 1000, polling=100)
    first, last, end = (number / 1000 for number in page.evaluate("[window.firstAt, window.lastAt, window.endAt]"))
    in_the_page = page.evaluate("""() => document.querySelectorAll(".sl-line").length
      + [...document.querySelectorAll(".sl-later")].reduce((sum, one) => sum + one.textContent.split("\\n").length - 1, 0)""")
    longest = longest_task(page)
    at_once = native_find(page, "line 10123 of the log")
    rows = page.wait_for_function(ALL_ROWS, timeout=GROSS_SECONDS * 1000, polling=100).json_value() / 1000
    connection(page, "Ended")
    scroll = page.evaluate("""async () => {
      const view = document.querySelector(".sl-view");
      const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
      const begun = performance.now();
      for (let step = 0; step < 100; step += 1) { view.scrollTop = view.scrollHeight * step / 100; await frame(); }
      return performance.now() - begun;
    }""")
    begun = time.perf_counter()
    page.locator(".sl-query").fill("needle")
    page.wait_for_function("() => document.querySelector('.sl-found').textContent === '1 of 1'")
    found = time.perf_counter() - begun
    native = native_find(page, "the needle in it")
    print(
        f"\n{LINES:,} lines: first {first:.2f} s, last {last:.2f} s, its end {end:.2f} s, "
        f"longest task until then {longest:.0f} ms, the browser's find at once {at_once[1] / 1000:.2f} s, "
        f"every line a row {rows:.2f} s; then 100 scrolls {scroll / 1000:.2f} s, own search {found:.2f} s, "
        f"the browser's find {native[1] / 1000:.2f} s"
    )
    assert in_the_page == LINES
    assert at_once[0] is native[0] is True
    assert page.locator(".sl-line").count() == LINES
    assert last < GROSS_SECONDS
    assert longest < GROSS_TASK_MS


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
