"""Whoever comes late gets the deltas that were there as one event a part, and whatever comes later as it comes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from types import ModuleType
from typing import Any

import pytest
from django.test import override_settings
from django.urls import include, path

from django_agent_sse import Context, Event, Router, Stream, Topic
from django_agent_sse.contrib.wires import AG_UI, AI_SDK
from django_agent_sse.eventlog import backend, memory
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.exceptions import ArgumentInvalid, EventLogUnavailable, FollowError, RouteError
from django_agent_sse.topics import reading
from tests.inprocess import Site, serve
from tests.timing import LONG

from .logs import empty_log
from .samples import SAMPLES, Sample, added_up

NAME = "runs.42"
PATIENCE = 60.0
DELTAS = 20_000
LONG_PATIENCE = 60.0
"""Seconds for twenty thousand events, on a machine that does other work meanwhile: what they cost is measured apart."""
SCRIPT = [("reasoning", ["hm", "m", "."]), ("text", ["Hé", "llo", "!"])]


@pytest.fixture(autouse=True, params=["memory", "redis"])
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    with empty_log(request.param, request) as one:
        yield one


@pytest.fixture(params=["ai_sdk", "ag_ui", "openai_responses"])
def sample(request: pytest.FixtureRequest) -> Sample:
    return SAMPLES[request.param]


@contextlib.asynccontextmanager
async def following(topic: str = NAME, **how: Any) -> AsyncIterator[Site]:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.follow(topic, **how)

    async with serve(handler, retry=None) as site:
        yield site


async def taken(topic: Topic, count: int, **about: Any) -> list[Event]:
    found: list[Event] = []
    async with aclosing(aiter(topic.follow(**about))) as events:
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


def told(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if not (event.event or "").startswith("sse.")]


async def test_of_what_is_there_deltas_are_one_event_and_of_what_comes_each(sample: Sample) -> None:
    events = sample.events(SCRIPT)
    late, live = events[:-4], events[-4:]
    topic = Topic(NAME)
    positions = await topic.apublish_many(late)
    folded = [*sample.wire.fold(late)]  # type: ignore[misc]
    assert len(folded) < len(late)
    async with following(fold=sample.wire.fold) as site:
        client = site.connect()
        found = await client.take(len(folded))
        followed = asyncio.create_task(taken(topic, 1000, fold=sample.wire.fold))
        assert found[-1].id == str(positions[len(late) - 1])
        for event in live:
            await asyncio.sleep(0)
            await topic.apublish(event)
            found.append(await client.event())
        await topic.aclose("finished")
        assert [event.data for event in found] == [event.data for event in [*folded, *live]]
        assert added_up(sample, found) == added_up(sample, events)
        assert added_up(sample, await asyncio.wait_for(followed, PATIENCE)) == added_up(sample, events)


async def test_whoever_comes_back_after_any_event_has_the_same_text(sample: Sample) -> None:
    events = sample.events(SCRIPT)
    topic = Topic(NAME)
    positions = await topic.apublish_many(events)
    await topic.aclose("finished")
    whole = added_up(sample, events)
    async with following(fold=sample.wire.fold) as site:
        for cut, position in enumerate(positions, 1):
            rest = told(await site.connect(last_event_id=str(position)).rest())
            assert added_up(sample, [*events[:cut], *rest]) == whole
            assert (
                added_up(sample, [*events[:cut], *await taken(topic, 100, after=str(position), fold=sample.wire.fold)]) == whole
            )
        first = told(await site.connect().rest())
        for cut, event in enumerate(first, 1):
            rest = told(await site.connect(last_event_id=event.id).rest())
            assert added_up(sample, [*first[:cut], *rest]) == whole, "a folded event is a place to go on from"
            assert len(first[:cut]) + len(rest) == len(first)


def test_sync_code_gets_the_same(sample: Sample) -> None:
    topic = Topic(NAME)
    events = sample.events(SCRIPT)
    topic.close("finished", last=events)
    found = [*topic.follow(fold=sample.wire.fold)]
    assert [event.data for event in found] == [event.data for event in sample.wire.fold(events)]  # type: ignore[misc]
    assert found[-1].id == topic.read()[-1].id
    assert [*topic.follow(found[-2].id, fold=sample.wire.fold)] == found[-1:]


def test_sync_code_gets_what_comes_later_as_it_comes() -> None:
    topic = Topic(NAME)
    deltas = [Event(f'{{"type":"text-delta","id":"1","delta":"{at}"}}') for at in range(4)]
    topic.publish_many(deltas[:2])
    events = iter(topic.follow(fold=AI_SDK.fold))
    assert next(events).data == '{"type":"text-delta","id":"1","delta":"01"}'
    topic.close("finished", last=deltas[2:])
    assert [event.data for event in events] == [delta.data for delta in deltas[2:]]


async def test_a_topic_that_is_not_there_yet_is_waited_for() -> None:
    async with following(fold=AI_SDK.fold) as site:
        client = site.connect()
        assert await client.begun() == 200
        followed = asyncio.create_task(taken(Topic(NAME), 1, fold=AI_SDK.fold))
        await asyncio.sleep(0.02)
        await Topic(NAME).apublish("first")
        assert (await client.event()).data == "first"
        assert [event.data for event in await asyncio.wait_for(followed, PATIENCE)] == ["first"]


async def test_who_counts_events_gets_each() -> None:
    events = SAMPLES["ai_sdk"].events(SCRIPT)
    await Topic(NAME).aclose("finished", last=events)
    async with following(fold=AI_SDK.fold, offsets=True) as site:
        for count in (0, 3, len(events) - 1):
            found = told(await site.connect(last_event_id=str(count)).rest())
            assert [event.data for event in found] == [event.data for event in events[count:]]
        folded = told(await site.connect().rest())
        assert len(folded) < len(events)


async def test_a_place_that_is_gone_is_told_as_ever() -> None:
    topic = Topic(NAME)
    positions = await topic.apublish_many(SAMPLES["ai_sdk"].events(SCRIPT))
    await backend.event_log().atrim(NAME, max_events=3)
    async with following(fold=AI_SDK.fold) as site:
        for sent, reason in ((str(positions[0]), "trimmed"), ("nonsense", "unknown"), ("\x01", "unknown")):
            gap, *_ = await site.connect(last_event_id=sent).take(2)
            assert gap.event == "sse.gap"
            assert f'"reason":"{reason}"' in gap.data


async def test_a_log_that_fails_in_the_middle_is_gone_on_with_where_it_was(
    monkeypatch: pytest.MonkeyPatch, log: EventLog
) -> None:
    monkeypatch.setattr(reading, "REPLAY_EVENTS", 4)
    events = SAMPLES["ai_sdk"].events(SCRIPT)
    await Topic(NAME).apublish_many(events)
    read, calls = type(log).aread_after, []

    async def failing(self: EventLog, topic: str, offset: int = 0, limit: int = 256) -> Any:
        if limit == 4:
            calls.append(offset)
            if len(calls) == 3:
                raise EventLogUnavailable("away")
        return await read(self, topic, offset, limit)

    monkeypatch.setattr(type(log), "aread_after", failing)
    async with following(fold=AI_SDK.fold) as site:
        found: list[Event] = []
        client = site.connect()
        while not found or found[-1].data != "[DONE]":
            found.append(await client.event())
    assert len(calls) == 3
    assert added_up(SAMPLES["ai_sdk"], found) == added_up(SAMPLES["ai_sdk"], events)


async def test_a_slow_client_holds_the_replay_up_and_one_that_leaves_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "REPLAY_EVENTS", 64)
    parts = [event for at in range(3000) for event in SAMPLES["ai_sdk"].events([("text", [f"{at}", "x" * 200])])[2:5]]
    await Topic(NAME).apublish_many(parts)
    reads: list[int] = []
    read = reading.Reading.aread_page

    async def counted(self: Any, limit: int) -> Any:
        reads.append(limit)
        return await read(self, limit)

    monkeypatch.setattr(reading.Reading, "aread_page", counted)
    async with following(fold=AI_SDK.fold) as site:
        client = site.connect()
        client.hold()
        await client.stuck()
        await asyncio.sleep(0.1)
        assert 0 < len(reads) < 40, "the client's buffer is full"
        client.leave()
        client.flow()
        await client.over()
    assert len(reads) < 60


async def test_a_route_of_a_topic_folds_and_live_readers_pay_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router()
    router.topic("runs/<int:id>/", "runs.{id}", fold=AG_UI.fold)
    router.topic("plain/<int:id>/", "runs.{id}", start="live", fold=AG_UI.fold)
    urlconf = ModuleType("urlconf")
    urlconf.urlpatterns = [path("", include(router.urls))]  # type: ignore[attr-defined]
    events = SAMPLES["ag_ui"].events(SCRIPT)
    await Topic(NAME).apublish_many(events[:-1])
    async with following() as site:
        with override_settings(ROOT_URLCONF=urlconf, MIDDLEWARE=[]):
            late, live = site.connect("/runs/42/"), site.connect("/plain/42/")
            assert (await live.event()).event == "sse.position"
            await Topic(NAME).aclose("finished", last=events[-1:])
            found = told(await late.rest())
            assert len(found) < len(events)
            assert added_up(SAMPLES["ag_ui"], found) == added_up(SAMPLES["ag_ui"], events)
            assert [event.data for event in told(await live.rest())] == [events[-1].data]


async def test_what_cannot_be_folded_is_refused() -> None:
    fold = AI_SDK.fold
    raised: list[FollowError] = []
    options: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        (("a", "b"), {"fold": fold}),
        (("a",), {"fold": fold, "filter": bool}),
        (("a",), {"fold": fold, "map": lambda event: event}),
        (("a",), {"fold": "AI_SDK"}),
    ]

    async def handler(c: Context, stream: Stream) -> None:
        for topics, how in options:
            try:
                await stream.follow(*topics, **how)
            except FollowError as error:
                raised.append(error)

    async with serve(handler) as site:
        await site.connect().over()
    assert len(raised) == len(options)
    assert all("a wire's, as AI_SDK.fold, for one topic" in str(error) for error in raised)
    with pytest.raises(RouteError, match="fold="):
        Router().topic("x/", "a", "b", fold=fold)
    with pytest.raises(ArgumentInvalid, match="fold="):
        Topic(NAME).follow(fold="AI_SDK")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["ai_sdk", "ag_ui", "anthropic", "openai_responses", "openai_chat"])
@pytest.mark.alone
async def test_twenty_thousand_deltas_reopened(name: str, log: EventLog) -> None:
    """At most a hundredth of what is not the text itself, which has to be sent; in under 50 ms of the process's time."""
    sample = SAMPLES[name]
    words = [f"word{number % 10} " for number in range(DELTAS)]
    events = [event for event in sample.events([("text", words)]) if "word" in event.data][:DELTAS]
    topic = Topic(NAME)
    for at in range(0, DELTAS, 500):
        await topic.apublish_many(events[at : at + 500])
    await topic.aclose("finished")
    async with following() as site:
        each = site.connect()
        await each.over(LONG_PATIENCE)
    async with following(fold=sample.wire.fold) as site:
        spent = []
        for _ in range(9):
            began = time.thread_time()
            reopened = await site.connect().over(LONG_PATIENCE)
            spent.append(time.thread_time() - began)
    text = "".join(words)
    found = told(await reopened.rest())
    assert sample.wire.text(found) == text
    assert len(found) == 1
    assert len(reopened.raw) - len(text) <= 0.01 * (len(each.raw) - len(text))
    if LONG or isinstance(log, memory.MemoryEventLog):  # with a store it takes twice as long, and on a busy machine more
        assert min(spent) < 0.05
    print(f"\n{name} {type(log).__name__}: {len(each.raw)} -> {len(reopened.raw)} bytes, {min(spent) * 1000:.1f} ms")
