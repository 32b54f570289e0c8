"""Chats that speak the AI SDK's protocol: they finish, fail half-way, or wait there until something becomes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from django_agent_sse import Context, Router
from django_agent_sse.contrib.wires import AI_SDK
from django_agent_sse.runs.async_run import AsyncRun
from tests.site.gates import passed

LEASE = 60.0
"""Longer than a busy machine takes to renew it."""
SHORT_LEASE = 15.0
"""A test waits for its end; until its process is killed it outlasts a machine that stands still."""
REASONING = ["Erst ", "nach", "denken …"]
TEXT = ["Grü", "ße aus ", "日", "本: ", "👩", "\u200d🚀", " und \ud83d", "\ude80", ' <b>&\n\ndata: {"type":"finish"}', " ☕."]
"""Characters are split, one of them in its middle, as a model that speaks UTF-16 does it."""
QUERY = ['{"place":"', "日本", '"}']
WAY = 16
"""So many parts come before the chat fails or waits: one of text is open then."""

router = Router(app_name="ai_sdk")


def parts(chat: str) -> Iterator[dict[str, Any]]:
    """Yield what the chat says."""
    yield {"type": "start", "messageId": f"answer-{chat}"}
    yield {"type": "start-step"}
    yield {"type": "reasoning-start", "id": "r"}
    yield from ({"type": "reasoning-delta", "id": "r", "delta": delta} for delta in REASONING)
    yield {"type": "reasoning-end", "id": "r"}
    yield {"type": "text-start", "id": "t"}
    yield from ({"type": "text-delta", "id": "t", "delta": delta} for delta in TEXT)
    yield {"type": "text-end", "id": "t"}
    call = {"toolCallId": "c", "toolName": "weather"}
    yield {"type": "tool-input-start", **call}
    yield from ({"type": "tool-input-delta", "toolCallId": "c", "inputTextDelta": delta} for delta in QUERY)
    yield {"type": "tool-input-available", **call, "input": {"place": "日本"}}
    yield {"type": "tool-output-available", "toolCallId": "c", "output": {"sky": "☀️"}}
    yield {"type": "finish-step"}
    yield {"type": "start-step"}
    yield {"type": "text-start", "id": "t"}
    yield {"type": "text-delta", "id": "t", "delta": "Schön."}
    yield {"type": "text-end", "id": "t"}
    yield {"type": "finish-step"}
    yield {"type": "finish", "finishReason": "stop"}


async def chat_of(c: Context) -> str:
    """Return the chat's id as ``ai`` has it in the body."""
    return str((await c.json_body())["id"])


def calls(chat: str) -> Iterator[dict[str, Any]]:
    """Yield a call that is over and the beginning of another."""
    yield {"type": "start", "messageId": f"answer-{chat}"}
    yield {"type": "start-step"}
    for id in "ab":
        yield {"type": "tool-input-start", "toolCallId": id, "toolName": "weather"}
        yield {"type": "tool-input-delta", "toolCallId": id, "inputTextDelta": QUERY[0]}
        if id == "a":
            yield {"type": "tool-input-available", "toolCallId": id, "toolName": "weather", "input": {"place": "日本"}}
            yield {"type": "tool-output-available", "toolCallId": id, "output": {"sky": "☀️"}}


async def say(c: Context, run: AsyncRun, script: str) -> None:
    """Say the parts: ``whole``, ``slow``, ``failing`` half-way, or ``waiting`` there; ``calling`` waits for a tool's input."""
    chat = await chat_of(c)
    for number, part in enumerate(calls(chat) if script == "calling" else parts(chat)):
        if number == WAY and script == "failing":
            raise RuntimeError("what nobody is told")
        if number == WAY and script == "waiting":
            await run.flush()
            await passed(chat)
        await run.write(json.dumps(part, separators=(",", ":")))
        if script == "slow":
            await asyncio.sleep(0.002)
    if script == "calling":
        await run.flush()
        await passed(chat)
    await run.write("[DONE]")


ABOUT: dict[str, Any] = {"wire": AI_SDK, "key": chat_of, "csrf_exempt": True, "lease": LEASE}
router.run("kept/<slug:script>", say, name="kept", **ABOUT)
router.run("once/<slug:script>/", say, name="once", replay=False, **ABOUT)
router.run("short/<slug:script>", say, name="short", **{**ABOUT, "lease": SHORT_LEASE})
