"""What a row says of a stream is what happened to it, and rows come by any column."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_agent_sse import apublish
from django_agent_sse.contrib.monitor.inspector import SORTS, StreamInspector, StreamQuery, StreamRow
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.streams.snapshot import this_process
from tests.inprocess import PATIENCE, eventually, serve

MEMORY = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}
TOPIC = "builds.9"
BEHIND = 40
COLUMNS = ("opened", "events", "bytes", "lag", "state", "user", "route", "buffered")


@pytest.fixture(autouse=True)
def memory_log() -> Iterator[None]:
    with override_settings(AGENT_SSE=MEMORY):
        event_log().clear_all()
        yield
        event_log().clear_all()


async def writes(c: Any, stream: Any, number: int) -> None:
    """As many events as its number says."""
    for _ in range(number):
        await stream.write("x" * 10 * number, id=f"n-{number}")
    await stream.wait_closed()


async def follows(c: Any, stream: Any, number: int) -> None:
    await stream.follow(TOPIC)


def rows(**question: Any) -> list[StreamRow]:
    return StreamInspector().rows(StreamQuery(**question))[0]


async def test_a_row_tells_when_it_opened_how_much_it_sent_and_when_last() -> None:
    before = time.time()
    async with serve(writes) as site:
        client = site.connect("/stream/3/")
        await client.take(3)
        (row,) = rows()
        assert before - 0.1 <= row.opened <= time.time() + 0.1
        assert 0 <= row.idle <= row.seconds + 0.1 <= time.time() - before + 0.2
        assert (row.events, row.bytes, row.last_id) == (3, len(client.raw), "n-3")
        assert (row.state, row.lag, row.topics) == ("live", 0, ())
        assert row.process == this_process().id
        (later,) = await eventually("time goes on", lambda: [one for one in rows() if one.idle > row.idle + 0.05])
        assert later.seconds > row.seconds
        assert later.opened == pytest.approx(row.opened, abs=0.1)


async def test_a_stream_that_is_behind_says_by_how_many_events() -> None:
    async with serve(follows, send_timeout=600) as site:
        await apublish(TOPIC, "first")
        client, other = site.connect("/stream/1/"), site.connect("/stream/2/")
        await client.event()
        await other.event()
        client.hold()
        await apublish(TOPIC, "it waits to be taken")
        await client.stuck()
        for _ in range(BEHIND):
            await apublish(TOPIC, "x")
        await other.take(BEHIND + 1)
        behind = await eventually("it is behind", lambda: [row.lag for row in rows(sort="-lag") if row.lag])
        assert BEHIND - 1 <= behind[0] <= BEHIND + 1
        assert len(behind) == 1, "the other one is not"
        await eventually("it is a slow one", lambda: [row for row in rows(state="slow") if row.lag], PATIENCE)
        client.flow()
        await client.take(BEHIND + 1)
        await eventually("it has caught up", lambda: not any(row.lag for row in rows()))


@pytest.mark.parametrize("column", COLUMNS)
async def test_rows_come_by_a_column_both_ways(column: str) -> None:
    async with serve(writes) as site:
        for number in (2, 5, 1, 4):
            await site.connect(f"/stream/{number}/").take(number)
        for sort in (column, f"-{column}"):
            found = [getattr(row, column) for row in rows(sort=sort)]
            assert found == sorted(found, reverse=sort.startswith("-"))
            assert len(found) == 4
        if column in ("events", "bytes"):
            assert [row.events for row in rows(sort=f"-{column}")] == [5, 4, 2, 1]


async def test_the_longest_silent_come_first() -> None:
    async with serve(writes) as site:
        for number in (1, 2, 3):
            await site.connect(f"/stream/{number}/").take(number)
        assert [row.events for row in rows(sort="wrote")] == [1, 2, 3]
        assert [row.events for row in rows(sort="-wrote")] == [3, 2, 1]


async def test_rows_of_another_process_are_not_here() -> None:
    async with serve(writes) as site:
        await site.connect("/stream/1/").event()
        assert len(rows(process=this_process().id)) == 1
        assert rows(process="another") == []
        assert rows(user="7") == []
        assert len(rows(user="")) == 1


def test_every_order_is_tried() -> None:
    assert {*COLUMNS, "wrote"} == {*SORTS}
