"""Measure the viewer on logs of several lengths, on SQLite: ``python -m tests.browser.log.measure 10000 100000``.

Printed for each: when the end was on the screen, a line in the middle after a jump, the first lines of a filter, its whole count,
the longest task, and the private memory of the tab after all of it. ``MEASURE_HOME`` keeps the logs for the next time.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page

from benchmarks.harness.plot import point
from tests.chromium import launched

from .serving import LogSite

WATCH = """new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) (window.tasks ??= []).push(entry.duration);
}).observe({ entryTypes: ["longtask"] });"""
SHOWN = """(text) => {
  const box = document.querySelector(".sl-view")?.getBoundingClientRect();
  return box && [...document.querySelectorAll(".sl-line:not(.sl-pending)")].some((row) => {
    const at = row.getBoundingClientRect();
    return at.bottom > box.top && at.top < box.bottom && row.querySelector(".sl-t").textContent.includes(text);
  }) && performance.now();
}"""


def memory_of(pid: int) -> float:
    """Private megabytes of a process."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has ended since
        return 0.0
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")) / 1024


def renderers() -> set[int]:
    """The processes of this process's browser that show pages."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"--type=renderer" in command and b"--extension-process" not in command:
                found.add(int(entry.name))

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and is_ours(parents[pid]))

    return {pid for pid in found if is_ours(pid)}


def seconds(page: Page, text: str, since: float = 0.0) -> float:
    """When a line with this text is in sight, from ``since`` in the page's milliseconds."""
    at = page.wait_for_function(SHOWN, arg=text, polling="raf", timeout=120_000).json_value()
    return float(at - since) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Seconds until the end was on the screen, a line in the middle after a jump, a filter's first lines, and its whole count.

    Attributes:
        total: Matches of the filter.
        longest: The longest task, in milliseconds.
        memory: What the tab has for itself after all of it, in megabytes.
    """

    end: float
    jump: float
    filter: float
    whole: float
    total: int
    longest: float
    memory: float

    def __str__(self) -> str:
        counted = f"{self.whole:.1f} s ({self.total:,})"
        shown = [f"{self.end:.2f} s", f"{self.jump:.2f} s", f"{self.filter:.2f} s", counted, f"{self.longest:.0f} ms"]
        return " | ".join([*shown, f"{self.memory:.0f} MB"])


def measure(browser: Browser, site: LogSite, name: str, lines: int) -> Measured:
    """Look at a log whose lines say ``line N of``."""
    before = renderers()
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(WATCH)
    page.goto(f"{site.url}/logs/{name}/", wait_until="commit")
    end = seconds(page, f"line {lines} ")
    page.wait_for_timeout(3000)
    now = float(page.evaluate("(line) => { location.hash = `#L${line}`; return performance.now(); }", lines // 2))
    jump = seconds(page, f"line {lines // 2} ", now)
    page.evaluate("() => { location.hash = ''; }")
    page.locator(".sl-query").fill("00 of")
    page.wait_for_timeout(400)
    now = float(page.evaluate("() => { document.querySelector('.sl-only').click(); return performance.now(); }"))
    only = seconds(page, "00 of", now)
    begun = time.perf_counter()
    page.wait_for_function("() => /^[^+…]+$/.test(document.querySelector('.sl-found').textContent)", timeout=300_000)
    whole = time.perf_counter() - begun
    total = int(page.locator(".sl-found").inner_text().rpartition(" ")[2].replace(",", ""))
    longest = float(page.evaluate("() => Math.max(0, ...(window.tasks ?? []))"))
    private = max((memory_of(pid) for pid in renderers() - before), default=0.0)
    context.close()
    return Measured(end=end, jump=jump, filter=only, whole=whole, total=total, longest=longest, memory=private)


def main() -> None:
    sizes = [int(text) for text in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    home = Path(os.environ.get("MEASURE_HOME") or tempfile.mkdtemp())
    home.mkdir(parents=True, exist_ok=True)
    kept = (home / "db.sqlite3").exists()
    limits = {"LOGSITE_EVENTS": "6000000", "LOGSITE_BYTES": str(6 * 2**30)}
    site = LogSite(home, kept=kept, **limits)
    try:
        head = ["lines", "end on screen", "jump", "filter", "whole count", "longest task", "memory"]
        print(" | ".join(head), flush=True)
        with launched() as browser:
            for size in sizes:
                name = f"size{size}"
                if site.count(name) < size:
                    for start in range(0, size, 20_000):
                        upto = min(size, start + 20_000)
                        site.publish(
                            name, *(f"line {n + 1} of the log, with some more text in it, {n % 97}" for n in range(start, upto))
                        )
                measured = measure(browser, site, name, size)
                point("viewer", "the end is on screen", size, measured.end)
                point("viewer", "a line in the middle", size, measured.jump)
                point("viewer", "a filter's first lines", size, measured.filter)
                print(f"{size:,} | {measured}", flush=True)
    finally:
        site.kill()


if __name__ == "__main__":
    main()
