"""Whatever a log says, the page with it answers, and nothing of it is hidden."""

from __future__ import annotations

import re
import urllib.request

import pytest
from playwright.sync_api import Page, expect

from tests.timing import LONG, bound

from .serving import LogSite
from .test_speed import WATCH, longest_task
from .viewing import connection, flashed, numbers_of, rows_of, text_of, wait_for_lines

MIB = 2**20
LONGEST_TASK_MS = bound(200.0, 20_000.0)
SIZES = [1, 8] if LONG else [1]
REPEATED = 5 if LONG else 2
ANSWERED = [8] if LONG else [2]
PARTS = 64 if LONG else 4
"""Of a mebibyte: what ``sse_run`` and ``pipe()`` make of a line without an end."""


def test_sections_in_sections_are_groups_to_a_depth_and_flat_beyond(page: Page, site: LogSite) -> None:
    nested = 2_000
    opened = [f"section_start:{n}:s{n}\r\x1b[0Ktitle {n}" for n in range(nested)]
    site.publish("nested", *opened, "the innermost", close="failed")
    page.add_init_script(WATCH)
    page.goto(f"{site.url}/logs/nested/")
    connection(page, "Ended")
    longest = longest_task(page)
    print(f"\n2,000 sections in sections: longest task {longest:.0f} ms")
    assert longest < LONGEST_TASK_MS
    rows = rows_of(page)
    assert [row["text"] for row in rows] == [*(f"title {n}" for n in range(nested)), "the innermost"]
    assert [row["number"] for row in rows] == [*range(1, nested + 2)]
    assert len([row for row in rows if "sl-title" in row["names"]]) == 16
    assert max(row["depth"] for row in rows) == 16
    expect(page.get_by_text("the innermost", exact=True)).to_be_visible()


def test_sections_too_deep_to_be_groups_end_without_ending_others(page: Page, site: LogSite) -> None:
    depth = 40
    lines = [f"section_start:{n}:same\r\x1b[0Ktitle {n}" for n in range(depth)]
    lines += [f"section_end:{n}:same\r\x1b[0K" for n in range(depth, depth + 30)]
    site.publish("same", *lines, "still in ten", close="failed")
    page.goto(f"{site.url}/logs/same/")
    connection(page, "Ended")
    assert [row["depth"] for row in rows_of(page) if row["text"] == "still in ten"] == [10]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", ["as it comes", "from the beginning"])
