"""The runner of these tests in the background, where it ignores signals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
INSIDE = """
import os, re, signal, subprocess

def test_what_a_child_ignores():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGHUP)
    status = subprocess.run(["cat", "/proc/self/status"], stdout=subprocess.PIPE, text=True).stdout
    ignored = int(re.search("SigIgn:\\t(.*)", status)[1], 16)
    print("ignores", *(name for name in ("SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM") if ignored >> getattr(signal, name) - 1 & 1))
"""


@pytest.mark.parametrize(
    ("plugin", "ignores"),
    [([], "ignores SIGINT SIGQUIT SIGHUP\n"), (["-p", "tests.background"], "ignores\n")],
    ids=["pytest by itself", "these tests"],
)
def test_children_of_a_runner_that_ignores_signals_hear_them(tmp_path: Path, plugin: list[str], ignores: str) -> None:
    """And the runner itself goes on ignoring them."""
    (tmp_path / "test_inside.py").write_text(INSIDE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:django", "-p", "no:asyncio", *plugin, "-qs"]
    done = subprocess.run(
        ["sh", "-c", 'trap "" INT QUIT HUP; exec "$@"', "sh", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert ignores in done.stdout
