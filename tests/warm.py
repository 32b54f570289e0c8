"""Processes of Python that begin warm: forked from one that has imported Django and the package, and has configured nothing.

``warm.Popen`` and ``warm.run`` take the place of ``subprocess``'s for ``[sys.executable, "-m", ...]`` and ``[sys.executable,
"script.py", ...]``. What they start is a process like another: a child of this one, with an environment, folder, files, session
and signals of its own, that reads its own settings and ends as Python does. It only need not import again what takes most of its
time to start (0.45 s of a processor, now 0.05). Whatever else is started, or cannot be warm, is started by ``subprocess``.

Three things differ: ``/proc/PID/cmdline`` and ``environ`` are those of the process it was forked from, modules are there that
the program has not asked for, and the hash seed is shared. What looks at these begins cold.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import inspect
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PARENT = "tests.warm_parent"
AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_")
"""Variables that are read before any program runs: what was forked cannot read others."""
PYTHON_PATH = "PYTHONPATH"
PID = 32
PR_SET_CHILD_SUBREAPER = 36
COLD = {
    "executable": None,
    "preexec_fn": None,
    "shell": False,
    "restore_signals": True,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
    "process_group": -1,
}
"""What a warm process must not be asked for: arguments of ``_execute_child`` and what they are otherwise."""
_adopting = threading.Lock()


class Popen(subprocess.Popen[Any]):
    """``subprocess.Popen``, warm where that can be."""

    def _execute_child(self, *given: Any) -> None:
        asked = inspect.signature(subprocess.Popen._execute_child).bind(self, *given).arguments  # type: ignore[attr-defined]
        if not _may_be_warm(asked):
            super()._execute_child(*given)  # type: ignore[misc]
            return
        arguments, environment = [os.fspath(word) for word in asked["args"]], dict(asked["env"] or os.environ)
        sys.audit("subprocess.Popen", arguments[0], arguments, asked["cwd"], asked["env"])
        pipes = [asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        standard = [(asked["p2cread"], 0), (asked["c2pwrite"], 1), (asked["errwrite"], 2)]
        passed = {number: given if given != -1 else number for given, number in standard}
        passed |= {number: number for number in asked["pass_fds"]}
        told = {
            "argv": arguments[1:],
            "cwd": os.fspath(asked["cwd"] or os.getcwd()),
            "environment": environment,
            "session": bool(asked["start_new_session"]),
            "numbers": [*passed],
        }
        try:
            self.pid = _parent(_read_at_start(environment)).fork(told, [*passed.values()])
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run(argv: list[str], *, input: Any = None, timeout: float | None = None, check: bool = False, **options: Any) -> Any:
    """``subprocess.run``, warm where that can be."""
    if options.pop("capture_output", False):
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Popen(argv, **options) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(argv, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _may_be_warm(asked: dict[str, Any]) -> bool:
    words = asked["args"]
    if not sys.platform.startswith("linux") or isinstance(words, str | bytes | os.PathLike):
        return False
    program, *rest = map(os.fspath, words)
    if program != sys.executable or not rest or not (rest[0] == "-m" or rest[0].endswith(".py")):
        return False
    environment = asked["env"] or os.environ
    paths = [*str(environment.get(PYTHON_PATH, "")).split(os.pathsep), os.fspath(asked["cwd"] or os.getcwd())]
    default = all(asked.get(name, usual) == usual for name, usual in COLD.items())
    return default and asked["close_fds"] and str(ROOT) in paths


def _read_at_start(environment: dict[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in environment.items() if name.startswith(AT_START) and name != PYTHON_PATH)


@functools.cache
def _parent(read_at_start: frozenset[tuple[str, str]]) -> _Parent:
    return _Parent(dict(read_at_start))


class _Parent:
    """The process that others are forked from."""

    def __init__(self, read_at_start: dict[str, str]) -> None:
        rest = {name: value for name, value in os.environ.items() if not name.startswith(AT_START)}
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", PARENT, str(theirs.fileno())],
                cwd=ROOT,
                env={**rest, **read_at_start},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._lock = threading.Lock()
        atexit.register(self.end)

    def fork(self, told: dict[str, Any], files: list[int]) -> int:
        """Have it fork a child of ours; return its process id."""
        with tempfile.TemporaryFile() as order, self._lock, _adoption():  # a message has a limit, which arguments may exceed
            order.write(json.dumps(told).encode())
            order.flush()
            socket.send_fds(self._socket, [b"fork"], [order.fileno(), *files])
            return int(self._socket.recv(PID))

    def end(self) -> None:
        """End it, as nothing is left to fork."""
        self._socket.close()
        self._process.wait()


@contextlib.contextmanager
def _adoption() -> Any:
    """For this long, a grandchild whose parent ends is a child of this process."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    with _adopting:
        try:
            assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
            yield
        finally:
            prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
