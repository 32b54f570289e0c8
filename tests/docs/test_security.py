"""What ``SECURITY.md`` and the comparison with others say is shown by a test is shown by one that there is."""

from __future__ import annotations

import ast
import re

import pytest

from .blocks import ROOT

TRUST = "docs/topics/trust.rst"
SHOWN = sorted(
    {
        found
        for page in ("SECURITY.md", TRUST)
        for found in re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / page).read_text("utf-8"))
    }
)
THREATS = re.findall(r"^\| (?!What they try|---)(.*) \|$", (ROOT / "SECURITY.md").read_text("utf-8"), re.MULTILINE)
QUESTIONS = [row.split("\n     - ") for row in (ROOT / TRUST).read_text("utf-8").partition(".. _where")[0].split("\n   * - ")[2:]]


@pytest.mark.parametrize(("file", "name"), SHOWN, ids=[name for _, name in SHOWN])
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_each_threat_has_its_tests_and_the_deployers_part() -> None:
    assert len(THREATS) >= 12
    for row in THREATS:
        threat, done, shown, part = row.split(" | ")
        assert all((threat, done, part))
        assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`(, `tests/[\w/]+\.py::test_\w+`)*", shown), threat


def test_each_question_of_the_comparison_has_a_test_and_an_answer_of_each_neighbour() -> None:
    assert len(QUESTIONS) >= 15
    for question, here, *neighbours in QUESTIONS:
        assert question.endswith("?")
        assert "``tests/" in here, question
        assert len(neighbours) == 4, question
