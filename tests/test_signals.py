"""``stream_opened`` and ``stream_closed``: once per stream, to sync and async receivers, and never in a stream's way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.dispatch import Signal
from django.http import HttpResponse

from django_agent_sse import Context, Ending, Router, Stream, conf, stream_closed, stream_opened
from tests.inprocess import eventually
from tests.serving import ask, connect, served

Seen = list[tuple[str, Any]]


@pytest.fixture
def listen() -> Iterator[Callable[[Signal, Any], None]]:
    """Connect receivers, for the test only."""
    connected: list[tuple[Signal, Any]] = []

    def add(signal: Signal, receiver: Any) -> None:
        signal.connect(receiver)
        connected.append((signal, receiver))

    yield add
    for signal, receiver in connected:
        signal.disconnect(receiver)


@pytest.fixture
def seen(listen: Any) -> Seen:
    """What both signals said."""
    told: Seen = []

    def opened(**kwargs: Any) -> None:
        told.append(("opened", kwargs))

    def closed(**kwargs: Any) -> None:
        told.append(("closed", kwargs))

    listen(stream_opened, opened)
    listen(stream_closed, closed)
    return told


async def two(c: Context, stream: Stream) -> None:
    await stream.write("zażółć")
    await stream.write(2)


async def fails(c: Context, stream: Stream) -> None:
    await stream.write(1)
    raise RuntimeError("deliberate")


async def waits(c: Context, stream: Stream) -> None:
    await stream.write("open")
    await stream.wait_closed()


async def fails_early(c: Context, stream: Stream) -> None:
    raise RuntimeError("deliberate")


async def answers(c: Context, stream: Stream) -> HttpResponse:
    return HttpResponse("no stream")


async def refuse(c: Context) -> bool:
    return False


router = Router()
router.sse("two/", two)
router.sse("fails/", fails)
router.sse("waits/", waits)
router.sse("fails-early/", fails_early)
router.sse("answers/", answers)
router.sse("refused/", refuse, two, name="refused")


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    with served(router):
        yield


async def test_a_stream_tells_when_it_is_open_and_when_it_is_over(seen: Seen) -> None:
    answer = await ask("/two/")
    await eventually("it is closed", lambda: len(seen) == 2)
    (first, opened), (second, closed) = seen
    assert (first, second) == ("opened", "closed")
    assert opened["sender"] is closed["sender"] is Stream
    assert isinstance(opened["stream"], Stream)
    assert opened["stream"] is closed["stream"]
    assert opened["stream"].route == "two/"
    assert set(opened) == {"signal", "sender", "stream"}
    assert set(closed) == {"signal", "sender", "stream", "ending", "duration", "events", "bytes"}
    assert (closed["ending"], closed["events"], closed["bytes"]) == (Ending.COMPLETED, 2, len(answer.body))
    assert 0 <= closed["duration"] < 60


async def test_a_stream_is_open_before_it_is_over(seen: Seen) -> None:
    client = connect("/waits/")
    await client.event()
    await eventually("it is open", lambda: seen)
    ((name, kwargs),) = seen
    assert (name, kwargs["stream"].closed) == ("opened", False)
    client.leave()
    await client.over()
    await eventually("it is closed", lambda: len(seen) == 2)
    assert seen[1][1]["ending"] == "client_disconnect"


async def test_the_ending_is_the_streams(seen: Seen) -> None:
    await ask("/fails/", broken_off=True)
    await eventually("it is closed", lambda: len(seen) == 2)
    closed = seen[1][1]
    assert closed["ending"] is closed["stream"].ending is Ending.HANDLER_ERROR
    assert isinstance(closed["stream"].error, RuntimeError)


@pytest.mark.parametrize(
    ("url", "about"),
    [
        ("/refused/", {}),
        ("/fails-early/", {}),
        ("/answers/", {}),
        ("/two/", {"method": "HEAD"}),
        ("/two/", {"method": "OPTIONS"}),
        ("/two/", {"headers": {"Last-Event-ID": "sse.end~"}}),
    ],
    ids=["refused", "failed before it began", "another answer", "HEAD", "OPTIONS", "ended"],
)
async def test_what_never_became_a_stream_tells_nothing(seen: Seen, url: str, about: Any) -> None:
    await ask(url, **about)
    await ask("/two/")  # whatever was under way has been told by now
    await eventually("the stream after it is closed", lambda: [name for name, _ in seen] == ["opened", "closed"])
    assert seen[0][1]["stream"].route == "two/"


async def test_async_receivers_are_awaited(listen: Any) -> None:
    told = []

    async def opened(stream: Stream, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        told.append(f"opened {stream.route}")

    async def closed(ending: Ending, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        told.append(f"closed {ending}")

    listen(stream_opened, opened)
    listen(stream_closed, closed)
    await ask("/two/")
    await eventually("both are told", lambda: told == ["opened two/", "closed completed"])


async def test_a_receiver_that_fails_is_logged_and_stops_nobody(
    seen: Seen, listen: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**kwargs: Any) -> None:
        raise RuntimeError("deliberate: a receiver")

    async def broken_too(**kwargs: Any) -> None:
        raise RuntimeError("deliberate: an async receiver")

    for signal in (stream_opened, stream_closed):
        listen(signal, broken)
        listen(signal, broken_too)
    assert (await ask("/two/")).data == ["zażółć", "2"]
    await eventually("the others are told", lambda: [name for name, _ in seen] == ["opened", "closed"])

    def logged() -> list[str]:
        return sorted(str(record.exc_info[1]) for record in caplog.records if record.exc_info)

    # The async receivers are called after the sync ones, so they may fail after the others were told.
    every = sorted(["deliberate: a receiver", "deliberate: an async receiver"] * 2)
    await eventually("each failure is logged", lambda: len(logged()) >= len(every))
    assert logged() == every


async def test_a_sync_receiver_runs_on_a_shared_thread_and_makes_none_per_stream(listen: Any) -> None:
    told: list[threading.Thread] = []

    def note(**kwargs: Any) -> None:
        told.append(threading.current_thread())

    def shared(thread: threading.Thread) -> bool:
        return thread.name.startswith("sse-stream")

    listen(stream_opened, note)
    listen(stream_closed, note)
    before = set(threading.enumerate())
    clients = [connect("/waits/") for _ in range(20)]
    for client in clients:
        await client.event()
    await eventually("all are open", lambda: len(told) == 20)
    await eventually("only shared threads are new", lambda: all(map(shared, set(threading.enumerate()) - before)))
    for client in clients:
        client.leave()
        await client.over()
    await eventually("all are closed", lambda: len(told) == 40)
    assert {shared(thread) for thread in told} == {True}
    assert len(set(told)) <= conf.setting("THREADS")


async def test_a_slow_receiver_of_opened_does_not_hold_up_the_stream(listen: Any) -> None:
    release = asyncio.Event()

    async def slow(**kwargs: Any) -> None:
        await release.wait()

    listen(stream_opened, slow)
    client = connect("/two/")
    assert [event.data for event in await client.take(2)] == ["zażółć", "2"]
    release.set()
    await client.over()
