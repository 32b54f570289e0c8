"""What a user writes for an agent: the lines of the documentation's own code, counted (``pytest -s`` prints the table)."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

import pytest

from .blocks import DOCS, README, blocks_of

MOST = 10
CASES = {
    "README, a chat": {"README": ["chat"]},
    "README, an agent": {"README": ["agents"]},
    "AI SDK chat": {"ai-sdk": ["agent", "chat"]},
    "AG-UI agent": {"ag-ui": ["agent", "agents"]},
    "OpenAI endpoint, chat": {"openai-endpoint": ["keys", "completions"]},
    "OpenAI endpoint, Responses": {"openai-endpoint": ["keys", "responses"]},
    "LangGraph, langgraph-sdk": {"langgraph": ["runs"]},
    "background run, Celery": {"background-runs": ["reports", "streams", "tasks"]},
    "background run, RQ": {"background-runs": ["reports", "streams", "jobs"]},
    "background run, django.tasks": {"background-runs": ["reports", "streams", "django_tasks"]},
    "background run, command": {"background-runs": ["reports", "management/commands/report"]},
    "background run, tried again": {"background-runs": ["retried"]},
    "LLM chat, the server": {"llm-chat": ["streams"]},
    "LLM chat, OpenAI": {"llm-chat": ["with_openai"]},
    "LLM chat, Anthropic": {"llm-chat": ["with_anthropic"]},
    "LLM chat, LangGraph": {"llm-chat": ["with_langgraph"]},
    "LLM chat, Pydantic AI": {"llm-chat": ["with_pydantic_ai"]},
    "LLM chat, saved": {"llm-chat": ["saving"]},
    "MCP, progress of a tool": {"mcp": ["streams"]},
    "MCP, as a tool": {"mcp": ["tools"]},
}
"""The files of each case, by page; all of them together are what somebody writes."""


def lines(text: str) -> tuple[int, int]:
    """How many lines of code there are, without imports and with them; no blank lines, comments, docstrings and stand-ins."""
    without, imports = set[int](), set[int]()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= {*range(node.lineno, (node.end_lineno or 0) + 1)}
        elif not stands_in(node):
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            without |= {*range(first, (node.end_lineno or 0) + 1)} - {*docstrings(node)}
    rows = text.split("\n")
    without = {row for row in without if rows[row - 1].strip() and not rows[row - 1].lstrip().startswith("#")}
    return len(without), len(without | imports)


def stands_in(node: ast.stmt) -> bool:
    """Whether it is a function that stands for the reader's own model or work, and says so."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (ast.get_docstring(node) or "").startswith("Stands for ")


def docstrings(node: ast.AST) -> Iterator[int]:
    """The lines of docstrings."""
    for one in ast.walk(node):
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(one) is not None:
            yield from range(one.body[0].lineno, (one.body[0].end_lineno or 0) + 1)


def counted(files: Mapping[str, list[str]]) -> tuple[int, int]:
    """How many lines a case has."""
    found = [
        lines(block.text)
        for page, names in files.items()
        for name in names
        for block in blocks_of(README if page == "README" else DOCS / "howto" / f"{page}.rst")
        if block.file == f"mysite/{name}.py"
    ]
    assert len(found) == sum(map(len, files.values())), files
    return sum(one for one, _ in found), sum(every for _, every in found)


@pytest.mark.parametrize("case", CASES)
def test_it_takes_ten_lines_at_most(case: str) -> None:
    without, every = counted(CASES[case])
    print(f"\n{case:32} {without:3} lines, {every:3} with imports", end="")
    assert 1 <= without <= MOST


def test_what_is_counted() -> None:
    text = '''
import os
from a import (
    b,
)


@decorated
def code(x):
    """Say."""
    # a comment

    return b(
        x
    )


def answer():
    """Stands for a model."""
    return os
'''
    assert lines(text) == (5, 9)
