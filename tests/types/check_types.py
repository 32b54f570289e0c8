"""A small project as type checkers see it: errors on the lines that are marked, and on no other. Run by ``tox run -e types``.

pyright comes as ``basedpyright``, which brings its own Node.js from PyPI; in its standard mode it reports what pyright reports.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import django_agent_sse

PROJECT = Path(__file__).parent / "project"
MARKED = {
    (path.name, number)
    for path in PROJECT.glob("*.py")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    if line.endswith("# error")
}


def mypy(folder: Path) -> set[tuple[str, int]]:
    (folder / "mypy.ini").write_text("[mypy]\nstrict = true\npython_version = 3.11\nno_error_summary = true\n")
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache", "project"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    print(*(line for line in done.stdout.splitlines() if " error: " in line), sep="\n")
    found = re.findall(r"^(.*?):(\d+): error: ", done.stdout, re.MULTILINE)
    return {(Path(path).name, int(line)) for path, line in found}


def pyright(folder: Path) -> set[tuple[str, int]]:
    about = {"include": ["project"], "typeCheckingMode": "standard", "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(about))
    command = [sys.executable, "-m", "basedpyright", "-p", folder, "--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    told = json.loads(done.stdout)["generalDiagnostics"]
    print(*(f"{one['file']}:{one['range']['start']['line'] + 1} {one['message']}" for one in told), sep="\n")
    return {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in told if one["severity"] == "error"}


@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
def test_wrong_uses_are_errors_on_their_lines_and_right_ones_are_none(checker, tmp_path):  # type: ignore[no-untyped-def]
    assert len(MARKED) > 35
    shutil.copytree(PROJECT, tmp_path / "project")  # elsewhere, so that it uses the package as it is installed
    assert checker(tmp_path) == MARKED


def test_the_package_says_that_it_is_typed():  # type: ignore[no-untyped-def]
    """Without this file checkers take everything for ``Any``, and no line above would be an error."""
    assert (Path(django_agent_sse.__file__).parent / "py.typed").is_file()
