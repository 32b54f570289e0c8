"""The pages for readers of the code name what is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from django_agent_sse.streams.endings import ENDINGS, Ending
from django_agent_sse.streams.lifecycle import Lifecycle
from tests.test_house import HOME, STOREYS

from .blocks import DOCS

INTERNALS = DOCS / "internals"
PLACES = [
    (page.stem, file, name)
    for page in (INTERNALS / "event.rst", INTERNALS / "where.rst")
    for file, name in re.findall(
        r"^     - ``([\w/]+\.py)``\n     - ``([\w.]+)``$", page.read_text(encoding="utf-8"), re.MULTILINE
    )
]


def names_in(file: Path) -> set[str]:
    """What a module defines, and what its classes define, as ``Class.method``."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            inner = (one.name for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{name}" for name in inner}
    return found


def rows(page: Path, heading: str) -> list[list[str]]:
    """The rows of the table whose first heading is this one."""
    table = re.split(r"\n(?=\S)", page.read_text(encoding="utf-8").partition(f"   * - {heading}\n")[2])[0]
    return [
        re.findall(r"^ *(?:\* )?- (.*)$", row, re.MULTILINE) for row in re.split(r"^   (?=\* - )", table, flags=re.MULTILINE)[1:]
    ]


def test_there_are_places_to_look_at() -> None:
    questions = [place for place in PLACES if place[0] == "where"]
    assert len(questions) >= 10
    assert len(PLACES) - len(questions) >= 10


@pytest.mark.parametrize(("page", "file", "name"), PLACES, ids=[f"{page}-{file}-{name}" for page, file, name in PLACES])
def test_what_a_reader_is_led_to_is_there(page: str, file: str, name: str) -> None:
    assert name in names_in(HOME / file)


def test_the_page_of_the_house_has_every_part() -> None:
    parts = {name for row in rows(INTERNALS / "house.rst", "part") for name in re.findall(r"``(\w+)``", row[0])}
    assert parts <= STOREYS.keys()
    small = {"fields", "metrics", "migrations", "models", "signals"}
    assert STOREYS.keys() - parts == small, "of one idea each, and named for it"


def test_the_inputs_are_those_of_the_lifecycle() -> None:
    inputs = {row[0].strip("`") for row in rows(INTERNALS / "life.rst", "input")}
    assert all(callable(getattr(Lifecycle, name)) for name in inputs)


def test_the_table_of_endings_is_the_one_that_streams_obey() -> None:
    def word(value: bool) -> str:
        return "yes" if value else "no"

    expected = [
        [
            f"``{ending}``",
            word(rules.aborts),
            f"``{rules.last_event}``" if rules.last_event else "–",
            *map(word, (rules.final, rules.whole, rules.flushes, rules.requested)),
        ]
        for ending, rules in ENDINGS.items()
    ]
    assert rows(INTERNALS / "life.rst", "ending") == expected
    assert len(expected) == len(Ending)
