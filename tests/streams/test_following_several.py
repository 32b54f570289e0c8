"""Several topics on one connection: one position in all of them, whatever is cut, added or taken away."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator

import pytest

from django_agent_sse import Event, aclose_topic, apublish, apublish_many
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.position import MAX_TOPICS, Position, parse_vector, short_name, vector_id
from tests.inprocess import Client, Site, send_directly

from .test_topic_source import data, following, gap

NAMES = [f"builds.{number}" for number in range(MAX_TOPICS)]


@pytest.fixture(params=["through the task", "past the task"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "past the task":
        send_directly(monkeypatch)


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    backend.reset()
    yield
    backend.reset()


async def seen_cut_after_every_event(site: Site, total: int) -> list[Event]:
    """Everything, by one connection for each event."""
    last: str | None = None
    found: list[Event] = []
    for _ in range(total):
        client = site.connect(last_event_id=last)
        event = await client.event()
        client.leave()
        await client.over()
        found.append(event)
        assert event.id is not None
        assert len(event.id.encode()) <= 512 - len("sse.end~")
        last = event.id
    return found


def by_topic(events: list[Event]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for event in events:
        name, _, number = event.data.partition("=")
        found[name].append(int(number))
    return found


async def test_sixteen_topics_cut_after_every_event() -> None:
    chance = random.Random(3)
    counts = dict.fromkeys(NAMES, 0)
    for _ in range(160):
        name = chance.choice(NAMES)
        await apublish(name, f"{name}={counts[name]}")
        counts[name] += 1
    async with following(*NAMES) as site:
        events = await seen_cut_after_every_event(site, 160)
        assert by_topic(events) == {name: list(range(count)) for name, count in counts.items() if count}
        rest = site.connect(last_event_id=events[-1].id)
        await apublish("builds.3", "builds.3=last")
        assert data([await rest.event()]) == ["builds.3=last"]


async def test_what_comes_while_it_is_read_comes_once_and_in_order() -> None:
    async with following(*NAMES) as site:
        last, found = None, []
        for number in range(40):
            for name in NAMES[number % 3 :: 3]:
                await apublish(name, f"{name}={number}")
            client = site.connect(last_event_id=last)
            found += await client.take(3)
            client.leave()
            await client.over()
            last = found[-1].id
        client = site.connect(last_event_id=last)
        total = sum(len(NAMES[number % 3 :: 3]) for number in range(40))
        found += await client.take(total - len(found))
    expected = {name: [n for n in range(40) if name in NAMES[n % 3 :: 3]] for name in NAMES}
    assert by_topic(found) == expected


async def last_id(client: Client, count: int) -> str:
    event = (await client.take(count))[-1]
    assert event.id
    return event.id


async def test_a_topic_added_to_the_set_begins_by_its_start() -> None:
    await apublish("a", "a=0")
    await apublish("b", "b=0")
    await apublish("c", "c=0")
    async with following("a", "b") as site:
        two = await last_id(site.connect(), 2)
    await apublish("a", "a=1")
    async with following("a", "b", "c") as site:
        assert sorted(data(await site.connect(last_event_id=two).take(2))) == ["a=1", "c=0"]
    async with following("a", "b", "c", start="live") as site:
        client = site.connect(last_event_id=two)
        assert data([await client.event()]) == ["a=1"]
        await apublish("c", "c=1")
        assert data([await client.event()]) == ["c=1"]


async def test_a_topic_taken_from_the_set_leaves_the_others_where_they_were() -> None:
    await apublish_many("a", ["a=0", "a=1"])
    await apublish("b", "b=0")
    async with following("a", "b") as site:
        both = await last_id(site.connect(), 3)
    await apublish("a", "a=2")
    await apublish("b", "b=1")
    async with following("a") as site:
        client = site.connect(last_event_id=both)
        event = await client.event()
        assert event.data == "a=2"
        alone = event.id
    await apublish("a", "a=3")
    async with following("b", "a") as site:  # and back: one topic's id finds its topic in the set
        assert sorted(data(await site.connect(last_event_id=alone).take(3))) == ["a=3", "b=0", "b=1"]


async def test_an_id_of_other_topics_is_one_gap() -> None:
    await apublish("a", "a=0")
    await apublish("b", "b=0")
    await apublish("z", "z=0")
    async with following("y", "z") as site:
        foreign = await last_id(site.connect(), 1)
    async with following("a", "b") as site:
        client = site.connect(last_event_id=foreign)
        assert (await gap(client))["reason"] == "unknown"
        assert sorted(data(await client.take(2))) == ["a=0", "b=0"]


async def test_several_topics_that_were_trimmed_are_one_gap_and_none_on_the_next_return() -> None:
    for name in NAMES:
        await apublish_many(name, [f"{name}={n}" for n in range(5)])
    async with following(*NAMES) as site:
        first = (await site.connect().event()).id
        log = backend.event_log()
        for name in NAMES[:4]:
            log.trim(name, max_events=2)
        told = await gap(client := site.connect(last_event_id=vector_id({short_name(n): Position("", 0) for n in NAMES})))
        assert (told["reason"], told["missed"]) == ("trimmed", 12)
        assert len(by_topic(await client.take(4 * 2 + 12 * 5))) == 16
        again = site.connect(last_event_id=told["id"])
        assert all(event.event is None for event in await again.take(68))
        assert first


async def test_the_stream_ends_when_the_last_topic_has() -> None:
    async with following("a", "b") as site:
        client = site.connect()
        await apublish("a", "a=0")
        await aclose_topic("a", "first")
        assert (await client.event()).data == "a=0"
        await apublish("b", "b=0")
        await aclose_topic("b", "second")
        event, end = await client.rest()
        assert event.data == "b=0"
        assert end.data == '{"reason":"topic_closed","closed":"second"}'


def test_ids_of_sixteen_topics_keep_to_their_bound() -> None:
    positions = {short_name(name): Position("abcdefgh", 2**63 - 1) for name in NAMES}
    text = vector_id(positions)
    assert len(text) <= 512 - len("sse.end~")
    assert parse_vector(text) == positions


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v1",
        "v1.",
        "v2.aaaaaa",
        "v1.aaaaa",
        "v1.aaaaaa.aaaaaa",
        "v1.aaaaaaabcdefgh" + "z" * 13,
        "v1." + ".".join(["aaaaaa"] * 17),
    ],
)
def test_what_is_no_vector_is_none(text: str) -> None:
    assert parse_vector(text) is None
