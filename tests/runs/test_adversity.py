"""Runs where threads are busy or cannot be made, where the log is slow, and where it fails more than once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connections

from django_agent_sse import Context, Router, produce
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.exceptions import EventLogUnavailable, TransactionRefused
from django_agent_sse.runs import task as task_module
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.runs.keeper import keeper
from django_agent_sse.runs.run import Run
from django_agent_sse.runs.run_base import RunBase
from django_agent_sse.runtime.loop import BLOCKING_CALLS, background, blocking
from django_agent_sse.streams.kept_thread import KeptThread
from tests.inprocess import eventually
from tests.serving import ask, served

from .logs import empty_log

NAME = "runs.1"
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    with empty_log(getattr(request, "param", "memory"), request) as one:
        yield one


def texts(log: EventLog) -> list[str]:
    return [record.event.data for record in log.read_after(NAME, 0, 100).records]


async def until(what: str, probe: Callable[[], Any]) -> None:
    for _ in range(int(PATIENCE / 2 / 0.01)):
        found = probe()
        if found if not isinstance(found, Awaitable) else await found:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


@asynccontextmanager
async def thread_of_its_own() -> AsyncIterator[None]:
    """As a request has one, whose connections are closed."""
    async with ThreadSensitiveContext():
        try:
            yield
        finally:
            await sync_to_async(connections.close_all)()


def no_threads(*args: Any, **about: Any) -> Any:
    raise RuntimeError("can't start new thread")


# Threads


@pytest.mark.parametrize("log", ["sqlite", "postgres"], indirect=True)
async def test_what_a_coroutine_writes_is_seen_while_its_sync_code_is_busy(log: EventLog) -> None:
    """A slow query, or an SDK that blocks, takes the only thread of the request."""
    go = threading.Event()
    async with thread_of_its_own(), produce(NAME) as out:
        await out.write("searching")
        busy = asyncio.ensure_future(sync_to_async(go.wait)(PATIENCE))
        try:
            await until("it is there", lambda: log._run_read(lambda: texts(log) == ["searching"]))
        finally:
            go.set()
        assert await busy, "it was busy all the time"


@pytest.mark.parametrize("log", ["sqlite", "postgres"], indirect=True)
async def test_a_stop_closes_the_topic_of_a_coroutine_whose_sync_code_is_busy(log: EventLog) -> None:
    go, waited = threading.Event(), list[bool]()

    async def work() -> None:
        async with thread_of_its_own(), produce(NAME) as out:
            await out.write("searching")
            await sync_to_async(lambda: waited.append(go.wait(PATIENCE)))()

    working = asyncio.ensure_future(work())
    try:
        await until("it has a lease", lambda: log._run_read(lambda: log.lease(NAME)))
        await log._run_note(lambda: log.request_stop(NAME, log.lease(NAME).holder))  # type: ignore[union-attr]
        await until("it is closed", lambda: log._run_read(lambda: log.state(NAME).closed))
    finally:
        go.set()
    await working
    assert (await log._run_read(lambda: log.state(NAME))).closed == "stopped"
    await until("it was busy all the time", lambda: waited == [True])


def test_a_lease_is_renewed_while_everything_else_waits_for_the_log(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_agent_sse.runs.keeper.RENEW_AT", 0.95)
    go = threading.Event()
    waiting = [blocking.submit(go.wait, PATIENCE) for _ in range(BLOCKING_CALLS)]
    try:
        with produce(NAME, lease=30):
            first = log.lease(NAME)
            assert first is not None
            deadline = time.monotonic() + PATIENCE
            while (now := log.lease(NAME)) is not None and now.deadline <= first.deadline + 1:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert now is not None
    finally:
        go.set()
    assert all(one.result(PATIENCE) for one in waiting)
    assert log.state(NAME).closed == "finished"


def test_a_run_that_begins_when_there_are_threads_again_is_kept(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = time.monotonic() + PATIENCE
    while keeper._at_work:
        assert time.monotonic() < deadline, "it rests when the runs of other tests are over"
        time.sleep(0.01)
    with monkeypatch.context() as patched:
        patched.setattr(background, "start", no_threads)
        with pytest.raises(RuntimeError, match="new thread"), produce("runs.0"):
            raise AssertionError
    assert keeper.running() == []
    with produce(NAME, lease=30):
        first = log.lease(NAME)
        assert first is not None
        while (now := log.lease(NAME)) is not None and now.deadline <= first.deadline + 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert log.state(NAME).closed == "finished"


async def test_sync_code_for_which_there_is_no_thread_has_failed(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router()

    @router.run("sync/")
    def work(c: Context, run: Run) -> None:
        raise AssertionError

    async def call(self: KeptThread, function: Callable[[], Any]) -> Any:
        no_threads()

    monkeypatch.setattr(KeptThread, "call", call)
    with served(router):
        answer = await ask("/sync/", method="POST", headers={"Prefer": "respond-async"})
        assert answer.status == 202
        (topic,) = log.topics()
        await eventually("it is closed", lambda: log.state(topic).closed == "failed", PATIENCE)
    assert keeper.running() == []


async def test_a_run_that_cannot_be_kept_is_not_waited_for(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    router = Router()

    @router.run("async/")
    async def work(c: Context, run: AsyncRun) -> None:
        raise AssertionError

    monkeypatch.setattr(keeper, "add", no_threads)
    with served(router):
        async with asyncio.timeout(PATIENCE):
            assert (await ask("/async/", method="POST")).status == 500
    assert [await log.alease(topic) for topic in log.topics()] == [None] * len(log.topics())


# A log that is slow, or fails


async def test_a_request_that_comes_again_while_the_first_waits_for_the_log_starts_one_run(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looked long enough takes the claim, and the first one has its lease only then."""
    router, started = Router(), 0
    go, slow = asyncio.Event(), [True]

    @router.run("chat/")
    async def talk(c: Context, run: AsyncRun) -> None:
        nonlocal started
        started += 1
        await run.write("token")
        await go.wait()

    begin = task_module.Producing.abegin

    async def late(self: Any) -> Any:
        if slow.pop() if slow else False:
            await taken.wait()
        return await begin(self)

    taken = asyncio.Event()
    monkeypatch.setattr(task_module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(task_module.Producing, "abegin", late)
    about: dict[str, Any] = {"method": "POST", "headers": {"Idempotency-Key": "one", "Prefer": "respond-async"}}
    with served(router):
        first = asyncio.ensure_future(ask("/chat/", **about))
        await eventually("it waits for the log", lambda: not slow, PATIENCE)
        again = await ask("/chat/", **about)
        taken.set()
        answers = [await first, again]
        await eventually("it has begun", lambda: started, PATIENCE)
        go.set()
        topics = log.topics()
        await eventually("it is over", lambda: all(log.state(topic).closed for topic in topics), PATIENCE)
    assert [answer.status for answer in answers] == [202, 202]
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert started == 1


def test_what_fails_twice_is_there_once(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of the first append is lost, and the second one finds the log read-only."""
    append, calls = MemoryEventLog._append, []

    def fails(*args: Any) -> Any:
        calls.append(args)
        result = append(*args) if len(calls) != 2 else None
        if len(calls) <= 2:
            raise EventLogUnavailable("away")
        return result

    monkeypatch.setattr(MemoryEventLog, "_append", fails)
    monkeypatch.setattr(RunBase, "_due_in", lambda self: 600.0)  # nothing is appended but by flush()
    with produce(NAME) as out:
        for text in "AB":
            out.write(text)
            with pytest.raises(EventLogUnavailable):
                out.flush()
        out.write("C")
    assert texts(log) == ["A", "B", "C"]


@pytest.mark.parametrize(
    "error", [TransactionRefused("a transaction is open"), KeyboardInterrupt()], ids=["refused", "interrupted"]
)
def test_what_was_accepted_is_not_lost_with_an_append_that_fails(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    append, errors = MemoryEventLog._append, [error]

    def fails(*args: Any) -> Any:
        if errors:
            raise errors.pop()
        return append(*args)

    monkeypatch.setattr(MemoryEventLog, "_append", fails)
    monkeypatch.setattr(RunBase, "_due_in", lambda self: 600.0)
    with produce(NAME) as out:
        out.write("accepted")
        with pytest.raises(type(error)):
            out.flush()
        out.write("later")
    assert texts(log) == ["accepted", "later"]


async def test_no_line_of_the_log_has_a_whole_id(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    router, ids, errors = Router(), list[str](), [EventLogUnavailable("away")]
    append = MemoryEventLog._append

    def fails(*args: Any) -> Any:
        if ids and errors:
            raise errors.pop()
        return append(*args)

    @router.run("chat/")
    async def talk(c: Context, run: AsyncRun) -> None:
        @run.on_end
        async def fail() -> None:
            raise ValueError("deliberate")

        ids.append(run.id)
        await run.write("token")
        await eventually("it is tried again", lambda: not errors and log.topics(), PATIENCE)

    monkeypatch.setattr(MemoryEventLog, "_append", fails)
    with served(router), caplog.at_level(logging.DEBUG):
        await ask("/chat/", method="POST")
        await eventually("it is over", lambda: all(log.state(topic).closed for topic in log.topics()), PATIENCE)
    (id,) = ids
    assert "cannot be appended" in caplog.text
    assert "deliberate" in caplog.text
    assert id not in caplog.text
