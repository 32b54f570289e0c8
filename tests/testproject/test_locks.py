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
    assert not locks.is_held(1)


def test_a_build_is_taken_once() -> None:
    lock = locks.take(1)
    with pytest.raises(BlockingIOError):
        locks.take(1)
    assert locks.is_held(1)
    assert not locks.is_held(2), "another one is free"
    os.close(lock)
    assert not locks.is_held(1)


def test_whoever_asks_takes_nothing(state: Path) -> None:
    assert not locks.is_held(1)
    assert list(state.iterdir()) == []
    os.close(locks.take(1))
    assert not locks.is_held(1)
    os.close(locks.take(1))


def test_the_lock_is_the_heirs_until_it_ends_in_whatever_way(heir: tuple[int, subprocess.Popen[str]]) -> None:
    _, process = heir
    assert locks.is_held(1)
    process.kill()
    process.wait()
    assert not locks.is_held(1)


def test_a_file_that_is_left_behind_is_no_process() -> None:
    os.close(locks.take(1))
    assert locks.file_of(1).exists()
    assert not locks.is_held(1)
    os.close(locks.take(1))
