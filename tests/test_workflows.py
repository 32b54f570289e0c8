"""What runs on GitHub and Read the Docs names things that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from .docs.test_commands import environments

ROOT = Path(__file__).resolve().parents[1]
FILES = [
    *sorted((ROOT / ".github").rglob("*.yml")),
    ROOT / ".pre-commit-config.yaml",
    ROOT / ".readthedocs.yaml",
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def loaded(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_is_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_each_pair_of_python_and_django_is_one_of_tox_and_none_is_left_out() -> None:
    matrix = loaded(".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    pairs = {(python, django) for python in matrix["python"] for django in matrix["django"]}
    pairs -= {(one["python"], one["django"]) for one in matrix["exclude"]}
    named = {f"py{python.replace('.', '')}-django{django}" for python, django in pairs}
    assert named == {one for one in environments() if re.fullmatch(r"py3\d+-django\d+", one)}


@pytest.mark.parametrize("job", ["quick", "long"])
def test_each_other_job_runs_environments_of_tox(job: str) -> None:
    matrix = loaded(".github/workflows/tests.yml")["jobs"][job]["strategy"]["matrix"]
    assert set(matrix["environment"]) <= environments()


def test_a_release_needs_no_token_and_is_the_version_that_the_tag_says() -> None:
    jobs = loaded(".github/workflows/release.yml")["jobs"]
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    checks = "\n".join(step.get("run", "") for step in jobs["build"]["steps"])
    version = re.search(r's/(\^__version__ = "\\\(\.\*\\\)")/', checks)
    assert version
    assert (ROOT / "django_agent_sse/__init__.py").read_text().count('\n__version__ = "') == 1
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()


def test_the_documentation_is_built_from_what_is_there() -> None:
    config = loaded(".readthedocs.yaml")
    assert (ROOT / config["sphinx"]["configuration"]).is_file()
    [install] = config["python"]["install"]
    assert set(install["extra_requirements"]) <= PROJECT["optional-dependencies"].keys()


def test_every_python_that_is_promised_is_tried() -> None:
    promised = {one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", one)}
    assert promised <= set(loaded(".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"])
