"""Runs behind the addresses that the SDKs of OpenAI and Anthropic ask: one answer, by models that end in different ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from django_agent_sse import Context, Event, Router
from django_agent_sse.contrib.wires import ANTHROPIC, OPENAI_CHAT, OPENAI_RESPONSES, Wire
from django_agent_sse.encoding import encode_json
from django_agent_sse.runs.async_run import AsyncRun
from tests.site.watch import notes

BRIEF = 15.0
"""Seconds of the leases of runs below ``brief/``, whose process a test kills."""
TOKENS = ["Grüße ", "aus 東京", ": Djan", "go ☕", " 👩‍🚀."]
HALF = 3
"""Tokens after which the models ``fails`` and ``waits`` do."""
Frames = AsyncIterator[dict[str, Any]]
Tokens = AsyncIterator[str]
router = Router(app_name="llm")


async def model(name: str) -> Tokens:
    for number, token in enumerate(TOKENS):
        if number == HALF and name == "fails":
            raise ValueError("deliberate, and nobody's business")
        if number == HALF and name == "waits":
            await asyncio.Event().wait()
        yield token


async def chat(id: str, tokens: Tokens) -> Frames:
    about = {"id": id, "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": None}

    def chunk(delta: object, finish: str | None = None) -> dict[str, Any]:
        return {**about, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    async for token in tokens:
        yield chunk({"content": token})
    yield chunk({}, "stop")
    yield {**about, "choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7}}


async def responses(id: str, tokens: Tokens) -> Frames:
    response = {"id": id, "object": "response", "created_at": 1, "model": "m", "output": [], "status": "in_progress"}
    response |= {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    yield {"type": "response.created", "response": response}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield {"type": "response.content_part.added", **at, "part": part}
    text = ""
    async for token in tokens:
        text += token
        yield {"type": "response.output_text.delta", **at, "delta": token, "logprobs": []}
    whole = {**item, "status": "completed", "content": [{**part, "text": text}]}
    usage = {"input_tokens": 2, "output_tokens": 5, "total_tokens": 7}
    yield {"type": "response.output_text.done", **at, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": {**part, "text": text}}
    yield {"type": "response.output_item.done", "output_index": 0, "item": whole}
    yield {"type": "response.completed", "response": {**response, "status": "completed", "output": [whole], "usage": usage}}


async def messages(id: str, tokens: Tokens) -> Frames:
    message = {"id": id, "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None}
    usage = {"input_tokens": 2, "output_tokens": 1}
    yield {"type": "message_start", "message": {**message, "stop_sequence": None, "usage": usage}}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    async for token in tokens:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 5}}
    yield {"type": "message_stop"}


def serve(path: str, spoken: Callable[[str, Tokens], Frames], wire: Wire, **options: Any) -> None:
    @router.run(path, wire=wire, csrf_exempt=True, **options)
    async def answer(c: Context, run: AsyncRun) -> None:
        notes(c)("started", run=run.id)
        number = 0
        async for frame in spoken(run.id, model((await c.json_body())["model"])):
            counted = {"sequence_number": number} if wire is OPENAI_RESPONSES else {}
            await run.write(Event(encode_json({**frame, **counted}), event=frame.get("type")))
            await run.flush()
            number += 1


for prefix, options in {"": {}, "brief/": {"lease": BRIEF}}.items():
    serve(f"{prefix}chat/completions", chat, OPENAI_CHAT, name=f"{prefix}chat", **options)
    serve(f"{prefix}responses", responses, OPENAI_RESPONSES, name=f"{prefix}responses", **options)
    serve(f"{prefix}v1/messages", messages, ANTHROPIC, name=f"{prefix}messages", **options)
