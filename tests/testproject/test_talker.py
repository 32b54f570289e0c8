"""What the agent of the chat says, and what its tools are asked; without a server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from builds.talker import MOST, Tools, answer
from django.test import override_settings

from django_agent_sse import Event


class Shop:
    """Tools whose answers a test knows."""

    def __init__(self, *builds: dict[str, Any]) -> None:
        self.builds = [*builds]
        self.fact = ""

    @property
    def tools(self) -> Tools:
        async def look() -> list[dict[str, Any]]:
            return self.builds

        async def remember(fact: str) -> None:
            self.fact = fact

        async def recall() -> str:
            return self.fact

        return Tools(look=look, remember=remember, recall=recall)

    async def asked(self, question: str) -> tuple[str, list[dict[str, Any]]]:
        """The text of the answer, and the steps."""
        pieces = [piece async for piece in answer(question, self.tools)]
        steps = [json.loads(piece.data) for piece in pieces if isinstance(piece, Event)]
        return "".join(piece for piece in pieces if isinstance(piece, str)), steps


@pytest.fixture(autouse=True)
def at_once() -> Any:
    with override_settings(AGENT_PACE=0):
        yield


async def test_it_counts_and_not_for_ever() -> None:
    assert await Shop().asked("Please COUNT to 3!") == ("Counting to **3**:\n\n1, 2, 3\n\nThat is all ✓", [])
    text, _ = await Shop().asked("count to 999999")
    assert f", {MOST}\n" in text


async def test_it_quotes_the_question_and_looks_at_the_builds_between_two_pieces_of_text() -> None:
    build = {"id": 7, "label": "Größe", "status": "failed"}
    text, steps = await Shop(build).asked("世界\nhow?")
    assert text.startswith("> 世界\n> how?\n\nLet me look")
    assert "- [Größe #7](/builds/7/): **failed**" in text
    assert "](/builds/7/triage/)" in text
    assert [(step["name"], step["said"]) for step in steps] == [("look_at_builds", None), ("look_at_builds", "1 build")]


async def test_it_remembers() -> None:
    shop = Shop()
    assert (await shop.asked("What do you remember?"))[0] == "You have told me nothing yet."
    await shop.asked("Remember that Grüße are sent on Friday")
    text, steps = await shop.asked("what do you remember")
    assert (text, steps[-1]["said"]) == ("You told me:\n\n> Grüße are sent on Friday", "Grüße are sent on Friday")


async def test_it_fails_when_asked_to_after_it_has_begun() -> None:
    said = 0
    with pytest.raises(RuntimeError):
        async for _ in answer("please fail", Shop().tools):
            said += 1
    assert said > 1


async def test_whoever_leaves_while_it_thinks_frees_the_model(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "builds.talker")
    thinking = asyncio.Event()

    async def listen() -> None:
        async for piece in answer("think for 60 seconds", Shop().tools):
            assert isinstance(piece, Event)
            thinking.set()

    task = asyncio.create_task(listen())
    await thinking.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    said = [record.getMessage() for record in caplog.records if record.name == "builds.talker"]
    assert said == ["the model is taken", "the model is free again"]
