"""Sync iterators: item by item, each on a thread that it keeps, from a bounded and counted number."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from django_agent_sse import Context, Stream, conf
from django_agent_sse.runtime.worker_threads import ConnectionHold
from django_agent_sse.streams import callbacks, supervisor
from django_agent_sse.streams.threads import kept_pool, lifelong
from tests.inprocess import PATIENCE, eventually, serve


@pytest.fixture(autouse=True)
def _every_thread_is_given_back() -> Iterator[None]:
    _wait_until_all_are_given_back()  # those of other tests in this process
    yield
    _wait_until_all_are_given_back()


def _wait_until_all_are_given_back() -> None:
    """A thread gives itself back when its last work is over, which its stream may have seen a moment before."""
    deadline = time.monotonic() + PATIENCE
    while lifelong.taken and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lifelong.taken == 0


@pytest.fixture
def exhausted() -> Iterator[None]:
    """All threads are taken that may be kept."""
    lifelong.taken = conf.setting("PINNED_THREADS")
    yield
    lifelong.taken = 0


async def test_a_sync_generator_runs_item_by_item_on_one_thread_of_its_own_in_the_callers_context() -> None:
    value: ContextVar[str] = ContextVar("value", default="unset")
    threads: set[str] = set()
    pulled: list[int] = []

    def generate() -> Iterator[Any]:
        for number in range(1000):
            threads.add(threading.current_thread().name)
            pulled.append(number)
            yield f"{value.get()}{number}"

    async def handler(c: Context, stream: Stream) -> None:
        value.set("set")
        await stream.pipe(generate())

    async with serve(handler, buffer_events=4) as site:
        client = site.connect()
        client.hold()
        await client.stuck()
        assert len(pulled) < 20, "it is drained ahead of the client"
        client.flow()
        events = await client.rest()
    assert [event.data for event in events[:-1]] == [f"set{number}" for number in range(1000)]
    assert len(threads) == 1
    assert threads.pop().startswith("sse-kept")


async def test_a_sync_generator_is_closed_on_its_thread_when_the_client_leaves() -> None:
    closed: list[str] = []
    gate = threading.Event()

    def generate() -> Iterator[str]:
        try:
            yield "first"
            gate.wait(PATIENCE)
            yield "second"
        finally:
            closed.append(threading.current_thread().name)

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_abort(gate.set)
        await stream.pipe(generate())

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        client.leave()
        await client.over()
        assert [name.rpartition("-")[0] for name in closed] == ["sse-kept"]


async def test_a_sync_generator_that_blocks_too_long_is_left_behind_and_closed_when_it_can_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "CLEANUP_SECONDS", 0.05)
    monkeypatch.setattr(callbacks, "CLEANUP_SECONDS", 0.05)
    gate, blocked = threading.Event(), threading.Event()
    closed: list[str] = []

    def generate() -> Iterator[str]:
        try:
            yield "first"
            blocked.set()
            gate.wait(PATIENCE)
            yield "second"
        finally:
            closed.append("finally")

    source = generate()

    async def handler(c: Context, stream: Stream) -> None:
        await stream.pipe(source)

    try:
        async with serve(handler) as site:
            client = site.connect()
            await client.event()
            await eventually("the generator blocks", blocked.is_set)
            client.leave()
            await client.over()
            assert lifelong.taken == 1, "a thread that is still blocked was given back"
            gate.set()
            await eventually("the generator is closed", lambda: closed)
            await eventually("the thread is given back", lambda: lifelong.taken == 0)
    finally:
        gate.set()


async def count(c: Context) -> AsyncIterator[int]:
    yield 1


def count_sync(c: Context) -> Iterator[int]:
    yield from range(3)


async def test_a_sync_generator_beyond_the_threads_there_are_is_answered_as_overloaded(exhausted: None) -> None:
    async with serve(count_sync, commit_after=60) as site:
        client = site.connect()
        (event,) = await client.rest()
        assert (client.status, event.event) == (200, "sse.overloaded")
        assert event.retry is not None
        assert 5_000 <= event.retry <= 15_000
        assert client.headers["content-type"] == "text/event-stream"
        plain = await site.connect(headers={"accept": "*/*"}).over()
        assert plain.status == 503
        assert 5 <= int(plain.headers["retry-after"]) <= 15
        assert "sync generators" in plain.json()["error"]["message"]
    async with serve(count) as site:
        assert len(await site.connect().rest()) == 2


async def test_what_no_thread_was_there_for_is_closed_all_the_same(exhausted: None, tmp_path: Path) -> None:
    (tmp_path / "output").write_text("one\ntwo\n")
    file, generator = (tmp_path / "output").open(), (number for number in range(3))
    for source in (file, generator):

        async def handler(c: Context, stream: Stream, source: Any = source) -> None:
            await stream.write("begun")
            await stream.pipe(source)

        async with serve(handler) as site:
            assert [event.event for event in await site.connect().rest()] == [None, "sse.error"]
    assert (file.closed, [*generator]) == (True, [])


async def test_what_a_client_left_before_the_first_step_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread is still taken by what was there before: the step is cancelled before it begins."""
    (tmp_path / "output").write_text("one\ntwo\n")
    file, gate, waits = (tmp_path / "output").open(), threading.Event(), threading.Event()
    submit = ConnectionHold.submit

    def behind(hold: ConnectionHold, call: Any, *args: Any, **kwargs: Any) -> Any:
        if not waits.is_set() and hold._pool is kept_pool:
            waits.set()
            submit(hold, gate.wait, PATIENCE)
        return submit(hold, call, *args, **kwargs)

    monkeypatch.setattr(ConnectionHold, "submit", behind)

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("begun")
        await stream.pipe(file)

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        await eventually("its first step waits", waits.is_set)
        client.leave()
        gate.set()
        await client.over()
        await eventually("it is closed", lambda: file.closed)


async def test_an_overload_in_the_middle_of_a_stream_is_an_error_of_the_handler(exhausted: None) -> None:

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("begun")
        await stream.pipe(count_sync(c))

    async with serve(handler) as site:
        assert [event.event for event in await site.connect().rest()] == [None, "sse.error"]
