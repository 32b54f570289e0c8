"""The project as a Django project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.servers import ROOT

from .server import MANAGE, environment


@pytest.mark.parametrize(
    "command", [("check", "--fail-level", "WARNING"), ("makemigrations", "--check", "--dry-run"), ("migrate", "--verbosity", "0")]
)
def test_manage(tmp_path: Path, command: tuple[str, ...]) -> None:
    own = {**environment(tmp_path), "DJANGO_SETTINGS_MODULE": "testproject.settings"}
    done = subprocess.run([sys.executable, MANAGE, *command], cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_state_is_where_the_environment_says(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    subprocess.run([sys.executable, MANAGE, "migrate", "-v", "0"], cwd=ROOT, env=environment(state), check=True)
    assert [path.name for path in state.iterdir()] == ["db.sqlite3"]
