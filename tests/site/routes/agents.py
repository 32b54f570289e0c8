"""Runs for the clients of agents: in AG-UI, as LangGraph's server has them, and in no protocol.

Each says the whole of its script, or its first ``at`` events, and then does what ``then`` says: ``failed`` raises, and ``waits``
goes on for ever. It pauses for ``pause`` seconds after each event.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

from django_agent_sse import Context, Router
from django_agent_sse.contrib.wires import AG_UI, LANGGRAPH, PLAIN
from django_agent_sse.runs.async_run import AsyncRun

LEASES = {"brief-": 15.0, "": 30.0}
"""Seconds, by the beginning of a route's name: the brief ones are for runs whose process is killed. Until then they outlast a
machine that stands still."""
WORDS = ["Grüße ", "from ", "Djan", "go ☕\r\n", "\N{UNICORN FACE}", " – 再", "见."]
TEXT = "".join(WORDS)
ARGUMENTS = ['{"city": "Zü', 'rich \N{COMBINING ACUTE ACCENT}"}']
OPTIONS: dict[str, Any] = {"csrf_exempt": True, "heartbeat": None}
"""Without heartbeats a body has the same bytes each time, by which it is cut."""
T = TypeVar("T")


async def script(c: Context, items: Sequence[T]) -> AsyncIterator[T]:
    """See above."""
    at, then = int(c.query.get("at", len(items))), c.query.get("then", "finished")
    for item in items[:at]:
        yield item
        await asyncio.sleep(float(c.query.get("pause", "0")))
    if then == "failed":
        raise ValueError("deliberate")
    if then == "waits":
        await asyncio.Event().wait()


# AG-UI

router = Router(app_name="agents")


def ag_ui_events() -> list[Any]:
    """A run with a step, in it reasoning, a text and a tool call in the middle of the text."""
    from ag_ui import core

    run: dict[str, Any] = {"thread_id": "t", "run_id": "r"}
    start, *middle, end = [core.TextMessageContentEvent(message_id="m", delta=word) for word in WORDS]
    return [
        core.RunStartedEvent(**run),
        core.StepStartedEvent(step_name="think"),
        core.ReasoningStartEvent(message_id="h"),
        core.ReasoningMessageStartEvent(message_id="h", role="reasoning"),
        core.ReasoningMessageContentEvent(message_id="h", delta="hm …"),
        core.ReasoningMessageEndEvent(message_id="h"),
        core.ReasoningEndEvent(message_id="h"),
        core.StepStartedEvent(step_name="say"),
        core.TextMessageStartEvent(message_id="m", role="assistant"),
        start,
        core.ToolCallStartEvent(tool_call_id="c", tool_call_name="weather", parent_message_id="m"),
        *(core.ToolCallArgsEvent(tool_call_id="c", delta=delta) for delta in ARGUMENTS),
        *middle,
        core.ToolCallEndEvent(tool_call_id="c"),
        end,
        core.TextMessageEndEvent(message_id="m"),
        core.StepFinishedEvent(step_name="say"),
        core.StepFinishedEvent(step_name="think"),
        core.RunFinishedEvent(**run),
    ]


async def agui(c: Context, run: AsyncRun, name: str) -> None:
    """An agent, its events framed by AG-UI's own encoder."""
    from ag_ui.encoder import EventEncoder

    encoder = EventEncoder()
    async for event in script(c, ag_ui_events()):
        await run.pipe_sse(encoder.encode(event))


async def plain(c: Context, run: AsyncRun, name: str) -> None:
    """Words, as JSON."""
    async for word in script(c, WORDS):
        await run.write({"word": word})


for _brief, _lease in LEASES.items():
    router.run(f"{_brief}agui/<slug:name>/", wire=AG_UI, lease=_lease, **OPTIONS, name=f"{_brief}agui")(agui)
    router.run(f"{_brief}plain/<slug:name>/", wire=PLAIN, lease=_lease, **OPTIONS, retry=20, name=f"{_brief}plain")(plain)
router.run("short-agui/<slug:name>/", wire=AG_UI, max_duration=15, **OPTIONS, name="short-agui")(agui)


# LangGraph: the paths of its server, which its SDK takes from the root of the site

langgraph = Router(app_name="langgraph")


async def graph(c: Context, run: AsyncRun, thread: str) -> None:
    """A graph's stream: pairs of a mode and a chunk."""
    async for mode, chunk in script(
        c, [("metadata", {"run_id": run.id}), *(("messages", [{"content": word}]) for word in WORDS)]
    ):
        await run.write(chunk, event=mode)


for _brief, _lease in LEASES.items():
    for _path, _name in (("runs/stream", "stream"), ("runs", "runs")):
        langgraph.run(
            f"threads/{_brief}<slug:thread>/{_path}",
            topic="threads.{thread}",
            wire=LANGGRAPH,
            lease=_lease,
            **OPTIONS,
            name=f"{_brief}{_name}",
        )(graph)
