"""``Stream``: waiting for the client, overflowing, what it knows of itself, and writing after the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from django_agent_sse import Context, Stream
from django_agent_sse.exceptions import StreamClosed, StreamOverflow
from tests.inprocess import eventually, serve


async def test_k06_an_awaited_write_waits_while_the_buffer_is_full() -> None:
    written: list[int] = []

    async def handler(c: Context, stream: Stream) -> None:
        for number in range(40):
            await stream.write(number)
            written.append(number)

    async with serve(handler, buffer_events=8) as site:
        client = site.connect()
        client.hold()
        await eventually("the handler has filled the buffer", lambda: len(written) == 7)
        await client.stuck()
        assert len(written) < 24
        client.flow()
        events = await client.rest()
        assert [event.data for event in events[:-1]] == [str(number) for number in range(40)]


async def test_k05_an_unawaited_write_is_sent_all_the_same_and_raises_beyond_four_bounds() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        for number in range(32):
            stream.write(number, id=f"i{number}")
        with pytest.raises(StreamOverflow):
            stream.write("one too many", id="i32")
        assert stream.last_event_id == "i31"
        await stream.wait_closed()

    async with serve(handler, buffer_events=8) as site:
        client = site.connect()
        assert [event.id for event in await client.take(32)] == [f"i{number}" for number in range(32)]


async def test_k05_frames_of_several_tasks_never_interleave() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        async def worker(name: str) -> None:
            for number in range(50):
                await stream.write({"worker": name, "number": number})

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(worker(name))

    async with serve(handler, buffer_events=4, control_events=False) as site:
        events = await site.connect().rest()
    for name in "abc":
        own = [event.data for event in events if f'"{name}"' in event.data]
        assert own == [f'{{"worker":"{name}","number":{number}}}' for number in range(50)]


async def test_verbs_after_the_end_raise_stream_closed() -> None:
    seen: list[bool] = []

    async def answer() -> str:
        return "x"

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("x")
        stream.close()
        for late in (stream.write, stream.comment, stream.writeln, stream.write_sse):
            with pytest.raises(StreamClosed, match="completed"):
                late("late")
        with pytest.raises(StreamClosed):
            await stream.write(answer())
        with pytest.raises(StreamClosed):
            await stream.pipe(["late"])
        await stream.sleep(0)
        await stream.wait_closed()
        seen.append(stream.closed and not stream.aborted)

    async with serve(handler) as site:
        assert [event.event for event in await site.connect().rest()] == [None, "sse.end"]
        await eventually("the handler is through", lambda: seen == [True])


async def test_k03_flags_and_ids_of_a_stream() -> None:
    seen: list[Any] = []

    async def handler(c: Context, stream: Stream) -> None:
        seen.append((stream.closed, stream.aborted, stream.ending, stream.error, stream.last_event_id, stream.route))
        await stream.write("x", id="")
        seen.append(stream.last_event_id)
        await stream.write("x", id="é2")
        seen.append(stream.last_event_id)

    async with serve(handler) as site:
        await site.connect(last_event_id="e.9").rest()
    assert seen == [(False, False, None, None, "e.9", "stream/<int:number>/"), "", "é2"]


async def test_a_comment_is_no_event_in_the_count() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.comment("x")
        await stream.wait_closed()

    async with serve(handler) as site:
        client = site.connect()
        supervisor = await site.supervisor()
        await eventually("the comment arrives", lambda: client.raw)
        assert supervisor.stats(0).events == 0
