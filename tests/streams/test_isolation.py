"""Nothing shared: what streams and middleware do to PostgreSQL connections, and what others see of it, which is nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections, transaction
from django.http import HttpRequest
from django.test import override_settings
from django.utils.decorators import sync_only_middleware
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_agent_sse import Context, Stream, asgi
from django_agent_sse.runtime import worker_threads
from django_agent_sse.runtime.worker_threads import ConnectionHold
from django_agent_sse.streams import threads
from django_agent_sse.streams.threads import lifelong, stream_pool
from tests.databases import asked, extra_database
from tests.inprocess import Site, eventually, serve

ALIAS = "isolated"
TENANTS = 32
LONG = bool(os.environ.get("LONG_PROOFS"))
SECONDS = 20.0 if LONG else 0.7
STREAMS = 64


@pytest.fixture
def alias(postgres_database: dict[str, Any], django_db_blocker: Any) -> Iterator[str]:
    with django_db_blocker.unblock(), extra_database(ALIAS, postgres_database):
        yield ALIAS


# Tenants


@pytest.fixture
def tenants(alias: str) -> Iterator[str]:
    """A schema with a table of one row, and a role, for each tenant."""
    for number in range(TENANTS):
        asked(alias, f"CREATE ROLE tenant_{number}")
        asked(alias, f"CREATE SCHEMA tenant_{number}")
        asked(alias, f"CREATE TABLE tenant_{number}.whose AS SELECT 'tenant_{number}' AS name")
        asked(alias, f"GRANT ALL ON SCHEMA tenant_{number} TO PUBLIC")
        asked(alias, f"GRANT ALL ON tenant_{number}.whose TO PUBLIC")
    yield alias
    for number in range(TENANTS):
        asked(alias, f"DROP SCHEMA tenant_{number} CASCADE")
        asked(alias, f"DROP OWNED BY tenant_{number}")
        asked(alias, f"DROP ROLE tenant_{number}")


def enter_tenant(connection: Any, name: str) -> None:
    """All the ways that packages have."""
    connection.tenant = connection.schema_name = name
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('app.tenant', %s, false)", [name])
        cursor.execute(f"SET search_path = {name}")
        cursor.execute(f"SET ROLE {name}")


def set_tenant(connection: Any, c: Context) -> None:
    """``ON_CONNECTION``."""
    if connection.alias == ALIAS:
        enter_tenant(connection, c.request.tenant)  # type: ignore[attr-defined]


@sync_only_middleware
def tenant_middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    def middleware(request: HttpRequest) -> Any:
        request.tenant = request.GET["tenant"]  # type: ignore[attr-defined]
        enter_tenant(connections[ALIAS], request.tenant)  # type: ignore[attr-defined]
        time.sleep(0.002)
        assert reading() == [request.tenant] * 5  # type: ignore[attr-defined]
        return get_response(request)

    return middleware


def reading() -> list[str]:
    """What a query finds on its connection, whichever way the tenant was set."""
    connection = connections[ALIAS]
    attribute = getattr(connection, "tenant", "")
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(current_setting('app.tenant', true), ''), current_user, current_schema()")
        setting, role, schema = cursor.fetchone()
        rows = ""
        if schema != "public":
            cursor.execute("SELECT name FROM whose")
            rows = cursor.fetchone()[0]
    return [attribute, setting, role, schema, rows]


NOBODY = ["", "", "postgres", "public", ""]


async def read_on(c: Context, stream: Stream) -> None:
    """Read again and again, now and then in a transaction or beside a wait, until the client leaves."""
    await stream.open()
    chance = random.Random(c.query["tenant"])
    while True:
        await stream.write(await sync_to_async(reading)())
        await asyncio.sleep(chance.choice((0, 0.001, worker_threads.RESTING_SECONDS, 0.1)))


async def read_under_load(site: Site, expected: Callable[[str], list[str]]) -> int:
    """Have every tenant read for a while, clients come and go; each reading must be as expected. How many there were."""
    until, readings = time.monotonic() + SECONDS, Counter[str]()

    async def one(tenant: str, chance: random.Random) -> None:
        while True:
            client = site.connect(query=f"tenant={tenant}")
            for _ in range(chance.randint(1, 30)):
                event = await client.event()
                assert read_json(event.data) == expected(tenant)
                readings[tenant] += 1
            client.leave()
            await client.over()
            site.clients.remove(client)
            if time.monotonic() >= until:
                return

    await asyncio.gather(*(one(f"tenant_{number}", random.Random(number)) for number in range(TENANTS)))
    assert len(readings) == TENANTS
    return readings.total()


def read_json(data: str | None) -> Any:
    return json.loads(data or "")


@pytest.mark.parametrize("around", [lambda application: application, asgi.wrap], ids=["plain", "wrap"])
@pytest.mark.parametrize("way", ["nothing", "on_connection", "pinned"])
async def test_no_stream_reads_as_another_tenant(tenants: str, way: str, around: Any) -> None:
    agent_sse = {"ON_CONNECTION": f"{__name__}.set_tenant"} if way == "on_connection" else {}
    about: dict[str, Any] = {"pinned": True} if way == "pinned" else {}
    site_settings = {"MIDDLEWARE": [f"{__name__}.tenant_middleware"], "AGENT_SSE": agent_sse}
    async with serve(read_on, settings=site_settings, around=around, **about) as site:
        count = await read_under_load(site, lambda tenant: NOBODY if way == "nothing" else [tenant] * 5)
    assert count > TENANTS
    if LONG:
        print(f"\n{way} {'wrap' if around is asgi.wrap else 'plain'}: {count} readings in {SECONDS:.0f} s, 0 of another tenant")


async def test_where_the_handler_sets_it_once_itself_others_do_not_read_it(tenants: str) -> None:
    """It lasts until the stream rests, and no longer."""

    async def handler(c: Context, stream: Stream) -> None:
        name = c.query["tenant"]
        async with stream.connection():
            await sync_to_async(lambda: enter_tenant(connections[ALIAS], name))()
            for _ in range(5):
                await stream.write(await sync_to_async(reading)())
                await asyncio.sleep(worker_threads.RESTING_SECONDS)
        own: Any = threads.current.get()
        await eventually("the stream rests", lambda: own._hold.worker is None)
        await stream.write(await sync_to_async(reading)())

    async with serve(handler) as site:
        clients = {f"tenant_{number}": site.connect(query=f"tenant=tenant_{number}") for number in range(TENANTS)}
        for tenant, client in clients.items():
            *within, after, _ = [event.data for event in await client.rest()]
            assert [read_json(data) for data in within] == [[tenant] * 5] * 5
            assert read_json(after) == NOBODY


# What else may be left on a connection


def leave_cursor(connection: Any) -> object:
    return connection.cursor()


def leave_raw(connection: Any) -> object:
    return connection.connection


LEFT: dict[str, str | Callable[[Any], object]] = {
    "a cursor that is kept": leave_cursor,
    "the driver's connection, kept": leave_raw,
    "read only": lambda connection: setattr(connection.connection, "read_only", True),
    "an isolation level": lambda connection: setattr(connection.connection, "isolation_level", 4),
    "a row factory": lambda connection: setattr(connection.connection, "row_factory", len),
    "a notice handler": lambda connection: connection.connection.add_notice_handler(print),
    "a query recorder": lambda connection: connection.execute_wrappers.append(print),
    "a temporary table": "CREATE TEMPORARY TABLE left_over ()",
    "an advisory lock": "SELECT pg_advisory_lock(7)",
    "a channel": "LISTEN left_over",
    "a prepared statement": "PREPARE left_over AS SELECT 1",
    "a cursor with hold": "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "a user": "SET SESSION AUTHORIZATION pg_monitor",
    "a time zone": "SET TIME ZONE 'Asia/Tokyo'",
    "a failed transaction": "BEGIN; SELECT 1/(SELECT 0)",
}


def look(connection: Any) -> list[Any]:
    """Everything about a connection that somebody could have changed."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_backend_pid(), session_user, current_user, current_setting('TimeZone'), "
            "(SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()), "
            "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_listening_channels()), "
            "(SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors)"
        )
        found = list(cursor.fetchone())
    raw = connection.connection
    handlers = (len(raw._notice_handlers), len(raw._notify_handlers))
    return [*found, raw.read_only, raw.isolation_level, raw.autocommit, handlers, connection.execute_wrappers]


