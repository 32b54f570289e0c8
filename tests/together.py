"""How tests run at the same time, in the processes of pytest-xdist, and how those that measure are alone all the same.

Named as a pytest plugin by ``tests/conftest.py``. What measures time, load or memory is marked with ``pytest.mark.alone``: no
other test of this checkout runs meanwhile, not even one of another pytest.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
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
FIRST = ("ledger/", "browser/", "docs/", "testproject/", "live/", "monitor/", "management/", "cost/", "eventlog/", "streams/")
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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file is a process's as a whole, but for its tests that must be alone: they are another part, which comes at the end."""
    from xdist.scheduler import LoadFileScheduling

    class InParts(LoadFileScheduling):
        def add_node_collection(self, node: Any, collection: Sequence[str]) -> None:
            self.parts = parts_of(collection)
            super().add_node_collection(node, collection)

        def _split_scope(self, nodeid: str) -> str:
            return self.parts[nodeid]

    return InParts(config, log) if config.option.dist == "loadfile" else None


def parts_of(names: Sequence[str]) -> dict[str, str]:
    """The part that each test belongs to: its file, or another one where tests of the file come a second time."""
    parts: dict[str, str] = {}
    begun: dict[str, str] = {}
    before = ""
    for name in names:
        file = name.partition("::")[0]
        if file != before:
            begun[file] = f"{file}, alone" if file in begun else file
        parts[name], before = begun[file], file
    return parts


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In such a process, begin with the longest files, and end with the tests that must be alone."""
    if wrong := [item.nodeid for item in items if ADDRESS.search(item.nodeid)]:
        raise pytest.UsageError(f"{wrong[0]}: the name has an address of memory; write ids=plain, from tests/ids.py")
    if not hasattr(config, "workerinput"):
        return
    items.sort(key=lambda item: (is_alone(item), _rank(item.path)))


def _rank(path: Path) -> int:
    """The place of what it begins with in ``FIRST``."""
    name = path.relative_to(HERE).as_posix()
    return next((place for place, start in enumerate(FIRST) if name.startswith(start)), len(FIRST))


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
