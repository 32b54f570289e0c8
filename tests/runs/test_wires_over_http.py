"""Runs over HTTP that speak a protocol: headers, late readers, positions, and the end in its words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from django_agent_sse import Context, Router
from django_agent_sse.contrib.wires import AG_UI, AI_SDK, ANTHROPIC, OPENAI_RESPONSES, PLAIN
from django_agent_sse.eventlog import backend
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.wire import Decoder, Event
from tests.serving import Answer, ask, served

from .samples import SAMPLES, added_up

SCRIPT = [("reasoning", ["hm", "m", "."]), ("text", ["Hé", "llo", "!"])]
TELLS = {"ag_ui", "ai_sdk"}
"""Whose clients take the last event for the error that it is, and a connection that breaks off after it for another one."""
WORDS = {"ai_sdk": AI_SDK, "ag_ui": AG_UI, "anthropic": ANTHROPIC, "openai_responses": OPENAI_RESPONSES}


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
        answer = await ask("/chat/42/", method="POST", body=b"{}", broken_off=name not in TELLS)
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


async def test_who_has_all_numbers_gets_nothing_more_however_the_run_has_ended() -> None:
    for fails in (False, True):
        with served(speaking("openai_responses", fails=fails)):
            answer = await ask("/chat/42/", method="POST", body=b"{}", broken_off=fails)
            number = json.loads(events_of(answer)[-1].data)["sequence_number"]
            again = await ask(f"{answer.headers['location']}?stream=true&starting_after={number}")
            assert (again.status, again.body) == (200, b"")


@pytest.mark.parametrize("name", ["ai_sdk", "openai_responses"])
async def test_who_wants_json_gets_the_state_where_the_protocol_has_one(name: str) -> None:
    json_only = {"accept": "application/json"}
    with served(speaking(name)):
        answer, location = await start()
        asked = await ask(location, headers=json_only)
        stopped = await ask(location, method="DELETE")
        assert stopped.json() == {**stopped.json(), "run": answer.headers["location"].split("/")[-2], "ending": "finished"}
        if name == "ai_sdk":
            assert asked.headers["content-type"] == "text/event-stream"
            assert len(stopped.json()) == 2
        else:
            assert (asked.json()["status"], asked.json()["id"]) == ("completed", "resp_1")
            assert asked.json() == stopped.json()
            last_id = events_of(answer)[0].id
            for how in ({"last_event_id": last_id}, {"headers": {"accept": "application/json, text/event-stream"}}):
                assert (await ask(location, **{"headers": json_only, **how})).headers["content-type"] == "text/event-stream"


async def test_who_asks_for_a_stream_of_numbers_gets_each() -> None:
    """It leaves out by itself what it has: a delta that stands for several could not be left out in part."""
    with served(speaking("openai_responses")):
        answer, location = await start()
        found = await ask(f"{location}?stream=true")
        assert events_of(found) == events_of(answer)


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


async def test_a_run_that_its_client_has_named_is_found_by_that_name() -> None:
    name = {"X-Run-Id": "run-1795925026594-b0kotr"}
    with served(speaking("ag_ui")):
        answer = await ask("/chat/42/", method="POST", body=b"{}", headers=name)
        whole = events_of(answer)
        for event in whole[:-1]:
            rest = await ask("/chat/42/", method="POST", body=b"{}", headers=name, last_event_id=event.id)
            assert added_up(SAMPLES["ag_ui"], events_of(rest)) == added_up(SAMPLES["ag_ui"], whole[whole.index(event) + 1 :])
        again = await ask("/chat/42/", method="POST", body=b"{}", headers=name)
        assert again.headers["x-run-id"] == answer.headers["x-run-id"], "the same name is the same run"
        joined = await ask(f"/chat/42/?offset=-1&runId={name['X-Run-Id']}")
        assert added_up(SAMPLES["ag_ui"], events_of(joined)) == added_up(SAMPLES["ag_ui"], whole)
        stopped = await ask(f"/chat/42/?runId={name['X-Run-Id']}", method="DELETE")
        assert (stopped.status, stopped.json()) == (200, {"run": answer.headers["x-run-id"], "ending": "finished"})
        assert (await ask("/chat/42/?offset=-1&runId=other")).status == 404
        assert (await ask("/chat/42/", method="POST", headers={"X-Run-Id": "other"}, last_event_id=whole[0].id)).status == 404
        assert (await ask("/chat/43/", method="POST", headers=name)).headers["x-run-id"] != answer.headers["x-run-id"]
        for wrong in ("x" * 256, "a\tb"):
            refused = await ask("/chat/42/", method="POST", headers={"X-Run-Id": wrong})
            assert (refused.status, "the name of the run" in refused.json()["error"]["message"]) == (400, True)


async def test_only_where_its_clients_name_runs_is_a_name_one() -> None:
    with served(speaking("ai_sdk")):
        ids = [(await ask("/chat/42/", method="POST", headers={"X-Run-Id": "mine"})).headers["x-workflow-run-id"] for _ in "12"]
        assert ids[0] != ids[1]


async def test_an_id_comes_before_its_data_where_clients_need_it_so() -> None:
    with served(speaking("ag_ui")):
        answer, location = await start()
        late = await ask(location)
        resumed = await ask(location, last_event_id=events_of(answer)[2].id)
    for body in (answer.body, late.body, resumed.body):
        for event in body.decode().split("\n\n")[:-1]:
            id, *rest = event.split("\n")
            assert id.startswith("id: ")
            assert [line for line in rest if not line.startswith("retry: ")] == [rest[-1]]
            assert rest[-1].startswith("data: {")
