"""The worst inputs of every regular expression of the package: what makes it look furthest, and fail last."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django_agent_sse.eventlog.line_matcher import _UNSEEN
from django_agent_sse.runs.fold import DeltaFold, _Joined
from django_agent_sse.runtime.safe_text import _UNSAFE
from django_agent_sse.wire import levels
from django_agent_sse.wire.drawing import _SECTION, _UNFINISHED
from django_agent_sse.wire.screen import _LINK, MOVES, TOKENS
from tests.runs.samples import SAMPLES

Build = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Use:
    """How the package uses an expression, and what is worst for that.

    Args:
        method: Of ``re.Pattern``.
        inputs: Each makes a text of about so many characters.
        sizes: Characters that are tried, where the package cuts what it gives.
    """

    method: Literal["search", "match", "fullmatch", "split", "sub", "findall"]
    inputs: tuple[Build, ...]
    sizes: tuple[int, ...] | None = None


def repeated(part: str, *, before: str = "", after: str = "") -> Build:
    """``part`` again and again."""
    return lambda size: before + part * (size // len(part)) + after


def halves(first: str, second: str, *, before: str = "", after: str = "") -> Build:
    """One part again and again, and then another one."""
    return lambda size: before + first * (size // 2 // len(first)) + second * (size // 2 // len(second)) + after


_LONG = "\x1b[" + "0;" * 30

_PARTS = [
    "x",
    "A",
    "1",
    ".",
    ":",
    "-",
    "=",
    "a.",
    "A.",
    "a:",
    "a::",
    "a-",
    "1:",
    "(",
    "[",
    "...",
    "::error",
    "a.go:1:1",
    "FAILED",
]
_LINES = (
    *(
        repeated(part)
        for part in (*_PARTS, " ", "\t", "a ", "a=b ", 'a="b" ', "1: ", "a:1: ", ": Assertion ", " FAILED ", "[ 1%]", "| ")
    ),
    *(repeated(part) for part in ("exit code 1", "a: error", "1 runs 1", "(0 errors, ", "#1 ")),
    *(repeated("a", before=before) for before in ("ok ", "{", "a ok=1 ")),
    *(repeated(" ", before=before) for before in ("20:00:00 a", "a FAILED", "Failed")),
    repeated("1 ", before="1 runs "),
    repeated('"level":', before="{"),
    repeated(" a", before="20:00:00"),
    repeated("-", before="20:00:00"),
    repeated("x", before="::error "),
    repeated(":x", before="::error "),
    repeated("#", before="not ok "),
    repeated("failed=", before="a : ok=1 "),
)
"""What the rules of levels look furthest in."""

WORST: Mapping[str, Use] = {
    # logs
    r"\x1b\[[0-?]*[ -/]*(?:[@-~]|\Z)|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]": Use(
        "sub",
        (
            repeated("\x1b["),
            repeated("\x1b[0"),
            repeated("0", before="\x1b[", after="\n"),
            halves("0", " ", before="\x1b[", after="\n"),
            repeated("\x1b]"),
            repeated("x", before="\x1b]"),
            repeated("\x1b"),
            repeated(" ", before="\x1b", after="\n"),
            repeated("\x00"),
            repeated("\r"),
            repeated("x"),
        ),
    ),
    # wire.levels: of a line that is cut before
    levels._BARE.pattern: Use("match", (repeated(" "), repeated("E "), repeated("1", before="E"))),
    levels._PREFIX.pattern: Use(
        "match",
        (repeated("| "), repeated("a"), repeated(" "), repeated("1", before="#1 "), repeated(" ", before="a"), repeated("│")),
    ),
    levels._CONTROL.pattern: Use(
        "sub",
        (
            repeated("\x1b["),
            repeated("0", before="\x1b["),
            repeated("\x1b]"),
            repeated("x", before="\x1b]"),
            repeated(" ", before="\x1b"),
        ),
    ),
    _UNSEEN.pattern: Use("search", (repeated("x"), repeated("\n"), repeated("\u00e9"))),
    levels._STAMP.pattern: Use("match", (repeated("1", before="2026-11-25T"), repeated("2026-11-25T20:00:00Z "))),
    levels._SECTION.pattern: Use(
        "sub",
        (
            repeated("section_"),
            repeated("section_end:1:a\r"),
            repeated("section_start:1:"),
            repeated("section_end:1:a["),
            repeated("a", before="section_end:1:"),
        ),
    ),
    levels._PROPERTIES.pattern: Use(
        "match", (repeated("a", before="::error "), repeated(":", before="::error "), repeated("a", before="::"))
    ),
    levels._PLACE.pattern: Use(
        "search",
        (
            repeated("a"),
            repeated("a."),
            repeated(".py"),
            repeated("a.py:"),
            repeated(" "),
            repeated("C:/"),
            repeated(":"),
            repeated("Makefile"),
        ),
    ),
    levels._NUMBER.pattern: Use("match", (repeated("1"),)),
    # logs
    r"-?[0-9]{1,19}": Use("fullmatch", (repeated("9"), repeated("-"))),
    r"[^A-Za-z0-9._-]+": Use("sub", (repeated(" "), repeated(" a"), repeated("a"))),
    r"(?::[^\n]*\n)*(?:event: ([^\n]*)\n)?(?:retry: [0-9]+\n)?data: ": Use(
        "match",
        (
            repeated(":\n"),
            repeated(":"),
            repeated("e", before="event: "),
            repeated("event: \n"),
            repeated("1", before="retry: "),
            repeated(":\n", after="event: a\nretry: 1\ndat"),
        ),
    ),
    # wire.screen, wire.drawing
    MOVES.pattern: Use(
        "search",
        (
            repeated("\x1b["),
            repeated("\x1b[0"),
            repeated("0", before="\x1b["),
            repeated("0;", before="\x1b["),
            repeated("\x1b"),
            repeated("\r", after="\n"),
            repeated("\r\n"),
            repeated("\x1b[K"),
            repeated("\x1b[31m"),
            repeated("x"),
        ),
    ),
    TOKENS.pattern: Use(
        "search",
        (
            repeated("x"),
            repeated("0", before="\x1b["),
            repeated("0", before="\x1b[", after="\n"),
            halves("0", " ", before="\x1b[", after="\n"),
            repeated("x", before="\x1b]"),
            repeated("\x1b]"),
            repeated("\x1bP"),
            repeated(" ", before="\x1b", after="\n"),
            repeated("\x1b["),
        ),
    ),
    _LINK.pattern: Use(
        "fullmatch",
        (repeated(";", before="\x1b]8;"), repeated("x", before="\x1b]8;;"), repeated("\x1b\\", before="\x1b]8;;", after="x")),
    ),
    _UNFINISHED.pattern.decode(): Use(
        "search",
        (
            repeated("section_"),
            repeated("section"),
            repeated("x", before="section_"),
            repeated("\x1b["),
            repeated("\x1b[0"),
            repeated("\r"),
            repeated("\r\x1b["),
            repeated("0", before="\r\x1b["),
            repeated("\x1b]"),
            repeated("x", before="\x1b]"),
            repeated("\x1b]x"),
            repeated("\x1b "),
            repeated("s"),
            repeated("\ns"),
        ),
    ),
    _SECTION.pattern.decode(): Use(
        "sub",
        (
            repeated("section_start:1:"),
            repeated("section_start:1:a["),
            repeated("x", before="section_start:1:"),
            repeated("section_start:1:a\r"),
            repeated("section_start:1:a[" + "x" * 200),
        ),
    ),
    # routing
    r"[^A-Za-z0-9_]+": Use("sub", (repeated("-"), repeated("-a"), repeated("a"))),
    r"(?:^|/):(\w+)": Use("search", (repeated("/"), repeated("/:"), repeated(":"), repeated("a", before=":"), repeated("/a:"))),
    # guards, eventlog, streams
    r"\w+(\.\w+)+": Use("fullmatch", (repeated("a"), repeated("a."), repeated("a.a", after="-"), repeated("."))),
    r"[!#$%&'*+.^_`|~0-9A-Za-z-]+": Use("fullmatch", (repeated("a", after=" "), repeated(" "))),
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]": Use("search", (repeated("a"), repeated("\t"))),
    r"[\x00-\x1f\x7f;]": Use("search", (repeated("a"), repeated(" "))),
    r"\\u[dD][89a-fA-F]": Use("search", (repeated("\\"), repeated("\\u"), repeated("\\ud"), repeated("\\ud7"))),
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}": Use(
        "sub", (repeated("\\ud83d"), repeated("\\ud83d\\ude0"), repeated("\\ud83d\\ude00"), repeated("\\"))
    ),
    r"[A-Za-z0-9_.:-]{1,100}": Use("fullmatch", (repeated("a"), repeated("a", after=" "))),
    r"([0-9a-z]{6})(?:([A-Za-z]{8})([0-9a-z]{1,13})([A-Z]{6})?)?": Use("fullmatch", (repeated("a"), repeated("a0"))),
    r"([A-Za-z]{8})\.(0|[1-9][0-9]{0,18})(?:\.([A-Z]{6}))?": Use(
        "fullmatch", (repeated("a"), repeated("1", before="abcdefgh."), repeated("A", before="abcdefgh.1."))
    ),
    r"[A-Za-z_]\w*": Use("fullmatch", (repeated("a", after="-"), repeated("a"))),
    "([%_!])": Use("sub", (repeated("%"), repeated("a"))),
    r"([\\*?\[\]^-])": Use("sub", (repeated("*"), repeated("a"))),
    # streams.client, checks
    r"\b(?!(?:Mozilla|AppleWebKit|Gecko)/)[A-Za-z][\w.-]{0,39}/\d[\w.]{0,19}": Use(
        "findall", (repeated("a"), repeated("a."), repeated("a-"), repeated("a/"), repeated("a/1 "), repeated("Gecko/1 "))
    ),
    r"(?:agent_sse_monitor|django_agent_sse)[_/]livestreams": Use(
        "search", (repeated("agent_sse_monitor"), repeated("django_agent_sse_"), repeated("django_agent_sse/live"))
    ),
    # management
    r"\x1b\[[0-9;:]{0,60}m": Use(
        "sub",
        (
            repeated("\x1b["),
            repeated("\x1b[0"),
            repeated("0;", before="\x1b["),
            repeated("\x1b[" + "0;" * 30),
            repeated("\x1b[0m"),
        ),
    ),
    r"(\x1b\[[0-9;:]{0,60}m|\t)": Use(
        "split",
        (repeated("\x1b["), repeated("0;", before="\x1b["), repeated(_LONG), repeated("\x1b[0m"), repeated("\t")),
    ),
    "[^ -~]+": Use("sub", (repeated("\n"), repeated("\na"), repeated("a"))),
    # run_names, run_views, runs
    r"<\w+:(?:sse_run|sse_run_key)>[/a-z]*$": Use(
        "sub",
        (repeated("<"), repeated("<a"), repeated("<a:"), repeated("<a:sse_run>"), repeated("a", before="<a:sse_run>", after="A")),
    ),
    "[^A-Za-z0-9_-]+": Use("sub", (repeated(" "), repeated(" a"), repeated("a"))),
    "[\ud800-\udfff]": Use("search", (repeated("a"), repeated("\U0010ffff"))),
    "run_[A-Za-z0-9_-]{16}(?:[A-Za-z0-9_-]{11})?": Use(
        "fullmatch", (repeated("a", before="run_"), repeated("run_"), repeated("a" * 27, before="run_"))
    ),
    # contrib/monitor/admin/export
    r"(^|;)(?=[ \"']*[=+@＝＋－＠-])": Use(
        "sub", (repeated(";"), repeated("; '"), repeated(" ", before=";"), repeated(";=")), sizes=(1_000, 2_000, 4_000)
    ),
    # safetext
    _UNSAFE.pattern: Use("sub", (repeated("\n"), repeated("\U000e0001a"), repeated("a"))),
    r"(\d+(?:\.\d+)?)([smhdw])": Use("fullmatch", (repeated("1"), halves("1", "1", after="."), repeated("1", before="1."))),
    r"(\d+)([kmg]?)i?b?": Use("fullmatch", (repeated("1", after="x"), repeated("1", after="kibx"))),
    r'("[^"\\]*+(?:\\.[^"\\]*+)*+"?)|\s++': Use(
        "sub",
        (
            repeated('"'),
            repeated('\\"', before='"'),
            repeated("\\", before='"'),
            repeated('"a'),
            repeated("a", before='"'),
            repeated(" ", after="x"),
            repeated(" x"),
        ),
    ),
}
WORST = {**WORST, **{pattern: Use("match", _LINES, sizes=(1_000, 10_000)) for _, pattern in levels.RULES}}


def _folds() -> Iterator[tuple[DeltaFold, Any, str]]:
    """Each wire's fold, one delta of a text as its protocol has it, and what stands in it before that text."""
    for sample in SAMPLES.values():
        fold = sample.wire.fold
        assert isinstance(fold, DeltaFold)
        (event,) = (
            event for event in sample.events([("text", ["zzz"])]) if event.data.count("zzz") == 1 and "elta" in event.data
        )
        yield fold, event, event.data.partition("zzz")[0]