def test_a_long_line_is_shown_in_parts_and_the_page_answers(page: Page, site: LogSite, size: int, way: str) -> None:
    name, characters = f"long-{size}-{way.split()[0]}", size * MIB - len("stdout")
    line = ("0123456789 " * (characters // 11 + 1))[:characters]
    page.add_init_script(WATCH)
    if way == "from the beginning":
        site.publish(name, "before", line, "\x1b[31mafter\x1b[0m", close="completed")
    page.goto(f"{site.url}/logs/{name}/?lines=0")
    if way == "as it comes":
        connection(page, "Live")
        site.publish(name, "before", line, "\x1b[31mafter\x1b[0m", close="completed")
    connection(page, "Ended")
    assert numbers_of(page) == [1, 2, 3]
    mark = page.locator(".sl-cut")
    expect(mark).to_contain_text(f"{characters - 20_000:,} more characters")
    assert page.evaluate("document.querySelector('#L2 > .sl-t').firstChild.data.length") == 20_000
    assert page.locator("#L3 .sl-f1").inner_text() == "after"
    mark.get_by_role("button", name="Show more").click()
    expect(mark).to_contain_text(f"{characters - 40_000:,} more characters")
    assert page.evaluate("document.querySelector('#L2 .sl-part').textContent") == line[20_000:40_000]
    assert page.evaluate("(line) => document.querySelector('sse-log').text === `before\\n${line}\\nafter`", line)
    with urllib.request.urlopen(f"{site.url}{mark.get_by_role('link', name='Raw text').get_attribute('href')}") as raw:
        assert raw.read().decode() == f"before\n{line}\n\x1b[31mafter\x1b[0m\n"
    longest = longest_task(page)
    print(f"\na line of {size} MiB, {way}: longest task {longest:.0f} ms")
    assert longest < LONGEST_TASK_MS


@pytest.mark.parametrize("size", ANSWERED)
def test_a_line_that_is_longer_than_a_log_keeps_one_is_shown_in_parts_too(page: Page, site: LogSite, size: int) -> None:
    texts = ["x" * size * MIB, "after"]
    told = [{"offset": n, "id": f"e.{n}", "event": "stdout", "data": text, "at": 1.0} for n, text in enumerate(texts, 1)]
    answer = {"epoch": "e", "floor": 0, "top": 2, "closed": "completed", "records": told}
    page.route("**/log/range/*", lambda route: route.fulfill(json=answer))
    page.add_init_script(WATCH)
    page.goto(f"{site.url}/logs/answered/?lines=0")
    connection(page, "Ended")
    expect(page.locator(".sl-cut")).to_contain_text(f"{size * MIB - 20_000:,} more characters")
    assert page.locator("#L2 > .sl-t").inner_text() == "after"
    longest = longest_task(page)
    print(f"\na line of {size} MiB in an answer: longest task {longest:.0f} ms")
    assert longest < LONGEST_TASK_MS


def test_a_line_without_an_end_comes_in_parts_and_is_searched(page: Page, site: LogSite) -> None:
    part = "a" * 100 + "!" + "0123456789 " * (MIB // 11 - 12)
    page.add_init_script(WATCH)
    page.goto(f"{site.url}/logs/in-parts/?lines=0")
    connection(page, "Live")
    for number in range(PARTS):
        site.publish("in-parts", f"part {number} {part}")
    site.publish("in-parts", "the end", close="completed")
    connection(page, "Ended")
    expect(page.locator(f"#L{PARTS + 1}")).to_be_in_viewport()
    page.get_by_role("searchbox").fill("part 1 a")
    expect(page.locator(".sl-found")).to_have_text("1 of 1")
    expect(page.locator("#L2")).to_be_in_viewport()
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Regular expression").click()
    page.get_by_role("searchbox").fill("(a+)+$")
    expect(page.locator(".sl-found")).to_have_text("The pattern takes too long")
    longest = longest_task(page)
    print(f"\na line of {PARTS} MiB: longest task {longest:.0f} ms")
    assert longest < LONGEST_TASK_MS


HOSTILE = {
    "addresses": "https://example.com/" + ")" * 60_000 + " end",
    "escapes": "\x1b[31m\x90\x1b]0;" * 60_000,
    "sections": "section_start:1:a\rsection_end:1:a\r" * 60_000,
    "overwritten": "xx\x1b[2K\b\x1b[1K" * 60_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_line_made_to_cost_costs_no_more_than_another(page: Page, site: LogSite, kind: str) -> None:
    site.publish(f"costs-{kind}", *[HOSTILE[kind]] * REPEATED, "the end", close="completed")
    page.add_init_script(WATCH)
    page.goto(f"{site.url}/logs/costs-{kind}/?lines=0")
    connection(page, "Ended")
    assert text_of(page)[-1] == "the end"
    assert longest_task(page) < LONGEST_TASK_MS
    assert page.locator(".sl-cut").count() == REPEATED


def test_a_progress_bar_of_a_megabyte_shows_how_it_ended(page: Page, site: LogSite) -> None:
    line = "".join(f"\r{n} %" for n in range(100_000)) + "\r\x1b[Kdone"
    site.publish("bar", line, close="completed")
    page.goto(f"{site.url}/logs/bar/?lines=0")
    connection(page, "Ended")
    assert page.evaluate("document.querySelector('#L1 > .sl-t').firstChild.data") == "done"
    expect(page.locator(".sl-cut")).to_contain_text(re.compile(r"⋯ [\d,]+ more characters, written over"))


def test_many_lines_that_are_long_are_in_the_page_where_they_are_seen(page: Page, site: LogSite) -> None:
    site.publish("broad", *["x" * 19_000] * 200, close="completed")
    page.add_init_script(WATCH)
    page.goto(f"{site.url}/logs/broad/?lines=0")
    connection(page, "Ended")
    assert page.evaluate("document.querySelector('.sl-rows').textContent.length") < 200 * 19_000
    assert [len(row["text"]) for row in rows_of(page)] == [19_000] * 200
    assert longest_task(page) < bound(500.0, 20_000.0)


def test_of_a_page_of_large_lines_the_beginnings_are_held_and_the_whole_is_copied(page: Page, site: LogSite) -> None:
    lines = [f"line {n} {'x' * 30_000} end {n}" for n in range(1, 401)]
    site.publish("heavy", *lines, close="completed")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    page.goto(f"{site.url}/logs/heavy/?lines=0#L399-L400")
    connection(page, "Ended")
    expect(page.locator("#L400 .sl-cut")).to_contain_text(f"{len(lines[-1]) - 4096:,} more characters")
    assert page.evaluate("document.querySelector('sse-log').text.length") < 9_500_000
    page.get_by_role("button", name="Copy").click()
    flashed(page, "Copied 2 lines")
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(lines[-2:])
    page.get_by_role("searchbox").fill("line 4")
    expect(page.locator(".sl-found")).to_have_text(re.compile(r"of 12\+$"))  # there may be more, beyond what is held


ODD = [
    ("progress", '{"fraction": 1e999, "step": {"a": 1}}'),
    ("progress", '{"fraction": "x", "step": 5}'),
    ("progress", "[1, 2]"),
    ("status", '{"status": {"toString": 1}}'),
    ("missing", '{"first": "x", "last": 1e999}'),
    ("missing", '{"first": 5, "last": 1}'),
    ("status", '{"status": ' + '"' + "s" * 100_000 + '"}'),
    ("progress", "[" * 100_000),
]


def test_words_that_make_no_sense_change_nothing(page: Page, site: LogSite) -> None:
    site.publish("odd", "one", *ODD, "two", ("exit", '{"code": "x", "seconds": 1e999, "status": []}'), close="failed")
    page.goto(f"{site.url}/logs/odd/")
    connection(page, "Ended")
    assert (text_of(page), numbers_of(page)) == (["one", "two"], [1, 2])
    expect(page.locator(".sl-status")).to_have_text("Failed")
    assert page.locator(".sl-note").count() == 0


def test_the_levels_of_pythons_logging_are_lines_that_say_their_level(page: Page, site: LogSite) -> None:
    levels = ["debug", "info", "warning", "error", "critical"]
    page.goto(f"{site.url}/logs/levels/")
    connection(page, "Live")
    site.publish("levels", *((level, f"text {level}") for level in levels[:3]))
    wait_for_lines(page, 3)
    page.reload()  # what there was comes from the parts, what follows from the stream
    site.publish(
        "levels", ("error", "Traceback\n  in it"), ("critical", "text critical"), "::warning::of a build", close="failed"
    )
    connection(page, "Ended")
    assert text_of(page) == [
        "text debug",
        "text info",
        "text warning",
        "Traceback",
        "  in it",
        "text critical",
        "::warning::of a build",
    ]
    told = page.evaluate("""[...document.querySelectorAll(".sl-line > .sl-t")].map((one) =>
      [getComputedStyle(one, "::before").content.replaceAll('"', ""), one.parentElement.className.split(" ")[1]])""")
    assert told == [
        *([level.capitalize(), f"sl-{level}"] for level in levels[:4]),
        ["none", "sl-error"],
        ["Critical", "sl-critical"],
        ["Warning", "sl-warning"],
    ]
    assert page.locator(".sl-connection").inner_text() == "Ended"
    page.locator(".sl-query").fill("text")
    expect(page.locator(".sl-found")).to_have_text("1 of 4")