@pytest.mark.parametrize("pool", [False, {"max_size": 1, "min_size": 1}], ids=["", "pool"])
@pytest.mark.parametrize("left", LEFT)
def test_nothing_that_one_stream_leaves_behind_is_met_by_the_next(
    postgres_database: dict[str, Any], django_db_blocker: Any, left: str, pool: Any
) -> None:
    kept: list[object] = []

    def leave() -> None:
        connection = connections[ALIAS]
        connection.ensure_connection()
        what = LEFT[left]
        if callable(what):
            kept.append(what(connection))
        else:
            with contextlib.suppress(DatabaseError):
                asked(ALIAS, what)

    with (
        django_db_blocker.unblock(),
        override_settings(AGENT_SSE={"THREADS": 1}),
        extra_database(ALIAS, {**postgres_database, "OPTIONS": {"pool": pool}}),
    ):
        first = ConnectionHold(stream_pool).submit(lambda: look(connections[ALIAS])).result(60)
        hold = ConnectionHold(stream_pool)
        hold.submit(leave).result(60)
        hold.end()
        after = ConnectionHold(stream_pool).submit(lambda: look(connections[ALIAS])).result(60)
        assert after[1:] == first[1:]
        reset = left == "a query recorder" or (isinstance(LEFT[left], str) and "transaction" not in left)
        assert (after[0] == first[0]) is reset, "what can be reset is, anything else is closed"
        if left in ("a cursor that is kept", "the driver's connection, kept"):
            with pytest.raises(Exception, match="closed"):
                ConnectionHold(stream_pool).submit(lambda: kept[0].execute("SELECT 1")).result(60)  # type: ignore[attr-defined]


