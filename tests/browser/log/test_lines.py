"""What a line is in a page: annotations in words, links, colours that can be read, nothing turned around, copies as printed."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.log import test_corpus
from tests.log.test_corpus import CORPUS, events

from .serving import LogSite
from .viewing import connection, numbers_of, rows_of, text_of, wait_for_lines

CORPUS_HOME = Path(test_corpus.__file__).parent
LINES = 600
"""Of the corpus, of which selections are copied."""
SELECT = """async (picks) => {
  const view = document.querySelector(".sl-view");
  const texts = (row) => {
    const walker = document.createTreeWalker(row.querySelector(".sl-t"), NodeFilter.SHOW_TEXT);
    const found = [];
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (!node.parentElement.closest(".sl-ours")) found.push(node);
    }
    return found;
  };
  const copied = [];
  for (const [scroll, ...ends] of picks) {
    view.scrollTop = scroll * (view.scrollHeight - view.clientHeight);
    for (let frames = 0; frames < 3 || (view.querySelector(".sl-pending") && frames < 300); frames += 1) {
      await new Promise((resolve) => requestAnimationFrame(resolve));
    }
    const rows = [...view.querySelectorAll(".sl-rows > .sl-line")].filter((row) => texts(row).length);
    const places = ends.map(([row, node, offset]) => {
      const chosen = rows[Math.floor(row * rows.length)];
      const nodes = texts(chosen);
      const text = nodes[Math.floor(node * nodes.length)];
      const at = Math.floor(offset * (text.data.length + 1));
      const before = nodes.slice(0, nodes.indexOf(text)).reduce((sum, { data }) => sum + data.length, 0);
      return { number: Number(chosen.querySelector(".sl-n").dataset.n), text, at, offset: before + at };
    }).sort((one, other) => one.number - other.number || one.offset - other.offset);
    const [start, end] = places;
    document.getSelection().setBaseAndExtent(start.text, start.at, end.text, end.at);
    const event = new ClipboardEvent("copy", { bubbles: true, cancelable: true, clipboardData: new DataTransfer() });
    view.dispatchEvent(event);
    const text = document.getSelection().isCollapsed ? "" : event.clipboardData.getData("text/plain");
    copied.push([start.number, start.offset, end.number, end.offset, text]);
  }
  return copied;
}"""
CONTRASTS = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const linear = (value) => (value <= 10.31475 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4);
    const [red, green, blue] = channels(colour).map(linear);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll(".sl-rows .sl-t > span")].map((span) => {
    const [low, high] = [luminance(getComputedStyle(span).color), luminance(ground(span))].sort((a, b) => a - b);
    return [span.textContent, (high + 0.05) / (low + 0.05)];
  });
}"""


def printed(name: str) -> list[str]:
    """The lines that are published of a recording."""
    lines: list[str] = []
    for event in events(CORPUS[name], 0):
        if isinstance(event, str):
            lines += event.split("\n")
        elif event["lines"]:
            del lines[-int(event["lines"]) :]
    return lines


