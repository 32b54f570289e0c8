"""What a test does with a viewer."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page, expect

PATIENCE_MS = 120_000
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


WALK = """async () => {
  const view = document.querySelector(".sl-view");
  const frames = async (count) => { for (; count; count -= 1) await new Promise((resolve) => requestAnimationFrame(resolve)); };
  const found = new Map();
  const isAway = () => view.querySelector(".sl-rows").offsetTop > view.scrollTop + 1 || view.querySelector(".sl-pending");
  const collect = async (top) => {
    const due = performance.now() + 120_000;
    while (performance.now() < due && ((!top && view.scrollTop) || isAway())) {
      if (!top) view.scrollTop = 0;
      await frames(1);
    }
    for (const row of view.querySelectorAll(".sl-rows > .sl-line:not(.sl-closer)")) {
      const [number, text] = [row.querySelector(".sl-n"), row.querySelector(".sl-t")];
      const depth = Number(row.dataset.depth ?? 0);
      found.set(row.key, { number: Number(number.dataset.n) || null, text: text.textContent, names: row.className, depth });
    }
  };
  await frames(2);
  const before = view.scrollTop;
  for (let top = 0; ; top += 1200) {
    view.scrollTop = top;
    await frames(2);
    await collect(top);
    if (top >= view.scrollHeight - view.clientHeight) break;
  }
  view.scrollTop = before;
  await frames(2);
  return [...found].sort(([one], [other]) => one - other).map(([, row]) => row);
}"""
"""Scroll through the whole log as a reader would, and take what is seen on the way."""


def rows_of(page: Page) -> list[dict[str, Any]]:
    """What a reader sees who scrolls through it: ``number``, ``text``, ``depth`` and the ``names`` of classes of each row."""
    return list(page.evaluate(WALK))


def text_of(page: Page) -> list[str]:
    """The lines, as a reader sees them."""
    return [row["text"] for row in rows_of(page) if "sl-note" not in row["names"]]


def numbers_of(page: Page) -> list[int]:
    """The numbers beside them."""
    return [row["number"] for row in rows_of(page) if row["number"] is not None]


def wait_for_lines(page: Page, count: int, within: float = PATIENCE_MS) -> None:
    """Wait until the viewer has so many lines, and has shown what it has."""
    page.wait_for_function("(count) => document.querySelector('sse-log')?.count >= count", arg=count, timeout=within)
    page.evaluate("() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")


def connection(page: Page, words: str | re.Pattern[str], within: float = PATIENCE_MS) -> None:
    """Wait until the viewer says so of its connection, and has painted the lines that came before."""
    expect(page.locator(".sl-connection")).to_have_text(words, timeout=within)
    page.evaluate("new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)))")


def flashed(page: Page, words: str) -> None:
    """Wait until the viewer has shown this for a moment, which may be over."""
    page.wait_for_function("(words) => window.flashed.some((text) => text.includes(words))", arg=words, timeout=PATIENCE_MS)


def plain(line: str) -> str:
    """A line without its colours."""
    return _COLOURS.sub("", line)
