"""What real tools print, in the viewer: its text is that of a terminal, nothing that fails is folded, a copy is what was printed.

``sources.json`` says of each recording which tool, in which version, printed it, or from which documentation it was written.
``quiet``: it ended badly, and no line of it says so; ``errors``: it ended well, and yet a line of it is an error. ``failures``
are as many as a reader would count.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from pathlib import Path
from typing import TypedDict

import pyte
import pytest

from django_agent_sse.wire.drawing import DrawnLines
from django_agent_sse.wire.levels import level_of
from django_agent_sse.wire.redraws import Redraw
from tests.browser.test_node import STATIC
from tests.npm import Node

HERE = Path(__file__).parent
CORPUS = {path.stem: path.read_bytes() for path in sorted((HERE / "corpus").glob("*.txt"))}
SOURCES = json.loads((HERE / "sources.json").read_text())
ALL_DIALECTS = ["github", "gitlab", "buildkite"]
COLUMNS = 2000
BYTES = 400_000
LINE_BYTES = 1_000_000
FAILS = re.compile(r"\b(?:FAIL(?:ED|URE)?|[Ee]rror|ERROR|fatal|panic|panicked|failed|failures?)\b(?![ -]?handl)")


class Shown(TypedDict):
    """A line as the viewer has it."""

    text: str
    pieces: list[str]
    level: str | None
    folded: bool
    title: bool
    failure: bool


def terminal(printed: bytes) -> list[str]:
    """What a terminal emulator shows of it in the end, a text for each row, without blanks at its end."""
    screen = pyte.Screen(COLUMNS, printed.count(b"\n") + 50)
    pyte.ByteStream(screen).feed(printed)
    rows = []
    for row in range(screen.lines):
        cells = screen.buffer[row]
        last = max(cells, default=-1)
        rows.append("".join(cells[column].data for column in range(last + 1)).rstrip())
    while rows and not rows[-1]:
        rows.pop()
    return rows


def events(printed: bytes, seed: int) -> list[str | dict[str, int | str]]:
    """What is published of it, however the reads fall."""
    draw, now, told = random.Random(seed), 0.0, []
    lines = DrawnLines(LINE_BYTES, lambda: now)
    at = 0
    while at < len(printed):
        end = at + draw.choice((1, 7, 100, 4096, 65_536))
        told += lines.feed(printed[at:end])
        at, now = end, now + draw.choice((0.001, 0.05, 0.5))
        told += lines.tick()
    told += lines.finish()
    return [{"lines": one.lines, "text": one.text} if isinstance(one, Redraw) else one for one in told]


@pytest.fixture(scope="module")
def viewed(node: Node) -> dict[str, list[Shown]]:
    """Each recording as the viewer has it: by name with the default dialects, by ``all NAME`` with all of them."""
    published = {name: events(printed, seed) for seed, (name, printed) in enumerate(CORPUS.items())}
    logs = {name: {"events": told} for name, told in published.items()}
    logs |= {f"all {name}": {"events": told, "dialects": ALL_DIALECTS} for name, told in published.items()}
    done = subprocess.run(
        node.command("corpus.mjs"),
        input=json.dumps(logs),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "STATIC": str(STATIC)},
    )
    shown: dict[str, list[Shown]] = json.loads(done.stdout)
    return shown


def test_the_corpus_is_told_of_and_small() -> None:
    assert SOURCES.keys() == CORPUS.keys()
    assert len({source["tool"] for source in SOURCES.values()}) >= 40
    assert sum(map(len, CORPUS.values())) < BYTES
    for source in SOURCES.values():
        assert source["command"]
        assert ("version" in source) != ("written" in source), "it was run in a version, or written from what documentation shows"


@pytest.mark.parametrize("name", CORPUS)
def test_the_text_is_what_a_terminal_shows_in_the_end(viewed: dict[str, list[Shown]], name: str) -> None:
    texts = [line["text"].expandtabs().rstrip() for line in viewed[name]]
    while texts and not texts[-1]:
        texts.pop()
    assert texts == terminal(CORPUS[name])


@pytest.mark.parametrize("name", CORPUS)
def test_no_line_that_fails_is_folded(viewed: dict[str, list[Shown]], name: str) -> None:
    for lines in (viewed[name], viewed[f"all {name}"]):
        assert [line["text"] for line in lines if line["level"] == "error" and line["folded"]] == []


def test_what_failed_is_found() -> None:
    """A run that did not end well has an error among its lines, and one that did has none."""
    for name, source in SOURCES.items():
        errors = [line for line in terminal(CORPUS[name]) if level_of(line) == "error"]
        failed = "written" in source or (source["exit_code"] and not source.get("quiet")) or source.get("errors")
        assert bool(errors) == bool(failed), f"{name}: {errors}"


def test_a_failure_counts_once_however_often_it_is_told(viewed: dict[str, list[Shown]]) -> None:
    counts = {name: sum(line["failure"] for line in viewed[name]) for name in CORPUS}
    assert counts == {name: source.get("failures", 0) for name, source in SOURCES.items()}
    assert all(line["level"] == "error" for name in CORPUS for line in viewed[name] if line["failure"])


def test_python_and_the_viewer_agree_on_every_line(viewed: dict[str, list[Shown]]) -> None:
    for name in CORPUS:
        for line in viewed[name]:
            assert level_of(line["text"]) == line["level"], line["text"]


@pytest.mark.parametrize("name", CORPUS)
def test_a_copied_selection_is_what_was_printed(viewed: dict[str, list[Shown]], name: str) -> None:
    """Between any two places of the pieces of its lines stands what the terminal has between them."""
    lines, draw = viewed[name], random.Random(name)
    rows = terminal(CORPUS[name])
    for _ in range(50):
        (first, start), (last, end) = sorted(_place(lines, draw) for _ in range(2))
        copied = "\n".join(
            _between(lines[row]["pieces"], start if row == first else 0, end if row == last else None)
            for row in range(first, last + 1)
        )
        wanted = [
            lines[row]["text"][start if row == first else 0 : end if row == last else None] for row in range(first, last + 1)
        ]
        assert copied == "\n".join(wanted)
        whole = [text.expandtabs().rstrip() for text in copied.split("\n")[1:-1]]
        assert whole == (rows + [""] * len(lines))[first + 1 : last] or len(whole) == 0


def _place(lines: list[Shown], draw: random.Random) -> tuple[int, int]:
    row = draw.randrange(len(lines))
    return row, draw.randint(0, len(lines[row]["text"]))


def _between(pieces: list[str], start: int, end: int | None) -> str:
    """The text from one place to another, gathered piece by piece as a browser does it."""
    found, passed = "", 0
    for piece in pieces:
        stop = len(piece) if end is None else min(len(piece), end - passed)
        if stop > max(0, start - passed):
            found += piece[max(0, start - passed) : stop]
        passed += len(piece)
    return found
