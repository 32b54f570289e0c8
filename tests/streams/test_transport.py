"""The way out: heartbeats, clients that take nothing, streams that are over after a time, and fairness."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from django_agent_sse import Context, Stream
from django_agent_sse.streams.endings import Ending
from tests.inprocess import Diary, eventually, serve
from tests.timing import bound


async def silent(c: Context, stream: Stream) -> None:
    await stream.wait_closed()


async def test_a_silent_stream_sends_heartbeats_and_nothing_else() -> None:
    async with serve(silent, heartbeat=0.1) as site:
        client = site.connect()
        began = time.monotonic()
        await eventually("four heartbeats after the first bytes", lambda: len(client.chunks) >= 5)
        assert time.monotonic() - began > 0.3
        assert (client.chunks[0], set(client.chunks[1:])) == (b": heartbeat 0.1\n", {b":\n"})


@pytest.mark.parametrize("heartbeat", [None, 0])
async def test_heartbeats_can_be_off(heartbeat: float | None) -> None:
    async with serve(silent, heartbeat=heartbeat, max_duration=0.3) as site:
        client = site.connect()
        await client.rest()
        assert client.raw == b": heartbeat 0\n"


async def test_a_stream_that_speaks_needs_no_heartbeats() -> None:
    """By a clock of the test's own: a machine that stands still would keep the stream from speaking."""
    async with serve(silent, heartbeat=3_600.0) as site:
        client = site.connect()
        await eventually("it has begun", lambda: client.raw)
        supervisor = await site.supervisor()
        transport: Any = supervisor._transport
        for number in range(4):
            supervisor._stream.write(number)
            await client.event()
            await eventually("it is sent", lambda: transport._sending_since is None)
            transport._last_sent -= 2_000  # so long it says nothing more; twice that would be a heartbeat
            transport.tick(asyncio.get_running_loop().time())
        supervisor._stream.write("last")
        await client.event()
        assert b"\n:\n" not in client.raw


async def test_what_is_ready_goes_out_in_one_chunk() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        for number in range(100):
            stream.write(number)

    async with serve(handler, control_events=False) as site:
        client = site.connect()
        await client.rest()
        assert len(client.chunks) == 1


async def test_a_slow_client_is_one_that_takes_nothing_and_not_one_that_takes_late() -> None:
    diary = Diary()

    async def handler(c: Context, stream: Stream) -> None:
        async with diary.of(stream):
            for number in range(10):
                await stream.write(number)
            stream.close()

    async with serve(handler, send_timeout=3_600.0, buffer_events=1) as site:
        client = site.connect()
        client.hold()
        await client.stuck()
        await client.take_one()  # the head of the response
        transport: Any = (await site.supervisor())._transport
        for _ in range(5):
            await client.stuck()
            transport._sending_since -= 2_000
            transport.tick(asyncio.get_running_loop().time())
            await client.take_one()
        client.flow()
        assert len(await client.rest()) == 11
        assert diary.stream.ending is Ending.COMPLETED


async def test_a_send_timeout_of_none_waits_for_ever() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("hello")
        await stream.wait_closed()

    async with serve(handler, send_timeout=None, heartbeat=0.05) as site:
        client = site.connect()
        client.hold()
        supervisor = await site.supervisor()
        await client.stuck()
        await asyncio.sleep(0.2)
        assert supervisor.ending is None


async def test_no_chunk_is_sent_while_the_one_before_waits() -> None:
    async with serve(silent, heartbeat=0.05, send_timeout=None) as site:
        client = site.connect()
        await eventually("the first heartbeat", lambda: client.raw)
        client.hold()
        await client.stuck()
        before = len(client.chunks)
        await asyncio.sleep(0.2)
        client.flow()
        await eventually("it is sent", lambda: len(client.chunks) > before)
        assert len(client.chunks) <= before + 2


async def test_wait_closed_returns_with_the_transport_and_not_with_the_handler() -> None:
    seen: list[str] = []

    async def handler(c: Context, stream: Stream) -> None:
        async def other() -> None:
            await stream.wait_closed()
            seen.append("closed")

        task = asyncio.create_task(other())
        await stream.write("x")
        stream.close()
        await task
        seen.append("handler over")

    async with serve(handler) as site:
        await site.connect().rest()
        await eventually("the handler is over", lambda: seen == ["closed", "handler over"])


async def test_a_handler_that_never_awaits_anything_else_is_fair_and_sees_a_disconnect() -> None:
    diary = Diary()

    async def endless(c: Context, stream: Stream) -> None:
        async with diary.of(stream):
            number = 0
            while True:
                number += 1
                await stream.write(number)

    async with serve(endless) as site:
        client = site.connect()
        await client.take(1000)
        longest = 0.0
        for _ in range(20):
            asked = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - asked)
        assert longest < bound(1.0, 10.0)
        client.leave()
        await client.over()
        await eventually("on_end has run", lambda: "on_end" in diary)
    assert diary == ["on_abort", "cancelled", "finally", "on_end"]


@pytest.mark.parametrize("busy", [False, True])
async def test_a_disconnect_is_seen_at_once(busy: bool) -> None:
    left: list[float] = []

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_abort(lambda: left.append(time.monotonic()))
        await stream.write("x")
        while busy:
            await stream.write("x" * 100)
            await asyncio.sleep(0.001)
        await stream.wait_closed()

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        began = time.monotonic()
        client.leave()
        await client.over()
        assert left[0] - began < bound(1.0, 10.0)