def test_a_clean_connection_is_used_again_and_one_that_broke_is_not(alias: str) -> None:
    def pid() -> Any:
        return asked(alias, "SELECT pg_backend_pid()")

    with override_settings(AGENT_SSE={"THREADS": 1}):
        pids = [ConnectionHold(stream_pool).submit(pid).result(60) for _ in range(5)]
        assert len(set(pids)) == 1
        asked(alias, "SELECT pg_terminate_backend(%s, 60000)", pids[0])
        time.sleep(1.1)  # the time after which a kept connection is asked whether it works
        assert ConnectionHold(stream_pool).submit(pid).result(60) != pids[0]


# Transactions across awaits


@pytest.fixture
def table(alias: str) -> Iterator[str]:
    asked(alias, "CREATE TABLE entries (stream text, number int)")
    yield alias
    asked(alias, "DROP TABLE entries")


def write(name: str, number: int) -> None:
    asked(ALIAS, "INSERT INTO entries VALUES (%s, %s)", name, number)


async def in_a_transaction(c: Context, stream: Stream) -> None:
    """Two rows with a pause between them, and then what the query says."""
    name, end = c.query["name"], c.query["end"]
    await stream.open()
    atomic = transaction.atomic(using=ALIAS)
    await sync_to_async(atomic.__enter__)()
    await sync_to_async(write)(name, 1)
    await stream.write("begun")
    await asyncio.sleep(1 if LONG else 0.1)
    await sync_to_async(write)(name, 2)
    if end == "leave":
        await asyncio.Event().wait()
    error = None if end == "commit" else ValueError()
    await sync_to_async(atomic.__exit__)(error and ValueError, error, None)
    await stream.write("done")


async def test_transactions_that_stay_open_across_awaits_commit_their_own_rows_and_no_others(table: str) -> None:
    ends = [("commit", "roll back", "leave")[number % 3] for number in range(STREAMS)]

    async def one(site: Site, number: int, end: str) -> None:
        client = site.connect(query=f"name=stream-{number}&end={end}")
        await client.event()
        if end == "leave":
            client.leave()
            await client.over()
        else:
            assert (await client.event()).data == "done"

    async with serve(in_a_transaction, on_disconnect="cancel") as site:
        await asyncio.gather(*(one(site, number, end) for number, end in enumerate(ends)))
    rows = await sync_to_async(all_rows)()
    assert rows == sorted((f"stream-{number}", row) for number, end in enumerate(ends) if end == "commit" for row in (1, 2))


def all_rows() -> list[tuple[str, int]]:
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT stream, number FROM entries")
        return sorted(cursor.fetchall())


STEP = st.sampled_from(["begin", "write", "read", "pause", "rest", "commit", "roll back", "iterate"])


