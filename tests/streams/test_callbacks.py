"""Callbacks and signals of one stream: in order, once, each on its own, and the stream is not over before they are."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from django_agent_sse import Context, Stream
from django_agent_sse.signals import stream_closed, stream_opened
from django_agent_sse.streams import callbacks, supervisor
from django_agent_sse.streams.admission import admission
from django_agent_sse.streams.endings import Ending
from tests.inprocess import eventually, serve
from tests.records import records_of

Steps = list[Any]


@pytest.fixture
def steps() -> Steps:
    return []


async def disconnected(handler: Any, **route: Any) -> None:
    """Serve one client, who leaves after the first event."""
    async with serve(handler, **route) as site:
        client = site.connect()
        await client.event()
        client.leave()
        await client.over()


# on_abort


async def test_k02_on_abort_callbacks_run_in_order_once_sync_and_async(steps: Steps) -> None:
    async def slowly() -> None:
        await asyncio.sleep(0.01)
        steps.append("async")

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_abort(lambda: steps.append("first"))
        stream.on_abort(slowly)

        @stream.on_abort
        def last() -> None:
            steps.append("decorated")

        assert callable(last)
        await stream.write("x")
        await stream.wait_closed()

    await disconnected(handler)
    assert steps == ["first", "async", "decorated"]


async def test_k02_one_callback_that_fails_stops_nobody(steps: Steps, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise ValueError("of the callback's own")

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_abort(fails)
        stream.on_abort(lambda: steps.append("second"))
        stream.on_end(fails)
        stream.on_end(lambda: steps.append("end"))
        await stream.write("x")
        await stream.wait_closed()

    await disconnected(handler)
    await eventually("on_end has run", lambda: steps == ["second", "end"])
    failures = [record.getMessage() for record in records_of(caplog) if record.levelno == logging.ERROR]
    assert [text.split(" callback")[0] for text in failures] == ["an on_abort", "an on_end"]


async def stop_a_helper() -> None:
    """What a user's clean-up does: cancel a task and wait for it."""
    helper = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    helper.cancel()
    await helper


async def test_k02_a_callback_that_ends_cancelled_stops_nobody(steps: Steps) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        stream.on_abort(stop_a_helper)
        stream.on_abort(lambda: steps.append("second"))
        stream.on_end(stop_a_helper)
        stream.on_end(lambda: steps.append("end"))
        await stream.write("x")
        await stream.wait_closed()

    await disconnected(handler)
    await eventually("the others have run", lambda: steps == ["second", "end"])


async def test_k02_a_late_on_abort_is_replayed_and_never_after_a_regular_end(steps: Steps) -> None:
    streams = []

    async def handler(c: Context, stream: Stream) -> None:
        streams.append(stream)
        await stream.write("x")
        await stream.wait_closed()

    await disconnected(handler, on_disconnect="continue")
    streams[0].on_abort(lambda: steps.append("late"))
    await eventually("it is called back", lambda: steps == ["late"])

    async def ends(c: Context, stream: Stream) -> None:
        stream.on_abort(lambda: steps.append("never"))
        streams.append(stream)

    async with serve(ends) as site:
        await site.connect().rest()
    streams[1].on_abort(lambda: steps.append("never"))
    await asyncio.sleep(0.01)
    assert steps == ["late"]


async def test_on_abort_that_hangs_is_cut_with_a_warning(
    steps: Steps, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "CLEANUP_SECONDS", 0.1)
    monkeypatch.setattr(callbacks, "CLEANUP_SECONDS", 0.1)

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_abort(asyncio.Event().wait)
        stream.on_end(lambda: steps.append("end"))
        await stream.write("x")
        await stream.wait_closed()

    await disconnected(handler)
    await eventually("on_end has run", lambda: steps == ["end"])
    assert "took over" in caplog.text


async def test_a_late_on_abort_that_hangs_is_cut_too(
    steps: Steps, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "CLEANUP_SECONDS", 0.1)
    over = asyncio.Event()

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_end(lambda: steps.append("end"))
        await stream.write("x")
        await stream.wait_closed()
        stream.on_abort(asyncio.Event().wait)
        over.set()

    await disconnected(handler, on_disconnect="continue")
    await over.wait()
    await eventually("on_end has run", lambda: steps == ["end"])
    assert "took over" in caplog.text


# on_end


async def test_a14_on_end_runs_after_the_handlers_finally(steps: Steps) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        stream.on_end(lambda: steps.append(("end", stream.ending, stream.error)))
        try:
            await stream.write("x")
        finally:
            await asyncio.sleep(0.02)
            steps.append("finally")

    async with serve(handler) as site:
        await site.connect().rest()
        await eventually("on_end has run", lambda: len(steps) == 2)
    assert steps == ["finally", ("end", Ending.COMPLETED, None)]


async def test_a15_on_end_runs_after_an_error_and_carries_it(steps: Steps) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        @stream.on_end
        async def end() -> None:
            steps.append((stream.ending, repr(stream.error)))

        await stream.write("x")
        raise ValueError("broken")

    async with serve(handler) as site:
        await site.connect().rest()
        await eventually("on_end has run", lambda: steps)
    assert steps == [(Ending.HANDLER_ERROR, "ValueError('broken')")]


