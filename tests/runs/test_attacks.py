"""What should not be: logs that fail at any step, clocks that differ, requests nobody should send, and a thousand runs."""

from __future__ import annotations

import asyncio
import gc
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.test import override_settings

from django_agent_sse import Context, Router, Topic, produce
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.memory import POINTERS, MemoryEventLog
from django_agent_sse.exceptions import EventLogUnavailable, RunStopped
from django_agent_sse.runs import keeper as keeper_module
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.runs.keeper import keeper
from django_agent_sse.runs.run_base import RunBase
from django_agent_sse.runs.task import _tasks
from django_agent_sse.topics.reading import history
from tests.inprocess import eventually
from tests.serving import ask, connect, served

NAME, NEXT, KEY = "runs.1", "runs.2", "chat.7"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
BODIES = ("_acquire", "_append", "_close", "_delete", "_expire", "_leases", "_move_pointer", "_pointer", "_release", "_state")


@pytest.fixture(autouse=True)
def log() -> Iterator[EventLog]:
    backend.reset()
    yield backend.event_log()
    backend.reset()


def last(ending: RunEnding) -> list[str]:
    return [f"[{ending}]"]


def until(what: str, probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := probe()):
        assert time.monotonic() < deadline, what
        time.sleep(0.002)
    return found


