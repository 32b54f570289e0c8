"""Runs as each protocol's own producers spell them: some parts, each in many deltas, and what a client makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django_agent_sse import Event
from django_agent_sse.contrib.wires import AG_UI, AI_SDK, ANTHROPIC, OPENAI_CHAT, OPENAI_RESPONSES, Wire

Parts = Sequence[tuple[str, Sequence[str]]]
"""The kind of each part, ``text``, ``reasoning`` or ``tool``, and its deltas."""


def compact(message: object) -> str:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def loose(message: object) -> str:
    """As Python's own encoder has it: with spaces, and nothing but ASCII."""
    return json.dumps(message)


def ai_sdk(parts: Parts, dump: Callable[[object], str] = compact) -> list[Event]:
    found: list[dict[str, Any]] = [{"type": "start", "messageId": "msg-1"}, {"type": "start-step"}]
    for number, (kind, deltas) in enumerate(parts):
        id = f"p{number}"
        if kind == "tool":
            found += [{"type": "tool-input-start", "toolCallId": id, "toolName": "search"}]
            found += [{"type": "tool-input-delta", "toolCallId": id, "inputTextDelta": delta} for delta in deltas]
            found += [{"type": "tool-input-available", "toolCallId": id, "toolName": "search", "input": {"delta": "decoy"}}]
        else:
            found += [{"type": f"{kind}-start", "id": id}]
            found += [{"type": f"{kind}-delta", "id": id, "delta": delta} for delta in deltas]
            found += [{"type": f"{kind}-end", "id": id}]
    found += [{"type": "finish-step"}, {"type": "finish", "finishReason": "stop"}]
    return [*(Event(dump(part)) for part in found), Event("[DONE]")]


AG_UI_NAMES = {"text": "TEXT_MESSAGE", "reasoning": "REASONING_MESSAGE", "tool": "TOOL_CALL"}


def ag_ui(parts: Parts, dump: Callable[[object], str] = compact) -> list[Event]:
    run = {"threadId": "t", "runId": "r"}
    found: list[dict[str, Any]] = [{"type": "RUN_STARTED", **run}]
    for number, (kind, deltas) in enumerate(parts):
        name = AG_UI_NAMES[kind]
        about = {"toolCallId": f"p{number}"} if kind == "tool" else {"messageId": f"p{number}"}
        start = {"toolCallName": "search"} if kind == "tool" else {"role": "assistant" if kind == "text" else "reasoning"}
        content = "TOOL_CALL_ARGS" if kind == "tool" else f"{name}_CONTENT"
        found += [{"type": f"{name}_START", **about, **start}]
        found += [{"type": content, "timestamp": 1_700_000_000_000 + at, **about, "delta": d} for at, d in enumerate(deltas)]
        found += [{"type": f"{name}_END", **about}]
    return [Event(dump(event)) for event in [*found, {"type": "RUN_FINISHED", **run}]]


def chat(parts: Parts, dump: Callable[[object], str] = compact) -> list[Event]:
    def chunk(delta: object, finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    found = [chunk({"role": "assistant", "content": ""})]
    for number, (kind, deltas) in enumerate(parts):
        if kind == "tool":
            call = {"index": number, "id": f"p{number}", "type": "function", "function": {"name": "f", "arguments": ""}}
            found += [chunk({"tool_calls": [call]})]
            found += [chunk({"tool_calls": [{"index": number, "function": {"arguments": delta}}]}) for delta in deltas]
        else:
            key = "content" if kind == "text" else "reasoning_content"
            found += [chunk({key: delta}) for delta in deltas]
    return [*(Event(dump(one)) for one in [*found, chunk({}, "stop")]), Event("[DONE]")]


RESPONSES_DELTAS = {
    "text": "response.output_text.delta",
    "reasoning": "response.reasoning_text.delta",
    "tool": "response.function_call_arguments.delta",
}


def response_of(**about: object) -> dict[str, Any]:
    required = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "parallel_tool_calls": True}
    return {**required, "tool_choice": "auto", "tools": [], "output": [], "status": "in_progress", **about}


def responses(parts: Parts, dump: Callable[[object], str] = compact) -> list[Event]:
    found: list[dict[str, Any]] = [{"type": "response.created", "response": response_of()}]
    for number, (kind, deltas) in enumerate(parts):
        about = {"item_id": f"p{number}", "output_index": number}
        item: dict[str, Any] = {"id": f"p{number}", "status": "in_progress"}
        if kind == "tool":
            item |= {"type": "function_call", "call_id": f"c{number}", "name": "f", "arguments": ""}
        else:
            item |= (
                {"type": "message", "role": "assistant", "content": []}
                if kind == "text"
                else {"type": "reasoning", "summary": []}
            )
            about |= {"content_index": 0}
        found += [{"type": "response.output_item.added", "output_index": number, "item": item}]
        if kind == "text":
            part = {"type": "output_text", "text": "", "annotations": []}
            found += [{"type": "response.content_part.added", **about, "part": part}]
            about |= {"logprobs": []}
        found += [
            {"type": RESPONSES_DELTAS[kind], **about, "delta": delta, "obfuscation": "x" * (at % 7)}
            for at, delta in enumerate(deltas)
        ]
        done = {**item, "status": "completed"}
        if kind == "text":
            done["content"] = [{"type": "output_text", "text": "".join(deltas), "annotations": []}]
        elif kind == "tool":
            done["arguments"] = "".join(deltas)
        found += [{"type": "response.output_item.done", "output_index": number, "item": done}]
    found += [{"type": "response.completed", "response": response_of(status="completed")}]
    return [Event(dump({**one, "sequence_number": at}), event=one["type"]) for at, one in enumerate(found)]


