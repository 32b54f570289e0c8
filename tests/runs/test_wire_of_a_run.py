"""A run that speaks a protocol: its last events by what it has written, its text at any time, and what is done at its end."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from django_agent_sse import Event, Topic, produce
from django_agent_sse.contrib.wires import AG_UI, AI_SDK, PLAIN
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.runs import run_base
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.runs.run import Run
from django_agent_sse.runs.wire import NO_WIRE

from .logs import empty_log
from .samples import SAMPLES

NAME = "runs.42"
PATIENCE = 60.0
OPEN = SAMPLES["ai_sdk"].events([("text", ["Hé", "llo"])])[:5]
"""The beginning of a text that is not ended."""


@pytest.fixture(autouse=True, params=["memory", "redis"])
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    with empty_log(request.param, request) as one:
        yield one


def until(what: str, probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := probe()):
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
    return found


def texts(log: EventLog) -> list[str]:
    return [record.event.data for record in log.read_after(NAME, 0, 10_000).records]


ENDS = ['{"type":"text-end","id":"p0"}']
STOPPED = [*ENDS, '{"type":"abort","reason":"The run was stopped."}', '{"type":"finish","finishReason":"other"}', "[DONE]"]
FAILED = [*ENDS, '{"type":"error","errorText":"The run has failed."}', '{"type":"finish","finishReason":"error"}', "[DONE]"]
FINISHED = [*ENDS, '{"type":"finish"}', "[DONE]"]


def test_a_sync_run_ends_in_the_words_of_its_wire(log: EventLog) -> None:
    saved: list[tuple[object, str]] = []
    with pytest.raises(RuntimeError, match="the model"), produce(NAME, wire=AI_SDK) as out:
        assert isinstance(out, Run)
        out.on_end(lambda: saved.append((out.ending, out.text())))
        out.pipe(OPEN[:-1])
        out.flush()
        out.write(OPEN[-1])  # not appended yet
        assert out.text() == "Héllo"
        assert not saved
        raise RuntimeError("the model")
    assert texts(log) == [*(event.data for event in OPEN), *FAILED]
    assert saved == [(RunEnding.FAILED, "Héllo")]


async def test_a_run_of_a_coroutine_ends_in_the_words_of_its_wire(log: EventLog) -> None:
    saved: list[object] = []
    async with produce(NAME, wire=AI_SDK) as out:
        assert isinstance(out, AsyncRun)

        @out.on_end
        async def save() -> None:
            saved.append((out.ending, await out.text(), (await log.astate(NAME)).closed))

        await out.pipe(OPEN[:-1])
        await out.flush()
        await out.write(OPEN[-1])
        assert await out.text() == "Héllo"
    assert await asyncio.to_thread(texts, log) == [*(event.data for event in OPEN), *FINISHED]
    assert saved == [(RunEnding.FINISHED, "Héllo", "finished")]


async def test_the_text_has_what_is_on_its_way_to_the_log(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, begun, append = asyncio.get_running_loop(), asyncio.Event(), log.append

    def slow(*args: Any, **options: Any) -> Any:
        loop.call_soon_threadsafe(begun.set)
        time.sleep(0.05)
        return append(*args, **options)

    async with produce(NAME, wire=AI_SDK) as out:
        monkeypatch.setattr(log, "append", slow)
        await out.pipe(OPEN)
        await asyncio.wait_for(begun.wait(), PATIENCE)
        assert await out.text() == "Héllo"


async def test_a_partial_answer_is_saved_where_it_was_stopped(log: EventLog) -> None:
    saved: list[object] = []
    async with produce(NAME, wire=AI_SDK) as out:

        @out.on_end
        async def save() -> None:
            saved.append((out.ending, await out.text()))

        await out.pipe(OPEN)
        await log.arequest_stop(NAME, out.id)
        await asyncio.sleep(PATIENCE)
    assert await asyncio.to_thread(texts, log) == [*(event.data for event in OPEN), *STOPPED]
    assert saved == [(RunEnding.STOPPED, "Héllo")]


def test_a_partial_answer_is_saved_where_sync_code_was_stopped(log: EventLog) -> None:
    saved: list[object] = []
    with produce(NAME, wire=AI_SDK) as out:
        out.on_end(lambda: saved.append((out.ending, out.text())))
        out.pipe(OPEN)
        log.request_stop(NAME, out.id)
        until("it is told to stop", lambda: out.stopping)
        out.write("more")
    assert texts(log)[-4:] == STOPPED
    assert saved == [(RunEnding.STOPPED, "Héllo")]


async def test_a_partial_answer_is_saved_where_its_task_was_cancelled(log: EventLog) -> None:
    saved: list[object] = []

    async def work() -> None:
        async with produce(NAME, wire=AG_UI) as out:

            @out.on_end
            async def save() -> None:
                saved.append((out.ending, await out.text()))

            await out.pipe(SAMPLES["ag_ui"].events([("text", ["Hé", "llo"])])[:4])
            began.set()
            await asyncio.sleep(PATIENCE)

    began = asyncio.Event()
    task = asyncio.create_task(work())
    await asyncio.wait_for(began.wait(), PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = await asyncio.to_thread(texts, log)
    assert found[-2] == '{"type":"TEXT_MESSAGE_END","messageId":"p0"}'
    assert '"type":"RUN_ERROR"' in found[-1]
    assert '"code":"interrupted"' in found[-1]
    assert saved == [(RunEnding.INTERRUPTED, "Héllo")]


def test_a_partial_answer_is_saved_where_the_lease_was_lost(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(log), "renew_all", lambda *args, **about: (_ for _ in ()).throw(EventLogUnavailable("away")))
    saved: list[object] = []
    with produce(NAME, wire=AI_SDK, lease=30) as out:
        out.on_end(lambda: saved.append((out.ending, out.text())))
        out.pipe(OPEN)
        out.flush()
        log.renew(NAME, out.id, 2.0)  # which nobody renews from now on
        until("the lease is lost", lambda: out.stopping)
    assert out.ending is RunEnding.LOST
    until("somebody closes it", lambda: log.expire(NAME) or log.state(NAME).closed)
    assert texts(log)[len(OPEN) :] == [
        *ENDS,
        *('{"type":"error","errorText":"The run was lost: its process has died, or could not be reached."}',),
        *('{"type":"finish","finishReason":"error"}', "[DONE]"),
    ]
    assert saved == [(RunEnding.LOST, "Héllo")]


def test_last_events_of_ones_own_come_first(log: EventLog) -> None:
    with produce(NAME, wire=AI_SDK, last=lambda ending: [{"type": "data-ending", "data": ending}]) as out:
        out.write(OPEN[0])
    assert texts(log)[1:] == ['{"type":"data-ending","data":"finished"}', '{"type":"finish"}', "[DONE]"]


def test_without_a_wire_nothing_is_added_and_the_text_is_what_was_written(log: EventLog) -> None:
    with produce(NAME) as out:
        out.pipe(["Hé", "llo", Event("{}", event="usage")])
        assert out.wire is NO_WIRE
        assert out.text() == "Héllo"
    assert texts(log) == ["Hé", "llo", "{}"]
    assert out.text() == "Héllo"
    with produce("runs.43", wire=PLAIN) as out:
        out.write("x")
    assert [(event.event, event.data) for event in Topic("runs.43").read()] == [(None, "x"), ("run.end", '{"reason":"finished"}')]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_callbacks_are_called_in_order_once_and_one_that_fails_stops_nobody(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []

    def fails() -> None:
        called.append("fails")
        raise ValueError("own")

    def follows() -> None:
        called.append("follows")

    async def work() -> None:
        async with produce(NAME) as out:
            assert out.on_end(fails) is fails
            out.on_end(follows)

    with caplog.at_level(logging.ERROR):
        if kind == "async":
            asyncio.run(work())
        else:
            with produce(NAME) as out:
                assert out.on_end(fails) is fails
                out.on_end(follows)
    assert called == ["fails", "follows"]
    (record,) = [record for record in caplog.records if record.exc_info and "own" in str(record.exc_info[1])]
    assert "on_end callback of" in record.getMessage()


def test_callbacks_are_called_where_the_end_cannot_be_written(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []

    def away(*args: Any, **about: Any) -> bool:
        raise EventLogUnavailable("away")

    monkeypatch.setattr(run_base, "CLOSE_SECONDS", 0.0)
    with pytest.raises(EventLogUnavailable), produce(NAME) as out:
        out.on_end(lambda: called.append(out.text()))
        out.write("x")
        out.flush()
        monkeypatch.setattr(type(log), "close", away)
    assert called == ["x"]


def test_a_wire_that_fails_does_not_keep_a_run_from_its_end(log: EventLog, caplog: pytest.LogCaptureFixture) -> None:
    def fails(ending: RunEnding, events: Any) -> Any:
        if ending is not RunEnding.LOST:
            raise ValueError("a wire's own fault")
        return ()

    with caplog.at_level(logging.ERROR), produce(NAME, wire=replace(AI_SDK, last=fails, terse=None)) as out:
        out.pipe(OPEN)
    assert texts(log) == [event.data for event in OPEN]
    assert log.state(NAME).closed == "finished"
    assert any("without the last events" in record.getMessage() for record in caplog.records)


def test_a_wire_looks_at_the_topic_on_no_event_loop(log: EventLog) -> None:
    threads: list[bool] = []

    def last(ending: RunEnding, events: Any) -> Any:
        if ending is not RunEnding.LOST:
            threads.append(threading.current_thread() is threading.main_thread())
            assert len([*events]) == 2
        return ()

    async def work() -> None:
        async with produce(NAME, wire=replace(AI_SDK, last=last, fold=None)) as out:
            await out.pipe(["1", "2"])

    asyncio.run(work())
    assert len(threads) == 1
    assert threads == [type(log).__name__ == "MemoryEventLog"], "memory needs no waiting"
