"""Runs over HTTP that speak a protocol: headers, late readers, positions, and the end in its words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from django_agent_sse import Context, Router
from django_agent_sse.contrib.wires import AG_UI, AI_SDK, OPENAI_RESPONSES, PLAIN
from django_agent_sse.eventlog import backend
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.wire import Decoder, Event
from tests.serving import Answer, ask, served

from .samples import SAMPLES, added_up

SCRIPT = [("reasoning", ["hm", "m", "."]), ("text", ["Hé", "llo", "!"])]
WORDS = {"ai_sdk": AI_SDK, "ag_ui": AG_UI, "openai_responses": OPENAI_RESPONSES}


@pytest.fixture(autouse=True)
def log() -> Iterator[Any]:
    backend.reset()
    yield backend.event_log()
    backend.reset()


def speaking(name: str, *, fails: bool = False, saved: list[object] | None = None) -> Router:
    """A route whose runs say a script, up to its middle where they fail."""
    router, events = Router(), SAMPLES[name].events(SCRIPT)

    @router.run("chat/<slug:chat>/", wire=WORDS[name])
    async def talk(c: Context, run: AsyncRun, chat: str) -> None:
        @run.on_end
        async def save() -> None:
            if saved is not None:
                saved.append((run.ending, await run.text()))

        for event in events[: len(events) // 2 + 2] if fails else events:
            await run.write(event)
            await run.flush()
        if fails:
            raise RuntimeError("the model")

    return router


def events_of(answer: Answer) -> list[Event]:
    return list(Decoder().feed(answer.body))


async def start() -> tuple[Answer, str]:
    answer = await ask("/chat/42/", method="POST", body=b"{}")
    assert answer.status == 200
    return answer, answer.headers["location"]


@pytest.mark.parametrize("name", sorted(WORDS))
async def test_whoever_starts_a_run_gets_each_event_and_who_comes_late_the_text(name: str) -> None:
    sample = SAMPLES[name]
    with served(speaking(name)):
        answer, location = await start()
        assert added_up(sample, events_of(answer)) == added_up(sample, sample.events(SCRIPT))
        late = await ask(location)
        assert len(events_of(late)) == len(events_of(answer)) - 4
        assert added_up(sample, events_of(late)) == added_up(sample, events_of(answer))
        assert events_of(late)[-1].id == events_of(answer)[-1].id
        for cut, event in enumerate(events_of(answer)[:-1], 1):
            rest = await ask(location, last_event_id=event.id)
            assert added_up(sample, [*events_of(answer)[:cut], *events_of(rest)]) == added_up(sample, events_of(answer))


@pytest.mark.parametrize("name", sorted(WORDS))
async def test_a_run_that_fails_says_so_and_its_part_is_saved(name: str) -> None:
    saved: list[object] = []
    with served(speaking(name, fails=True, saved=saved)):
        answer = await ask("/chat/42/", method="POST", body=b"{}", broken_off=not WORDS[name].says_failure)
    written = SAMPLES[name].events(SCRIPT)
    written = written[: len(written) // 2 + 2]
    ends = [event.data for event in WORDS[name].last(RunEnding.FAILED, written)]
    assert [event.data for event in events_of(answer)] == [*(event.data for event in written), *ends]
    assert saved == [(RunEnding.FAILED, WORDS[name].text(written))]


async def test_who_counts_parts_gets_each_after_those_it_has() -> None:
    with served(speaking("ai_sdk")):
        answer, location = await start()
        assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
        id = answer.headers["x-workflow-run-id"]
        assert id == answer.headers["x-resumable-stream-id"]
        assert id in location
        whole = [event.data for event in events_of(answer)]
        for have in range(len(whole)):
            found = await ask(f"{location}?startIndex={have}")
            assert [event.data for event in events_of(found)] == whole[have:]
            assert "x-workflow-stream-tail-index" not in found.headers
        tail = await ask(f"{location}?startIndex=-3")
        assert [event.data for event in events_of(tail)] == whole[-3:]
        assert tail.headers["x-workflow-stream-tail-index"] == str(len(whole) - 1)
        for wrong in ("x", "1.5", ""):
            refused = await ask(f"{location}?startIndex={wrong}")
            assert (refused.status, refused.headers["content-type"]) == (400, "application/json")


async def test_who_knows_a_sequence_number_goes_on_after_it() -> None:
    with served(speaking("openai_responses")):
        answer, location = await start()
        for event in events_of(answer)[:-1]:
            number = json.loads(event.data)["sequence_number"]
            found = await ask(f"{location}?stream=true&starting_after={number}")
            assert [json.loads(later.data)["sequence_number"] for later in events_of(found)] == [
                *range(number + 1, len(events_of(answer)))
            ]


async def test_the_last_event_is_repeated_without_its_id_for_clients_that_wait_for_it() -> None:
    with served(speaking("ag_ui")):
        answer, location = await start()
        again = await ask(location, last_event_id=events_of(answer)[-1].id)
        (event,) = events_of(again)
        assert (event.data, event.id) == (events_of(answer)[-1].data, None)
        joined = await ask(f"{location}?offset=-1")
        assert joined.data[0] == answer.data[0]


async def test_a_plain_run_says_how_it_ended_and_keeps_control_events() -> None:
    router = Router()

    @router.run("say/", wire=PLAIN)
    async def say(c: Context, run: AsyncRun) -> None:
        await run.write("hello")
        await asyncio.sleep(0)

    with served(router):
        answer = await ask("/say/", method="POST", body=b"{}")
        assert [(event.event, event.data) for event in events_of(answer)] == [
            (None, "hello"),
            ("run.end", '{"reason":"finished"}'),
        ]
        told = await ask(answer.headers["location"], headers={"accept": "text/event-stream"})
        assert [event.event for event in events_of(told)] == [None, "run.end", "sse.end"]
