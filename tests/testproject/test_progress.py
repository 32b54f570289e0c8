"""How far a build is, read from what it prints, and the changes that wake whoever is told."""

from __future__ import annotations

import pytest
from builds.progress import Meter, Progress


def test_nothing_is_known_of_a_build_that_says_nothing() -> None:
    meter = Meter()
    assert not meter.feed(["one", "100%", "[100%] done", "==> no step", "[ 42%] "])
    assert meter.progress == Progress(fraction=None, step=None)


def test_the_percentage_of_pytest_is_the_progress() -> None:
    meter = Meter()
    seen = []
    for line in ("tests/test_one.py::test_a PASSED      [  7%]", "tests/test_two.py ......      [ 42%]", "....  [100%]"):
        assert meter.feed([line])
        seen.append(meter.progress.fraction)
    assert seen == [0.07, 0.42, 1.0]
    assert meter.progress.step is None


def test_steps_share_the_whole_and_percentages_count_within_their_step() -> None:
    meter = Meter()
    seen = []
    for line in ("==> 1/4 Compile", "==> Compile: passed", "==> 2/4 Test", "x [ 50%]", "==> 4/4 Wheel"):
        meter.feed([line])
        seen.append((meter.progress.fraction, meter.progress.step))
    assert seen == [(0, "1/4 Compile"), (0, "1/4 Compile"), (0.25, "2/4 Test"), (0.38, "2/4 Test"), (0.75, "4/4 Wheel")]


def test_many_lines_tell_the_last_state_once() -> None:
    meter = Meter()
    assert meter.feed([f"test_{number} PASSED [{number:3}%]" for number in range(101)])
    assert meter.progress.fraction == 1
    assert not meter.feed(["test_again PASSED [100%]"]), "nothing has changed"


@pytest.mark.parametrize(
    "line",
    ["==> 3/2 Too far", "==> 0/2 Too early", "==> 1/0 None", "==> 1/99999999 Long", "==> 1/2", "x [101%]", "[%]"],
)
def test_what_makes_no_sense_is_no_progress(line: str) -> None:
    meter = Meter()
    assert not meter.feed([line])
    assert meter.progress == Progress()
