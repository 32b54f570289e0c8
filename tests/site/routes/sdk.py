"""The protocols of five SDKs as streams: one whole answer each, or one that an ending cuts after its first half."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from django_agent_sse import Context, Router, Stream

router = Router(app_name="sdk")

TOKENS = ["Grüße ", "from ", "Djan", "go ☕"]
ENDINGS: dict[str, dict[str, Any]] = {"finished": {}, "handler_error": {}, "max_duration": {"max_duration": 0.5}, "shutdown": {}}


def openai_chat() -> list[tuple[str | None, Any]]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> Any:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    deltas = [chunk({"role": "assistant", "content": token}) for token in TOKENS]
    return [*((None, delta) for delta in deltas), (None, chunk({}, "stop")), (None, "[DONE]")]


def openai_responses() -> list[tuple[str | None, Any]]:
    response = {"id": "r1", "object": "response", "created_at": 1, "model": "m", "output": [], "status": "in_progress"}
    about = {"item_id": "i1", "output_index": 0, "content_index": 0}
    events = [
        {"type": "response.created", "response": response},
        *({"type": "response.output_text.delta", "delta": token, **about} for token in TOKENS),
        {"type": "response.completed", "response": {**response, "status": "completed"}},
    ]
    return [(event["type"], {**event, "sequence_number": number}) for number, event in enumerate(events)]


def anthropic_messages() -> list[tuple[str | None, Any]]:
    message = {"id": "m1", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None}
    usage = {"input_tokens": 1, "output_tokens": 1}
    events = [
        {"type": "message_start", "message": {**message, "stop_sequence": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}} for token in TOKENS),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return [(event["type"], event) for event in events]


def ai_sdk() -> list[tuple[str | None, Any]]:
    parts = [
        {"type": "start", "messageId": "m1"},
        {"type": "text-start", "id": "t1"},
        *({"type": "text-delta", "id": "t1", "delta": token} for token in TOKENS),
        {"type": "text-end", "id": "t1"},
        {"type": "finish"},
    ]
    return [*((None, part) for part in parts), (None, "[DONE]")]


def ag_ui() -> list[tuple[str | None, Any]]:
    run = {"threadId": "t1", "runId": "r1"}
    events = [
        {"type": "RUN_STARTED", **run},
        {"type": "TEXT_MESSAGE_START", "messageId": "m1", "role": "assistant"},
        *({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": token} for token in TOKENS),
        {"type": "TEXT_MESSAGE_END", "messageId": "m1"},
        {"type": "RUN_FINISHED", **run},
    ]
    return [(None, event) for event in events]


def spoken(frames: list[tuple[str | None, Any]], ending: str) -> Callable[[Context, Stream], Any]:
    """A handler that says all of these, or half of them and then ends so."""

    async def handler(c: Context, stream: Stream) -> None:
        for event, data in frames if ending == "finished" else frames[: len(frames) // 2]:
            await stream.write(data if isinstance(data, str) else json.dumps(data, ensure_ascii=False), event=event)
            await asyncio.sleep(0.01)
        if ending == "handler_error":
            raise ValueError("deliberate")
        if ending != "finished":
            await stream.wait_closed()

    return handler


PATHS = {
    "openai/chat/completions": openai_chat,
    "openai/responses": openai_responses,
    "anthropic/v1/messages": anthropic_messages,
    "ai": ai_sdk,
    "agui": ag_ui,
}
for _ending, _options in ENDINGS.items():
    for _path, _frames in PATHS.items():
        router.sse(
            f"{_ending}/{_path}",
            spoken(_frames(), _ending),
            methods=["POST"],
            csrf_exempt=True,
            name=f"{_ending}-{_frames.__name__}",
            **_options,
        )
