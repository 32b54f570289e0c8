"""Runs where they should not be: at other addresses, in forked children, on closed loops, and with a log that goes away."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_agent_sse import AsyncRun, Context, Router, Run, RunAccess, Topic, produce
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.exceptions import EventLogUnavailable, RunExists, RunStopped
from django_agent_sse.runs import run_base
from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.runs.keeper import keeper
from django_agent_sse.runs.task import _tasks
from tests.inprocess import eventually
from tests.serving import ask, connect, served

NAME = "runs.1"


@pytest.fixture(autouse=True)
def log() -> Iterator[EventLog]:
    backend.reset()
    yield backend.event_log()
    backend.reset()


def until(what: str, probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := probe()):
        assert time.monotonic() < deadline, what
        time.sleep(0.002)
    return found


def last(ending: RunEnding) -> list[str]:
    return [f"[{ending}]"]


def texts(log: EventLog, topic: str = NAME) -> list[str]:
    return [record.event.data for record in log.read_after(topic, 0, 10_000).records]


# Requests

DOORS = {
    "GET": ("GET", "/chat/{chat}/{id}/", {}),
    "GET without a slash": ("GET", "/chat/{chat}/{id}", {}),
    "GET by query": ("GET", "/chat/{chat}/?run_id={id}", {}),
    "GET by header": ("GET", "/chat/{chat}/", {"x-run-id": "{id}"}),
    "GET of the stream": ("GET", "/chat/{chat}/{id}/stream", {}),
    "HEAD": ("HEAD", "/chat/{chat}/{id}/", {}),
    "POST that resumes": ("POST", "/chat/{chat}/", {"x-run-id": "{id}", "last-event-id": "x.0"}),
    "DELETE": ("DELETE", "/chat/{chat}/{id}/", {}),
    "DELETE by query": ("DELETE", "/chat/{chat}/?run_id={id}", {}),
    "DELETE by header": ("DELETE", "/chat/{chat}/", {"x-run-id": "{id}"}),
    "stop": ("POST", "/chat/{chat}/{id}/stop", {}),
    "cancel": ("POST", "/chat/{chat}/{id}/cancel", {}),
}


async def who(c: Context) -> bool:
    c.var.api_key_owner = c.header("x-who")
    return c.var.api_key_owner is not None


async def members(c: Context, run: RunAccess) -> bool:
    """A check that looks at the chat in the address alone."""
    return bool(c.params["chat"] == c.var.api_key_owner)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("access", [None, members], ids=["whoever started it", "members of the chat"])
async def test_a_stranger_finds_no_door_to_the_run_of_another_one(access: Any, door: str, log: EventLog) -> None:
    router, go, ended = Router(guards=[who]), asyncio.Event(), []

    async def talk(c: Context, run: AsyncRun) -> None:
        await run.write("secret")
        await go.wait()
        ended.append(run.ending)

    router.run("chat/<str:chat>/", talk, **({} if access is None else {"access": access}))
    method, path, headers = DOORS[door]

    def request(chat: str, whose: str) -> Any:
        about = {name: value.format(id=id) for name, value in headers.items()} | {"x-who": whose}
        return ask(path.format(chat=chat, id=id), method=method, headers=about)

    with served(router):
        begun = await ask("/chat/ann/", method="POST", headers={"prefer": "respond-async", "x-who": "ann"})
        id = begun.json()["run"]
        for chat, whose in (("bob", "bob"), ("ann", "bob"), ("ann", "")):
            answer = await request(chat, whose)
            assert answer.status in (401, 403, 404), (chat, whose, answer.status)
            assert b"secret" not in answer.body
            assert "location" not in answer.headers
        conflict = await ask("/chat/ann/", method="POST", headers={"x-who": "bob"})
        assert (conflict.status, id in conflict.body.decode(), "location" in conflict.headers) == (
            (409, False, False) if access is None else (403, False, False)
        )
        assert not log.lease(log.topics()[0]).stop  # type: ignore[union-attr]
        asyncio.get_running_loop().call_later(0.05, go.set)
        assert (await request("ann", "ann")).status in (200, 202, 410), "and whoever has started it does"
        go.set()
        await eventually("it is over", lambda: not keeper.busy and not _tasks)


async def test_code_that_exits_ends_its_run_and_not_the_process(log: EventLog) -> None:
    router = Router()

    @router.run("exit/<str:kind>/")
    async def exits(c: Context, run: AsyncRun, kind: str) -> None:
        await run.write("1")
        raise {"exit": SystemExit, "interrupt": KeyboardInterrupt, "generator": GeneratorExit}[kind]

    with served(router):
        for kind in ("exit", "interrupt", "generator"):
            await ask(f"/exit/{kind}/", method="POST", broken_off=True)
        await eventually("all are over", lambda: not keeper.busy and not _tasks)
    assert [log.state(topic).closed for topic in log.topics()] == ["failed"] * 3


# Stops


async def test_a_run_may_stop_itself_and_be_stopped_twice(log: EventLog) -> None:
    notes = []
    async with produce(NAME, last=last) as out:
        await out.write("1")
        for _ in range(2):
            assert (await Topic(NAME).astop_run(out.id)).stopping
        try:
            await asyncio.sleep(30)
        finally:
            notes.append(out.ending)
    assert (notes, texts(log)) == (["stopped"], ["1", "[stopped]"])
    assert (await Topic(NAME).astop_run(out.id)).ending == "stopped"


def test_so_may_one_in_sync_code(log: EventLog) -> None:
    with produce(NAME, last=last) as out:
        Topic(NAME).stop_run()
        Topic(NAME).stop_run(out.id)
        until("it learns of it", lambda: out.stopping)
        out.write("late")
    assert (out.ending, texts(log)) == (RunEnding.STOPPED, ["[stopped]"])


def test_a_topic_that_is_deleted_under_its_run_is_not_made_again(log: EventLog) -> None:
    with pytest.raises(RunStopped, match="lost"), produce(NAME, last=last) as out:
        out.write("1")
        out.flush()
        log.delete(NAME)
        until("it learns of it", lambda: out.stopping)
        out.write("2")
    assert log.topics() == []


# Processes and loops


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_no_part_in_its_parents_run(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_base.RunBase, "_due_in", lambda self: 600.0)  # nothing is appended but by flush()
    called = []
    with produce(NAME, last=last) as out:
        out.on_end(lambda: called.append(os.getpid()))
        out.write("0")
        out.flush()
        out.write("1")
        child = os.fork()
        if not child:
            refused = False
            try:
                out.write("2")
            except RunStopped:
                refused = True
            out._exit(SystemExit())
            left = texts(log) == ["0"] and log.state(NAME).closed is None and not called
            os._exit(0 if refused and left else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        out.write("3")
    assert (texts(log), called) == (["0", "1", "3", "[finished]"], [os.getpid()])


def test_a_run_whose_loop_was_closed_under_it_is_interrupted(log: EventLog) -> None:
    loop = asyncio.new_event_loop()

    async def begin() -> AsyncRun:
        return await produce(NAME, last=last).__aenter__()

    out = loop.run_until_complete(begin())
    loop.close()
    until("it is closed", lambda: log.state(NAME).closed)
    assert (log.state(NAME).closed, texts(log)) == ("interrupted", ["[interrupted]"])
    assert out.id
    until("nobody keeps it", lambda: not keeper.busy)


async def test_who_is_cancelled_while_the_end_is_written_is_called_back_all_the_same(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, closing, called = asyncio.Event(), asyncio.Event(), asyncio.Event()
    run = log._run_apart

    async def slow(close: Callable[[], Any]) -> Any:
        closing.set()
        await go.wait()
        return await run(close)

    async def work() -> None:
        async with produce(NAME, last=last) as out:
            out.on_end(called.set)

    monkeypatch.setattr(log, "_run_apart", slow)
    task = asyncio.create_task(work())
    await asyncio.wait_for(closing.wait(), 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not called.is_set()
    go.set()
    await asyncio.wait_for(called.wait(), 20)
    assert log.state(NAME).closed == "finished"


# A log that goes away


class Away:
    """A log of which these calls fail until it is back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.calls = 0
        self.back = False
        for name in names:
            monkeypatch.setattr(MemoryEventLog, name, self._wrapped(getattr(MemoryEventLog, name)))

    def _wrapped(self, body: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **about: Any) -> Any:
            if not self.back:
                self.calls += 1
                raise EventLogUnavailable("away")
            return body(*args, **about)

        return call


