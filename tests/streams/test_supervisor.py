"""The life of one stream: its start, what begins the response, and how it is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.http import Http404
from django.utils.decorators import async_only_middleware

from django_agent_sse import Context, Stream
from django_agent_sse.access.service import access
from django_agent_sse.streams import callbacks, supervisor
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.registry import open_streams, registry
from tests.inprocess import Diary, eventually, serve
from tests.records import records_of


@pytest.fixture
def short_cleanup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "CLEANUP_SECONDS", 0.1)
    monkeypatch.setattr(callbacks, "CLEANUP_SECONDS", 0.1)


# The start


async def test_middleware_guard_factory_and_handler_run_before_the_response_begins() -> None:
    order: list[str] = []

    @async_only_middleware
    def middleware(get_response: Any) -> Any:
        async def inner(request: Any) -> Any:
            order.append("middleware in")
            response = await get_response(request)
            order.append("middleware out")
            return response

        return inner

    async def guard(c: Context) -> bool:
        order.append("guard")
        return True

    async def factory(c: Context, number: int) -> Any:
        order.append(f"factory {number}")

        async def handler(stream: Stream) -> None:
            order.append("handler")
            await stream.write("hello")
            order.append("written")

        return handler

    async with serve(factory, guards=[guard], middleware=[middleware]) as site:
        await site.connect().rest()
    assert order == ["middleware in", "guard", "factory 7", "handler", "written", "middleware out"]


@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
async def test_a_stream_that_cannot_be_watched_never_begins(on_disconnect: str, caplog: pytest.LogCaptureFixture) -> None:
    ran: list[Stream] = []

    async def handler(c: Context, stream: Stream) -> None:
        ran.append(stream)
        await asyncio.Event().wait()

    async with serve(handler, on_disconnect=on_disconnect, settings={"AGENT_SSE": {"CAN_FOLLOW": "nowhere.may_follow"}}) as site:
        client = site.connect()
        await eventually("it is answered", lambda: client.status)
        assert client.status == 500
        assert "nowhere.may_follow" in caplog.text
        await eventually("it is over", lambda: not registry.loop_state().streams and not access.book().permits)
    assert ran == []


VERBS: dict[str, tuple[Callable[[Stream], Any], bytes]] = {
    "write": (lambda stream: stream.write("x"), b"retry: 3000\ndata: x\n\n"),
    "write_sse": (lambda stream: stream.write_sse(data="x"), b"retry: 3000\ndata: x\n\n"),
    "writeln": (lambda stream: stream.writeln("x\n"), b"retry: 3000\ndata: x\n\n"),
    "pipe": (lambda stream: stream.pipe(["x"]), b"retry: 3000\ndata: x\n\n"),
    "comment": (lambda stream: stream.comment("x"), b": x\n"),
    "open": (lambda stream: stream.open(), b":\n"),
    "sleep": (lambda stream: stream.sleep(60), b":\n"),
    "wait_closed": (lambda stream: stream.wait_closed(), b":\n"),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_the_response_begins_with_the_first_verb(verb: str) -> None:
    act, first_bytes = VERBS[verb]
    gate = asyncio.Event()
    begun = []

    async def handler(c: Context, stream: Stream) -> None:
        await gate.wait()
        begun.append(c.started)
        await act(stream)
        await asyncio.Event().wait()

    async with serve(handler, commit_after=60) as site:
        client = site.connect()
        await site.supervisor()
        assert client.status is None
        gate.set()
        await eventually("the first bytes come", lambda: client.raw)
        assert (client.status, client.raw) == (200, first_bytes)
        assert begun == [False]


@pytest.mark.parametrize(
    ("heartbeat", "first_bytes"),
    [(15, b""), (60, b": heartbeat 60\n"), (0.5, b": heartbeat 0.5\n"), (None, b": heartbeat 0\n"), (0, b": heartbeat 0\n")],
)
@pytest.mark.parametrize("begins", ["write", "wait_closed"])
async def test_a_heartbeat_that_is_not_the_usual_one_is_said_before_all_else(
    heartbeat: float | None, first_bytes: bytes, begins: str
) -> None:
    act, rest = VERBS[begins]

    async def handler(c: Context, stream: Stream) -> None:
        await act(stream)
        await stream.wait_closed()

    expected = first_bytes + (rest if rest != b":\n" else b"") or rest
    async with serve(handler, heartbeat=heartbeat) as site:
        client = site.connect()
        await eventually("the first bytes come", lambda: len(client.raw) >= len(expected))
        assert client.raw == expected
        (stream,) = open_streams()
        assert stream.stats(0).events == (begins == "write")


async def test_the_heartbeat_is_not_said_to_clients_that_take_no_control_events() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("x")
        await stream.wait_closed()

    async with serve(handler, heartbeat=60) as site:
        client = site.connect(headers={"Accept": "*/*"})
        await eventually("the first bytes come", lambda: client.raw)
        assert client.raw == b"retry: 3000\ndata: x\n\n"


async def test_the_response_begins_at_the_handlers_end() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        """Say nothing."""

    async with serve(handler, commit_after=60) as site:
        client = site.connect()
        (end,) = await client.rest()
        assert (client.status, end.event) == (200, "sse.end")


async def test_the_response_begins_after_commit_after_as_a_last_resort() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await asyncio.Event().wait()

    async with serve(handler, commit_after=0.05) as site:
        client = site.connect()
        await eventually("the first bytes come", lambda: client.raw)
        assert (client.status, client.raw) == (200, b":\n")


async def test_what_comes_before_the_handler_may_take_as_long_as_it_likes() -> None:
    gate = asyncio.Event()
    entered: list[str] = []

    async def guard(c: Context) -> bool:
        entered.append("guard")
        return True

    async def factory(c: Context) -> Any:
        entered.append("factory")
        await gate.wait()
        raise Http404

    async with serve(factory, guards=[guard], commit_after=0) as site:
        client = site.connect()
        await eventually("the factory runs", lambda: entered == ["guard", "factory"])
        await asyncio.sleep(0.02)
        assert client.status is None
        gate.set()
        await client.over()
        assert client.status == 404


# The end


async def test_code_after_close_runs_on_for_the_grace_and_is_then_cancelled() -> None:
    diary, gate = Diary(), asyncio.Event()

    async def handler(c: Context, stream: Stream) -> None:
        async with diary.of(stream):
            await stream.write("last")
            stream.close()
            await gate.wait()
            diary.append("after close")
            await asyncio.Event().wait()

    async with serve(handler, close_grace=2.0) as site:
        await site.connect().rest()
        assert diary == []
        gate.set()
        await eventually("on_end has run", lambda: "on_end" in diary)
    assert diary == ["after close", "cancelled", "finally", "on_end"]
    assert diary.stream.ending is Ending.COMPLETED


async def test_finally_blocks_are_awaited_before_the_application_returns() -> None:
    done = []

    async def handler(c: Context, stream: Stream) -> None:
        try:
            await stream.wait_closed()
        finally:
            await asyncio.sleep(0.05)
            done.append("finally")

    async with serve(handler) as site:
        client = site.connect()
        await client.begun()
        client.leave()
        await client.over()
        assert done == ["finally"]


@pytest.mark.usefixtures("short_cleanup")
async def test_a_handler_that_swallows_its_cancel_is_left_behind_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    gate = asyncio.Event()
    swallowed = []

    async def handler(c: Context, stream: Stream) -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                swallowed.append(True)

    async with serve(handler, commit_after=0) as site:
        client = site.connect()
        await client.begun()
        client.leave()
        await client.over()
        await eventually("it is cancelled once more", lambda: len(swallowed) == 2)
        warnings = [record.getMessage() for record in records_of(caplog) if record.levelno == logging.WARNING]
        assert len(warnings) == 1
        assert "goes on" in warnings[0]
        assert "left behind" in warnings[0]
        gate.set()


async def test_a_shutdown_cuts_the_grace_short() -> None:
    diary = Diary()

    async def handler(c: Context, stream: Stream) -> None:
        async with diary.of(stream):
            stream.close()
            await asyncio.Event().wait()

    async with serve(handler, close_grace=60) as site:
        await site.connect().rest()
        registry.loop_state().end_all(Ending.SHUTDOWN)
        await eventually("on_end has run", lambda: "on_end" in diary)
    assert diary == ["cancelled", "finally", "on_end"]
    assert diary.stream.ending is Ending.COMPLETED


async def test_a_client_that_leaves_after_close_changes_nothing() -> None:
    diary = Diary()

    async def handler(c: Context, stream: Stream) -> None:
        async with diary.of(stream):
            stream.close()
            await stream.wait_closed()
            diary.append("worked on")

    async with serve(handler) as site:
        client = site.connect()
        client.hold()
        await client.stuck()
        client.leave()
        await eventually("on_end has run", lambda: "on_end" in diary)
    assert diary == ["worked on", "finally", "on_end"]
    assert diary.stream.ending is Ending.COMPLETED


async def test_a_handler_that_catches_its_cancel_may_clean_up_in_peace() -> None:
    diary = Diary()

    async def handler(c: Context, stream: Stream) -> None:
        async with diary.of(stream):
            await stream.write("hello")
            try:
                await stream.wait_closed()
            except asyncio.CancelledError:
                await asyncio.sleep(0.02)
                diary.append("caught")

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        client.leave()
        await client.over()
        await eventually("on_end has run", lambda: "on_end" in diary)
    assert diary == ["on_abort", "caught", "finally", "on_end"]


async def test_k01_time_outs_and_task_groups_of_the_handlers_own_are_its_own() -> None:
    diary = Diary()

    async def handler(c: Context, stream: Stream) -> None:
        async with diary.of(stream):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await stream.wait_closed()
            async with asyncio.TaskGroup() as group:
                group.create_task(stream.sleep(0))
            await stream.write("still here")

    async with serve(handler) as site:
        assert [event.event for event in await site.connect().rest()] == [None, "sse.end"]
        await eventually("on_end has run", lambda: "on_end" in diary)
    assert diary == ["finally", "on_end"]


async def test_being_told_twice_to_shut_down_cuts_no_cleanup() -> None:
    tidied: list[str] = []

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("x")
        try:
            await asyncio.Event().wait()
        finally:
            registry.loop_state().end_all(Ending.SHUTDOWN)
            await asyncio.sleep(0.01)
            tidied.append("finally")

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        registry.loop_state().end_all(Ending.SHUTDOWN)
        await client.over()
    assert tidied == ["finally"]
