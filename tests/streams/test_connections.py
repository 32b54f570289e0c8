"""Database connections in streams: a stream's own while it works, given back when it rests; and those of a test case."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connections, transaction
from django.test import TestCase, override_settings

from django_agent_sse import Context, Stream
from django_agent_sse.runtime import worker_threads
from django_agent_sse.runtime.worker_threads import ConnectionHold
from django_agent_sse.streams.threads import stream_pool
from tests.databases import asked, extra_database
from tests.inprocess import eventually, serve
from tests.records import records_of

ALIAS = "streams"
SQLITE = "django.db.backends.sqlite3"
ROWS = 300
CHUNK = 50


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any) -> Path:
    """A database in a file with a few users, to be copied."""
    path = tmp_path_factory.mktemp("filled") / "db.sqlite3"
    with django_db_blocker.unblock(), extra_database(ALIAS, {"ENGINE": SQLITE, "NAME": str(path)}):
        call_command("migrate", "auth", database=ALIAS, verbosity=0)
        users = get_user_model()
        users.objects.using(ALIAS).bulk_create(users(username=f"user-{number}") for number in range(ROWS))
    return path


@pytest.fixture
def alias(filled: Path, tmp_path: Path, django_db_blocker: Any) -> Iterator[str]:
    """A copy of that database."""
    with (
        django_db_blocker.unblock(),
        extra_database(ALIAS, {"ENGINE": SQLITE, "NAME": shutil.copy(filled, tmp_path / "db.sqlite3")}),
    ):
        yield ALIAS


def thread_name() -> str:
    return threading.current_thread().name


def query() -> Any:
    return asked(ALIAS, "select 42")


def connection_id() -> int:
    query()
    return id(connections[ALIAS].connection)


def users() -> Any:
    return get_user_model().objects.using(ALIAS)


def held() -> int:
    """How many threads streams have now."""
    _, lent, _ = stream_pool.counts()
    return lent


def waiting_in_line() -> int:
    """How many wait in line for one."""
    return stream_pool.counts()[2]


def existing() -> int:
    """How many there are."""
    return stream_pool.counts()[0]


async def nothing_held() -> None:
    await eventually("no stream has a thread", lambda: not held())


Handler = Callable[[Context, Stream], Any]


def gated(body: Callable[[Stream], Any]) -> tuple[Handler, asyncio.Event]:
    """A handler that does ``body``, says so, and waits at a gate."""
    gate = asyncio.Event()

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("begun")
        outcome = await body(stream)
        await stream.write(outcome)
        await gate.wait()

    return handler, gate


# Resting


async def test_a_stream_that_rests_has_no_thread_and_no_connection(alias: str) -> None:
    handler, gate = gated(lambda stream: sync_to_async(query)())
    async with serve(handler) as site:
        assert [event.data for event in await site.connect().take(2)] == ["begun", "42"]
        await nothing_held()
        gate.set()


async def test_calls_of_a_burst_find_the_same_connection(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "RESTING_SECONDS", 60)

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write(len({await sync_to_async(connection_id)() for _ in range(10)}))

    async with serve(handler) as site:
        assert (await site.connect().event()).data == "1"


async def test_a_stream_that_rests_gives_way_at_once_when_others_wait(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "RESTING_SECONDS", 60)
    with override_settings(AGENT_SSE={"THREADS": 1}):
        first, second = ConnectionHold(stream_pool), ConnectionHold(stream_pool)
        assert first.submit(query).result(60) == 42
        assert second.submit(query).result(60) == 42
        assert first.worker is None
        second.end()


async def test_an_attribute_of_djangos_wrapper_is_gone_for_the_next_one(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "RESTING_SECONDS", 60)

    def mark() -> None:
        connections[ALIAS].tenant = "first's"  # type: ignore[attr-defined]

    with override_settings(AGENT_SSE={"THREADS": 1}):
        first, second = ConnectionHold(stream_pool), ConnectionHold(stream_pool)
        first.submit(mark).result(60)
        assert first.submit(lambda: getattr(connections[ALIAS], "tenant", None)).result(60) == "first's"
        assert second.submit(lambda: getattr(connections[ALIAS], "tenant", None)).result(60) is None
        second.end()


# What is not resting


async def begin(stream: Stream) -> str:
    def enter() -> None:
        transaction.atomic(using=ALIAS).__enter__()
        users().create(username="in the transaction")

    await sync_to_async(enter)()
    return "open"


async def begin_by_hand(stream: Stream) -> str:
    await sync_to_async(asked)(ALIAS, "BEGIN")
    await sync_to_async(lambda: users().create(username="in the transaction"))()
    return "open"


async def without_autocommit(stream: Stream) -> str:
    await sync_to_async(transaction.set_autocommit)(False, using=ALIAS)
    return "open"


@pytest.mark.parametrize("body", [begin, begin_by_hand, without_autocommit])
async def test_an_open_transaction_is_kept_across_awaits_and_rolled_back_where_the_stream_ends_in_it(
    alias: str, body: Callable[[Stream], Any]
) -> None:
    handler, _ = gated(body)
    async with serve(handler) as site:
        client = site.connect()
        await client.take(2)
        await asyncio.sleep(worker_threads.RESTING_SECONDS * 3)
        assert held() == 1
        client.leave()
        await client.over()
        await nothing_held()
    assert await users().filter(username="in the transaction").acount() == 0


async def test_what_comes_after_the_handler_is_no_part_of_the_transaction_that_it_left_open(alias: str) -> None:
    done = asyncio.Event()

    async def handler(c: Context, stream: Stream) -> None:
        @stream.on_end
        async def note() -> None:
            await users().acreate(username="on_end")
            done.set()

        await begin(stream)
        await stream.write("begun")
        await stream.wait_closed()

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        client.leave()
        await asyncio.wait_for(done.wait(), 60)
    found = [user.username async for user in users().exclude(username__startswith="user-")]
    assert found == ["on_end"]


async def test_other_streams_go_on_while_one_has_a_transaction_open(alias: str) -> None:
    gate = asyncio.Event()

    async def handler(c: Context, stream: Stream) -> None:
        if c.query.get("transaction"):
            await begin_by_hand(stream)
            await stream.write("begun")
            await gate.wait()
        await stream.write(await sync_to_async(connection_id)())

    async with serve(handler) as site:
        await site.connect(query="transaction=1").event()
        clients = [site.connect() for _ in range(10)]
        assert all([await client.event() for client in clients])
        gate.set()


async def test_aiterator_keeps_its_connection_through_pauses_and_no_longer(alias: str) -> None:
    rows: list[str] = []
    gates = {name: asyncio.Event() for name in ("pause", "rest")}

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("begun")
        async for user in users().order_by("pk").aiterator(chunk_size=CHUNK):
            rows.append(user.username)
            if len(rows) == CHUNK:
                await stream.write("paused")
                await gates["pause"].wait()
        await stream.write("read")
        await gates["rest"].wait()

    async with serve(handler) as site:
        client = site.connect()
        await client.take(2)
        await asyncio.sleep(worker_threads.RESTING_SECONDS * 3)
        assert held() == 1
        gates["pause"].set()
        await client.event()
        await nothing_held()
        gates["rest"].set()
    assert rows == [f"user-{number}" for number in range(ROWS)]


@pytest.mark.parametrize("leaves_by", ["break", "end"])
async def test_an_iterator_that_is_not_read_to_its_end_lets_go(alias: str, leaves_by: str) -> None:
    gate = asyncio.Event()

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("begun")
        async for _ in users().aiterator(chunk_size=CHUNK):
            if leaves_by == "break":
                break
            await stream.write("first")
            await asyncio.Event().wait()
        await stream.write("left")
        await gate.wait()

    async with serve(handler) as site:
        client = site.connect()
        await client.take(2)
        if leaves_by == "end":
            client.leave()
            await client.over()
        else:
            await asyncio.sleep(0)
            gc.collect()
        await nothing_held()
        gate.set()


async def test_async_for_over_a_queryset_holds_nothing(alias: str) -> None:
    seen: list[int] = []

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("begun")
        async for _ in users().all():
            if not seen:
                await nothing_held()
            seen.append(1)

    async with serve(handler) as site:
        await site.connect().rest()
    assert len(seen) == ROWS


async def test_connection_holds_the_same_one_whatever_is_done_with_it(alias: str) -> None:
    async def body(stream: Stream) -> int:
        async with stream.connection():
            first = await sync_to_async(connection_id)()
            await asyncio.sleep(worker_threads.RESTING_SECONDS * 3)
            assert held() == 1
            return int(first == await sync_to_async(connection_id)())

    handler, gate = gated(body)
    async with serve(handler) as site:
        assert [event.data for event in await site.connect().take(2)] == ["begun", "1"]
        await nothing_held()
        gate.set()


# The line


async def test_calls_beyond_the_threads_wait_in_line_first_come_first_served(alias: str) -> None:
    gate, order = threading.Event(), []

    def wait() -> None:
        gate.wait(60)

    with override_settings(AGENT_SSE={"THREADS": 2}):
        busy = [ConnectionHold(stream_pool) for _ in range(2)]
        blocked = [hold.submit(wait) for hold in busy]
        waiting = [ConnectionHold(stream_pool) for _ in range(5)]
        results = [hold.submit(order.append, number) for number, hold in enumerate(waiting)]
        await asyncio.sleep(worker_threads.GROW_SECONDS * 3)
        assert stream_pool.counts() == (2, 2, 5)
        with override_settings(AGENT_SSE={"THREADS": 1}):
            gate.set()
            for future in [*blocked, *results]:
                await asyncio.wrap_future(future)
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert order[0] in (0, 1)


async def test_who_is_cancelled_leaves_the_line(alias: str) -> None:
    gate = threading.Event()
    with override_settings(AGENT_SSE={"THREADS": 1}):
        busy, waiting, next_one = (ConnectionHold(stream_pool) for _ in range(3))
        blocked = busy.submit(gate.wait, 60)
        cancelled = asyncio.wrap_future(waiting.submit(query))
        behind = next_one.submit(thread_name)
        assert waiting_in_line() == 2
        cancelled.cancel()
        await eventually("it has left", lambda: waiting_in_line() == 1)
        gate.set()
        assert (await asyncio.wrap_future(behind)).startswith("sse-stream")
        assert blocked.result(60)


async def test_a_stream_in_a_transaction_goes_on_while_all_others_wait_in_line(alias: str) -> None:
    with override_settings(AGENT_SSE={"THREADS": 1}):
        first, second = ConnectionHold(stream_pool), ConnectionHold(stream_pool)
        first.submit(transaction.atomic(using=ALIAS).__enter__).result(60)
        waits = second.submit(query)
        for _ in range(3):
            assert first.submit(query).result(60) == 42
        assert not waits.done()
        first.end()
        assert waits.result(60) == 42


async def test_threads_grow_while_somebody_waits_up_to_the_bound_and_not_beyond(alias: str) -> None:
    gate = threading.Event()
    with override_settings(AGENT_SSE={"THREADS": 9}):
        futures = [ConnectionHold(stream_pool).submit(gate.wait, 60) for _ in range(20)]
        assert existing() == worker_threads.AT_ONCE
        await eventually("it has grown", lambda: existing() == 9)
        await asyncio.sleep(worker_threads.GROW_SECONDS * 3)
        assert stream_pool.counts() == (9, 9, 11)
        gate.set()
        for future in futures:
            assert await asyncio.wrap_future(future)


async def test_a_long_wait_in_line_is_told_to_the_log_once(
    alias: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_threads, "LONG_WAIT", 0.05)
    monkeypatch.setattr(worker_threads, "LOOK_SECONDS", 0.02)
    with override_settings(AGENT_SSE={"THREADS": 1}):
        first, second = ConnectionHold(stream_pool), ConnectionHold(stream_pool)
        first.submit(transaction.atomic(using=ALIAS).__enter__).result(60)
        await eventually("its thread is held", lambda: first.worker is not None and first.worker.held)
        waits = second.submit(query)
        await eventually("it is told", lambda: records_of(caplog, "django_agent_sse.threads"))
        await asyncio.sleep(0.1)
        first.end()
        assert await asyncio.wrap_future(waits) == 42
    (record,) = records_of(caplog, "django_agent_sse.threads")
    assert record.levelname == "WARNING"
    assert "one of 1 threads (AGENT_SSE['THREADS']): 1 are held by open transactions" in record.getMessage()


async def test_a_thread_that_has_nothing_to_do_ends(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "IDLE_SECONDS", 0.05)
    hold = ConnectionHold(stream_pool)
    name = hold.submit(thread_name).result(60)
    await eventually("it has ended", lambda: name not in {thread.name for thread in threading.enumerate()})
    assert existing() == 0
    assert hold.submit(thread_name).result(60) != name


async def test_what_fails_fails_for_the_caller_only(alias: str) -> None:
    hold = ConnectionHold(stream_pool)

    def fails() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        hold.submit(fails).result(60)
    assert hold.submit(query).result(60) == 42
    hold.end()


def test_leases_of_several_threads_and_loops_at_once_all_come_through(alias: str) -> None:
    """Every call of every loop has its result, and no hold meets another's mark."""
    local = threading.local()
    wrong: list[object] = []

    def mark(me: object) -> None:
        seen = getattr(connections[ALIAS], "mark", me)
        if seen is not me:
            wrong.append(seen)
        connections[ALIAS].mark = me  # type: ignore[attr-defined]
        local.mark = me
        time.sleep(0.0005)
        if local.mark is not me:
            wrong.append("another ran on this thread meanwhile")

    async def stream() -> None:
        hold = ConnectionHold(stream_pool)
        loop = asyncio.get_running_loop()
        for _ in range(5):
            await loop.run_in_executor(hold, mark, hold)
        hold.end()

    async def main() -> None:
        await asyncio.gather(*(stream() for _ in range(40)))

    loops = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join(120)
        assert not thread.is_alive()
    assert wrong == []


