"""The open streams of the process, over all its loops."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from django_agent_sse import Context, Stream
from django_agent_sse.streams import registry as registry_module
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.registry import Registry, open_streams, registry
from tests.inprocess import PATIENCE, serve


async def stays(c: Context, stream: Stream) -> None:
    await stream.write("hello")
    await stream.wait_closed()


async def test_a_loop_has_one_place_for_its_streams() -> None:
    assert registry.loop_state() is registry.loop_state()
    assert registry.loop_state().loop is asyncio.get_running_loop()
    assert registry.loop_state().thread == threading.get_ident()


def test_closed_loops_are_forgotten() -> None:
    mine = Registry()

    async def look() -> int:
        mine.loop_state()
        return len(mine.loops())

    assert [asyncio.run(look()) for _ in range(3)] == [1, 1, 1]
    assert mine.loops() == []
    assert len(mine._loops._by_loop) == 1


async def test_an_open_stream_is_found_and_one_that_is_over_is_not() -> None:
    async with serve(stays) as site:
        client = site.connect()
        await client.event()
        assert open_streams() == [await site.supervisor()]
        client.leave()
        await client.over()
    assert open_streams() == []


@pytest.mark.usefixtures("_reopened")
async def test_end_all_from_another_thread_ends_the_streams_of_every_loop() -> None:
    reasons: list[str] = []
    opened = threading.Barrier(3)

    async def one_client(other: threading.Thread | None = None) -> None:
        async with serve(stays) as site:
            client = site.connect()
            await client.event()
            supervisor = await site.supervisor()
            if other:
                other.start()
            await asyncio.to_thread(opened.wait, PATIENCE)
            await client.rest()
            reasons.append(str(supervisor.ending))
            if other:  # its settings are undone before these, or they would be put back afterwards
                await asyncio.to_thread(other.join, PATIENCE)

    def end() -> None:
        opened.wait(PATIENCE)
        registry.end_all(Ending.SHUTDOWN)

    ender = threading.Thread(target=end)
    ender.start()
    await one_client(threading.Thread(target=lambda: asyncio.run(one_client())))
    ender.join()
    assert reasons == ["shutdown", "shutdown"]


@pytest.fixture
def _reopened() -> object:
    yield
    registry._closing_until = 0.0


@pytest.mark.usefixtures("_reopened")
async def test_for_a_while_after_a_shutdown_new_streams_are_sent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "CLOSING_SECONDS", 600.0)
    assert not registry.closing
    began = time.monotonic()
    registry.end_all(Ending.SHUTDOWN)
    assert registry.closing
    async with serve(stays) as site:
        (refusal,) = await site.connect().rest()
        assert (refusal.event, refusal.data) == (
            "sse.overloaded",
            '{"reason":"this server is being restarted; come back at once"}',
        )
        assert refusal.retry is not None
        assert 500 <= refusal.retry <= 1500
        assert began + 600.0 <= registry._closing_until <= time.monotonic() + 600.0
        registry._closing_until = time.monotonic()  # the while is over
        assert not registry.closing
        assert (await site.connect().event()).data == "hello"


@pytest.mark.usefixtures("_reopened")
async def test_only_a_shutdown_opens_the_closing_window() -> None:
    registry.end_all(Ending.KICKED)
    assert not registry.closing


async def test_reset_forgets_everything() -> None:
    mine = Registry()
    mine.loop_state()
    mine.end_all(Ending.SHUTDOWN)
    mine.reset()
    assert (mine.loops(), mine.closing) == ([], False)
