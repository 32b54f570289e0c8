"""The page about wires: its code runs, and its tables say what the wires do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

import django_agent_sse.contrib.wires as wires
from django_agent_sse import Event, Topic, produce
from django_agent_sse.eventlog import backend
from django_agent_sse.runs.endings import RunEnding
from tests.site import settings as site

from . import asking, pages
from .blocks import DOCS

PAGE = DOCS / "reference" / "wires.rst"
WIRES = {name: wire for name in wires.__all__ if isinstance(wire := getattr(wires, name), wires.Wire)}
ENDINGS = {"finished": ["finished"], "stopped": ["stopped"], "failed, interrupted, lost": ["failed", "interrupted", "lost"]}


@pytest.fixture(autouse=True)
def project(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = pages.URLCONF
    settings.MIDDLEWARE = [*site.MIDDLEWARE_SETS["default"], "tests.docs.middleware.acting"]
    backend.reset()
    yield
    backend.reset()


def table(number: int) -> list[list[str]]:
    """The rows of a table of the page, as text."""
    part = PAGE.read_text(encoding="utf-8").split(".. list-table::")[number].split("\n\n", 1)[1]
    rows = re.split(r"^   \* - ", re.split(r"\n(?=\S)", part)[0], flags=re.MULTILINE)[1:]
    return [[re.sub(r"\s+", " ", cell).strip() for cell in re.split(r"^     - ", row, flags=re.MULTILINE)] for row in rows]


def literals(cell: str) -> set[str]:
    return set(re.findall(r"``([^`]+)``", cell))


def test_every_wire_has_its_rows() -> None:
    for number in (1, 2):
        assert [row[0] for row in table(number)[1:]] == [
            f"``{name}``" for name in ("AI_SDK", "AG_UI", "OPENAI_CHAT", "OPENAI_RESPONSES", "ANTHROPIC", "LANGGRAPH", "PLAIN")
        ]
    assert {row[0].strip("`") for row in table(1)[1:]} == WIRES.keys()


def test_the_headers_are_those_of_the_wires() -> None:
    for name, _, headers, where in table(1)[1:]:
        wire = WIRES[name.strip("`")]
        own = {f"{key}: {value}" for key, value in wire.headers.items()}
        assert literals(headers) == own | set(wire.run_headers("r", "/r/"))
        assert (f"``{wire.tail_header}``" in where) == bool(wire.tail_header)
        assert ("is repeated" in where) == wire.repeat_last


def test_the_ends_are_those_of_the_wires() -> None:
    heading, *rows = table(2)
    assert heading[1:] == [", ".join(f"``{word}``" for word in group) for group in ENDINGS.values()]
    events = {
        "AI_SDK": [
            {"type": "text-start", "id": "1"},
            {"type": "reasoning-start", "id": "2"},
            {"type": "tool-input-start", "toolCallId": "3"},
        ],
        "AG_UI": [{"type": "RUN_STARTED", "threadId": "t", "runId": "r"}],
        "OPENAI_CHAT": [{"choices": []}],
        "OPENAI_RESPONSES": [{"type": "response.created", "response": {}}],
        "ANTHROPIC": [{"type": "message_start"}, {"type": "content_block_start", "index": 0}],
        "LANGGRAPH": [{"run_id": "r"}],
        "PLAIN": [{}],
    }
    for row in rows:
        name = row[0].strip("`")
        for cell, group in zip(row[1:], ENDINGS.values(), strict=True):
            for ending in group:
                ends = [*WIRES[name].last(RunEnding(ending), [Event(json.dumps(event)) for event in events[name]])]
                said = {event.event or word(event.data) for event in ends}
                told = (
                    literals(cell)
                    | (literals(row[1]) if "likewise" in cell else set())
                    | (literals(row[2]) if name in ("OPENAI_CHAT", "ANTHROPIC") else set())
                )
                assert said <= told, (name, ending)
                assert {
                    one for one in literals(cell) if one in ("abort", "error", "RUN_ERROR", "response.failed", "end", "run.end")
                } - {"error"} <= said


def word(data: str) -> str:
    if data == "[DONE]":
        return data
    message = json.loads(data)
    return "error" if "error" in message else str(message["type"])


@pytest.mark.django_db(transaction=True)
def test_an_answer_is_saved_as_the_page_says() -> None:
    with pages.imported(PAGE) as modules:
        answers = modules["mysite/answers.py"]
        start = 'data: {"type":"text-start","id":"1"}\n\ndata: {"type":"text-delta","id":"1","delta":"Hé"}\n\n'
        answers.answer(7, [start, 'data: {"type":"text-delta","id":"1","delta":"llo"}\n\n'])
        assert answers.saved == {7: (RunEnding.FINISHED, "Héllo")}
        folded = ['{"type":"text-start","id":"1"}', '{"type":"text-delta","id":"1","delta":"Héllo"}']
        ends = ['{"type":"text-end","id":"1"}', '{"type":"finish"}', "[DONE]"]

        async def frames() -> list[str]:
            return [frame async for frame in modules["mysite/streams.py"].frames(7)]

        assert async_to_sync(frames)() == [*folded, *ends]
        for path in ("/answers/7/", "/chats/7/"):
            got = async_to_sync(asking.ask)("GET", path)
            assert re.findall(r"^data: (.*)$", got.body, re.MULTILINE) == [*folded, *ends]


def test_a_wire_of_ones_own_ends_a_run() -> None:
    with pages.imported(PAGE) as modules:
        with produce("lines.1", wire=modules["mysite/wires.py"].LINES) as out:
            out.pipe(["one", "two"])
            assert out.text() == "one\ntwo"
        assert [event.data for event in Topic("lines.1").read()] == ["one", "two", "*** finished after 2 lines ***"]
