"""Recipes as settings name them."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from builds.recipes import all_recipes
from django.core.exceptions import ImproperlyConfigured
from testproject.settings import TEST_PACKAGES

ROOT = Path(__file__).resolve().parents[2]
OURS = {"django", "django_agent_sse", "tests"}
PARTS = {"label": "A", "description": "B", "argv": ["true"], "cwd": Path("/")}


def test_the_folder_is_filled_in_and_nothing_else(settings: Any) -> None:
    settings.RECIPES = {"a": {**PARTS, "argv": ["build", "-d", "{workdir}/out", "$HOME; {label}"]}}
    assert all_recipes()["a"].command(Path("/w")) == ["build", "-d", "/w/out", "$HOME; {label}"]


@pytest.mark.parametrize("argv", ["make test", [], None, ["make", 1]])
def test_a_command_that_is_no_list_of_strings_is_refused(settings: Any, argv: Any) -> None:
    settings.RECIPES = {"a": {**PARTS, "argv": argv}}
    with pytest.raises(ImproperlyConfigured, match=r"RECIPES\['a'\]\['argv'\] must be a list of strings"):
        all_recipes()


@pytest.mark.parametrize("parts", [{"argv": ["true"]}, {**PARTS, "shell": True}])
def test_a_part_that_lacks_or_does_not_exist_is_refused(settings: Any, parts: dict[str, Any]) -> None:
    settings.RECIPES = {"a": parts}
    with pytest.raises(ImproperlyConfigured, match=r"RECIPES\['a'\]"):
        all_recipes()


def test_what_is_not_installed_is_named(settings: Any) -> None:
    settings.RECIPES = {"a": {**PARTS, "needs": ["json", "no_such_module"]}}
    assert all_recipes()["a"].missing == ["no_such_module"]


def imported(path: Path) -> set[str]:
    """The packages of others that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - OURS


def test_what_the_tests_of_the_demo_import_is_installed_for_it() -> None:
    needed = set().union(*map(imported, (ROOT / "tests" / "wire").glob("*.py")))
    assert "hypothesis" in needed
    assert needed <= set(TEST_PACKAGES)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = {requirement.partition(">")[0] for requirement in (*extras["demo"], *extras["tail"])}
    assert {name.replace("_", "-") for name in TEST_PACKAGES} <= installed
