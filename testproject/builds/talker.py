"""An agent for the chat that needs no network.

Rules stand for the model: it thinks, uses tools, streams, and fails as one does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from django_agent_sse import Event

from .agent import tokens

logger = logging.getLogger(__name__)

MOST = 1_000
"""How far it counts."""

Piece = str | Event
"""A piece of the answer's text, or ``event: step`` with what a tool is asked and has said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What the agent may use.

    Attributes:
        look: The newest builds, as ``overview.row`` has them.
        remember: Keep a sentence for whoever asks.
        recall: What was kept last; ``""`` for nothing.
    """

    look: Callable[[], Awaitable[list[dict[str, Any]]]]
    remember: Callable[[str], Awaitable[None]]
    recall: Callable[[], Awaitable[str]]


async def answer(question: str, tools: Tools) -> AsyncIterator[Piece]:
    """Yield an answer: paragraphs, lists and ``## headings``; ``code``, **strong** words and [links](/builds/1/)."""
    logger.debug("the model is taken")
    try:
        for pattern, rule in RULES.items():
            if match := re.search(pattern, question, re.IGNORECASE):
                async with aclosing(rule(tools, question, *match.groups())) as pieces:
                    async for piece in pieces:
                        yield piece
                return
    finally:  # where the client of a model would give its connection back: nobody pays for words that nobody wants any more
        logger.debug("the model is free again")


async def _say(text: str) -> AsyncIterator[str]:
    for token in tokens(text):
        yield token
        await asyncio.sleep(settings.AGENT_PACE)


def _step(name: str, said: str | None = None, **asked: object) -> Event:
    """Return what a tool is asked, or has said: the second takes the place of the first."""
    return Event(json.dumps({"name": name, "asked": asked, "said": said}, ensure_ascii=False), event="step")


async def _count(tools: Tools, question: str, up_to: str) -> AsyncIterator[Piece]:
    last = min(int(up_to), MOST)
    async for piece in _say(f"Counting to **{last}**:\n\n{', '.join(map(str, range(1, last + 1)))}\n\nThat is all ✓"):
        yield piece


async def _think(tools: Tools, question: str, seconds: str) -> AsyncIterator[Piece]:
    yield _step("think", seconds=int(seconds))
    await asyncio.sleep(int(seconds))
    yield _step("think", "done", seconds=int(seconds))
    async for piece in _say(f"I thought about it for {seconds} seconds, and nothing came of it."):
        yield piece


async def _fail(tools: Tools, question: str) -> AsyncIterator[Piece]:
    async for piece in _say("I shall try. First I look into"):
        yield piece
    yield _step("look_into_the_abyss")
    raise RuntimeError("the abyss has looked back")


async def _remember(tools: Tools, question: str, fact: str) -> AsyncIterator[Piece]:
    yield _step("remember", fact=fact)
    await tools.remember(fact)
    yield _step("remember", "kept", fact=fact)
    async for piece in _say("I shall. Ask me *what I remember*."):
        yield piece


async def _recall(tools: Tools, question: str) -> AsyncIterator[Piece]:
    yield _step("recall")
    fact = await tools.recall()
    yield _step("recall", fact or "nothing")
    async for piece in _say(f"You told me:\n\n> {fact}" if fact else "You have told me nothing yet."):
        yield piece


async def _builds(tools: Tools, question: str) -> AsyncIterator[Piece]:
    quoted = "\n".join(f"> {line}" for line in question.splitlines())
    async for piece in _say(f"{quoted}\n\nLet me look at the builds…\n\n"):
        yield piece
    yield _step("look_at_builds", newest=5)
    builds = await tools.look()
    yield _step("look_at_builds", "1 build" if len(builds) == 1 else f"{len(builds)} builds", newest=5)
    if not builds:
        async for piece in _say("Nothing has been built yet. [Start a build](/) and ask again."):
            yield piece
        return
    lines = [f"- [{build['label']} #{build['id']}](/builds/{build['id']}/): **{build['status']}**" for build in builds]
    failed = [build for build in builds if build["status"] == "failed"]
    advice = "None of them failed ✓"
    if failed:
        newest = failed[0]["id"]
        advice = f"Why did #{newest} fail? [Ask the agent that reads logs](/builds/{newest}/triage/), or see for yourself:\n\n"
        advice += f"```\nmanage.py sse_tail builds.{newest}\n```"
    async for piece in _say("## The newest builds\n\n" + "\n".join(lines) + f"\n\n{advice}"):
        yield piece


RULES: dict[str, Callable[..., AsyncIterator[Piece]]] = {
    r"\bcount to (\d{1,6})": _count,
    r"\bthink for (\d{1,2}) s": _think,
    r"\bplease fail\b": _fail,
    r"\Aremember (?:that )?(.{1,500})": _remember,
    r"\bwhat (?:do )?(?:you|I) remember\b": _recall,
    r"": _builds,
}
"""What a question holds, and who answers it; the last one answers all others."""