class Failing:
    """A log of which one call fails: before it was done, or afterwards, so that only its answer is lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, done: bool) -> None:
        self.calls = 0
        self.at = at
        self.done = done
        for name in BODIES:
            monkeypatch.setattr(MemoryEventLog, name, self._wrapped(getattr(MemoryEventLog, name)))

    def _wrapped(self, body: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **about: Any) -> Any:
            self.calls += 1
            fails = self.calls == self.at
            if fails and not self.done:
                raise EventLogUnavailable("away")
            result = body(*args, **about)
            if fails:
                raise EventLogUnavailable("away")
            return result

        return call


@pytest.mark.parametrize("done", [False, True], ids=["before", "answer lost"])
@pytest.mark.parametrize("in_coroutine", [False, True], ids=["sync", "async"])
def test_a_log_that_fails_at_any_call_of_a_start_or_an_end_leaves_nothing_that_never_ends(
    done: bool, in_coroutine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module.Keeper, "add", lambda self, run: None)

    async def awork() -> None:
        async with produce(NAME, key=KEY, last=last) as out:
            await out.write("1")
            await out.flush()

    def work() -> None:
        if in_coroutine:
            asyncio.run(awork())
            return
        with produce(NAME, key=KEY, last=last) as out:
            out.write("1")
            out.flush()

    at, calls = 1, 100
    while at <= calls:
        backend.reset()
        log = backend.event_log()
        assert isinstance(log, MemoryEventLog)
        with monkeypatch.context() as patched:
            failing = Failing(patched, at, done)
            failed = False
            try:
                work()
            except EventLogUnavailable:
                failed = True
            calls = failing.calls if not failed else max(at, failing.calls)
        if not failed and at > failing.calls:
            break
        later = time.time() + 31
        log._now = lambda later=later: later  # type: ignore[misc]
        log.expire(NAME)
        state, found = log.state(NAME), [event.data for event in history(log, NAME)]
        if state.exists:
            assert state.closed in ("finished", "failed", "lost"), (at, state)
            assert found[-1:] == [f"[{state.closed}]"], (at, found)
            assert sum(data.startswith("[") for data in found) == 1, (at, found)
        with produce(NEXT, key=KEY) as other:
            assert log.pointer(KEY) == other.topic, at
        at += 1
        calls = 100
    assert at > 6, "every call of a run was tried"


def test_a_fault_of_one_look_costs_no_run_its_lease(log: EventLog, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    look, faults = type(keeper)._look, []

    async def faulty(self: Any) -> Any:
        if len(faults) < 2:
            faults.append(1)
            raise ValueError("a fault of ours")
        return await look(self)

    monkeypatch.setattr(type(keeper), "_look", faulty)
    with produce(NAME, last=last) as out:
        log.request_stop(NAME, out.id)
        until("it is looked at again", lambda: out.stopping)
    assert log.state(NAME).closed == "stopped"
    assert "it is tried again" in caplog.text


@pytest.mark.parametrize("skew", [-86_400, 86_400])
def test_a_machine_whose_clock_is_wrong_takes_nobodys_lease(skew: int, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"url": redis_url, "prefix": f"t{secrets.token_hex(6)}"}
    with override_settings(
        AGENT_SSE={"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}}
    ):
        log = backend.event_log()
        with produce(NAME, lease=20, last=last) as out:
            now = time.time
            monkeypatch.setattr(time, "time", lambda: now() + skew)
            lease = log.lease(NAME)
            assert lease is not None
            assert 0 < lease.left <= 20
            assert not log.expire(NAME)
            out.write("1")
        assert log.state(NAME).closed == "finished"
        monkeypatch.undo()


def test_a_run_that_is_interrupted_without_its_code_is_counted_once(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    monkeypatch.setattr("django_agent_sse.streams.counters.counters.run_ended", counted.append)
    with produce(NAME, last=last) as out:
        out._life.shutdown()
        out.close_interrupted()
        assert counted == ["interrupted"]
    assert (counted, out.ending, log.state(NAME).closed) == (["interrupted"], "interrupted", "interrupted")


# Requests


def talks(**about: Any) -> tuple[Router, asyncio.Event, list[str]]:
    router, go, begun = Router(), asyncio.Event(), []

    async def talk(c: Context, run: AsyncRun) -> None:
        begun.append(run.id)
        await run.write("begun")
        await go.wait()

    router.run("chat/<str:chat>/", talk, **about)
    return router, go, begun


async def test_head_and_options_start_stop_and_read_nothing(log: EventLog) -> None:
    router, go, begun = talks()

    @router.sse("report/", resumable=True)
    async def report(c: Context, stream: Any) -> None:
        begun.append("report")

    with served(router):
        for url in ("/chat/1/", "/report/"):
            assert (await ask(url, method="HEAD")).body == b""
            options = await ask(url, method="OPTIONS")
            assert "DELETE" in options.headers["allow"]
        assert (begun, await log.atopics()) == ([], [])
        answer = await ask("/chat/1/", method="POST", headers={"prefer": "respond-async"})
        url = answer.headers["location"]
        assert (await ask(url, method="HEAD")).body == b""
        for path, method in ((url, "POST"), (url, "PUT"), (f"{url}stop", "GET"), ("/chat/1/", "PATCH")):
            assert (await ask(path, method=method)).status == 405, (path, method)
        go.set()
        assert (await ask(url)).data == ["begun"]
    assert len(begun) == 1


async def test_what_changes_something_needs_a_csrf_token_where_the_project_asks_for_one() -> None:
    router, _, begun = talks()
    id = f"run_{'x' * 16}"
    with served(router, middleware=[CSRF]):
        for url, method in (("/chat/1/", "POST"), (f"/chat/1/{id}/", "DELETE"), (f"/chat/1/{id}/stop", "POST")):
            assert (await ask(url, method=method)).status == 403, (url, method)
        assert (await ask("/chat/1/")).status == 204
    assert begun == []


@pytest.mark.parametrize("key", [None, "chats.{chat}"])
async def test_keys_of_ten_thousand_characters_and_odd_ones_are_answered(key: str | None, log: EventLog) -> None:
    router, go, begun = talks(key=key)
    go.set()
    with served(router):
        for chat in ("x" * 10_000, "é", "a b", "..", "%00", "run_" + "x" * 16):
            answer = await ask(f"/chat/{chat}/", method="POST", headers={"prefer": "respond-async"})
            good = chat in ("a b", "%00") or chat.startswith("run_")
            assert answer.status == (202 if good else 404), (chat[:20], answer.body)
            if good:
                assert answer.headers["location"] == f"/chat/{quote(chat)}/{answer.json()['run']}/"
        for header in ("x-run-id", "last-event-id"):
            assert (await ask("/chat/none/", headers={header: "x" * 10_000})).status == 204, header
        assert (await ask("/chat/1/", method="POST", headers={"idempotency-key": "x" * 10_000})).status == 400
    await eventually("all end", lambda: not keeper.busy)
    assert len(log.topics()) == len(begun)


async def test_a_place_beyond_the_end_is_told_and_not_waited_for(log: EventLog) -> None:
    router, go, begun = talks()
    with served(router):
        answer = await ask("/chat/1/", method="POST", headers={"prefer": "respond-async"})
        url = answer.headers["location"]
        async with asyncio.timeout(20):
            while not (begun and (await log.astate(f"runs.talk.{begun[0]}")).top):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        beyond = f"{(await log.astate(f'runs.talk.{begun[0]}')).epoch}.999"
        assert (await ask(url, last_event_id=beyond)).status == 410
        gap = await connect(url, last_event_id=beyond, headers={"accept": "text/event-stream"}).event()
        assert (gap.event, json.loads(gap.data)["reason"]) == ("sse.gap", "ahead")
        go.set()
        await ask(url)
    await eventually("it ends", lambda: not keeper.busy)


# Many


async def test_a_thousand_runs_of_ten_keys_leave_nothing_in_the_process(log: EventLog) -> None:
    def runs() -> list[RunBase]:
        return [found for found in gc.get_objects() if issubclass(type(found), RunBase)]

    router, go, begun = talks(replay=False)
    go.set()
    others = runs()  # which earlier tests have left for as long as their code may still need
    with served(router):
        await ask("/chat/1/", method="POST")  # what the first one needs for ever is there
        await eventually("it ends", lambda: not keeper.busy and not _tasks)
        threads = threading.active_count()
        for _ in range(100):
            answers = await asyncio.gather(*(ask(f"/chat/{number}/", method="POST") for number in range(10)))
            assert {answer.status for answer in answers} == {200}
    await eventually("all end", lambda: not keeper.busy and not _tasks)
    await eventually("no task is left", lambda: len(asyncio.all_tasks()) < 20)
    assert len(begun) == 1001
    assert threading.active_count() <= threads + 2

    def left() -> list[RunBase]:
        gc.collect()
        return [found for found in runs() if found not in others]

    await eventually("no run is left, once its keeper has looked", lambda: not left())


def test_pointers_in_memory_are_bounded_and_those_of_work_in_progress_stay() -> None:
    log = MemoryEventLog(MAX_TOPICS=10)
    log.acquire(NAME, "r1", 60)
    log.move_pointer(KEY, NAME, expect=None)
    for number in range(200):
        log.move_pointer(f"claims.{number}", "none", expect=None)
    assert len(log._pointers) <= 10 * POINTERS + 1
    assert log.pointer(KEY) == NAME
    assert log.pointer("claims.199") == "none"
    assert log.pointer("claims.0") is None


async def test_a_producer_that_slept_past_its_lease_is_told_so_in_words(log: EventLog) -> None:
    assert isinstance(log, MemoryEventLog)
    with pytest.raises(RunStopped, match=r"is over or about to end \(lost\)") as told:
        async with produce(NAME, last=last) as out:
            later = time.time() + 31
            log._now = lambda: later
            await out.write("x" * 5000)
    assert told.value.ending == "lost"
    assert [event.data for event in await Topic(NAME).aread()] == ["[lost]"]


@pytest.mark.parametrize("done", [False, True], ids=["before", "answer lost"])
@pytest.mark.parametrize("which", [1, 2], ids=["first", "second"])
@pytest.mark.parametrize("in_coroutine", [False, True], ids=["sync", "async"])
async def test_what_is_tried_again_after_a_lost_answer_is_there_once(
    in_coroutine: bool, which: int, done: bool, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, calls = MemoryEventLog._append, []

    def fails(*args: Any) -> Any:
        calls.append(args)
        if len(calls) != which:
            return append(*args)
        if done:
            append(*args)
        raise EventLogUnavailable("away")

    monkeypatch.setattr(MemoryEventLog, "_append", fails)
    monkeypatch.setattr(RunBase, "_due_in", lambda self: 60.0)  # nothing is appended but by flush()

    async def awork() -> None:
        async with produce(NAME, last=last) as out:
            for text in ("same", "same", "same"):
                await out.write(text)
                try:
                    await out.flush()
                except EventLogUnavailable:
                    await out.write("more")

    def work() -> None:
        with produce(NAME, last=last) as out:
            for text in ("same", "same", "same"):
                out.write(text)
                try:
                    out.flush()
                except EventLogUnavailable:
                    out.write("more")

    await (awork() if in_coroutine else asyncio.to_thread(work))
    texts = ["same"] * 3
    texts.insert(which, "more")
    assert [event.data for event in history(log, NAME)] == [*texts, "[finished]"]


async def test_so_is_what_only_the_end_tries_again(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    append = MemoryEventLog._append

    def fails(*args: Any) -> Any:
        append(*args)
        raise EventLogUnavailable("away")

    async with produce(NAME, last=last) as out:
        await out.write("1")
        with monkeypatch.context() as patched:
            patched.setattr(MemoryEventLog, "_append", fails)
            with pytest.raises(EventLogUnavailable):
                await out.flush()
    assert [event.data for event in history(log, NAME)] == ["1", "[finished]"]
