"""The monitor's files: cells that a spreadsheet would take for formulas, every table, and what filters stand for."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.http import QueryDict

from django_agent_sse.contrib.monitor.admin.export import TABLES, as_csv, as_json
from django_agent_sse.contrib.monitor.admin.live_view import address_of, query_of
from django_agent_sse.contrib.monitor.inspector import StreamQuery


def row_of(table: str, **values: Any) -> dict[str, Any]:
    return {column: values.get(column, 1) for column in TABLES[table]}


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\tx", "'\tx"),
        ('curl/8 "x", y', 'curl/8 "x", y'),
        (-1.5, "-1.5"),
        (None, ""),
        (("a", "b"), "a b"),
    ],
)
def test_a_cell_is_never_a_formula_and_a_number_stays_one(value: Any, cell: str) -> None:
    answer = as_csv({"streams": [row_of("streams", agent=value)]}, "streams")
    head, row = csv.reader(io.StringIO(answer.content.decode()))
    assert dict(zip(head, row, strict=True))["agent"] == cell
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="monitor-streams-2')
    assert answer.headers["Cache-Control"] == "no-store, private"


def test_json_is_json_in_a_file() -> None:
    answer = as_json({"streams": [], "at": "ü"})
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.content.decode() == '{\n "streams": [],\n "at": "ü"\n}'


def test_what_stands_in_the_address_is_kept_and_nothing_else() -> None:
    asked = QueryDict("view=runs&route=a%2F&anonymous=1&sort=-lag&evil=1&text=&range=hour")
    assert address_of(asked) == "view=runs&range=hour&route=a%2F&anonymous=1&sort=-lag"
    assert address_of(asked, view="streams", route="") == "range=hour&anonymous=1&sort=-lag"
    assert query_of(asked) == StreamQuery(route="a/", anonymous=True, sort="-lag")
    assert len(address_of(QueryDict(f"text={'x' * 5000}"))) < 300