@pytest.mark.parametrize("in_coroutine", [False, True], ids=["sync", "async"])
async def test_what_a_log_that_was_away_did_not_take_is_appended_though_the_code_writes_no_more(
    in_coroutine: bool, log: EventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = Away(monkeypatch, "_append")

    async def awork() -> None:
        async with produce(NAME) as out:
            await out.write("1")
            await eventually("it is tried", lambda: away.calls > 1)
            away.back = True
            await eventually("it is there", lambda: texts(log))

    def work() -> None:
        with produce(NAME) as out:
            out.write("1")
            until("it is tried", lambda: away.calls > 1)
            away.back = True
            until("it is there", lambda: texts(log))

    await (awork() if in_coroutine else asyncio.to_thread(work))
    assert (texts(log), log.state(NAME).closed) == (["1"], "finished")

    def said() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        return [message.partition(" after ")[0] for message in messages if "append" in message]

    await eventually("it says that it works again", lambda: len(said()) > 1)  # a thread says so, once it is there
    id = log.lease(NAME).holder  # type: ignore[union-attr]
    assert said() == [
        f"what the run {id[:10]}… writes to the topic {NAME!r} cannot be appended now (EventLogUnavailable: away). "
        "It is kept, and appended when that works again. This is said once; it is tried again",
        "works again",
    ]


@pytest.mark.parametrize("in_coroutine", [False, True], ids=["sync", "async"])
async def test_a_log_that_is_away_when_a_run_ends_has_its_end_once_it_is_back(
    in_coroutine: bool, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_base, "CLOSE_SECONDS", 600.0)
    away = Away(monkeypatch, "_append", "_close", "_read_after")
    ends = []

    async def back() -> None:
        await eventually("it is tried twice", lambda: away.calls > 1)
        away.back = True

    async def awork() -> None:
        async with produce(NAME, last=last) as out:
            await out.write("1")
            out.on_end(lambda: ends.append(out.ending))

    def work() -> None:
        with produce(NAME, last=last) as out:
            out.write("1")
            out.on_end(lambda: ends.append(out.ending))

    await asyncio.gather(back(), awork() if in_coroutine else asyncio.to_thread(work))
    assert (texts(log), log.state(NAME).closed, ends) == (["1", "[finished]"], "finished", ["finished"])


# Code that does not end


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_code_that_swallows_its_stop_keeps_neither_readers_nor_the_key(
    kind: str, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    router, over, refused = Router(), threading.Event(), []

    async def swallows(c: Context, run: AsyncRun, chat: str) -> None:
        await run.write("1")
        while not over.is_set():
            try:
                await asyncio.sleep(0.01)
                await run.write("more")
                await run.flush()
            except (asyncio.CancelledError, RunStopped) as error:
                refused.append(type(error))

    def blocks(c: Context, run: Run, chat: str) -> None:
        run.write("1")
        while not over.wait(0.01):
            try:
                run.write("more")
                run.flush()
            except RunStopped as error:
                refused.append(type(error))

    monkeypatch.setattr(f"django_agent_sse.runs.{'async_run' if kind == 'coroutine' else 'run'}.CLEANUP_SECONDS", 0.2)
    router.run("chat/<slug:chat>/", swallows if kind == "coroutine" else blocks)
    with served(router):
        begun = await ask("/chat/1/", method="POST", headers={"prefer": "respond-async"})
        reader = connect(begun.headers["location"])
        await reader.begun()
        assert (await ask(begun.json()["stop"], method="POST")).status in (200, 202)
        await reader.over()
        topic = log.topics()[0]
        assert log.state(topic).closed == "stopped"
        top = log.state(topic).top
        await eventually("it goes on to write", lambda: len(refused) > 5)
        assert log.state(topic).top == top, "and nothing of it is appended"
        assert (await ask("/chat/1/", method="POST", headers={"prefer": "respond-async"})).status == 202, "the key is free"
        over.set()
        await eventually("all are over", lambda: not keeper.busy and not _tasks)


async def test_with_two_readers_only_the_leaving_of_the_one_that_started_it_stops_the_run(log: EventLog) -> None:
    router, ended = Router(), []

    @router.run("chat/<slug:chat>/", on_disconnect="cancel")
    async def talk(c: Context, run: AsyncRun, chat: str) -> None:
        await run.write("1")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(run.ending)

    with served(router):
        first = connect("/chat/1/", method="POST")
        await first.begun()
        readers = [connect("/chat/1/") for _ in range(2)]
        for reader in readers:
            await reader.begun()
        await readers[0].disconnect()
        await asyncio.sleep(0)
        assert not log.lease(log.topics()[0]).stop  # type: ignore[union-attr]
        await first.disconnect()
        await readers[1].over()
        await eventually("it is over", lambda: not keeper.busy and not _tasks)
    assert ended == ["stopped"]


def test_runs_in_each_other_have_topics_of_their_own(log: EventLog) -> None:
    with produce("runs.a", key="a", last=last) as outer:
        with produce("runs.b", key="b", last=last) as inner:
            for topic, key in (("runs.a", None), ("runs.c", "b")):
                with pytest.raises(RunExists), produce(topic, key=key):
                    raise AssertionError
            inner.write("inner")
        outer.write("outer")
    assert (texts(log, "runs.a"), texts(log, "runs.b")) == (["outer", "[finished]"], ["inner", "[finished]"])
    assert log.topics() == ["runs.a", "runs.b"]


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt()])
def test_what_ends_the_process_interrupts_its_run_and_passes(error: BaseException, log: EventLog) -> None:
    with pytest.raises(type(error)), produce(NAME, last=last) as out:
        out.write("1")
        raise error
    assert texts(log) == ["1", "[interrupted]"]


def test_events_that_are_trimmed_while_a_run_lives_change_nothing_for_it(log: EventLog) -> None:
    with produce(NAME, last=last) as out:
        for number in range(5):
            out.write(str(number))
            out.flush()
            log.trim(NAME, max_events=1)
    assert (texts(log), log.state(NAME).closed, log.state(NAME).top) == (["4", "[finished]"], "finished", 6)
