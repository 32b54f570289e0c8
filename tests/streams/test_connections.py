"""Database connections in streams: borrowed, leased until the next verb, and given back; and those of a test case."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import TestCase, override_settings

from django_agent_sse import Context, Stream
from django_agent_sse.streams import threads
from django_agent_sse.streams.threads import Lane, next_lane
from tests.inprocess import eventually, serve

ALIAS = "lanes"
QUIET = 0.1


@pytest.fixture
def alias(tmp_path: Path, django_db_blocker: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database in a file, on one lane, with a short quiet time."""
    monkeypatch.setattr(threads, "QUIET_SECONDS", QUIET)
    threads.reset()
    connections.databases[ALIAS] = {**connections.databases["default"], "NAME": str(tmp_path / "db.sqlite3")}
    with django_db_blocker.unblock(), override_settings(AGENT_SSE={"THREADS": 1}):
        yield ALIAS
        threads.reset()
    del connections.databases[ALIAS]


def query() -> int:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("select 42")
        return int(cursor.fetchone()[0])


def is_open(lane: Lane) -> bool:
    """Whether the lane's thread holds a connection; asked beside the lane, which takes each submit for use."""

    def look() -> bool:
        return any(one.alias == ALIAS and one.connection is not None for one in connections.all(initialized_only=True))

    return lane._thread.submit(look).result()


def test_a_lane_gives_its_connection_back_after_the_quiet_time(alias: str) -> None:
    async def main() -> None:
        lane = next_lane()
        assert await asyncio.wrap_future(lane.submit(query)) == 42
        assert is_open(lane)
        await eventually("it is given back", lambda: not is_open(lane))
        assert await asyncio.wrap_future(lane.submit(query)) == 42
        await eventually("and once more", lambda: not is_open(lane))

    asyncio.run(main())


@pytest.mark.alone
def test_a_lane_that_is_used_all_the_time_keeps_its_connection(alias: str) -> None:
    seen: set[int] = set()

    def connection_id() -> int:
        query()
        return id(connections[ALIAS].connection)

    async def main() -> None:
        for _ in range(10):
            seen.add(await asyncio.wrap_future(next_lane().submit(connection_id)))
            await asyncio.sleep(QUIET / 4)

    asyncio.run(main())
    assert len(seen) == 1


def test_a_lane_gives_back_though_the_loop_that_used_it_first_is_closed(alias: str) -> None:
    async def use() -> Lane:
        lane = next_lane()
        await asyncio.wrap_future(lane.submit(query))
        return lane

    async def use_and_wait() -> None:
        lane = await use()
        await eventually("it is given back", lambda: not is_open(lane), within=2)

    asyncio.run(use())
    asyncio.run(use_and_wait())


async def test_a_lease_holds_until_the_handlers_next_verb(alias: str) -> None:
    gates = {name: asyncio.Event() for name in ("verb", "end")}

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("begun")
        await sync_to_async(query)()
        await gates["verb"].wait()
        await stream.write("a verb")
        await gates["end"].wait()

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        lane = next_lane()
        await eventually("it is borrowed", lambda: is_open(lane))
        await asyncio.sleep(QUIET * 3)
        assert is_open(lane), "a lease was broken: an iterator over rows would fail here"
        gates["verb"].set()
        await client.event()
        await eventually("it is given back", lambda: not is_open(lane))
        gates["end"].set()


async def test_a_lease_ends_with_the_stream(alias: str) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("begun")
        await sync_to_async(query)()
        await asyncio.Event().wait()

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        lane = next_lane()
        await eventually("it is borrowed", lambda: is_open(lane))
        client.leave()
        await client.over()
        await eventually("it is given back", lambda: not is_open(lane))


async def test_twenty_streams_share_one_connection_and_none_closes_it_for_the_others(alias: str) -> None:
    seen: set[int] = set()

    def connection_id() -> int:
        query()
        return id(connections[ALIAS].connection)

    async def handler(c: Context, stream: Stream) -> None:
        for _ in range(3):
            seen.add(await sync_to_async(connection_id)())
            await stream.write("x")

    async with serve(handler) as site:
        clients = [site.connect() for _ in range(20)]
        for client in clients:
            assert len(await client.rest()) == 4
    assert len(seen) == 1


async def test_a_connection_that_broke_is_replaced(alias: str) -> None:
    lane = next_lane()
    await asyncio.wrap_future(lane.submit(query))

    def breaks() -> None:
        connection = connections[ALIAS]
        connection.errors_occurred = True
        connection.is_usable = lambda: False  # type: ignore[method-assign]

    await asyncio.wrap_future(lane.submit(breaks))
    assert await asyncio.wrap_future(lane.submit(query)) == 42
    assert is_open(lane)


async def test_a_sync_iterators_own_thread_leaves_no_connection_behind(alias: str) -> None:
    closed: list[bool] = []

    def generate(c: Context) -> Iterator[int]:
        connection = connections[ALIAS]
        original = connection.close

        def close() -> None:
            original()
            closed.append(threading.current_thread().name.startswith("sse-iterator"))

        connection.close = close  # type: ignore[method-assign]
        yield query()
        yield query()

    async with serve(generate) as site:
        assert [event.data for event in await site.connect().take(2)] == ["42", "42"]
        await eventually("its connection is closed", lambda: closed == [True])


class TestsOfUsersProjects(TestCase):
    """Inside ``TestCase`` a stream uses the test's own connection, and so sees what no commit has made visible."""

    @staticmethod
    async def users(c: Context, stream: Stream) -> None:
        await stream.write(await get_user_model().objects.acount())
        await get_user_model().objects.acreate(username="from the handler")
        await stream.write(await sync_to_async(thread_name)())

    @staticmethod
    def iterated(c: Context) -> Iterator[str]:
        for user in get_user_model().objects.order_by("pk").iterator():
            yield user.username

    async def test_a_stream_sees_rows_that_are_not_committed(self) -> None:
        await get_user_model().objects.acreate(username="from the test")
        async with serve(self.users) as site:
            count, name, _ = await site.connect(context=contextvars.copy_context()).rest()
        assert count.data == "1"
        assert name.data == threading.main_thread().name
        assert await get_user_model().objects.acount() == 2

    async def test_a_sync_generator_runs_on_the_tests_own_thread(self) -> None:
        await get_user_model().objects.acreate(username="from the test")
        async with serve(self.iterated) as site:
            first, _ = await site.connect(context=contextvars.copy_context()).rest()
        assert first.data == "from the test"

    async def test_the_async_test_client_too(self) -> None:
        await get_user_model().objects.acreate(username="from the test")
        async with serve(self.users):
            response = await self.async_client.get("/stream/7/")
            raw = b"".join([part async for part in response.streaming_content])
        assert raw.startswith(b"retry: 3000\ndata: 1\n\n")


def thread_name() -> str:
    return threading.current_thread().name