ANTHROPIC_DELTAS = {"text": "text", "reasoning": "thinking", "tool": "partial_json"}


def anthropic(parts: Parts, dump: Callable[[object], str] = compact) -> list[Event]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None}
    usage = {"input_tokens": 3, "output_tokens": 1}
    found: list[dict[str, Any]] = [{"type": "message_start", "message": {**message, "stop_sequence": None, "usage": usage}}]
    for number, (kind, deltas) in enumerate(parts):
        key = ANTHROPIC_DELTAS[kind]
        block: dict[str, Any] = (
            {"type": "text", "text": ""} if kind == "text" else {"type": "thinking", "thinking": "", "signature": ""}
        )
        if kind == "tool":
            block = {"type": "tool_use", "id": f"p{number}", "name": "f", "input": {}}
        delta = f"{'input_json' if kind == 'tool' else key}_delta"
        found += [{"type": "content_block_start", "index": number, "content_block": block}]
        found += [{"type": "content_block_delta", "index": number, "delta": {"type": delta, key: text}} for text in deltas]
        found += [{"type": "content_block_stop", "index": number}]
    end = {"stop_reason": "end_turn", "stop_sequence": None}
    found += [{"type": "message_delta", "delta": end, "usage": {"output_tokens": 9}}, {"type": "message_stop"}]
    return [Event(dump(one), event=one["type"]) for one in found]


@dataclass(frozen=True)
class Sample:
    """A wire, and how a run stands in it."""

    wire: Wire
    events: Callable[..., list[Event]]
    delta: Callable[[dict[str, Any]], tuple[str, str] | None]
    """The part that a message is a delta of, and its text: what a client adds up."""


def _ai_delta(part: dict[str, Any]) -> tuple[str, str] | None:
    if not part["type"].endswith("-delta"):
        return None
    return part.get("id", part.get("toolCallId")), part.get("delta", part.get("inputTextDelta"))


def _ag_ui_delta(event: dict[str, Any]) -> tuple[str, str] | None:
    return (event.get("messageId", event.get("toolCallId")), event["delta"]) if "delta" in event else None


def _chat_delta(chunk: dict[str, Any]) -> tuple[str, str] | None:
    delta = chunk["choices"][0]["delta"]
    for key in ("content", "reasoning_content"):
        if key in delta:
            return key, delta[key]
    calls = delta.get("tool_calls")
    return (f"tool {calls[0]['index']}", calls[0]["function"]["arguments"]) if calls else None


def _responses_delta(event: dict[str, Any]) -> tuple[str, str] | None:
    return (event["item_id"], event["delta"]) if event["type"].endswith(".delta") else None


def _anthropic_delta(event: dict[str, Any]) -> tuple[str, str] | None:
    if event["type"] != "content_block_delta":
        return None
    (text,) = (text for key, text in event["delta"].items() if key != "type")
    return str(event["index"]), text


SAMPLES = {
    "ai_sdk": Sample(AI_SDK, ai_sdk, _ai_delta),
    "ag_ui": Sample(AG_UI, ag_ui, _ag_ui_delta),
    "anthropic": Sample(ANTHROPIC, anthropic, _anthropic_delta),
    "openai_chat": Sample(OPENAI_CHAT, chat, _chat_delta),
    "openai_responses": Sample(OPENAI_RESPONSES, responses, _responses_delta),
}


def added_up(sample: Sample, events: Iterable[Event]) -> tuple[dict[str, str], list[Event]]:
    """The text of each part, joined as clients of JavaScript join it, and the events that are no deltas, without ids."""
    parts: dict[str, str] = {}
    others: list[Event] = []
    for event in events:
        message = json.loads(event.data) if event.data.startswith("{") else None
        found = None if message is None else sample.delta(message)
        if found is None:
            others.append(Event(event.data, event=event.event))
        else:
            parts[found[0]] = parts.get(found[0], "") + found[1]
    return {part: whole_characters(text) for part, text in parts.items()}, others


def whole_characters(text: str) -> str:
    """Join the halves of characters, which Python's JSON leaves apart where they came apart."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def numbered(events: Iterable[Event]) -> list[Event]:
    """With ids, as a topic has them."""
    return [Event(event.data, event=event.event, id=f"abcdefgh.{at}") for at, event in enumerate(events, 1)]
