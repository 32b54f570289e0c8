"""What is just being appended when a run ends: it is in the topic, in its place, before the end."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from django_agent_sse import produce
from django_agent_sse.eventlog.base import EventLog
from tests.inprocess import eventually

from .logs import empty_log

NAME = "runs.in-flight"
PATIENCE = 60.0
LARGE = "x" * 5_000
"""What is appended at once."""


@pytest.fixture(autouse=True, params=["redis"])
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    """A log that is asked on threads."""
    with empty_log(request.param, request) as one:
        yield one


class Held:
    """The first append, which is under way until it may go on."""

    def __init__(self, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        append = type(log).append

        def held(own: EventLog, *about: Any, **more: Any) -> Any:
            if not self.begun.is_set():
                self.begun.set()
                assert self.go_on.wait(PATIENCE)
            return append(own, *about, **more)

        monkeypatch.setattr(type(log), "append", held)


@pytest.fixture
def held(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(log, monkeypatch)


def kept(log: EventLog) -> tuple[list[str], str | None]:
    """The data of all events, and how the topic was closed."""
    return [record.event.data for record in log.read_after(NAME, 0, 100).records], log.state(NAME).closed


async def test_a_coroutine_that_is_cancelled_while_it_writes(log: EventLog, held: Held) -> None:
    async def write() -> None:
        async with produce(NAME) as out:
            await out.write(LARGE)

    task = asyncio.create_task(write())
    await eventually("it is being appended", held.begun.is_set)
    task.cancel()
    await asyncio.sleep(0.1)
    assert kept(log) == ([], None), "the end waits for it"
    held.go_on.set()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert kept(log) == ([LARGE], "interrupted")


async def test_a_coroutine_whose_process_ends(log: EventLog, held: Held) -> None:
    """Its event loop does nothing any more."""
    async with produce(NAME) as out:
        await out.write("first")
        await eventually("it is being appended", held.begun.is_set)
        await out.write("second")
        end_of_the_process(out, log, held)
    assert kept(log) == (["first", "second"], "interrupted")


def test_sync_code_whose_process_ends(log: EventLog, held: Held) -> None:
    with produce(NAME) as out:
        out.write("first")
        assert held.begun.wait(PATIENCE)
        out.write("second")
        end_of_the_process(out, log, held)
    assert kept(log) == (["first", "second"], "interrupted")


def end_of_the_process(out: Any, log: EventLog, held: Held) -> None:
    """Close it as its keeper does then; the calling thread waits for that."""
    closing = threading.Thread(target=out.close_interrupted)
    closing.start()
    closing.join(0.1)
    assert kept(log) == ([], None)
    held.go_on.set()
    closing.join(PATIENCE)
    assert not closing.is_alive()
