"""Processes that begin warm are like others: children of this one, with what they were given, that end as Python does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import warm

SAYS = """
import json, os, sys
print(json.dumps({
    "parent": os.getppid(), "session": os.getsid(0), "folder": os.getcwd(), "argv": sys.argv[1:], "name": __name__,
    "has": os.environ.get("GIVEN"), "not": os.environ.get("HOME"), "open": len(os.listdir("/proc/self/fd")), "path": sys.path[:2],
    "read": sys.stdin.read(), "settings": "django.conf" in sys.modules and sys.modules["django.conf"].settings.configured,
}))
print("é", file=sys.stderr)
"""


LONG_WORDS = ["x" * 100_000] * 5


@pytest.fixture
def program(tmp_path: Path) -> Any:
    """``program(code)``: the command line of a program, and where it runs."""

    def write(code: str) -> tuple[list[str], dict[str, Any]]:
        (tmp_path / "program.py").write_text(code)
        environment = {**{name: os.environ[name] for name in ("PATH",)}, "PYTHONPATH": str(warm.ROOT), "GIVEN": "this"}
        return [sys.executable, str(tmp_path / "program.py")], {"cwd": tmp_path, "env": environment}

    return write


@pytest.mark.parametrize("module", [subprocess, warm], ids=["cold", "warm"])
def test_a_process_has_what_it_is_given_and_nothing_else(module: Any, program: Any, tmp_path: Path) -> None:
    argv, options = program(SAYS)
    done = module.run(
        [*argv, "a", "b c", *LONG_WORDS], input="typed", capture_output=True, text=True, start_new_session=True, **options
    )
    assert (done.returncode, done.stderr) == (0, "é\n")
    told = json.loads(done.stdout)
    assert told.pop("session") != os.getsid(0)
    assert told == {
        "parent": os.getpid(),
        "folder": str(tmp_path),
        "argv": ["a", "b c", *LONG_WORDS],
        "name": "__main__",
        "has": "this",
        "not": None,
        "open": 4,
        "path": [str(tmp_path), str(warm.ROOT)],
        "read": "typed",
        "settings": False,
    }


@pytest.mark.parametrize("module", [subprocess, warm], ids=["cold", "warm"])
@pytest.mark.parametrize(
    ("code", "ends", "says"),
    [
        ("import sys; sys.exit(7)", 7, ""),
        ("raise SystemExit('told')", 1, "told"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import atexit; atexit.register(print, 'last')", 0, ""),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT); signal.pause()", -2, "KeyboardInterrupt"),
    ],
    ids=["exit", "message", "exception", "atexit", "killed", "interrupted"],
)
def test_a_process_ends_as_python_does(module: Any, program: Any, code: str, ends: int, says: str) -> None:
    argv, options = program(code)
    done = module.run(argv, capture_output=True, text=True, **options)
    assert done.returncode == ends
    assert says in done.stderr
    assert done.stdout == ("last\n" if "atexit" in code else "")


def test_a_module_is_run_as_with_m_and_finds_descriptors_that_were_passed_on(tmp_path: Path) -> None:
    given, taken = os.pipe()
    code = f"import os, sys; os.write({taken}, sys.argv[0].encode())"
    options: dict[str, Any] = {"cwd": warm.ROOT, "env": {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.site.settings"}}
    process = warm.Popen([sys.executable, "-m", "django", "shell", "-v0", "-c", code], pass_fds=[taken], **options)
    with open(given, "rb") as file:
        os.close(taken)
        assert file.read().endswith(b"django/__main__.py")
    assert process.wait() == 0


def test_it_can_be_signalled_waited_for_and_seen_like_any_child(program: Any) -> None:
    argv, options = program("import signal; print('ready', flush=True); signal.pause()")
    with warm.Popen(argv, stdout=subprocess.PIPE, text=True, **options) as process:
        assert process.stdout.readline() == "ready\n"
        assert process.poll() is None
        assert process.pid in [child.pid for child in psutil.Process().children()]
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM


def test_what_cannot_be_warm_is_started_all_the_same(program: Any) -> None:
    argv, options = program("print('here')")
    elsewhere = {**options, "env": {"PATH": os.environ["PATH"]}}  # another package might be found from there
    for words, about in (([sys.executable, "-c", "print('here')"], {}), (["echo", "here"], {}), (argv, elsewhere)):
        assert warm.run(words, capture_output=True, text=True, **about).stdout == "here\n"


def test_a_program_that_is_not_there_is_told_as_python_tells_it() -> None:
    done = warm.run([sys.executable, "-m", "no.such.module"], cwd=warm.ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "No module named" in done.stderr
