"""Regular expressions of strangers, in a process of their own."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest

from django_agent_sse.eventlog.line_matcher import LineMatcher, LineQuery
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.exceptions import QueryInvalid
from django_agent_sse.runtime import pattern_process
from django_agent_sse.wire.event import Event

from .test_search import found, lines, written


@pytest.mark.parametrize("back", [False, True], ids=["forwards", "backwards"])
def test_a_regular_expression_finds_what_pythons_does(back: bool) -> None:
    log, events = MemoryEventLog(), lines(2000)
    written(log, events)
    wanted = [number for number, event in enumerate(events, 1) if event.data.startswith("step") and "Needle" in event.data]
    assert wanted
    assert found(log, text=r"^step \d+ n.{5} ", regex=True, back=back) == wanted
    assert found(log, text=r"^step \d+ n.{5} ", regex=True, case=True, back=back) == []


@pytest.mark.parametrize(
    ("query", "times"),
    [
        ({"text": "n.*?e|x*", "regex": True}, [0, 2, 2]),
        ({"text": "n.*?e|x*", "regex": True, "case": True}, [0, 1, 2]),
        ({"text": "ne"}, [0, 2, 2]),
        ({"text": "ne", "case": True}, [0, 1, 2]),
        ({"source": "stdout"}, [1, 1, 2]),
    ],
)
def test_how_often_lines_match_is_counted(query: dict[str, Any], times: list[int]) -> None:
    events = [Event("f"), Event("n\x1b[1mine Ne"), Event("ne\nne")]
    with LineMatcher(LineQuery(**query)) as matcher:
        assert matcher.times(zip(events, [[0], [0], [0, 1]], strict=True)) == times


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "*", "(?P<a>x)(?P<a>y)", "[z-a]"])
def test_what_is_none_is_refused_with_the_reason(pattern: str) -> None:
    with pytest.raises(QueryInvalid, match="not a regular expression: "):
        LineMatcher(LineQuery(text=pattern, regex=True))


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$"])
def test_one_that_explodes_is_killed_and_said_and_holds_up_nobody(pattern: str) -> None:
    begun = time.thread_time()
    with pytest.raises(QueryInvalid, match="took too long"), LineMatcher(LineQuery(text=pattern, regex=True)) as matcher:
        assert matcher._pattern is not None
        process = matcher._pattern._process
        try:
            matcher.lines([Event("a" * 60 + "!")])
        finally:
            assert process.returncode is not None, "no process is left"
    assert time.thread_time() - begun < pattern_process.PROCESSOR_SECONDS, "it was another process that computed"


def test_where_there_is_no_python_to_start_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(QueryInvalid, match="cannot be searched here"):
        LineMatcher(LineQuery(text="x", regex=True))
