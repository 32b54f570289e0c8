"""Every regular expression of the package takes time that grows no faster than its input."""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from django_agent_sse.wire import levels
from tests.timing import LONG

from .worst import ASSEMBLED, WORST, Build, Use, repeated

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "django_agent_sse"
CALLS = {"compile", "search", "match", "fullmatch", "sub", "subn", "split", "findall", "finditer", "template"}
SIZES = (10_000, 100_000, 1_000_000) if LONG else (10_000, 100_000)
GROWTH = 30
"""Ten times the input may take so many times as long: a busy machine included, and a square, which is a hundred, not."""
NOISE = 0.001
"""Seconds of processor time below which nothing is compared."""


def expressions() -> Iterator[tuple[str, str]]:
    """Each pattern that is given to ``re``, as it is at run time, and where it stands; its source where it is assembled."""
    for path in sorted(HOME.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ImportFrom):
                assert node.module not in {"re", "regex"}, (
                    f"{where}: write `import re`, so that this test finds what is used of it"
                )
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS):
                continue
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "re":
                pattern = node.args[0] if node.args else next(one.value for one in node.keywords if one.arg == "pattern")
                module = importlib.import_module(name)
                if module is levels and isinstance(pattern, ast.Name):  # the table of rules
                    yield from ((rule, where) for _, rule in levels.RULES)
                    continue
                source = f"{path.relative_to(ROOT)}: {ast.unparse(pattern)}"
                if source in ASSEMBLED:
                    yield source, where
                else:
                    yield eval(compile(ast.Expression(pattern), where, "eval"), vars(module)), where


def seconds(call: Callable[[str], object], text: str) -> float:
    """The processor time of the fastest of three calls."""
    times = []
    for _ in range(3):
        began = time.process_time()
        call(text)
        times.append(time.process_time() - began)
    return min(times)


def check_growth(call: Callable[[str], object], build: Build, sizes: tuple[int, ...] = SIZES) -> None:
    """Fail where time grows faster than the input; before the largest, which would take for ever."""
    before = seconds(call, build(sizes[0]))
    for smaller, size in pairwise(sizes):
        now, most = seconds(call, build(size)), GROWTH * max(before, NOISE)
        for _ in range(3):  # unless this machine did much else meanwhile: both again, one right after the other
            if now < most:
                break
            before, now = seconds(call, build(smaller)), seconds(call, build(size))
            most = GROWTH * max(before, NOISE)
        shown = build(40)
        assert now < most, f"{size:,} characters like {shown!r}: {before:.4f} s became {now:.4f} s"
        before = now


def _text(pattern: str | bytes) -> str:
    """An expression of bytes is tried on text: it costs the same."""
    return pattern.decode("ascii") if isinstance(pattern, bytes) else pattern


def test_every_expression_has_its_worst_inputs() -> None:
    found = {_text(pattern): where for pattern, where in expressions()}
    known = WORST.keys() | ASSEMBLED.keys()
    missing = {pattern: where for pattern, where in found.items() if pattern not in known}
    assert missing == {}, "name the worst inputs of each in tests/cost/worst.py"
    assert known - found.keys() == set(), "the package has these no more"


@pytest.mark.parametrize("pattern", WORST)
def test_time_grows_no_faster_than_the_input(pattern: str) -> None:
    check_use(re.compile(pattern), WORST[pattern])


@pytest.mark.parametrize("source", ASSEMBLED)
def test_nor_with_what_is_assembled_at_run_time(source: str) -> None:
    uses = [*ASSEMBLED[source]()]
    assert uses
    for compiled, use in uses:
        check_use(compiled, use)


def check_use(compiled: re.Pattern[str], use: Use) -> None:
    """Fail where one of its worst inputs takes time that grows faster than the input."""
    method = getattr(compiled, use.method)
    call = (lambda text: method("", text)) if use.method == "sub" else method
    for build in use.inputs:
        check_growth(call, build, use.sizes or SIZES)


@pytest.mark.parametrize(
    ("pattern", "part", "sizes"),
    [
        (r"[^\n]*\r(?=[^\r\n])", "a", (3_000, 30_000)),
        (r"Version/(\d+)[^ ]* (?:Mobile/\S+ )?Safari/", "Version/1", (10_000, 100_000)),
    ],
)
def test_a_square_is_seen(pattern: str, part: str, sizes: tuple[int, int]) -> None:
    with pytest.raises(AssertionError, match="characters like"):
        check_growth(re.compile(pattern).search, repeated(part), sizes=sizes)
