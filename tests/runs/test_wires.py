"""How each wire ends a run, by what its topic holds, and where its clients want to go on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from ag_ui import core as ag_ui_events
from anthropic.types import ErrorResponse, RawMessageStreamEvent
from django.test import RequestFactory
from openai.types import chat as openai_chat
from openai.types import responses as openai_responses
from pydantic import TypeAdapter

from django_agent_sse import Event
from django_agent_sse.contrib.wires import AG_UI, AI_SDK, ANTHROPIC, LANGGRAPH, OPENAI_CHAT, OPENAI_RESPONSES, PLAIN, Wire
from django_agent_sse.contrib.wires.messages import SENTENCES
from django_agent_sse.exceptions import QueryInvalid
from django_agent_sse.runs.endings import RunEnding

from .samples import SAMPLES, Sample, ag_ui, ai_sdk, anthropic, chat, compact, response_of, responses

BROKEN = [RunEnding.FAILED, RunEnding.INTERRUPTED, RunEnding.LOST]
SCRIPT = [("reasoning", ["hm", "m"]), ("tool", ['{"q"', ":1}"]), ("text", ["Hé", "llo"])]


def last(wire: Wire, ending: RunEnding, events: Sequence[Event]) -> list[Any]:
    return [event.data if event.data == "[DONE]" else json.loads(event.data) for event in wire.last(ending, iter(events))]


def cut_before(events: list[Event], text: str) -> list[Event]:
    """The events up to the first whose data has this text, without it."""
    return events[: next(at for at, event in enumerate(events) if text in event.data)]


@pytest.fixture(params=sorted(SAMPLES))
def sample(request: pytest.FixtureRequest) -> Sample:
    return SAMPLES[request.param]


@pytest.mark.parametrize("ending", [RunEnding.FINISHED, RunEnding.STOPPED])
def test_nothing_is_said_twice(sample: Sample, ending: RunEnding) -> None:
    assert last(sample.wire, ending, sample.events(SCRIPT)) == []


@pytest.mark.parametrize("ending", list(RunEnding))
def test_what_is_said_at_the_end_is_not_said_again_and_folding_changes_nothing(sample: Sample, ending: RunEnding) -> None:
    events = sample.events(SCRIPT)
    for cut in range(len(events)):
        ends = [*sample.wire.last(ending, events[:cut])]
        assert last(sample.wire, ending, [*events[:cut], *ends]) == []
        assert sample.wire.fold is not None
        folded = [*sample.wire.fold(events[:cut])]
        assert [*sample.wire.last(ending, folded)] == ends
        assert sample.wire.text([*folded, *ends]) == sample.wire.text(events[:cut])


def test_the_text_of_a_run_is_what_was_said_and_no_more(sample: Sample) -> None:
    assert sample.wire.text(sample.events(SCRIPT)) == "Héllo"
    assert sample.wire.text([]) == ""


# AI SDK


def ai_open(ending: RunEnding) -> list[Any]:
    """What ends a run in whose text, after a tool's input that is not whole."""
    parts = [
        {"type": "text-start", "id": "0"},
        {"type": "reasoning-start", "id": "1"},
        {"type": "tool-input-start", "toolCallId": "c", "toolName": "f", "dynamic": True},
        {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": '{"a'},
        {"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": '":'},
    ]
    return last(AI_SDK, ending, [Event(compact(part)) for part in parts])


@pytest.mark.parametrize("ending", list(RunEnding))
def test_ai_sdk_parts_that_are_open_are_closed(ending: RunEnding) -> None:
    call, *rest = ai_open(ending)
    assert {**call, "errorText": "…"} == {
        "type": "tool-input-error",
        "toolCallId": "c",
        "toolName": "f",
        "input": '{"a":',
        "errorText": "…",
        "dynamic": True,
    }
    assert rest[:2] == [{"type": "reasoning-end", "id": "1"}, {"type": "text-end", "id": "0"}]
    assert rest[-1] == "[DONE]"


def test_ai_sdk_says_how_it_ended() -> None:
    assert ai_open(RunEnding.FINISHED)[3:] == [{"type": "finish"}, "[DONE]"]
    stopped = [{"type": "abort", "reason": "The run was stopped."}, {"type": "finish", "finishReason": "other"}, "[DONE]"]
    calls = [{"type": "start-step"}, stopped[0], {"type": "finish", "finishReason": "other", "messageMetadata": {}}, "[DONE]"]
    assert ai_open(RunEnding.STOPPED)[3:] == calls
    output = Event('{"type":"tool-output-available","toolCallId":"c","output":1}')
    assert last(AI_SDK, RunEnding.STOPPED, [output, Event('{"type":"finish-step"}')]) == calls
    for after in ('{"type":"start-step"}', '{"type":"reset-step"}'):
        assert last(AI_SDK, RunEnding.STOPPED, [output, Event(after)]) == stopped
    assert last(AI_SDK, RunEnding.STOPPED, [output, Event('{"type":"finish"}')]) == [stopped[0], "[DONE]"]
    for ending in BROKEN:
        error, *rest = ai_open(ending)[3:]
        assert error["type"] == "error"
        assert error["errorText"].startswith("The run ")
        assert rest == [{"type": "finish", "finishReason": "error"}, "[DONE]"]


def test_ai_sdk_ends_what_a_producer_has_begun_to_end() -> None:
    events = ai_sdk(SCRIPT)[:-1]
    assert last(AI_SDK, RunEnding.FINISHED, events) == ["[DONE]"]
    assert last(AI_SDK, RunEnding.STOPPED, [Event('{"type":"abort"}')]) == [{"type": "finish", "finishReason": "other"}, "[DONE]"]
    assert last(AI_SDK, RunEnding.FAILED, [Event('{"type":"error","errorText":"own"}')])[0]["type"] == "finish"


@pytest.mark.parametrize("boundary", ["reset-step", "finish-step"])
def test_ai_sdk_forgets_text_that_was_open_at_a_step_end(boundary: str) -> None:
    events = [Event('{"type":"start-step"}'), Event('{"type":"text-start","id":"0"}'), Event(compact({"type": boundary}))]
    assert [part if part == "[DONE]" else part["type"] for part in last(AI_SDK, RunEnding.STOPPED, events)] == [
        "abort",
        "finish",
        "[DONE]",
    ]


def test_ai_sdk_text_that_a_step_took_back_is_not_the_runs() -> None:
    kinds = ["start-step", "one", "finish-step", "start-step", "two", "reset-step", "three"]
    parts = [{"type": kind} if "-" in kind else {"type": "text-delta", "id": "0", "delta": kind} for kind in kinds]
    assert AI_SDK.text(Event(compact(part)) for part in parts) == "onethree"


# AG-UI


def ag_open(ending: RunEnding, *events: dict[str, Any]) -> list[Any]:
    return last(AG_UI, ending, [Event(compact(event)) for event in events])


STARTED = {"type": "RUN_STARTED", "threadId": "t", "runId": "r"}
OPEN = [
    STARTED,
    {"type": "STEP_STARTED", "stepName": "s"},
    {"type": "SUBAGENT_STARTED", "subagentRunId": "a", "name": "n"},
    {"type": "STEP_STARTED", "stepName": "s", "subagentRunId": "a"},
    {"type": "REASONING_START", "messageId": "m"},
    {"type": "REASONING_MESSAGE_START", "messageId": "m", "role": "reasoning"},
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant", "subagentRunId": "a"},
    {"type": "TOOL_CALL_START", "toolCallId": "m", "toolCallName": "f"},
    {"type": "TOOL_CALL_START", "toolCallId": "whole", "toolCallName": "f"},
    {"type": "TOOL_CALL_END", "toolCallId": "whole"},
]


@pytest.mark.parametrize("ending", list(RunEnding))
def test_ag_ui_parts_that_are_open_are_ended_the_newest_first(ending: RunEnding) -> None:
    *ends, terminal = ag_open(ending, *OPEN)
    assert [{**end, "message": "…"} if "message" in end else end for end in ends] == [
        {"type": "TOOL_CALL_END", "toolCallId": "m"},
        {"type": "TEXT_MESSAGE_END", "messageId": "m", "subagentRunId": "a"},
        {"type": "REASONING_MESSAGE_END", "messageId": "m"},
        {"type": "REASONING_END", "messageId": "m"},
        {"type": "STEP_FINISHED", "stepName": "s", "subagentRunId": "a"},
        {"type": "SUBAGENT_ERROR", "subagentRunId": "a", "message": "…"},
        {"type": "STEP_FINISHED", "stepName": "s"},
    ]
    finished = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
    if ending is RunEnding.FINISHED:
        assert terminal == finished
    elif ending is RunEnding.STOPPED:
        assert terminal == {**finished, "outcome": {"type": "cancelled"}}
    else:
        assert terminal["message"].startswith("The run ")
        assert terminal == {"type": "RUN_ERROR", "message": terminal["message"], "code": str(ending)}


def test_ag_ui_before_its_beginning_and_after_its_end() -> None:
    finished = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
    assert ag_open(RunEnding.FINISHED) == []
    assert ag_open(RunEnding.STOPPED) == [{"type": "RUN_ERROR", "message": "The run was stopped.", "code": "stopped"}]
    for ending in BROKEN:
        assert [event["type"] for event in ag_open(ending)] == ["RUN_ERROR"]
        assert [event["type"] for event in ag_open(ending, STARTED, finished)] == ["RUN_ERROR"], "between two turns"
        assert ag_open(ending, STARTED, {"type": "RUN_ERROR", "message": "own"}) == []
        assert [event["type"] for event in ag_open(ending, STARTED, finished, STARTED)] == ["RUN_ERROR"]
    assert [event["type"] for event in ag_open(RunEnding.STOPPED, STARTED, finished, STARTED)] == ["RUN_FINISHED"]


@pytest.mark.parametrize("ending", list(RunEnding))
def test_ag_ui_events_are_those_of_the_protocols_own_package(ending: RunEnding) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(ag_ui_events.Event)
    for events in (ag_ui(SCRIPT), [Event(compact(event)) for event in OPEN]):
        for cut in range(len(events) + 1):
            said = [*events[:cut], *AG_UI.last(ending, events[:cut])]
            for event in [*said, *AG_UI.fold(said)]:  # type: ignore[misc]
                assert adapter.validate_json(event.data).model_extra == {}, event


def test_ag_ui_text_is_the_assistants() -> None:
    events = [
        {"type": "TEXT_MESSAGE_START", "messageId": "u", "role": "user"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "u", "delta": "asked"},
        {"type": "TEXT_MESSAGE_CHUNK", "messageId": "a", "role": "assistant", "delta": "an"},
        {"type": "TEXT_MESSAGE_CHUNK", "delta": "swer"},
    ]
    assert AG_UI.text(Event(compact(event)) for event in events) == "answer"


# OpenAI


@pytest.mark.parametrize("ending", [RunEnding.STOPPED, *BROKEN])
def test_openai_chat_that_is_not_whole_is_an_error(ending: RunEnding) -> None:
    for cut in range(len(chat(SCRIPT)) - 1):
        error, done = last(OPENAI_CHAT, ending, chat(SCRIPT)[:cut])
        assert error == {"error": {"message": error["error"]["message"], "type": "server_error", "param": None, "code": ending}}
        assert error["error"]["message"].startswith("The run ")
        assert done == "[DONE]"
    assert last(OPENAI_CHAT, RunEnding.FINISHED, chat(SCRIPT)[:-1]) == ["[DONE]"]
    assert last(OPENAI_CHAT, ending, [Event('{"error":{"message":"own"}}')]) == ["[DONE]"]


def test_openai_chat_chunks_that_are_joined_are_chunks() -> None:
    assert OPENAI_CHAT.fold is not None
    *chunks, done = OPENAI_CHAT.fold(chat(SCRIPT))
    assert done.data == "[DONE]"
    texts = [openai_chat.ChatCompletionChunk.model_validate_json(chunk.data).choices[0].delta.content for chunk in chunks]
    assert "".join(text or "" for text in texts) == "Héllo"


@pytest.mark.parametrize("ending", list(RunEnding))
def test_openai_responses_end_with_the_next_number_and_all_that_there_is(ending: RunEnding) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(openai_responses.ResponseStreamEvent)
    events = responses(SCRIPT)
    for cut in range(1, len(events)):
        (event,) = OPENAI_RESPONSES.last(ending, events[:cut])
        message = json.loads(event.data)
        assert message["sequence_number"] == cut
        assert event.event == message["type"] == ("response.failed" if ending in BROKEN else "response.incomplete")
        parsed = adapter.validate_python(message)
        assert parsed.response.id == "resp_1"
        assert parsed.response.status == openai_responses_status(ending)
        assert (parsed.response.error is not None) == (ending in BROKEN)
        assert parsed.response.output_text == OPENAI_RESPONSES.text(events[:cut])
        assert [item.type for item in parsed.response.output] == ["reasoning", "function_call", "message"][
            : len(parsed.response.output)
        ]
    call = next(item for item in message["response"]["output"] if item["type"] == "function_call")
    assert call == {**call, "arguments": '{"q":1}', "status": "completed"}


def openai_responses_status(ending: RunEnding) -> str:
    return "failed" if ending in BROKEN else "cancelled" if ending is RunEnding.STOPPED else "incomplete"


@pytest.mark.parametrize("ending", [None, *RunEnding])
def test_openai_responses_have_a_state_at_any_time(ending: RunEnding | None) -> None:
    events = responses(SCRIPT)
    for cut in range(1, len(events)):
        response = openai_responses.Response.model_validate(OPENAI_RESPONSES.state(ending, events[:cut]))
        assert response.status == ("in_progress" if ending is None else openai_responses_status(ending))
        assert response.output_text == OPENAI_RESPONSES.text(events[:cut])
    assert OPENAI_RESPONSES.state(ending, events) == json.loads(events[-1].data)["response"]
    assert OPENAI_RESPONSES.state(ending, []) == {}


def test_openai_responses_items_that_are_not_whole_are_incomplete() -> None:
    (event,) = last(OPENAI_RESPONSES, RunEnding.STOPPED, cut_before(responses(SCRIPT), "llo"))
    *_, message = event["response"]["output"]
    assert (message["status"], message["content"]) == ("incomplete", [{"type": "output_text", "text": "Hé", "annotations": []}])
    (event,) = last(OPENAI_RESPONSES, RunEnding.STOPPED, cut_before(responses(SCRIPT), '":1}"'))
    *_, call = event["response"]["output"]
    assert (call["status"], call["arguments"]) == ("incomplete", '{"q"')


def test_openai_responses_without_a_response_are_an_error() -> None:
    for ending in RunEnding:
        (event,) = last(OPENAI_RESPONSES, ending, [])
        assert (event["type"], event["code"], event["param"], event["sequence_number"]) == ("error", "server_error", None, 0)
        assert openai_responses.ResponseErrorEvent.model_validate(event)


def test_openai_responses_numbers_go_on_where_the_producer_was() -> None:
    created = Event(compact({"type": "response.created", "response": response_of(), "sequence_number": 41}))
    assert last(OPENAI_RESPONSES, RunEnding.FAILED, [created])[0]["sequence_number"] == 42


# Anthropic


@pytest.mark.parametrize("ending", [RunEnding.STOPPED, *BROKEN])
def test_anthropic_that_is_not_whole_is_an_error(ending: RunEnding) -> None:
    events = anthropic(SCRIPT)
    for cut in range(len(events)):
        (event,) = ANTHROPIC.last(ending, events[:cut])
        error = json.loads(event.data)
        assert ErrorResponse.model_validate(error).error.type == "api_error"
        assert (event.event, error["type"]) == ("error", "error")
        assert error["error"]["message"].startswith("The run ")
    assert last(ANTHROPIC, ending, [*events[:3], Event('{"type":"error"}', event="error")]) == []


def test_anthropic_whose_end_its_producer_left_out_is_ended() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    events = anthropic(SCRIPT)
    for cut in range(1, len(events)):
        ends = last(ANTHROPIC, RunEnding.FINISHED, events[:cut])
        assert all(adapter.validate_python(end).type == end["type"] for end in ends)
        kinds = [json.loads(event.data)["type"] for event in events[:cut]] + [end["type"] for end in ends]
        assert kinds.count("content_block_start") == kinds.count("content_block_stop")
        assert kinds[-2:] == ["message_delta", "message_stop"]
        assert kinds.count("message_delta") == 1
    (error,) = last(ANTHROPIC, RunEnding.FINISHED, [])
    assert error["error"] == {"type": "api_error", "message": "The message was not begun."}


# Plain


@pytest.mark.parametrize("ending", list(RunEnding))
def test_plain_runs_end_with_their_ending(ending: RunEnding) -> None:
    assert [*PLAIN.last(ending, [])] == [Event(f'{{"reason":"{ending}"}}', event="run.end")]
    assert PLAIN.text([Event("a"), Event("not", event="note"), Event("b")]) == "ab"
    assert PLAIN.fold is None


MESSAGES = [[{"content": "Grü", "type": "AIMessageChunk"}, {}], [{"content": [{"type": "text", "text": "ße"}]}, {}]]
OTHERS = [
    [{"content": "not", "type": "tool"}, {}],
    [],
    [1],
    {"content": "not"},
    [{"content": None}],
    [{"content": [1, {}]}],
    "not",
]


@pytest.mark.parametrize("ending", list(RunEnding))
def test_a_graph_ends_once(ending: RunEnding) -> None:
    (end,) = LANGGRAPH.last(ending, [Event("{}", event="values")])
    whole = ending in (RunEnding.FINISHED, RunEnding.STOPPED)
    expected = {"status": ending} if whole else {"error": ending, "message": SENTENCES[ending]}
    assert (end.event, json.loads(end.data)) == ("end" if whole else "error", expected)
    assert LANGGRAPH.ends_whole(end) != whole
    assert [*LANGGRAPH.last(ending, [end])] == [*LANGGRAPH.last(ending, [Event("null", event="end")])] == []


def test_a_graph_has_the_text_of_its_model_and_a_status() -> None:
    said = [Event(compact(pair), event=name) for pair in MESSAGES for name in ("messages", "updates")]
    assert (
        LANGGRAPH.text([*said, *(Event(compact(other), event="messages") for other in OTHERS), Event("{", event="messages")])
        == "Grüße"
    )
    assert LANGGRAPH.text([Event(compact(MESSAGES[0]), event="messages|sub:1")]) == "Grü"
    statuses = {None: "running", "finished": "success", "stopped": "interrupted", "interrupted": "interrupted"}
    for ending in (None, *RunEnding):
        assert LANGGRAPH.state(ending, []) == {"status": statuses.get(ending, "error")}


# What no sample can be: text that is no JSON, and JSON that is no message


@pytest.mark.parametrize("wire", [AI_SDK, AG_UI, ANTHROPIC, LANGGRAPH, OPENAI_CHAT, OPENAI_RESPONSES], ids=lambda wire: wire.name)
@pytest.mark.parametrize("ending", list(RunEnding))
def test_no_data_at_all_keeps_a_run_from_its_end(wire: Wire, ending: RunEnding) -> None:
    keys = [
        "type",
        "id",
        "toolCallId",
        "delta",
        "response",
        "output_index",
        "item",
        "content_index",
        "choices",
        "messageId",
        "part",
        "index",
        "message",
    ]
    values: list[Any] = [None, 1, -1, "x", [], {}, [1], [{}], {"delta": 1}, [{"delta": None}], [{"delta": {"content": 1}}]]
    kinds = {
        json.loads(event.data)["type"] for event in [*ai_sdk(SCRIPT)[:-1], *ag_ui(SCRIPT), *anthropic(SCRIPT), *responses(SCRIPT)]
    }
    strange = [
        {"type": kind, key: value, "sequence_number": value}
        for kind in kinds
        for key in keys
        for value in values
        if key != "type"
    ]
    wild = [Event("{"), Event("[1]"), Event("{}"), *(Event(compact({key: value})) for key in keys for value in values)]
    for event in [*wild, *(Event(compact(message)) for message in strange)]:
        events = [event, event]
        assert [*(wire.fold or iter)(events)]
        assert isinstance(wire.text(events), str)
        for one in wire.last(ending, events):
            assert one.data


# Positions and headers


def position(wire: Wire, query: str = "", **headers: str) -> str | int | None:
    return wire.position(RequestFactory().get(f"/run/{query}", headers=headers))


@pytest.mark.parametrize(
    "wire", [AI_SDK, AG_UI, ANTHROPIC, LANGGRAPH, OPENAI_CHAT, OPENAI_RESPONSES, PLAIN], ids=lambda wire: wire.name
)
def test_every_wire_takes_the_last_event_id(wire: Wire) -> None:
    assert position(wire) is None
    assert position(wire, last_event_id="x", **{"Last-Event-ID": "abcdefgh.4"}) == "abcdefgh.4"
    assert position(wire, "?last_event_id=abcdefgh.5") == "abcdefgh.5"
    query = "?startIndex=2&starting_after=2&offset=-1"
    assert position(wire, query, **{"Last-Event-ID": "abcdefgh.4"}) == "abcdefgh.4", "the newer word of one who comes back"


@pytest.mark.parametrize(
    ("wire", "query", "expected"),
    [
        (AI_SDK, "?startIndex=0", 0),
        (AI_SDK, "?startIndex=17", 17),
        (AI_SDK, "?startIndex=-20", -20),
        (OPENAI_RESPONSES, "", None),
        (OPENAI_RESPONSES, "?stream=false", None),
        (OPENAI_RESPONSES, "?stream=true", 0),
        (OPENAI_RESPONSES, "?stream=true&starting_after=0", 1),
        (OPENAI_RESPONSES, "?stream=true&starting_after=41", 42),
        (AG_UI, "?offset=-1&runId=r", None),
        (AG_UI, "?offset=abcdefgh.3", "abcdefgh.3"),
    ],
)
def test_clients_that_count_are_understood(wire: Wire, query: str, expected: object) -> None:
    assert position(wire, query) == expected


@pytest.mark.parametrize("text", ["", "x", "1.5", "٣", "-", "--1", "1" * 30, "9223372036854775808"])
def test_a_count_is_a_whole_number(text: str) -> None:
    for wire, name in ((AI_SDK, "startIndex"), (OPENAI_RESPONSES, "starting_after")):
        with pytest.raises(QueryInvalid, match=f"{name}=.* is not a whole number"):
            position(wire, f"?{name}={text}")
    with pytest.raises(QueryInvalid):
        position(OPENAI_RESPONSES, "?starting_after=-1")


def test_headers_are_the_protocols_own() -> None:
    assert AI_SDK.headers == {"x-vercel-ai-ui-message-stream": "v1"}
    assert AI_SDK.run_headers("r1", "/chat/r1/") == {
        "x-workflow-run-id": "r1",
        "x-resumable-stream-id": "r1",
        "Location": "/chat/r1/",
    }
    assert AI_SDK.tail_header == "x-workflow-stream-tail-index"
    for wire in (AG_UI, ANTHROPIC, OPENAI_CHAT, OPENAI_RESPONSES, PLAIN):
        assert wire.run_headers("r1", "/run/r1/") == {"Location": "/run/r1/", "X-Run-Id": "r1"}
        assert (wire.headers, wire.tail_header) == ({}, "")
    path = "/api/threads/t/runs/stream/r1/"
    assert LANGGRAPH.run_headers("r1", path) == {"Location": path, "Content-Location": "/api/threads/t/runs/r1"}
    assert [wire.repeat_last for wire in (AG_UI, AI_SDK, ANTHROPIC, OPENAI_CHAT, OPENAI_RESPONSES, PLAIN)] == [True, *[False] * 5]