class Model:
    """One stream, and what of its rows must be there in the end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.hold = ConnectionHold(stream_pool)
        self.atomic: Any = None
        self.written = 0
        self.open: list[int] = []
        self.committed: list[int] = []

    async def call(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.hold, function)

    async def step(self, step: str) -> None:
        if step == "begin" and self.atomic is None:
            self.atomic, self.open = transaction.atomic(using=ALIAS), []
            await self.call(self.atomic.__enter__)
        elif step == "write":
            self.written += 1
            number = self.written
            await self.call(lambda: write(self.name, number))
            (self.committed if self.atomic is None else self.open).append(number)
        elif step == "read":
            seen = await self.call(lambda: [number for name, number in all_rows() if name == self.name])
            assert seen == sorted(self.committed + (self.open if self.atomic is not None else []))
        elif step == "iterate":
            cursor = await self.call(lambda: connections[ALIAS].chunked_cursor())
            await self.call(lambda: cursor.execute("SELECT generate_series(1, 10)"))
            first = await self.call(lambda: cursor.fetchmany(5))
            await asyncio.sleep(0.002)
            assert len(first + await self.call(lambda: cursor.fetchmany(5))) == 10
            await self.call(cursor.close)
        elif step in ("commit", "roll back") and self.atomic is not None:
            error = ValueError() if step == "roll back" else None
            atomic, self.atomic = self.atomic, None
            await self.call(lambda: atomic.__exit__(error and ValueError, error, None))
            if error is None:
                self.committed += self.open
        else:
            await asyncio.sleep(0.003 if step == "rest" else 0)


@settings(
    max_examples=150 if LONG else 15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=not LONG,
)
@given(st.lists(st.lists(STEP, max_size=12), min_size=1, max_size=6))
def test_whatever_streams_do_each_has_exactly_its_own_rows(table: str, scripts: list[list[str]]) -> None:
    async def main() -> list[Model]:
        models = [Model(f"stream-{number}") for number in range(len(scripts))]

        async def run(model: Model, script: list[str]) -> None:
            try:
                for step in script:
                    await model.step(step)
            finally:
                model.hold.end()

        await asyncio.gather(*map(run, models, scripts))
        await eventually("all threads are free", lambda: all(model.hold.worker is None for model in models))
        return models

    asked(table, "DELETE FROM entries")
    before, worker_threads.RESTING_SECONDS = worker_threads.RESTING_SECONDS, 0.001
    try:
        with override_settings(AGENT_SSE={"THREADS": len(scripts)}):
            models = asyncio.run(main())
    finally:
        worker_threads.RESTING_SECONDS = before
    assert all_rows() == sorted((model.name, number) for model in models for number in model.committed)


# Pinned


async def test_a_pinned_stream_works_under_a_sync_middleware_before_it_has_begun(tenants: str) -> None:
    """Its thread waits for the view then, and runs what the handler asks for all the same."""

    async def handler(c: Context, stream: Stream) -> None:
        first = await sync_to_async(reading)()
        await stream.write(first)
        await asyncio.sleep(0.05)
        await stream.write(await sync_to_async(reading)())

    site_settings = {"MIDDLEWARE": [f"{__name__}.tenant_middleware"]}
    async with serve(handler, settings=site_settings, pinned=True, commit_after=60) as site:
        first, second, _ = await site.connect(query="tenant=tenant_7").rest()
    assert read_json(first.data) == read_json(second.data) == ["tenant_7"] * 5


@pytest.mark.parametrize("around", [lambda application: application, asgi.wrap], ids=["plain", "wrap"])
async def test_pinned_streams_are_counted_and_one_too_many_is_answered_as_overloaded(
    alias: str, postgres_url: str, around: Any
) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write(await sync_to_async(asked)(ALIAS, "SELECT 1"))
        await stream.wait_closed()

    sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        others = server.execute(sql).fetchone()[0]  # type: ignore[index]  # of tests that ran before
    async with serve(handler, settings={"AGENT_SSE": {"PINNED_THREADS": 2}}, around=around, pinned=True) as site:
        clients = [site.connect() for _ in range(2)]
        for client in clients:
            assert (await client.event()).data == "1"
        assert (await site.connect().event()).event == "sse.overloaded"
        assert lifelong.taken == 2
        clients[0].leave()
        await eventually("its thread is given back", lambda: lifelong.taken == 1)
        assert (await site.connect().event()).data == "1"
    await eventually("all are given back", lambda: lifelong.taken == 0)
    threads.reset()  # what requests have had is kept for a while
    with psycopg.connect(postgres_url, autocommit=True) as server:
        await eventually("theirs are closed", lambda: server.execute(sql).fetchone()[0] <= others)  # type: ignore[index]


async def test_an_error_of_on_connection_is_the_handlers(alias: str) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        try:
            await sync_to_async(reading)()
        except LookupError as error:
            await stream.write(str(error))

    def refuses(connection: Any, c: Context) -> None:
        raise LookupError(f"no tenant for {c.params['number']}")

    async with serve(handler, settings={"AGENT_SSE": {"ON_CONNECTION": refuses}}) as site:
        assert (await site.connect().event()).data == "no tenant for 7"


async def test_a_sync_generators_connections_are_prepared_too(alias: str) -> None:
    def handler(c: Context) -> Iterator[str]:
        for _ in range(3):
            yield getattr(connections[ALIAS], "tenant", "nobody")

    def names(connection: Any, c: Context) -> None:
        connection.tenant = c.params["number"]

    async with serve(handler, settings={"AGENT_SSE": {"ON_CONNECTION": names}}) as site:
        assert [event.data for event in await site.connect().take(3)] == ["7"] * 3