def between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The text from one place to another, counted as a page counts characters."""
    chosen = [line.encode("utf-16-le") for line in lines[start[0] - 1 : end[0]]]
    chosen[-1] = chosen[-1][: 2 * end[1]]
    chosen[0] = chosen[0][2 * start[1] :]
    return "\n".join(line.decode("utf-16-le", "surrogatepass") for line in chosen)


def test_a_copied_selection_is_what_was_printed(page: Page, site: LogSite) -> None:
    draw = random.Random(20)
    marked = [name for name in CORPUS if any(word in CORPUS[name] for word in (b"::group::", b"[group]", b"section_"))]
    others = [name for name in CORPUS if name not in marked]
    draw.shuffle(others)
    names = [*marked, *others]
    lines = [line for name in names for line in printed(name)][:LINES]
    site.publish("selected", *lines, close="completed")
    page.set_viewport_size({"width": 1200, "height": 1400})
    page.goto(f"{site.url}/logs/selected/")
    connection(page, "Ended")
    wait_for_lines(page, LINES)
    page.keyboard.press("g")
    group = page.locator(".sl-turn").first
    page.keyboard.press("z")  # all, open or shut
    if group.get_attribute("aria-expanded") == "false":
        page.keyboard.press("z")
    expect(group).to_have_attribute("aria-expanded", "true")
    texts = {row["number"]: row["text"] for row in rows_of(page)}
    shown = [texts.get(number, "") for number in range(1, LINES + 1)]  # of the end of a section nothing is seen
    assert len(texts) > LINES - 20
    picks = [[draw.random(), *[[draw.random() for _ in range(3)] for _ in range(2)]] for _ in range(60)]
    copied = page.evaluate(SELECT, picks)
    assert len([text for *_, text in copied if "\n" in text]) > 40
    for first, start, last, end, text in copied:
        assert text == between(shown, (first, start), (last, end))


def only(page: Page, site: LogSite, name: str, *lines: str) -> None:
    """Show a log that has these lines."""
    site.publish(name, *lines, close="completed")
    page.goto(f"{site.url}/logs/{name}/")
    connection(page, "Ended")


def test_an_annotation_says_its_level_its_place_and_its_title_in_words(page: Page, site: LogSite) -> None:
    raw = "::error file=app.js,line=3,col=7,title=adds::expected 3%0Abut got 4, 50%25 off"
    only(page, site, "annotated", "before", raw, "::warning::Careful", "after")
    text = page.locator("#L2 .sl-t")
    assert text.get_attribute("data-level") == "Error"
    assert text.get_attribute("data-place") == "app.js:3:7 · adds"
    assert text.text_content() == raw, "the text is what was printed"
    assert page.locator("#L2 .sl-command").evaluate("(one) => one.getBoundingClientRect().width") == 0
    heights = [(page.locator(f"#L{number}").bounding_box() or {})["height"] for number in (1, 2, 3)]
    assert heights[1] == 2 * heights[0], "%0A is a line's end"
    assert heights[2] == heights[0]
    assert page.locator("#L3 .sl-t").get_attribute("data-level") == "Warning"


def test_links_of_programs_have_their_address_where_it_is_http(page: Page, site: LogSite) -> None:
    only(
        page,
        site,
        "links",
        "\x1b]8;;https://a.example/x\x1b\\here\x1b]8;;\x1b\\ \x1b]8;;javascript:alert(1)\x1b\\there\x1b]8;;\x1b\\",
    )
    links = page.locator(".sl-t a")
    assert links.all_text_contents() == ["here"]
    assert links.first.get_attribute("href") == "https://a.example/x"
    assert links.first.get_attribute("rel") == "noopener noreferrer nofollow"


def test_what_is_struck_through_and_concealed_looks_so(page: Page, site: LogSite) -> None:
    only(page, site, "styles", "\x1b[9mold\x1b[29m \x1b[4;9mboth\x1b[0m \x1b[8msecret\x1b[28m new")
    look = "(one) => [one.textContent, getComputedStyle(one).textDecorationLine, getComputedStyle(one).visibility]"
    styles = page.evaluate(f"[...document.querySelectorAll('.sl-t span')].map({look})")
    assert styles == [
        ["old", "line-through", "visible"],
        ["both", "underline line-through", "visible"],
        ["secret", "none", "hidden"],
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_can_be_read(page: Page, site: LogSite, scheme: str) -> None:
    codes = [f"38;5;{number}" for number in range(16, 256, 3)]
    codes += [f"38;2;{red};{green};{blue}" for red in (0, 128, 255) for green in (0, 128, 255) for blue in (0, 128, 255)]
    codes += [f"{30 + ink};{40 + ground}" for ink in range(8) for ground in range(8)]
    codes += (
        [f"38;5;{number};7" for number in (16, 21, 226, 255)]
        + [f"3{number}" for number in range(8)]
        + ["37;48;5;231", "30;48;5;16"]
    )
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 1200, "height": 1400})
    only(
        page,
        site,
        f"colours-{scheme}",
        *(" ".join(f"\x1b[{code}m{code}\x1b[0m" for code in codes[at : at + 9]) for at in range(0, len(codes), 9)),
    )
    seen = dict(page.evaluate(CONTRASTS))
    assert seen.keys() == set(codes)
    assert {code: ratio for code, ratio in seen.items() if ratio < 4.4} == {}


def left(page: Page, number: int, word: str) -> float:
    """Where a word of a line begins on the screen."""
    return float(
        page.evaluate(
            """([number, word]) => {
              const walker = document.createTreeWalker(document.querySelector(`#L${number} .sl-t`), NodeFilter.SHOW_TEXT);
              for (let node = walker.nextNode(); node; node = walker.nextNode()) {
                const at = node.data.indexOf(word);
                if (at < 0) continue;
                const range = document.createRange();
                range.setStart(node, at);
                range.setEnd(node, at + word.length);
                return range.getBoundingClientRect().left;
              }
            }""",
            [number, word],
        )
    )


def test_nothing_turns_a_line_around_and_what_would_is_seen(page: Page, site: LogSite) -> None:
    lines = ["one \u202etwo three\u202c four", "pass\u200bword", "👩\u200d💻 می\u200cخواهم"]
    only(page, site, "turned", *lines)
    assert text_of(page) == lines
    assert left(page, 1, "one") < left(page, 1, "two") < left(page, 1, "three") < left(page, 1, "four")
    marks = page.locator(".sl-unseen").evaluate_all(
        "(marks) => marks.map((one) => [one.dataset.shown, one.getBoundingClientRect().width > 20])"
    )
    assert marks == [["U+202E", True], ["U+202C", True], ["U+200B", True]]


def test_a_log_is_left_to_right_in_a_page_that_is_not(page: Page, site: LogSite) -> None:
    site.publish("ltr", "error: (a) b [c] - 1:", "مرحبا abc", close="completed")
    page.add_init_script("document.addEventListener('DOMContentLoaded', () => { document.documentElement.dir = 'rtl'; })")
    page.goto(f"{site.url}/logs/ltr/")
    connection(page, "Ended")
    assert page.evaluate("getComputedStyle(document.documentElement).direction") == "rtl"
    assert left(page, 1, "error") < left(page, 1, "(a)") < left(page, 1, "b [") < left(page, 1, "1:")
    assert left(page, 2, "مرحبا") < left(page, 2, "abc"), "a line is not turned for its first letter"
    box, number = page.locator("#L1").bounding_box(), page.locator("#L1 .sl-n").bounding_box()
    assert box
    assert number
    assert number["x"] == pytest.approx(box["x"], abs=2)


def test_markers_of_others_fold_where_they_are_chosen(page: Page, site: LogSite) -> None:
    lines = ["--- :package: Install", "a", "--- PASS: TestA (0.00s)", "--- FAIL: TestB (0.00s)", "--- Test", "b"]
    only(page, site, "buildkite", *lines)
    assert page.locator(".sl-turn").count() == 0
    assert text_of(page) == lines
    page.evaluate("""() => {
      const log = document.querySelector("sse-log");
      const other = log.cloneNode(false);
      other.setAttribute("groups", "buildkite");
      log.replaceWith(other);
    }""")
    connection(page, "Ended")
    expect(page.locator(".sl-turn")).to_have_count(2)
    assert page.locator(".sl-line", has_text=re.compile(r"FAIL: TestB")).is_visible(), "a group that holds an error is open"


def test_vectors_agree_with_what_is_filtered(page: Page, site: LogSite) -> None:
    vectors: list[dict[str, Any]] = json.loads((CORPUS_HOME / "levels.json").read_text())
    lines = [vector for vector in vectors if not any(char in vector["line"] for char in "\r\n")]
    only(page, site, "vectors", *(vector["line"] for vector in lines))
    page.get_by_label("Which lines").select_option("error")
    numbers = [at for at, vector in enumerate(lines, 1) if vector["level"] == "error"]
    expect(page.locator(".sl-found")).to_have_text(f"– of {len(numbers)}")
    assert numbers_of(page) == numbers


def test_a_failure_counts_once_is_listed_once_and_stepped_to_once(page: Page, site: LogSite) -> None:
    lines = [
        "test_a.py::test_b FAILED                 [ 50%]",
        "test_a.py::test_c FAILED                 [100%]",
        *(f"word {n}" for n in range(100)),
        "E       assert 1 == 2",
        "E        +  where 1 = f()",
        "",
        "test_a.py:12: AssertionError",
        *(f"word {n}" for n in range(100)),
        "E       assert 3 == 4",
        "",
        "test_a.py:34: AssertionError",
        "FAILED test_a.py::test_b - assert 1 == 2",
        "FAILED test_a.py::test_c - assert 3 == 4",
        "========= 2 failed in 0.12s =========",
        "make: *** [Makefile:2: test] Error 1",
        "##[error]Process completed with exit code 2.",
    ]
    site.publish("once", *lines, close="failed")
    page.goto(f"{site.url}/logs/once/#L1")
    connection(page, "Ended")
    expect(page.locator(".sl-errors")).to_have_text(re.compile("^2 errors"))
    for key, number in [("e", 103), ("e", 207), ("e", 103), ("E", 207)]:
        page.keyboard.press(key)
        expect(page.locator(f"#L{number}")).to_be_in_viewport()
        expect(page.locator(f"#L{number}")).to_have_class(re.compile("sl-current"))
    page.locator(".sl-errors").click()
    expect(page.locator(".sl-list-sheet .sl-item-place")).to_have_text(["test_a.py:12", "test_a.py:34"])


def test_what_is_printed_between_stopped_commands_is_text(page: Page, site: LogSite) -> None:
    lines = [
        "before",
        "::stop-commands::abc",
        "::group::Fake",
        "::error file=a.py,line=1::It failed",
        "::abc::",
        "::error::It did",
    ]
    only(page, site, "stopped", *lines)
    expect(page.locator(".sl-errors")).to_have_text(re.compile("^1 error$"))
    assert page.locator(".sl-turn").count() == 0
    assert text_of(page) == lines
    assert page.locator("[data-level]").evaluate_all("(texts) => texts.map((one) => one.textContent)") == ["::error::It did"]
    page.keyboard.press("e")
    expect(page.locator("#L6")).to_have_class(re.compile("sl-current"))
