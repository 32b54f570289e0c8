"""Django's own connection pool: streams give connections back at once, and leave enough to the site."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import OperationalError, connections
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import include, path

from django_agent_sse import Context, Router, Stream, apublish
from django_agent_sse.runtime import worker_threads
from django_agent_sse.runtime.worker_threads import ConnectionHold
from django_agent_sse.streams.threads import stream_pool
from tests.databases import asked, extra_database
from tests.inprocess import eventually
from tests.serving import connect, served
from tests.timing import LONG, bound

ALIAS = "pooled"
SIZE = 4
POOL_TIMEOUT = bound(4.0, 60.0)
FOLLOWERS, QUERYING, SECONDS = (200, 50, 20.0) if LONG else (60, 20, 1.0)
LOG = {
    "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {"ALIAS": ALIAS}},
}


@pytest.fixture
def alias(postgres_database: dict[str, Any], django_db_blocker: Any) -> Iterator[str]:
    pool = {"min_size": 1, "max_size": SIZE, "timeout": POOL_TIMEOUT}
    with django_db_blocker.unblock(), extra_database(ALIAS, {**postgres_database, "OPTIONS": {"pool": pool}}):
        yield ALIAS


def lent() -> int:
    """How many connections of the pool somebody has."""
    stats = connections[ALIAS].pool.get_stats()  # type: ignore[attr-defined]
    return int(stats["pool_size"] - stats["pool_available"])


def query() -> Any:
    return asked(ALIAS, "SELECT 42")


def test_a_connection_is_in_the_pool_again_as_soon_as_the_call_is_over(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "RESTING_SECONDS", 60)
    hold = ConnectionHold(stream_pool)
    for _ in range(5):
        assert hold.submit(query).result(60) == 42
        deadline = time.monotonic() + 60
        while lent():
            assert time.monotonic() < deadline
        assert hold.worker is not None, "and yet the thread is not another's"
    hold.end()


def test_a_transaction_keeps_its_connection_and_a_hold_too(alias: str) -> None:
    hold = ConnectionHold(stream_pool)
    hold.submit(asked, ALIAS, "BEGIN").result(60)
    deadline = time.monotonic() + 60
    while lent() != 1:  # the pool makes a second one at first, which counts until it is there
        assert time.monotonic() < deadline
    time.sleep(0.05)
    assert lent() == 1
    hold.submit(asked, ALIAS, "COMMIT").result(60)
    hold.keep()
    hold.submit(query).result(60)
    time.sleep(0.05)
    assert lent() == 1
    hold.let_go()
    hold.end()
    deadline = time.monotonic() + 60
    while lent():
        assert time.monotonic() < deadline


def test_connections_that_the_server_has_ended_are_given_back_all_of_them(alias: str, postgres_database: dict[str, Any]) -> None:
    holds = [ConnectionHold(stream_pool) for _ in range(SIZE)]
    for hold in holds:
        hold.submit(asked, ALIAS, "BEGIN").result(60)
    pids = [hold.submit(asked, ALIAS, "SELECT pg_backend_pid()").result(60) for hold in holds]
    assert len(set(pids)) == SIZE
    for hold in holds:
        hold.submit(asked, ALIAS, "COMMIT").result(60)
        hold.end()
    deadline = time.monotonic() + 60
    while lent():
        assert time.monotonic() < deadline
    with extra_database("beside", postgres_database):
        for pid in pids:
            asked("beside", "SELECT pg_terminate_backend(%s, 60000)", pid)
    failed, hold = 0, ConnectionHold(stream_pool)
    while True:
        try:
            assert hold.submit(query).result(60) == 42
            break
        except OperationalError:
            failed += 1
            assert failed <= SIZE
    hold.end()
    assert failed, "they are those that the server has ended"
    while lent():
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"pool": {"min_size": 1, "max_size": 1}}, "Asia/Tokyo postgres"), ({"assume_role": "pg_monitor"}, "Asia/Tokyo pg_monitor")],
    ids=["pool", "role"],
)
def test_what_django_sets_on_each_connection_is_there_after_the_reset(
    postgres_database: dict[str, Any], django_db_blocker: Any, options: dict[str, Any], expected: str
) -> None:
    sql = "SELECT current_setting('TimeZone') || ' ' || current_user"
    about = {**postgres_database, "TIME_ZONE": "Asia/Tokyo", "OPTIONS": options}
    with django_db_blocker.unblock(), extra_database(ALIAS, about):
        for _ in range(3):
            hold = ConnectionHold(stream_pool)
            assert hold.submit(asked, ALIAS, sql).result(60) == expected
            hold.submit(asked, ALIAS, "SET TIME ZONE 'UTC'").result(60)
            hold.submit(asked, ALIAS, "SET ROLE pg_read_all_data").result(60)
            hold.end()
        assert asked(ALIAS, sql) == expected, "nor does the site meet what a stream did"


async def test_many_streams_and_an_ordinary_page_share_a_small_pool(alias: str) -> None:
    """Nobody waits for a connection in vain, and what the streams do costs the page little."""
    router = Router()

    @router.sse("follow/")
    async def follow(c: Context, stream: Stream) -> None:
        await stream.follow("pool")

    @router.sse("query/")
    async def querying(c: Context, stream: Stream) -> None:
        while True:
            await stream.write(await sync_to_async(query)())
            await asyncio.sleep(1)

    def page(request: HttpRequest) -> HttpResponse:
        try:
            return HttpResponse(str(query()))
        finally:
            connections[ALIAS].close()

    def migrate() -> None:
        call_command("migrate", "django_agent_sse", database=ALIAS, verbosity=0)
        connections[ALIAS].close()

    await sync_to_async(migrate)()
    site_urls = [path("", include(router.urls)), path("page/", page)]
    with served(site_urls, AGENT_SSE=LOG), override_settings(AGENT_SSE=LOG):
        alone = await page_times(SECONDS / 2)
        clients = [connect("/follow/", headers={"accept": "text/event-stream"}) for _ in range(FOLLOWERS)]
        clients += [connect("/query/") for _ in range(QUERYING)]
        for client in clients[FOLLOWERS:]:
            assert (await client.event()).data == "42"
        beside = await page_times(SECONDS)
        await apublish("pool", "to all")
        await sync_to_async(lambda: connections[ALIAS].close())()  # this test's own
        for client in clients[:FOLLOWERS]:
            assert (await client.event()).data == "to all"
        await eventually("nothing is lent while all rest", lambda: lent() == 0)
        for client in clients:
            client.leave()
        for client in clients:
            await client.over()
    print(f"\npage alone: p50 {alone[len(alone) // 2]:.1f} ms, p99 {alone[int(len(alone) * 0.99)]:.1f} ms; beside: ", end="")
    print(f"p50 {beside[len(beside) // 2]:.1f} ms, p99 {beside[int(len(beside) * 0.99)]:.1f} ms ({len(beside)} pages)")
    assert beside[-1] < POOL_TIMEOUT * 1000, "a page waited as long as the pool lets it"


async def page_times(seconds: float) -> list[float]:
    """Ask for the page again and again; milliseconds, sorted."""
    until, times = time.monotonic() + seconds, []
    while (began := time.monotonic()) < until:
        client = await connect("/page/").over()
        assert (client.status, client.raw) == (200, b"42")
        times.append((time.monotonic() - began) * 1000)
        await asyncio.sleep(0.01)
    return sorted(times)
