"""How tests run at the same time, in the processes of pytest-xdist, and how those that measure are alone all the same.

Named as a pytest plugin by ``tests/conftest.py``. What measures time, load or memory is marked with ``pytest.mark.alone``: no
other test of this checkout runs meanwhile, not even one of another pytest.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ids import ADDRESS

HERE = Path(__file__).parent
ROOM, DOOR = HERE, HERE.parent
"""Directories to lock: in the room are the tests that run, at the door is the next one that waits to come in."""
INSIDE_NAME = "DJANGO_AGENT_SSE_TESTS_INSIDE_A_TEST"
INSIDE = INSIDE_NAME in os.environ
"""Whether a test runs this pytest, as a build of the test project does: it has that test's turn, and waits for no other."""
FIRST = ("ledger", "browser", "docs", "testproject", "live", "monitor", "management")
"""Where the longest files are. Begun first, they keep no process waiting for the others at the end."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """What ``-n auto`` means: one process more than there are CPUs, as many tests wait for a server or a browser; at most eight.

    With twice as many, browsers and builds run into the limits of what they may take.
    ``-n logical`` is one for each CPU, and ``PYTEST_XDIST_AUTO_NUM_WORKERS`` says otherwise, as without this plugin.
    """
    if config.option.numprocesses == "logical" or "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return min((os.cpu_count() or 1) + 1, 8)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In such a process, begin with the longest files, and end with those that have tests which must be alone."""
    if wrong := [item.nodeid for item in items if ADDRESS.search(item.nodeid)]:
        raise pytest.UsageError(f"{wrong[0]}: the name has an address of memory; write ids=plain, from tests/ids.py")
    if not hasattr(config, "workerinput"):
        return
    last = {item.path for item in items if is_alone(item)}
    items.sort(key=lambda item: _rank(item.path, last))


def _rank(path: Path, last: set[Path]) -> int:
    if path in last:
        return len(FIRST) + 1
    folder = path.relative_to(HERE).parts[0]
    return FIRST.index(folder) if folder in FIRST else len(FIRST)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Begin a test when it may."""
    if INSIDE:
        return (yield)
    with in_turn(alone=is_alone(item)):
        os.environ[INSIDE_NAME] = "1"
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[Any]:
    """Send a report from one process to the other, whatever a test has printed: execnet gives all up at a lone surrogate."""
    return sendable((yield))


def sendable(value: Any) -> Any:
    """Data with text that has a UTF-8 form."""
    if isinstance(value, dict):
        return {sendable(name): sendable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(sendable, value))
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def is_alone(item: pytest.Item) -> bool:
    """Whether nothing else may run meanwhile."""
    return item.get_closest_marker("alone") is not None


@contextmanager
def in_turn(*, alone: bool, room: Path = ROOM, door: Path = DOOR) -> Iterator[None]:
    """Be in the room, alone or with others. Who waits to be alone stands in the door, and nobody comes in before."""
    with ExitStack() as inside:
        with locked(door, fcntl.LOCK_EX):
            inside.enter_context(locked(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
        yield


@contextmanager
def locked(path: Path, kind: int) -> Iterator[None]:
    """Hold a lock, which the system takes back where this process dies."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where a forked child has it too
        os.close(descriptor)
