"""Nothing that a build has started outlives the process that runs the build, whatever ends that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from .server import PROJECT, alive, wait_until_gone

HOLDER = """
import os, subprocess, sys
from builds.keeper import keeper
program = "import signal; {setup}; print('ready', flush=True); signal.pause()"
child = subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
keeper.watch(child.pid)
print(child.pid, keeper._process.pid, flush=True)
sys.stdin.readline()
{then}
os._exit(0)
"""
KIND = "pass"
IGNORES = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
GRACE = 2.0
"""What the keeper gives a group, and at most what a group takes that does not ignore SIGTERM."""
Hold = Callable[..., tuple[subprocess.Popen[str], int, int]]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Start a process that holds a process group and a keeper; return it and the pids of both."""
    processes: list[subprocess.Popen[str]] = []

    def start(setup: str = KIND, then: str = "") -> tuple[subprocess.Popen[str], int, int]:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(setup=setup, then=then)],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(holder)
        assert holder.stdout is not None
        child, keeper = map(int, holder.stdout.readline().split())
        return holder, child, keeper

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def go_on(holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_that_a_signal_ends_leaves_nothing(hold: Hold, number: Any) -> None:
    holder, child, keeper = hold()
    assert alive(child)
    holder.send_signal(number)
    wait_until_gone([holder.pid, child], within=GRACE)
    wait_until_gone([keeper], within=GRACE + 2)


def test_a_server_that_leaves_at_once_leaves_nothing(hold: Hold) -> None:
    holder, child, keeper = hold()
    go_on(holder)
    wait_until_gone([holder.pid, child], within=GRACE)
    wait_until_gone([keeper], within=GRACE + 2)


def test_what_ignores_sigterm_is_killed(hold: Hold) -> None:
    holder, child, keeper = hold(IGNORES)
    holder.kill()
    wait_until_gone([child, keeper], within=GRACE + 2)


def test_a_group_is_ended_on_request_while_the_server_lives(hold: Hold) -> None:
    holder, child, keeper = hold(IGNORES, then="keeper.end(child.pid); child.wait(); sys.stdin.readline()")
    go_on(holder)
    wait_until_gone([child], within=GRACE + 2)
    assert alive(keeper)
    assert alive(holder.pid)


def test_a_keeper_that_was_ended_is_replaced(hold: Hold) -> None:
    then = "sys.stdin.readline(); keeper.watch(os.getpid() + 10**7); print(keeper._process.pid, flush=True); sys.stdin.readline()"
    holder, child, keeper = hold(then=then)
    go_on(holder)
    psutil.Process(keeper).kill()
    wait_until_gone([keeper], within=GRACE)
    go_on(holder)
    assert holder.stdout is not None
    replacement = int(holder.stdout.readline())
    assert replacement != keeper
    holder.kill()
    wait_until_gone([child], within=GRACE)
    wait_until_gone([replacement], within=GRACE + 2)
