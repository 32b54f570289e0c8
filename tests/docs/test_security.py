"""What ``SECURITY.md`` says is shown by a test is shown by one that there is."""

from __future__ import annotations

import ast
import re

import pytest

from .blocks import ROOT

SHOWN = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))


def test_the_threat_model_names_tests() -> None:
    assert len(SHOWN) >= 10


@pytest.mark.parametrize(("file", "name"), SHOWN, ids=[name for _, name in SHOWN])
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
