"""Who runs a build: a lock on a file, which no way to end a process leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builds import locks

INHERITS = "import sys; print('ready', flush=True); sys.stdin.readline()"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, settings: Any) -> Path:
    settings.STATE = tmp_path
    return tmp_path


@pytest.fixture
def heir() -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A build's lock that a process has inherited, and this one no longer has."""
    lock = locks.take(1)
    command = [sys.executable, "-c", INHERITS]
    with subprocess.Popen(command, pass_fds=[lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        os.close(lock)
        assert process.stdout is not None
        process.stdout.readline()
        yield lock, process
        process.kill()


def test_nobody_runs_a_build_that_nobody_has_taken() -> None:
    assert locks.holder(1) is None


def test_a_build_is_taken_once() -> None:
    lock = locks.take(1)
    with pytest.raises(BlockingIOError):
        locks.take(1)
    assert locks.holder(2) is None, "another one is free"
    locks.release(1, lock)
    os.close(locks.take(1))


def test_its_process_is_unknown_until_it_takes_signals(state: Path) -> None:
    lock = locks.take(1)
    assert locks.holder(1) == 0
    locks.sign(lock)
    assert locks.holder(1) == os.getpid()
    locks.release(1, lock)
    assert locks.holder(1) is None
    assert list(state.iterdir()) == []


def test_the_lock_is_the_heirs_until_it_ends_in_whatever_way(heir: tuple[int, subprocess.Popen[str]]) -> None:
    _, process = heir
    assert locks.holder(1) == 0
    process.kill()
    process.wait()
    assert locks.holder(1) is None


def test_a_file_that_is_left_behind_is_no_process() -> None:
    lock = locks.take(1)
    locks.sign(lock)
    os.close(lock)
    assert locks.holder(1) is None
    os.close(locks.take(1))
