"""Tests that run at the same time, and those that are alone."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import pytest

from . import together
from .management.processes import poll

ROOT = together.HERE.parent
PATIENCE = 60.0
TESTS = """
import json, pathlib, time, pytest

@pytest.mark.parametrize("number", range(2))
def test_with_others(number):
    stay("with others")

@pytest.mark.alone
@pytest.mark.parametrize("number", range(2))
def test_alone(number):
    stay("alone")

def test_that_prints_what_has_no_utf8():
    print("caf\\udce9")
    assert "caf\\udce9" == "na\\udcefve"

def stay(how):
    came = time.monotonic()
    time.sleep(0.1)
    with pathlib.Path(__file__).with_name("stays").open("a") as file:
        file.write(json.dumps([how, came, time.monotonic()]) + "\\n")
"""
DIES_INSIDE = """
import os, pathlib, signal, sys
sys.path.insert(0, "tests")
import together
with together.in_turn(alone=True, room=pathlib.Path(sys.argv[1]), door=pathlib.Path(sys.argv[2])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def rooms(tmp_path: Path) -> dict[str, Path]:
    """A room and a door of the test's own."""
    rooms = {"room": tmp_path / "room", "door": tmp_path / "door"}
    for path in rooms.values():
        path.mkdir()
    return rooms


def environment(home: Path) -> dict[str, str]:
    """For a pytest that runs what is there, with this plugin and no others but those that it names."""
    return {**os.environ, "PYTHONPATH": f"{home}{os.pathsep}{ROOT}", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def is_free(path: Path) -> bool:
    """Whether nobody has this lock."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_who_waits_to_be_alone_comes_in_before_those_that_come_later(rooms: dict[str, Path]) -> None:
    came: list[str] = []

    def come(name: str, alone: bool) -> None:
        with together.in_turn(alone=alone, **rooms):
            came.append(name)

    with ThreadPoolExecutor(2) as threads:
        with together.in_turn(alone=False, **rooms):
            come("beside the first", alone=False)
            waits = threads.submit(come, "alone", True)
            poll("it stands in the door", lambda: not is_free(rooms["door"]))
            later = threads.submit(come, "later", False)
            with pytest.raises(TimeoutError):
                later.result(0.2)
        waits.result(PATIENCE)
        later.result(PATIENCE)
    assert came == ["beside the first", "alone", "later"]


def test_tests_that_are_alone_are_a_part_of_their_own_at_the_end() -> None:
    names = ["a.py::one", "a.py::two[x::y]", "b.py::one", "a.py::alone", "b.py::alone", "c.py::alone"]
    assert [*together.parts_of(names).items()] == [
        ("a.py::one", "a.py"),
        ("a.py::two[x::y]", "a.py"),
        ("b.py::one", "b.py"),
        ("a.py::alone", "a.py, alone"),
        ("b.py::alone", "b.py, alone"),
        ("c.py::alone", "c.py"),
    ]


def test_who_dies_inside_keeps_nobody_out(rooms: dict[str, Path]) -> None:
    words = [sys.executable, "-c", DIES_INSIDE, str(rooms["room"]), str(rooms["door"])]
    died = subprocess.run(words, cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    assert is_free(rooms["room"])
    assert is_free(rooms["door"])


def test_in_several_processes_those_that_are_alone_meet_nobody_and_a_failure_is_the_commands(tmp_path: Path) -> None:
    """A copy of the plugin has locks of its own."""
    home = tmp_path / "tests"
    home.mkdir()
    shutil.copy(together.__file__, home)
    (home / "pytest.ini").write_text("[pytest]\nmarkers = alone\n")
    for name in ("test_one.py", "test_two.py"):
        (home / name).write_text(TESTS)
    (home / "test_three.py").write_text("import pytest\n\n@pytest.mark.alone\ndef test_that_fails(): assert False\n")
    outside = {name: value for name, value in environment(home).items() if name != together.INSIDE_NAME}
    words = [sys.executable, "-m", "pytest", "-p", "together", "-p", "xdist", "-n2", "--dist=loadfile"]
    done = subprocess.run(
        words,
        cwd=home,
        env=outside,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "3 failed, 8 passed" in done.stdout.splitlines()[-1]
    stays = [json.loads(line) for line in (home / "stays").read_text().splitlines()]
    assert len(stays) == 8
    both = list(combinations(sorted(stays, key=lambda stay: stay[1]), 2))
    met = {frozenset((first[0], second[0])) for first, second in both if second[1] < first[2]}
    assert met <= {frozenset({"with others"})}


def test_a_pytest_that_a_test_runs_does_not_wait_for_who_waits_for_that_test(tmp_path: Path) -> None:
    home = tmp_path / "tests"
    home.mkdir()
    shutil.copy(together.__file__, home)
    (home / "pytest.ini").write_text("[pytest]\nmarkers = alone\n")
    (home / "test_it.py").write_text("def test_it(): pass\n")
    words = [sys.executable, "-m", "pytest", "-p", "together"]
    with together.locked(tmp_path, fcntl.LOCK_EX):  # the copy's door: somebody who must be alone stands there
        subprocess.run(words, cwd=home, env=environment(home), timeout=300, check=True)
