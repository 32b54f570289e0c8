"""``router.logs()`` and ``{% sse_logs %}``: several logs of one thing."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import unescape
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.template import Context as TemplateContext
from django.template import Template
from django.test import RequestFactory

from django_agent_sse import Context, Event, Router, Topic, log_steps
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.exceptions import EventLogUnavailable, RouteError
from django_agent_sse.log_parts import Busy
from django_agent_sse.log_steps import MOST_STEPS, step_states
from tests.inprocess import eventually
from tests.serving import ask, connect, served

STEPS = {"lint": "builds.{id}.lint", "test": "builds.{id}.test", "deploy": "builds.{id}.deploy"}
TOPICS = {step: topic.format(id=7) for step, topic in STEPS.items()}


@pytest.fixture(autouse=True)
def own_log() -> Any:
    """A log without topics, before and after."""
    event_log().clear_all()
    yield
    event_log().clear_all()


def builds(steps: Any = STEPS, **about: Any) -> Router:
    router = Router()
    router.logs("builds/<int:id>/steps/", steps, name="steps", **about)
    return router


def states(data: list[str]) -> list[tuple[str, str, int, int | None]]:
    told = [json.loads(text) for text in data if text.startswith('{"step"')]
    return [(one["step"], one["status"], one["events"], one["errors"]) for one in told]


async def finished() -> None:
    await Topic(TOPICS["lint"]).apublish_many(["clean", "done"])
    await Topic(TOPICS["lint"]).aclose()
    await Topic(TOPICS["test"]).apublish_many([Event("ERROR: x", event="stderr")])
    await Topic(TOPICS["test"]).aclose("failed")
    await Topic(TOPICS["deploy"]).aclose("cancelled")


@pytest.mark.parametrize("error", [Busy(), EventLogUnavailable("away")], ids=["busy", "away"])
async def test_states_that_cannot_be_read_at_first_come_when_they_can(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    await finished()
    errors, in_turn = [error, error], log_steps.in_turn

    async def later(look: Any) -> Any:
        if errors:
            raise errors.pop()
        return await in_turn(look)

    monkeypatch.setattr(log_steps, "in_turn", later)
    monkeypatch.setattr(log_steps, "INTERVAL", 0.01)
    with served(builds()):
        answer = await ask("/builds/7/steps/")
    assert [state[:2] for state in states(answer.data)] == [("lint", "completed"), ("test", "failed"), ("deploy", "cancelled")]


async def test_the_states_of_all_steps_come_on_one_stream_which_ends_with_the_last_of_them() -> None:
    await finished()
    with served(builds()):
        answer = await ask("/builds/7/steps/")
    assert states(answer.data) == [("lint", "completed", 2, 0), ("test", "failed", 1, 1), ("deploy", "cancelled", 0, 0)]


async def test_each_change_is_told_and_no_line() -> None:
    with served(builds(), middleware=[]):
        client = connect("/builds/7/steps/")
        await eventually("the states", lambda: client.raw.count(b"event: step") == 3)
        await Topic(TOPICS["test"]).apublish("a line that nobody asked for")
        await eventually("that it runs", lambda: b'"step":"test","status":"running","events":1' in client.raw)
        for topic in TOPICS.values():
            await Topic(topic).aclose()
        await client.over()
    assert b"nobody asked" not in client.raw
    assert client.raw.count(b'"status":"completed"') == 3


async def test_each_step_is_a_log_of_its_own() -> None:
    await finished()
    with served(builds()):
        assert (await ask("/builds/7/steps/test/raw/")).body == b"ERROR: x\n"
        assert (await ask("/builds/7/steps/lint/range/")).json()["top"] == 2
        assert (await ask("/builds/7/steps/lint/")).data[:2] == ["clean", "done"]
        assert (await ask("/builds/7/steps/other/raw/")).status == 404


async def test_steps_may_be_what_the_project_says_behind_its_guards() -> None:
    async def steps_of(c: Context, id: int) -> Mapping[str, str]:
        return {"only": f"builds.{id}.lint"}

    async def refuse(c: Context) -> bool:
        return False

    await finished()
    with served(builds(steps_of)):
        assert states((await ask("/builds/7/steps/")).data) == [("only", "completed", 2, 0)]
        assert (await ask("/builds/7/steps/only/raw/")).body == b"clean\ndone\n"
    with served(builds(steps_of, guards=[refuse])):
        for part in ("", "only/", "only/raw/", "only/range/"):
            assert (await ask(f"/builds/7/steps/{part}")).status == 403


@pytest.mark.parametrize(
    "steps",
    [{}, [], {"a b": "x"}, {"a/b": "x"}, {"": "x"}, {1: "x"}, {f"s{n}": "x" for n in range(MOST_STEPS + 1)}, lambda c: {}],
)
def test_what_steps_cannot_be_is_refused_where_the_route_is_written(steps: Any) -> None:
    with pytest.raises(RouteError, match="step"):
        builds(steps)


async def test_a_log_that_cannot_be_read_shows_steps_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise EventLogUnavailable("away")

    monkeypatch.setattr(event_log(), "_state", fails)
    assert {state.status for state in await sync_to_async(step_states)(TOPICS)} == {"waiting"}


@pytest.mark.parametrize(
    ("data", "took"),
    [
        ('{"code": 1, "seconds": 90.5}', 90.5),
        ('{"code": 1, "duration": 3}', 3.0),
        *(
            (data, None)
            for data in ('{"code": 1}', '{"seconds": -1}', '{"seconds": true}', '{"seconds": "9"}', '{"seconds": NaN}', "[1]")
        ),
        *(
            (data, None)
            for data in ('{"seconds": 1e300}', '{"seconds": ' + "9" * 4000 + "}", '{"seconds": 1}' + " " * 5000, "[" * 4000, "no")
        ),
    ],
)
async def test_a_step_took_as_long_as_its_exit_says_which_is_more_than_since_its_first_line(
    data: str, took: float | None
) -> None:
    await Topic(TOPICS["test"]).apublish_many(["line", Event(data, event="exit")])
    await Topic(TOPICS["test"]).aclose("failed")
    (state,) = await sync_to_async(step_states)({"test": TOPICS["test"]})
    topic = await sync_to_async(event_log().state)(TOPICS["test"])
    assert state.ended == topic.newest_at
    assert state.started == (topic.oldest_at if took is None else pytest.approx(topic.newest_at - took))


# The page


async def page(query: str = "", **about: Any) -> str:
    request = RequestFactory().get(f"/page/{query}")
    template = Template(
        '{% load agent_sse %}{% sse_script "log" "logs" %}{% sse_logs steps "/builds/7/steps/" selected=selected %}'
    )
    context = TemplateContext({"steps": TOPICS, "request": request, **about})
    return await sync_to_async(template.render)(context)


async def test_the_page_shows_each_step_with_its_state_and_a_link_and_opens_the_one_that_failed() -> None:
    await finished()
    with served(builds()):
        html = await page()
    links = re.findall(r'<a href="([^"]*)" data-step="(\w+)"[^>]*data-status="(\w+)"[^>]*>', html)
    assert [tuple(map(unescape, link)) for link in links] == [
        ("?step=lint", "lint", "completed"),
        ("?step=test", "test", "failed"),
        ("?step=deploy", "deploy", "cancelled"),
    ]
    assert re.findall(r'data-step="(\w+)"[^>]*aria-current="true"', html) == ["test"]
    assert 'src="/builds/7/steps/test/" raw="/builds/7/steps/test/raw/" range="/builds/7/steps/test/range/"' in html
    assert "ERROR: x\n" in html
    assert re.search(r'<script type="module" src="[^"]*logs\.js" data-agent-sse data-client="[^"]*client\.js"', html)


@pytest.mark.parametrize(
    ("query", "about", "opened"), [("?step=lint", {}, "lint"), ("?step=nope", {}, "test"), ("", {"selected": "deploy"}, "deploy")]
)
async def test_the_address_says_which_step_is_open(query: str, about: Any, opened: str) -> None:
    await finished()
    with served(builds()):
        html = await page(query, **about)
    assert re.findall(r'data-step="(\w+)"[^>]*aria-current="true"', html) == [opened]
