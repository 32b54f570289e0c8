"""What the agent makes of logs: the real failures of a real run, other programs' complaints, and logs without any."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from builds.agent import MOST, Reader, tokens, triage
from hypothesis import given
from hypothesis import strategies as st

from .server import PROJECT

SHOP = PROJECT / "scripts" / "shop"
WITHOUT_PLUGINS = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
REMOVING = "test_cart.py::test_removing_what_is_not_there_changes_nothing"
CENTS = ("test_prices.py::test_a_discount_is_in_whole_cents[19.99-15-16.99]", "[7.77-12-6.84]")


def read(*lines: str) -> Reader:
    reader = Reader()
    for number, line in enumerate(lines, 1):
        reader.feed(number, line)
    return reader


@pytest.fixture(scope="module")
def shop() -> list[str]:
    """What the tests of the shop print."""
    command = [sys.executable, "-m", "pytest", "-v"]
    done = subprocess.run(command, cwd=SHOP, env=WITHOUT_PLUGINS, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stdout.splitlines()


def test_the_failing_tests_of_a_real_run_are_named_with_their_places_and_causes(shop: list[str]) -> None:
    reader = read(*shop)
    text = triage(reader, "failed", 1)
    assert "3 of 9 tests failed" in text
    for told in (REMOVING, *CENTS, "`KeyError: 'paper'`", "`shop.py:25`, once", "`test_prices.py:9`, 2 times"):
        assert told in text
    assert "rounding" in text
    assert "`discounted()` gave it" in text
    assert "It explains 2 of 3 failures." in text
    assert "The key `paper` is taken to be there" in text
    assert "test_all_off_is_free" not in text
    assert (SHOP / "shop.py").read_text().splitlines()[24].strip() == "del self.items[name]"


def test_the_lines_that_are_linked_tell_of_the_failure(shop: list[str]) -> None:
    for finding in read(*shop).tests.values():
        assert finding.what.partition("::")[2] in shop[finding.line - 1]


@pytest.mark.parametrize("options", [["-q"], ["--tb=short"], ["--tb=line"], ["--tb=no"], ["--color=yes"]])
def test_any_report_of_pytest_is_read(options: list[str]) -> None:
    command = [sys.executable, "-m", "pytest", *options]
    wide = {**WITHOUT_PLUGINS, "COLUMNS": "200"}  # pytest shortens what it sums up to the terminal's width
    done = subprocess.run(command, cwd=SHOP, env=wide, capture_output=True, text=True, check=False)
    text = triage(read(*done.stdout.splitlines()), "failed", 1)
    assert "3 of 9 tests failed" in text
    for told in (REMOVING, *CENTS, "KeyError: 'paper'"):
        assert told in text


def test_a_traceback_outside_of_tests() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "/srv/main.py", line 3, in <module>',
        "    import nothing",
        '  File "/srv/other.py", line 12, in load',
        "    raise",
        "ModuleNotFoundError: No module named 'nothing'",
    ]
    text = triage(read("begin", *lines, "end", *lines), "failed", 1)
    assert "- `/srv/other.py:12`, 2 times, #L2: `ModuleNotFoundError: No module named 'nothing'`" in text
    assert "`nothing` is not installed where the build runs." in text


def test_the_errors_of_a_compiler() -> None:
    text = triage(read("main.c:3:14: error: 'x' undeclared", "main.c:9: fatal error: no.h: No such file"), "failed", 2)
    assert "- `main.c:3`, #L1: `'x' undeclared`" in text
    assert "- `main.c:9`, #L2: `no.h: No such file`" in text
    assert "A name that nothing defines" in text


@pytest.mark.parametrize(
    ("status", "exit_code", "says"),
    [
        ("passed", 0, "Nothing: the build passed."),
        ("failed", 3, "exit code 3, and the log names no error"),
        ("failed", 127, "The program does not exist"),
        ("failed", -9, "memory runs out"),
        ("failed", -15, "Signal 15 ended the build"),
        ("cancelled", -15, "Somebody cancelled"),
        ("lost", None, "was killed"),
    ],
)
def test_builds_whose_log_says_nothing(status: str, exit_code: int | None, says: str) -> None:
    assert says in triage(read("one", "two"), status, exit_code)


def test_passed_tests_are_counted() -> None:
    assert "Nothing. 12 tests passed." in triage(read("===== 12 passed in 0.3s ====="), "passed", 0)


def test_what_is_lost_of_a_log_is_told() -> None:
    reader = read("FAILED test_a.py::test_b - AssertionError: no")
    reader.missing = 2560
    assert "2,560 lines of the log are no longer kept" in triage(reader, "failed", 1)


def test_a_log_of_nothing_but_failures_is_bounded() -> None:
    reader = Reader()
    for number in range(20 * MOST):
        reader.feed(number, f"FAILED test_{number}.py::test - {'x' * 5000}")
        reader.feed(number, f"a.c:{number}: error: {'y' * 5000}")
        reader.feed(number, f"_____ test_{number} _____")
    assert len(reader.tests) == len(reader.errors) == len(reader.times) == MOST
    text = triage(reader, "failed", 1)
    assert f"- and {2 * MOST - 20} more" in text
    assert len(text) < 20_000


ALMOST = [
    "FAILED ",
    "___ x ___",
    "=== 1 failed ===",
    "E   ",
    "a:1: error: b",
    "Traceback (",
    '  File "a", line 1',
    "x: y: error: ",
]


@given(st.lists(st.text() | st.sampled_from(ALMOST)))
def test_no_log_is_too_odd(lines: list[str]) -> None:
    text = triage(read(*lines), "failed", 1)
    assert text.startswith("## What failed")
    assert "".join(tokens(text)) == text
