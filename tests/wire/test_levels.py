"""The level of a line, and the place that it names: as tests/log/levels.json says, and by the rules that the viewer has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from django_agent_sse.wire import levels
from django_agent_sse.wire.levels import SEEN, Place, level_of, place_of

ROOT = Path(__file__).resolve().parents[2]
VECTORS = json.loads((ROOT / "tests/log/levels.json").read_text())
SCRIPT = (ROOT / "django_agent_sse/static/django_agent_sse/levels.js").read_text()


def expected(vector: dict[str, str | int]) -> tuple[str | int | None, Place | None]:
    place = Place(str(vector["file"]), int(vector["line_number"])) if "file" in vector else None
    return vector["level"], place


def test_each_line_has_its_level_and_its_place() -> None:
    for vector in VECTORS:
        line = vector["line"]
        assert (level_of(line), place_of(line)) == expected(vector), line


def test_every_level_and_nothing_else() -> None:
    assert {vector["level"] for vector in VECTORS} == {"error", "warning", "info", "debug", None}
    assert set(levels._BY_WORD.values()) == {"error", "warning", "info", "debug"}


def literal(name: str) -> str:
    """The source of an expression that the script keeps under a name, as Python writes it."""
    found = re.search(rf"^const {name} = /(.*)/[gs]*;", SCRIPT, re.MULTILINE)
    assert found
    return found[1].replace("\\/", "/")


@pytest.mark.parametrize("name", ["BARE", "PREFIX", "CONTROL", "STAMP", "SECTION", "PROPERTIES", "PLACE", "NUMBER"])
def test_the_script_has_the_same_expression(name: str) -> None:
    assert literal(name) == getattr(levels, f"_{name}").pattern.replace("\\/", "/")


def test_the_script_has_the_same_rules() -> None:
    rules = re.findall(r"^  \[(\S+), /(.*)/s\],$", SCRIPT, re.MULTILINE)
    said = {"SAID": levels.SAID, "null": None}
    assert [(said[level] if level in said else json.loads(level), pattern.replace("\\/", "/")) for level, pattern in rules] == [
        (level, pattern.replace("\\/", "/")) for level, pattern in levels.RULES
    ]


def test_the_script_has_the_same_words() -> None:
    hints = re.search(r"HINTS = \[\n(.*?)\n\];", SCRIPT, re.DOTALL)
    assert hints
    assert tuple(re.findall(r'"([^"]+)"', hints[1])) == levels.HINTS
    assert dict(re.findall(r'^  (\w+): "(.*)",$', SCRIPT, re.MULTILINE)) == levels._LEVELS


def test_a_level_stands_at_the_beginning() -> None:
    assert level_of("x" * (SEEN - 8) + " FAILED") == "error"
    assert level_of("x" * SEEN + " FAILED") is None
    assert level_of("error: " + "x" * 10_000_000) == "error"


def test_a_quiet_line_is_done_with_by_its_words() -> None:
    """Else a million lines would take a minute."""
    for vector in VECTORS:
        line = str(vector["line"])
        if vector["level"] is not None:
            text = levels._beginning(line)
            assert any(hint in text.lower() for hint in levels.HINTS) or levels._BARE.match(text), line
