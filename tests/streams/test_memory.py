"""A stream that is over leaves nothing behind: no task, no timer and no reference that keeps it."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.utils.decorators import async_only_middleware

from django_agent_sse import Context, Stream, aclose_topic, apublish
from django_agent_sse.streams import threads
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.registry import registry
from tests.inprocess import POLL, Client, eventually, serve

LOOKS = 300

References = list["weakref.ref[Any]"]


@pytest.fixture(autouse=True)
def _no_log_keeps_a_traceback(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging.getLogger("django_agent_sse.stream"), "disabled", True)
    threads.reset()
    yield
    threads.reset()


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def freed(kept: References, collect: Callable[[], object] = gc.collect) -> None:
    """A turn of the loop or two may pass, but no timer of a second. Looks are counted, as each takes long on a busy machine."""

    def left() -> list[Any]:
        collect()
        return [reference() for reference in kept if reference() is not None]

    assert kept
    for _ in range(LOOKS):
        if not left():
            return
        await asyncio.sleep(POLL)
    raise AssertionError(f"not freed: {left()!r}")


async def returns(stream: Stream) -> None:
    await stream.write("x")


async def closes(stream: Stream) -> None:
    await stream.write("x")
    stream.close()


async def fails(stream: Stream) -> None:
    await stream.write("x")
    raise ValueError


async def stays(stream: Stream) -> None:
    stream.on_abort(lambda: stream)
    stream.on_end(lambda: stream)
    await stream.write("x")
    await asyncio.Event().wait()


async def uses_threads(stream: Stream) -> None:
    await stream.write("x")
    await sync_to_async(lambda: None)()
    await stream.wait_closed()


async def pipes(stream: Stream) -> None:
    await stream.pipe(number for number in range(3))
    await asyncio.Event().wait()


async def is_full(stream: Stream) -> None:
    while True:
        await stream.write("x" * 70_000)


def leave(client: Client) -> None:
    client.leave()


def shut_down(client: Client) -> None:
    registry.loop_state().end_all(Ending.SHUTDOWN)


def nothing(client: Client) -> None: ...


LIVES: dict[str, tuple[Callable[[Stream], Any], Callable[[Client], None]]] = {
    "it returned": (returns, nothing),
    "it called close()": (closes, nothing),
    "it failed": (fails, nothing),
    "its client left": (stays, leave),
    "its client left while it wrote": (is_full, leave),
    "it used a thread": (uses_threads, leave),
    "it piped a generator": (pipes, leave),
    "the process ended": (stays, shut_down),
}


HOLD_TRACEBACKS = {"it failed"}
"""``stream.error`` has frames that have the stream. Such a cycle is for the collector, and so is one that Django makes."""


@pytest.mark.parametrize("life", LIVES)
async def test_nothing_keeps_a_stream_that_is_over(life: str, no_collector: None) -> None:
    live, end = LIVES[life]
    kept: References = []

    async def handler(c: Context, stream: Stream) -> None:
        kept.extend(weakref.ref(thing) for thing in (stream, stream._port, c.request))
        await live(stream)

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        end(client)
        await client.over()
        await eventually("the stream is over", lambda: not registry.loop_state().streams)
        await eventually("its tasks are over", lambda: len(asyncio.all_tasks()) == 1)
        if life not in HOLD_TRACEBACKS:
            await freed(kept[:2], lambda: None)
        await freed(kept)


async def test_nothing_keeps_a_stream_that_followed(no_collector: None) -> None:
    kept: References = []

    async def handler(c: Context, stream: Stream) -> None:
        kept.extend(weakref.ref(thing) for thing in (stream, stream._port))
        await stream.follow("memory")

    await apublish("memory", "x")
    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        await aclose_topic("memory")
        await client.over()
        await eventually("the stream is over", lambda: not registry.loop_state().streams)
        await freed(kept, lambda: None)


async def test_nothing_keeps_a_stream_that_is_never_sent(no_collector: None) -> None:
    kept: References = []

    @async_only_middleware
    def replacing(get_response: Any) -> Any:
        async def middleware(request: Any) -> HttpResponse:
            (await get_response(request)).close()
            return HttpResponse("something else")

        return middleware

    async def handler(c: Context, stream: Stream) -> None:
        kept.extend((weakref.ref(stream), weakref.ref(stream._port)))
        await stays(stream)

    async with serve(handler, middleware=[replacing]) as site:
        await site.connect().over()
        await eventually("the stream is over", lambda: not registry.loop_state().streams)
        await freed(kept, lambda: None)


async def test_nothing_keeps_a_stream_that_never_began(no_collector: None) -> None:
    kept: References = []

    async def handler(c: Context, stream: Stream) -> Any:
        kept.extend((weakref.ref(stream), weakref.ref(stream._port)))
        return c.json({})

    async with serve(handler) as site:
        await site.connect().over()
        await eventually("its tasks are over", lambda: len(asyncio.all_tasks()) == 1)
        await freed(kept, lambda: None)


async def test_a_hundred_streams_that_drop_at_once_leave_no_task() -> None:
    ended: list[Any] = []

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_end(lambda: ended.append(stream.ending))
        await stream.write("x")
        await stream.wait_closed()

    async with serve(handler) as site:
        clients = [site.connect() for _ in range(100)]
        for client in clients:
            await client.event()
        assert len(registry.loop_state().streams) == 100
        for client in clients:
            client.leave()
        for client in clients:
            await client.over()
        await eventually("all are over", lambda: len(ended) == 100)
        await eventually("no task is left", lambda: len(asyncio.all_tasks()) == 1)
    assert set(ended) == {Ending.CLIENT_DISCONNECT}