async def test_a11_on_end_runs_once_however_often_close_is_called(steps: Steps) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        stream.on_end(lambda: steps.append(stream.ending))
        stream.close()
        stream.close()

    async with serve(handler) as site:
        await site.connect().rest()
        await eventually("on_end has run", lambda: steps)
    assert steps == [Ending.COMPLETED]


@pytest.mark.parametrize("awaits", [True, False])
async def test_an_on_end_callback_that_another_one_adds_runs_after_it(steps: Steps, awaits: bool) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        async def first() -> None:
            stream.on_end(lambda: steps.append("second"))
            await asyncio.sleep(0)
            steps.append("first")

        def at_once() -> None:
            stream.on_end(lambda: steps.append("second"))
            steps.append("first")

        stream.on_end(first if awaits else at_once)
        await stream.write("x")

    async with serve(handler) as site:
        await site.connect().rest()
        await eventually("both have run", lambda: steps == ["first", "second"])


async def test_on_end_waits_for_the_transport_and_for_on_abort(steps: Steps) -> None:
    async def slowly() -> None:
        await asyncio.sleep(0.03)
        steps.append("abort over")

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_abort(slowly)
        stream.on_end(lambda: steps.append("end"))
        await stream.write("x")
        await stream.wait_closed()

    await disconnected(handler)
    await eventually("on_end has run", lambda: "end" in steps)
    assert steps == ["abort over", "end"]


@pytest.mark.parametrize("hangs", ["on_end", "a receiver of stream_opened"])
async def test_a_callback_that_hangs_keeps_no_place_under_the_limits_and_is_not_cut(
    hangs: str, steps: Steps, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "CLEANUP_SECONDS", 0.1)
    saved = asyncio.Event()
    places: list[int] = []

    async def saves(**_: Any) -> None:
        places.append(admission.open)
        await saved.wait()
        steps.append("saved")

    async def handler(c: Context, stream: Stream) -> None:
        if hangs == "on_end":
            stream.on_end(saves)
        await stream.write("x")

    if hangs != "on_end":
        stream_opened.connect(saves)
    try:
        async with serve(handler) as site:
            await site.connect().rest()
            await eventually("the place is free", lambda: admission.open == 0)
            assert places == [1], "it had one until then"
            assert "counted in no limit" in caplog.text
            assert not steps
            saved.set()
            await eventually("it is saved", lambda: steps == ["saved"])
    finally:
        stream_opened.disconnect(saves)


async def test_a_receiver_that_hangs_does_not_hold_up_the_request_of_a_client_that_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callbacks, "CLEANUP_SECONDS", 0.1)
    saved = asyncio.Event()

    async def saves(**_: Any) -> None:
        await saved.wait()

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("x")
        await stream.wait_closed()

    stream_opened.connect(saves)
    try:
        async with serve(handler) as site:
            client = site.connect()
            await client.event()
            client.leave()
            await client.over()
            saved.set()
    finally:
        stream_opened.disconnect(saves)


async def test_a_late_on_end_is_called_at_once(steps: Steps) -> None:
    streams = []

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_end(lambda: streams.append(stream))

    async with serve(handler) as site:
        await site.connect().rest()
        await eventually("on_end has run", lambda: streams)
        streams[0].on_end(lambda: steps.append("late"))
        await eventually("it is called back", lambda: steps == ["late"])


# Signals


@pytest.fixture
def signals(steps: Steps) -> Iterator[Steps]:
    """Sync receivers that note their thread, one that fails before them, and an async one."""

    def fails(**_: Any) -> None:
        raise ValueError("of the receiver's own")

    def opened(*, sender: Any, stream: Stream, **_: Any) -> None:
        steps.append(("opened", sender, stream.closed, threading.current_thread().name))

    def closed(*, sender: Any, stream: Stream, **told: Any) -> None:
        steps.append(("closed", sender, stream.closed, threading.current_thread().name, told))

    async def closed_async(*, stream: Stream, **_: Any) -> None:
        steps.append("async")

    receivers = [(stream_opened, fails), (stream_opened, opened), (stream_closed, fails), (stream_closed, closed)]
    receivers.append((stream_closed, closed_async))
    for signal, receiver in receivers:
        signal.connect(receiver)
    yield steps
    for signal, receiver in receivers:
        signal.disconnect(receiver)


async def test_signals_reach_receivers_on_shared_threads_and_survive_one_that_fails(
    signals: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("é")
        await stream.comment("not an event")
        await stream.wait_closed()

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        await eventually("stream_opened is sent", lambda: signals)
        client.leave()
        await client.over()
        await eventually("stream_closed is sent", lambda: len(signals) == 3)
    opened, closed = [step for step in signals if step != "async"]
    assert opened[:3] == ("opened", Stream, False)
    assert closed[:3] == ("closed", Stream, True)
    assert opened[3].startswith("sse-stream-")
    assert closed[3].startswith("sse-stream-")
    told = closed[4]
    del told["signal"]
    assert told.keys() == {"ending", "duration", "events", "bytes"}
    assert (told["ending"], told["events"], told["bytes"]) == (Ending.CLIENT_DISCONNECT, 1, len(client.raw))
    assert sum("of the receiver's own" in str(record.exc_info) for record in caplog.records) == 2
