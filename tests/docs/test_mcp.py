"""The page about MCP, with a real server and client of that protocol in this process: progress goes both ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from django_agent_sse import Topic, produce
from django_agent_sse.eventlog import backend
from tests.serving import ask, served

from . import pages
from .blocks import DOCS

PAGE = DOCS / "howto" / "mcp.rst"


@pytest.fixture
def modules() -> Iterator[dict[str, ModuleType]]:
    backend.reset()
    with pages.imported(PAGE) as found:
        yield found
    backend.reset()


async def test_a_run_shows_how_far_a_tool_is(modules: dict[str, ModuleType]) -> None:
    from mcp.server.mcpserver import Context, MCPServer

    server = MCPServer("a builder")

    async def build(name: str, ctx: Context) -> str:
        await ctx.report_progress(1, 2, "compiling")
        await ctx.report_progress(2, 2, "linking")
        return f"{name} is built"

    build.__annotations__["ctx"] = Context
    server.tool()(build)
    vars(modules["mysite/streams.py"])["TOOLS"] = server
    with served(modules["mysite/streams.py"].router):
        answer = await ask("/builds/web/", method="POST", body=b"{}")
        again = await ask("/builds/web/")
    events = [(event.name, json.loads(event.data)) for event in answer.events]
    assert events[:2] == [
        ("progress", {"done": 1, "total": 2, "message": "compiling"}),
        ("progress", {"done": 2, "total": 2, "message": "linking"}),
    ]
    assert events[2][0] == "result"
    assert "web is built" in str(events[2][1])
    assert again.data == answer.data


async def test_a_tool_shows_how_far_a_topic_is(modules: dict[str, ModuleType]) -> None:
    from mcp import Client

    async with produce("builds.web") as out:
        await out.write({"progress": 1, "total": 2}, event="progress")
        await out.write("a line of its log", event="log")
        await out.write({"progress": 2, "total": 2, "message": "linking"}, event="progress")
    told: list[Any] = []

    async def progress(*about: Any) -> None:
        told.append(about)

    async with Client(modules["mysite/tools.py"].server) as client:
        result = await client.call_tool("build", {"name": "web"}, progress_callback=progress)
    assert told == [(1, 2, None), (2, 2, "linking")]
    assert "finished" in str(result)
    assert (await Topic("builds.web").astate()).closed == "finished"
