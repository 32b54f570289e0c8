"""``Buffer``: bounded, joined, and nothing lost below the bound."""

from __future__ import annotations

import asyncio
import gc

import pytest

from django_agent_sse.exceptions import StreamClosed, StreamOverflow
from django_agent_sse.streams.buffer import OVERFLOW, Buffer
from django_agent_sse.streams.registry import registry


def made(max_bytes: int = 1000, max_frames: int = 4) -> Buffer:
    return Buffer(registry.loop_state(), max_bytes, max_frames)


async def test_a_write_with_room_gets_the_loops_one_finished_future() -> None:
    buffer = made()
    first, second = buffer.put(b"a"), buffer.put(b"b")
    assert first is second is registry.loop_state().sent
    assert await first is True


async def test_everything_that_waits_goes_out_as_one_chunk() -> None:
    buffer = made()
    for frame in (b"one", b"two", b"three"):
        buffer.put(frame)
    assert buffer.waiting == 3
    assert buffer.take() == b"onetwothree"
    assert (buffer.waiting, buffer.take()) == (0, b"")
    assert (buffer.events, buffer.sent_bytes) == (3, 11)


@pytest.mark.parametrize("frames", [[b"x"] * 4, [b"x" * 1000], [b"x" * 600, b"x" * 400]], ids=["events", "bytes", "both"])
async def test_the_write_that_fills_it_waits_until_the_client_has_taken(frames: list[bytes]) -> None:
    buffer = made()
    *early, last = [buffer.put(frame) for frame in frames]
    assert all(write.done() for write in early)
    assert not last.done()
    assert buffer.take() == b"".join(frames)
    assert await last is True
    assert buffer.put(b"room again").done()


async def test_all_waiting_writers_go_on_together_and_a_cancelled_one_disturbs_nobody() -> None:
    buffer = made(max_frames=1)
    writers = [asyncio.ensure_future(buffer.put(b"x")) for _ in range(3)]
    writers[1].cancel()
    buffer.take()
    await asyncio.wait(writers)
    assert [writer.cancelled() or writer.result() for writer in writers] == [True, True, True]
    assert [writer.cancelled() for writer in writers] == [False, True, False]


@pytest.mark.parametrize(("max_bytes", "max_frames", "fits"), [(10**6, 4, 4 * OVERFLOW), (40, 10**6, OVERFLOW)])
async def test_unawaited_writes_are_kept_up_to_four_bounds_and_refused_beyond(max_bytes: int, max_frames: int, fits: int) -> None:
    buffer = made(max_bytes, max_frames)
    frames = [b"%040d" % number for number in range(fits)]
    for frame in frames:
        buffer.put(frame)
    with pytest.raises(StreamOverflow, match="await each write"):
        buffer.put(b"one too many")
    assert buffer.take() == b"".join(frames)
    assert buffer.put(b"again").done()


async def test_a_heartbeat_goes_out_only_where_there_is_nothing_better() -> None:
    buffer = made()
    buffer.request_heartbeat()
    buffer.request_heartbeat()
    assert (buffer.take(), buffer.take()) == (b":\n", b"")
    buffer.request_heartbeat()
    buffer.put(b"data")
    assert (buffer.take(), buffer.take()) == (b"data", b"")
    assert (buffer.events, buffer.sent_bytes) == (1, 6)


@pytest.mark.parametrize("act", ["put", "request_heartbeat", "finish"])
async def test_the_taker_wakes_for_a_frame_a_heartbeat_and_the_end(act: str) -> None:
    buffer = made()
    taker = asyncio.ensure_future(buffer.wait())
    await asyncio.sleep(0)
    assert not taker.done()
    buffer.put(b"x") if act == "put" else getattr(buffer, act)()
    await asyncio.wait_for(taker, 60)
    await asyncio.wait_for(buffer.wait(), 60)


async def test_a_taker_that_was_cancelled_disturbs_nobody() -> None:
    buffer = made()
    taker = asyncio.ensure_future(buffer.wait())
    await asyncio.sleep(0)
    taker.cancel()
    await asyncio.wait([taker])
    buffer.put(b"x")
    buffer.finish()
    assert buffer.take() == b"x"


async def test_what_is_put_last_is_sent_last_and_is_no_event_of_the_handlers() -> None:
    buffer = made()
    buffer.put(b"data")
    buffer.finish(b"end")
    assert buffer.finished
    assert buffer.take() == b"dataend"
    assert (buffer.events, buffer.sent_bytes) == (1, 7)


async def test_discarding_tells_the_writers_that_wait() -> None:
    buffer = made(max_frames=1)
    waiting = buffer.put(b"x")
    buffer.discard(False)
    assert await waiting is False
    waiting = buffer.put(b"x")
    unawaited = buffer.put(b"x")
    buffer.discard(StreamClosed("over"))
    with pytest.raises(StreamClosed, match="over"):
        await waiting
    assert buffer.take() == b""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    del unawaited
    gc.collect()
    assert complaints == []


async def test_what_was_discarded_is_not_counted_and_takes_nothing_off_the_count() -> None:
    buffer = made()
    buffer.put(b"sent")
    buffer.take()
    buffer.put(b"not sent")
    buffer.finish(b"nor is this")
    buffer.discard(False)
    assert buffer.take() == b""
    assert (buffer.events, buffer.sent_bytes) == (1, 4)
