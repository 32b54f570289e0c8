"""Runs in sync code and in coroutines: what is written, how each ends, who may begin one, and what a stop does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_agent_sse import Event, Topic
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.exceptions import AsyncRequired, EventTooLarge, InvalidEvent, RunExists, RunStopped, TopicClosed
from django_agent_sse.runs import run_base
from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.runs.keeper import Keeper
from django_agent_sse.runs.produce import produce

from .logs import empty_log

NAME = "runs.42"
PATIENCE = 60.0


@pytest.fixture(autouse=True, params=["memory", "redis"])
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    with empty_log(request.param, request) as one:
        yield one


def last(ending: RunEnding) -> list[object]:
    return [{"end": str(ending)}, "[DONE]"]


def until(what: str, probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := probe()):
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
    return found


def texts(log: EventLog, topic: str = NAME) -> list[str]:
    return [record.event.data for record in log.read_after(topic, 0, 10_000).records]


def ended(log: EventLog, ending: str, *before: str, topic: str = NAME) -> None:
    """The topic has these events, the last ones of its ending, and is closed so."""
    assert texts(log, topic) == [*before, f'{{"end":"{ending}"}}', "[DONE]"]
    assert log.state(topic).closed == ending


# Sync


def test_what_is_written_is_in_the_topic_with_its_end(log: EventLog) -> None:
    with produce(NAME, last=last) as out:
        out.write("1")
        out.write({"n": 2}, event="token")
        out.write(Event("3", event="own"))
        assert out.pipe(iter(["4", "5"])) == 2
        assert out.pipe_sse("data: 6\nid: x\n\n") == 1
        lease = log.lease(NAME)
        assert lease is not None
        assert (lease.holder, lease.alive, out.ending, out.stopping) == (out.id, True, None, False)
    assert out.ending is RunEnding.FINISHED
    ended(log, "finished", "1", '{"n":2}', "3", "4", "5", "6")
    with pytest.raises(RunStopped, match="finished"):
        out.write("late")


def test_nothing_is_held_back_when_the_code_pauses_and_many_pieces_are_few_appends(log: EventLog) -> None:
    appended: list[str] = []
    log.on_change = lambda topic, *page: appended.append(topic)
    with produce(NAME) as out:
        began, at = len(appended), time.monotonic()
        for number in range(200):
            out.write(f"{number:03}")
        until("the pause is no reason to wait", lambda: log.state(NAME).top == 200)
        assert len(appended) - began < max(60, (time.monotonic() - at) / run_base.BATCH_SECONDS + 3)
        out.write("x" * run_base.BATCH_BYTES)
        assert log.state(NAME).top == 201, "a full batch goes at once"
    assert texts(log) == [*(f"{number:03}" for number in range(200)), "x" * run_base.BATCH_BYTES]


def test_what_comes_after_a_pause_is_appended_at_once_and_what_comes_soon_after_with_others(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_base, "BATCH_SECONDS", 600.0)
    with produce(NAME) as out:
        out.write("1")
        until("the first is held back by nothing", lambda: log.state(NAME).top == 1)
        out.write("2")
        out.write("3")
        assert out.text() == "123"
        assert log.state(NAME).top == 1
        out.flush()
        assert log.state(NAME).top == 3
    assert texts(log) == ["1", "2", "3"]


async def test_a_coroutine_appends_at_once_after_a_pause_what_it_wrote_without_waiting(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_base, "BATCH_SECONDS", 600.0)
    async with produce(NAME) as out:
        for piece in "12":
            await out.write(piece)
        await asyncio.to_thread(until, "the first is held back by nothing", lambda: log.state(NAME).top)
        await out.write("3")
        await out.write("4")
        assert await out.text() == "1234"
        assert (await log.astate(NAME)).top == 2
    assert texts(log) == ["1", "2", "3", "4"]
    one, two, *_ = log.read_after(NAME).records
    assert one.at == two.at, "in one append"


def test_a_block_that_raises_has_failed(log: EventLog) -> None:
    with pytest.raises(ValueError, match="the model"), produce(NAME, last=last) as out:
        out.write("1")
        raise ValueError("the model")
    ended(log, "failed", "1")


def test_a_stop_ends_the_block_at_its_next_write_and_quietly(log: EventLog) -> None:
    with produce(NAME, last=last) as out:
        out.write("1")
        out.flush()
        assert log.request_stop(NAME, out.id)
        until("it learns of it", lambda: out.stopping)
        out.write("2")
        raise AssertionError("the write was not refused")
    assert out.ending is RunEnding.STOPPED
    ended(log, "stopped", "1")


def test_code_may_look_whether_it_should_stop(log: EventLog) -> None:
    with produce(NAME, last=last) as out:
        log.request_stop(NAME, out.id)
        until("it learns of it", lambda: out.stopping)
    ended(log, "stopped")


def test_code_that_does_not_end_is_not_waited_for(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_agent_sse.runs.run.CLEANUP_SECONDS", 0.05)
    with produce(NAME, last=last) as out:
        log.request_stop(NAME, out.id)
        until("readers have their end", lambda: log.state(NAME).closed)
    ended(log, "stopped")


def test_a_run_that_lost_its_lease_writes_nothing_any_more(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleeps(keeper: Keeper) -> None:
        """As in a process that is suspended."""

    monkeypatch.setattr(Keeper, "_look", sleeps)
    with pytest.raises(RunStopped) as stopped, produce(NAME, lease=0.3, last=last) as out:
        until("its keeper sleeps", lambda: log.lease(NAME).left < 0.25)  # type: ignore[union-attr]
        until("it has run out", lambda: log.expire(NAME))
        out.write("late")
        out.write("x" * run_base.BATCH_BYTES)
    assert stopped.value.ending == "lost"
    assert out.ending is RunEnding.LOST
    ended(log, "lost")


def test_a_lease_is_renewed_while_the_code_neither_writes_nor_returns(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_agent_sse.runs.keeper.RENEW_AT", 0.95)
    with produce(NAME, lease=30, last=last) as out:
        first = log.lease(NAME).deadline  # type: ignore[union-attr]
        until("it is renewed", lambda: log.lease(NAME).deadline > first + 1)  # type: ignore[union-attr]
        out.write("1")
    ended(log, "finished", "1")


def test_a_topic_that_staff_closes_stops_the_run(log: EventLog) -> None:
    with produce(NAME, last=last) as out:
        out.write("1")
        out.flush()
        log.close(NAME, "by staff")
        until("it learns of it", lambda: out.stopping)
        out.write("2")
    assert (out.ending, log.state(NAME).closed, texts(log)) == (RunEnding.STOPPED, "by staff", ["1"])


def test_last_events_that_cannot_be_made_do_not_keep_the_topic_open(log: EventLog, caplog: pytest.LogCaptureFixture) -> None:
    def broken(ending: RunEnding) -> list[object]:
        return [] if ending is RunEnding.LOST else [object()]

    with produce(NAME, last=broken) as out:
        out.write("1")
    assert (texts(log), log.state(NAME).closed) == (["1"], "finished")
    assert "without the last events" in caplog.text
    with pytest.raises(InvalidEvent), produce("runs.43", last=lambda ending: [object()]):
        raise AssertionError
    assert not log.state("runs.43").exists


# Who may begin


def test_a_second_run_of_a_topic_is_refused_and_leaves_the_first_alone(log: EventLog) -> None:
    with produce(NAME, last=last) as out:
        with pytest.raises(RunExists, match="another run works on the topic 'runs.42'") as refused, produce(NAME):
            raise AssertionError
        assert refused.value.topic == NAME
        out.write("1")
    ended(log, "finished", "1")
    with pytest.raises(TopicClosed, match="finished"), produce(NAME):
        raise AssertionError


def test_one_run_has_a_key_and_the_next_one_may_have_it_when_that_is_over(log: EventLog) -> None:
    with produce("runs.1", key="chat.7"):
        with pytest.raises(RunExists, match="for the key 'chat.7'") as refused, produce("runs.2", key="chat.7"):
            raise AssertionError
        assert refused.value.topic == "runs.1"
        assert log.pointer("chat.7") == "runs.1"
        assert not log.state("runs.2").exists, "nothing was begun"
    with produce("runs.3", key="chat.7"):
        assert log.pointer("chat.7") == "runs.3"


def test_a_run_whose_process_died_is_closed_by_the_next_one_with_its_key(log: EventLog) -> None:
    log.acquire("runs.1", "r1", 0.02, last=[Event("lost")])
    log.move_pointer("chat.7", "runs.1", expect=None)
    until("its lease has run out", lambda: log.lease("runs.1").expired)  # type: ignore[union-attr]
    with produce("runs.2", key="chat.7"):
        assert (log.state("runs.1").closed, texts(log, "runs.1")) == ("lost", ["lost"])


def test_of_fifty_starts_with_one_key_one_runs(log: EventLog) -> None:
    over, began, refused = threading.Event(), list[str](), list[str]()

    def start(number: int) -> None:
        try:
            with produce(f"runs.{number}", key="chat.7") as out:
                began.append(out.topic)
                over.wait(PATIENCE)
        except RunExists as error:
            refused.append(error.topic)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    until("all but one are refused", lambda: len(refused) == 49)
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(began) == 1
    assert {*refused} == {*began}
    assert log.topics() == began, "the others have left nothing behind"


def test_an_event_that_the_log_does_not_take_is_refused_where_it_is_written(log: EventLog) -> None:
    with produce(NAME) as out:
        with pytest.raises(EventTooLarge):
            out.write("x" * 2_000_000)
        out.write("1")
    assert texts(log) == ["1"]


# Coroutines


async def test_a_coroutine_writes_as_sync_code_does(log: EventLog) -> None:
    async def tokens() -> Any:
        for token in ("3", "4"):
            await asyncio.sleep(0)
            yield token

    with pytest.raises(AsyncRequired, match="async with"), produce(NAME):
        raise AssertionError
    async with produce(NAME, last=last) as out:
        await out.write("1")
        await out.write({"n": 2}, event="token")
        assert await out.pipe(tokens()) == 2
        assert await out.pipe_sse(["data: 5\nid", ": 7\n\n"]) == 1
    assert out.ending is RunEnding.FINISHED
    ended(log, "finished", "1", '{"n":2}', "3", "4", "5")
    with pytest.raises(RunStopped):
        await out.write("late")


async def test_a_coroutine_that_waits_is_cancelled_by_a_stop_and_its_finally_has_run(log: EventLog) -> None:
    cleaned = asyncio.Event()

    async def stop_soon(id: str) -> None:
        async for _ in Topic(NAME).follow():
            await log.arequest_stop(NAME, id)

    async with produce(NAME, last=last) as out:
        task = asyncio.create_task(stop_soon(out.id))
        await out.write("1")
        try:
            await asyncio.sleep(PATIENCE)  # the model thinks
            raise AssertionError("it was not cancelled")
        finally:
            cleaned.set()
    await task
    assert cleaned.is_set()
    ended(log, "stopped", "1")
    await asyncio.sleep(0)  # the task itself was not cancelled


async def test_a_task_that_somebody_else_cancels_is_interrupted(log: EventLog) -> None:
    began = asyncio.Event()

    async def work() -> None:
        async with produce(NAME, last=last) as out:
            await out.write("1")
            began.set()
            await asyncio.sleep(PATIENCE)

    task = asyncio.create_task(work())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ended(log, "interrupted", "1")


async def test_a_coroutine_that_raises_has_failed_and_one_that_lost_its_lease_is_told(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="the model"):
        async with produce(NAME, last=last) as out:
            await out.write("1")
            raise ValueError("the model")
    ended(log, "failed", "1")
    with pytest.raises((RunStopped, asyncio.CancelledError)):
        async with produce("runs.43", lease=30, last=last) as out:
            await log.adelete("runs.43")
            await out.write("x" * run_base.BATCH_BYTES)
    assert out.ending is RunEnding.LOST
    assert not (await log.astate("runs.43")).exists


async def test_stops_beside_publishing_leave_nothing_after_the_last_event(log: EventLog) -> None:
    async def one(number: int) -> list[str]:
        topic = f"runs.{number}"
        async with produce(topic, last=last) as out:
            asyncio.get_running_loop().call_later(
                0.001 * number, lambda: stops.append(asyncio.ensure_future(log.arequest_stop(topic, out.id)))
            )
            while True:
                await out.write("token")
                await asyncio.sleep(0.001)
        return [event.data for event in await Topic(topic).aread(limit=100_000)]

    stops: list[asyncio.Future[bool]] = []
    for found in await asyncio.wait_for(asyncio.gather(*map(one, range(10))), PATIENCE):
        assert found[-2:] == ['{"end":"stopped"}', "[DONE]"]
        assert {*found[:-2]} <= {"token"}