def _members() -> Iterator[tuple[re.Pattern[str], Use]]:
    for fold, _, before in _folds():
        key = before[before.rindex(",") + 1 :].rpartition("{")[2].rstrip('"')  # as in "delta":
        parts = (f'{key}"', key, f"{key} ", '"', f'"{key}', '\\"', f'{key}"\n', f'{key}"\\')
        spaces = repeated(" ", before=key.rstrip(":"))
        yield (
            fold._members,
            Use("split", (*map(repeated, parts), spaces, *(repeated(part, before=f'{key}"') for part in ("a", "\\")))),
        )


def _joined(which: int, method: Literal["fullmatch", "findall"]) -> Iterator[tuple[re.Pattern[str], Use]]:
    for fold, event, before in _folds():
        pieces = fold._pieces(event.data)
        place = fold._find(pieces)
        assert place is not None
        pattern = _Joined(event, pieces, place)._make_patterns()[which]
        lines = (event.data + "\n", event.data[:-1] + "\n", before + "\n", before, "\n")
        parts = ("a", '"', "\\", '\\"', "\n", event.data)
        yield pattern, Use(method, (*map(repeated, lines), *(repeated(part, before=before) for part in parts)))


ASSEMBLED: Mapping[str, Callable[[], Iterator[tuple[re.Pattern[str], Use]]]] = {
    """django_agent_sse/runs/fold.py: f'("(?:{keys})"\\\\s*:\\\\s*{_STRING}{counted})'""": _members,
    "django_agent_sse/runs/fold.py: text": lambda: _joined(0, "fullmatch"),
    "django_agent_sse/runs/fold.py: f'^{text}$'": lambda: _joined(1, "findall"),
}
"""Expressions that are assembled at run time, by the file and the source: each as it is made for each wire."""
