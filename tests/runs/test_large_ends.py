"""Ends that are larger than the log takes: a run ends truthfully, in the words of its wire, with whatever can be said."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_agent_sse import Event, produce
from django_agent_sse.contrib.wires import AI_SDK, OPENAI_RESPONSES, Wire
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.runs.endings import RunEnding

NAME, MOST = "runs.1", 2000
LARGE = "x" * (MOST + 1)


@pytest.fixture(autouse=True)
def log() -> Iterator[EventLog]:
    about = {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "OPTIONS": {"MAX_EVENT_BYTES": MOST}}
    with override_settings(AGENT_SSE={"EVENT_LOG": about}):
        yield backend.event_log()
    backend.reset()


def found(log: EventLog) -> list[Any]:
    texts = [record.event.data for record in log.read_after(NAME, 0, 10_000).records]
    return [json.loads(text) if text[:1] in "{" else text for text in texts]


def ended(log: EventLog, ending: str, write: Callable[[Any], None], wire: Wire, last: Any = lambda ending: ()) -> list[Any]:
    """What the run has written at its end, in sync code; a lost one is closed by whoever looks first."""
    try:
        with produce(NAME, last=last, wire=wire) as out:
            write(out)
            out.flush()
            if ending == "failed":
                raise ZeroDivisionError
            if ending == "lost":
                assert isinstance(log, MemoryEventLog)
                later = time.time() + 31
                log._now = lambda: later
    except ZeroDivisionError:
        pass
    assert log.state(NAME).closed == ending
    return found(log)


TOOL = {"type": "tool-input-start", "toolCallId": "t1", "toolName": "search"}
SAID = {"failed": "The run has failed.", "lost": "The run was lost: its process has died, or could not be reached."}


@pytest.mark.parametrize("ending", ["failed", "lost"])
def test_the_input_of_an_open_call_is_left_out_where_it_is_too_large(ending: str, log: EventLog) -> None:
    def write(out: Any) -> None:
        out.write(TOOL)
        for _ in range(3):
            out.write({"type": "tool-input-delta", "toolCallId": "t1", "inputTextDelta": "x" * 1000})

    last = ended(log, ending, write, AI_SDK)[4:]
    assert [part if isinstance(part, str) else part["type"] for part in last] == [
        "tool-input-error",
        "error",
        "finish",
        "[DONE]",
    ]
    assert (last[0]["toolCallId"], last[0]["toolName"], last[0]["input"]) == ("t1", "search", "")
    assert last[1]["errorText"] == SAID[ending]


@pytest.mark.parametrize("ending", ["failed", "lost"])
def test_the_output_of_a_response_is_left_out_where_it_is_too_large(ending: str, log: EventLog) -> None:
    def write(out: Any) -> None:
        about = {"output_index": 0, "item": {"type": "message", "id": "m1", "status": "in_progress", "content": []}}
        out.write({"type": "response.created", "sequence_number": 0, "response": {"id": "r1", "output": []}})
        out.write({"type": "response.output_item.added", "sequence_number": 1, **about})
        part = {"content_index": 0, "part": {"type": "output_text", "text": ""}}
        out.write({"type": "response.content_part.added", "sequence_number": 2, "output_index": 0, **part})
        for number in range(3):
            text = {"content_index": 0, "delta": "x" * 1000}
            out.write({"type": "response.output_text.delta", "sequence_number": 3 + number, "output_index": 0, **text})

    (last,) = ended(log, ending, write, OPENAI_RESPONSES)[6:]
    assert (last["type"], last["sequence_number"], last["response"]["id"]) == ("response.failed", 6, "r1")
    assert (last["response"]["output"], last["response"]["error"]["message"]) == ([], SAID[ending])


def test_where_not_even_that_fits_the_protocols_end_alone_is_said(log: EventLog) -> None:
    name = "x" * (MOST - 100)
    tool = {"type": "tool-input-start", "toolCallId": "t1", "toolName": name}
    last = ended(log, "failed", lambda out: out.write(tool), AI_SDK)[1:]
    assert [part if isinstance(part, str) else part["type"] for part in last] == ["error", "finish", "[DONE]"]


@pytest.mark.parametrize("in_coroutine", [False, True], ids=["sync", "async"])
def test_of_a_runs_own_last_events_those_that_fit_are_there_and_so_is_the_wires_end(
    in_coroutine: bool, log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    def last(ending: RunEnding) -> Iterator[object]:
        if ending is not RunEnding.LOST:
            yield {"type": "text-start", "id": "a"}
            yield {"type": "text-delta", "id": "a", "delta": LARGE}
            yield object()
            yield Event("mine", id="mine")
            yield {"type": "text-delta", "id": "a", "delta": "short"}
            raise KeyError

    async def work() -> None:
        async with produce(NAME, last=last, wire=AI_SDK):
            pass

    if in_coroutine:
        asyncio.run(work())
    else:
        ended(log, "finished", lambda out: None, AI_SDK, last)
    kinds = [part if isinstance(part, str) else part["type"] for part in found(log)]
    assert kinds == ["text-start", "text-delta", "text-end", "finish", "[DONE]"]
    assert log.state(NAME).closed == "finished"
    assert len([record for record in caplog.records if "without the last events" in record.getMessage()]) == 4
