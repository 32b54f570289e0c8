"""What a project's code raises ends one stream, whatever it is: never the loop, or the process, that serves all others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from django_agent_sse import Context, Stream, apublish
from django_agent_sse.exceptions import CodeExited
from django_agent_sse.streams.callbacks import contained, ends_process
from django_agent_sse.streams.threads import lifelong
from tests.inprocess import eventually, serve

pytestmark = pytest.mark.usefixtures("sse_log")

RAISED = [SystemExit(2), KeyboardInterrupt(), GeneratorExit(), RecursionError("deep"), MemoryError(), StopIteration(1)]
each_error = pytest.mark.parametrize("error", RAISED, ids=[type(error).__name__ for error in RAISED])


def raises(error: BaseException) -> Any:
    raise error


async def in_a_coroutine(error: BaseException) -> None:
    raises(error)


async def in_a_thread(error: BaseException) -> None:
    await sync_to_async(raises)(error)


async def in_a_recursion(error: BaseException) -> None:
    if isinstance(error, RecursionError):
        await in_a_recursion(error)
    raises(error)


Place = Callable[[BaseException], Any]


@each_error
@pytest.mark.parametrize("place", [in_a_coroutine, in_a_thread, in_a_recursion])
async def test_a_handler_that_exits_ends_its_own_stream(
    error: BaseException, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    if isinstance(error, StopIteration) and place is in_a_thread:
        error = ValueError("Python 3.11 never wakes who waits for a thread that raised StopIteration")

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("hello")
        await place(error)

    async with serve(handler) as site:
        events = await site.connect().rest()
        assert [event.event for event in events] == [None, "sse.error"]
        assert [event.event for event in await site.connect().rest()] == [None, "sse.error"], "the process lives"
    assert "the handler of stream/<int:number>/ failed" in caplog.text


@each_error
async def test_generators_of_both_kinds_that_exit_end_their_own_stream(error: BaseException) -> None:
    async def asynchronous(c: Context) -> AsyncIterator[str]:
        yield "hello"
        raises(error)

    def plain(c: Context) -> Iterator[str]:
        yield "hello"
        raises(error)

    for handler in (asynchronous, plain):
        async with serve(handler) as site:
            assert [event.event for event in await site.connect().rest()] == [None, "sse.error"]
    await eventually("its thread is given back", lambda: lifelong.taken == 0)


@each_error
@pytest.mark.parametrize("where", ["guard", "factory", "handler"])
async def test_before_the_response_it_is_an_ordinary_500(where: str, error: BaseException) -> None:
    async def guard(c: Context) -> bool:
        return bool(raises(error))

    def factory(c: Context) -> Any:
        return raises(error)

    async def handler(c: Context, stream: Stream) -> None:
        raises(error)

    route = {"guards": [guard]} if where == "guard" else {}
    async with serve(factory if where == "factory" else handler, **route) as site:
        assert (await site.connect().over()).status == 500


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt()], ids=["SystemExit", "KeyboardInterrupt"])
async def test_a_routes_middleware_that_exits_is_an_ordinary_500(error: BaseException) -> None:
    def middleware(get_response: Any) -> Any:
        return lambda request: raises(error)

    async with serve(_hello, middleware=[middleware]) as site:
        assert (await site.connect().over()).status == 500


@each_error
async def test_callbacks_that_exit_stop_no_other(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []

    async def handler(c: Context, stream: Stream) -> None:
        for on in (stream.on_abort, stream.on_end):
            on(lambda: raises(error))
            on(lambda: in_a_coroutine(error))
            on(lambda name=on.__name__: called.append(name))
        await stream.write("hello")
        await stream.wait_closed()

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        client.leave()
        await eventually("the callbacks after it have run", lambda: called == ["on_abort", "on_end"])
    assert caplog.text.count("callback of stream/<int:number>/ failed") == 4


@each_error
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_on_error_that_exits_changes_nothing(error: BaseException, asynchronous: bool) -> None:
    def on_error(c: Context, stream: Stream, failure: BaseException) -> Any:
        return in_a_coroutine(error) if asynchronous else raises(error)

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("hello")
        raise ValueError

    async with serve(handler, on_error=on_error) as site:
        assert [event.event for event in await site.connect().rest()] == [None, "sse.error"]


@each_error
@pytest.mark.parametrize("which", ["filter", "map"])
async def test_a_filter_or_map_that_exits_ends_its_own_stream_and_no_feed(error: BaseException, which: str) -> None:
    def bad(event: object) -> bool:
        return bool(raises(error))

    async def handler(c: Context, stream: Stream) -> None:
        await stream.follow("a", **({which: bad} if "bad" in c.query else {}))

    async with serve(handler) as site:
        follower, breaker = site.connect(), site.connect(query="bad=1")
        assert await follower.begun() == await breaker.begun() == 200
        await apublish("a", "one")
        assert [event.event for event in await breaker.rest()] == ["sse.error"]
        assert (await follower.event()).data == "one"
        await apublish("a", "two")
        assert (await follower.event()).data == "two"


async def _hello(c: Context, stream: Stream) -> None:
    await stream.write("hello")


async def test_the_stream_knows_what_was_raised_and_the_log_says_it(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_end(lambda: seen.extend((stream.ending, stream.error)))
        await stream.write("hello")
        raise SystemExit(2)

    with caplog.at_level(logging.ERROR):
        async with serve(handler) as site:
            await site.connect().rest()
    assert seen[0] == "handler_error"
    assert isinstance(seen[1], SystemExit)
    assert seen[1].code == 2


def test_an_ordinary_exception_is_itself() -> None:
    error = ValueError("x")
    assert contained(error, "the handler of x") is error


def test_an_exit_is_told_with_its_code_and_what_to_do() -> None:
    outside = contained(SystemExit(2), "the handler of builds/")
    assert isinstance(outside, CodeExited)
    assert isinstance(outside.__cause__, SystemExit)
    assert str(outside).startswith("the handler of builds/ raised SystemExit(2), which ends this stream only")


async def test_ctrl_c_during_a_shutdown_and_an_abandoned_coroutine_are_not_the_codes_own(monkeypatch: pytest.MonkeyPatch) -> None:
    task = asyncio.current_task()
    assert not ends_process(KeyboardInterrupt(), task)
    assert not ends_process(GeneratorExit(), task)
    assert ends_process(GeneratorExit(), None), "nobody can finish what is collected outside of its task"
    from django_agent_sse.streams.registry import registry

    monkeypatch.setattr(type(registry), "closing", True)
    assert ends_process(KeyboardInterrupt(), task)
    assert not ends_process(SystemExit(), task)
