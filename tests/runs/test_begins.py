"""How a run begins, and what is left where it does not: used without ``with``, twice, or cancelled on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from django_agent_sse import Topic, produce
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.exceptions import EventLogUnavailable, RunNotBegun
from django_agent_sse.runs import produce as module

NAME, BEFORE, KEY = "runs.2", "runs.1", "chat.7"


@pytest.fixture(autouse=True)
def log() -> Iterator[EventLog]:
    backend.reset()
    yield backend.event_log()
    backend.reset()


@pytest.mark.parametrize("verb", ["write", "pipe", "pipe_sse", "flush", "text", "on_end", "stopping", "ending", "id", "topic"])
def test_a_verb_without_with_says_what_to_write(verb: str, log: EventLog) -> None:
    with pytest.raises(RunNotBegun, match=rf"produce\('runs\.2'\)\.{verb}: .*`with produce\(…\) as out:` and then `out\.{verb}`"):
        getattr(produce(NAME), verb)
    assert not hasattr(produce(NAME), "_private")
    assert log.topics() == []


def test_one_produce_begins_one_run(log: EventLog) -> None:
    begun = produce(NAME)
    with begun as out:
        with pytest.raises(RunNotBegun, match="has begun its run before: call produce"), begun:
            raise AssertionError
        out.write("1")
    log.delete(NAME)
    with pytest.raises(RunNotBegun), begun:
        raise AssertionError
    assert log.topics() == []


class Cancelling:
    """A log whose ``at``-th call has the task cancelled that waits for it; the call itself is carried out."""

    def __init__(self, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.at = at
        self.task: asyncio.Task[Any] | None = None
        run = MemoryEventLog._run

        async def cancelling(log: MemoryEventLog, body: Callable[[], Any]) -> Any:
            result = await run(log, body)
            self.calls += 1
            if self.calls == self.at and self.task is not None:
                self.task.cancel()
                await asyncio.sleep(0)
            return result

        monkeypatch.setattr(MemoryEventLog, "_run", cancelling)


@pytest.mark.parametrize("kept", [False, True], ids=["new topic", "topic with events"])
async def test_a_cancel_at_any_step_of_its_beginning_leaves_no_lease_and_the_key_where_it_led(
    kept: bool, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with produce(NAME, key=KEY):
            begun.append(True)
            await asyncio.sleep(60)

    async def cancelled_at(number: int) -> bool:
        """Whether there was such a step."""
        begun.clear()
        with monkeypatch.context() as patched:
            cancelling = Cancelling(number, patched)
            cancelling.task = task = asyncio.create_task(work())
            while not task.done() and not begun:  # noqa: ASYNC110
                await asyncio.sleep(0)
            if begun:
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return not begun

    begun: list[bool] = []
    async with produce(BEFORE, key=KEY) as first:
        await first.write("before")
    if kept:
        await Topic(NAME).apublish("kept")
    steps = 0
    while await cancelled_at(steps + 1):
        steps += 1
        assert await log.apointer(KEY) == BEFORE, steps
        assert await log.atopics() == ([BEFORE, NAME] if kept else [BEFORE]), steps
        assert await log.alease(NAME) is None, steps
    assert steps > 5, "each call of a beginning was tried"


async def test_who_is_cancelled_twice_does_not_wait_and_the_lease_is_given_back_all_the_same(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, acquire = asyncio.Event(), log.aacquire
    waits = asyncio.Event()

    async def slow(*args: Any, **about: Any) -> Any:
        waits.set()
        await go.wait()
        return await acquire(*args, **about)

    async def work() -> None:
        async with produce(NAME, key=KEY):
            raise AssertionError

    monkeypatch.setattr(log, "aacquire", slow)
    task = asyncio.create_task(work())
    await waits.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.topics() == []
    go.set()
    (undoing,) = module._undoing
    await undoing
    assert (log.topics(), log.pointer(KEY)) == ([], None)


async def test_a_cancel_while_the_log_is_away_says_so_and_stays_a_cancel(
    log: EventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*args: Any) -> Any:
        raise EventLogUnavailable("away")

    async def work(begin: Callable[[], Awaitable[Any]]) -> None:
        await begin()

    begun = produce(NAME, key=KEY)
    task = asyncio.create_task(work(begun.abegin))
    move = MemoryEventLog._move_pointer

    def moves(*args: Any) -> Any:
        monkeypatch.setattr(MemoryEventLog, "_delete", away)
        monkeypatch.setattr(MemoryEventLog, "_state", away)
        monkeypatch.setattr(MemoryEventLog, "_move_pointer", move)
        task.cancel()
        return move(*args)

    monkeypatch.setattr(MemoryEventLog, "_move_pointer", moves)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "cannot be given back: away" in caplog.text