# Iterators


async def test_a_sync_iterators_own_thread_leaves_no_connection_behind(alias: str) -> None:
    closed: list[bool] = []

    def generate(c: Context) -> Iterator[int]:
        connection = connections[ALIAS]
        original = connection.close

        def close() -> None:
            original()
            closed.append(threading.current_thread().name.startswith("sse-kept"))

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
        async with stream.connection():
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

    async def test_a_pinned_stream_too(self) -> None:
        await get_user_model().objects.acreate(username="from the test")
        async with serve(self.users, pinned=True) as site:
            count, name, _ = await site.connect(context=contextvars.copy_context()).rest()
        assert (count.data, name.data) == ("1", threading.main_thread().name)

    async def test_a_sync_generator_runs_on_the_tests_own_thread(self) -> None:
        await get_user_model().objects.acreate(username="from the test")
        async with serve(self.iterated) as site:
            first, _ = await site.connect(context=contextvars.copy_context()).rest()
        assert first.data == "from the test"

    async def test_the_async_test_client_too(self) -> None:
        await get_user_model().objects.acreate(username="from the test")
        async with serve(self.users, commit_after=60):
            response = await self.async_client.get("/stream/7/")
            raw = b"".join([part async for part in response.streaming_content])
        assert raw.startswith(b"retry: 3000\ndata: 1\n\n")
