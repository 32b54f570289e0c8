"""Before the response begins: errors, answers, HEAD and clients that leave are what they are to any view."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse

from django_agent_sse import Context, Stream
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.registry import registry
from tests.inprocess import Diary, eventually, serve


async def cancelled_elsewhere() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def raising(error: Exception) -> None:
    raise error


ERRORS: dict[str, tuple[Callable[[], Any], int]] = {
    "404": (lambda: raising(Http404("no such build")), 404),
    "403": (lambda: raising(PermissionDenied()), 403),
    "500": (lambda: raising(ValueError("a secret")), 500),
    "an await of something that was cancelled": (cancelled_elsewhere, 500),
}


@pytest.mark.parametrize("error", ERRORS)
async def test_an_error_before_the_response_begins_is_djangos_to_answer(error: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "django_agent_sse.stream")
    fail, status = ERRORS[error]
    told: list[Any] = []

    async def handler(c: Context, stream: Stream) -> None:
        stream.on_abort(lambda: told.append("on_abort"))
        stream.on_end(lambda: told.append((stream.ending, stream.error)))
        await fail()

    async with serve(handler, commit_after=60) as site:
        client = await site.connect().over()
        assert client.status == status
        assert client.headers["content-type"] == "application/json"
        assert b"secret" not in client.raw
        ((ending, raised),) = await eventually("on_end has run", lambda: told)
        assert ending is Ending.HANDLER_ERROR
        assert raised is not None
        assert not [record for record in caplog.records if record.name == "django_agent_sse.stream"]


async def test_an_event_that_cannot_be_is_a_500_where_it_is_the_first() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("x", event="two\nlines")

    async with serve(handler) as site:
        assert (await site.connect().over()).status == 500


async def test_a_handler_may_answer_with_a_response() -> None:
    async def handler(c: Context, stream: Stream) -> Any:
        c.set_cookie("seen", "1")
        return c.json({"error": "gone"}, status=410)

    async with serve(handler) as site:
        client = await site.connect().over()
        assert (client.status, client.json()) == (410, {"error": "gone"})
        assert "seen=1" in client.cookies[0]


async def test_a_response_after_the_first_event_is_dropped_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    closed = []

    class Late(HttpResponse):
        def close(self) -> None:
            closed.append(True)
            super().close()

    async def handler(c: Context, stream: Stream) -> Any:
        await stream.write("hello")
        return Late("too late")

    async with serve(handler) as site:
        assert [event.event for event in await site.connect().rest()] == [None, "sse.end"]
    assert closed == [True]
    assert "returned a response after the stream had begun" in caplog.text


async def test_head_runs_guards_but_no_factory_and_no_handler() -> None:
    ran: list[str] = []

    async def guard(c: Context) -> bool:
        ran.append("guard")
        return True

    def factory(c: Context) -> Any:
        ran.append("factory")

    async with serve(factory, guards=[guard]) as site:
        client = await site.connect(method="HEAD").over()
        assert (client.status, client.headers["content-type"], client.raw) == (200, "text/event-stream", b"")
        assert ran == ["guard"]


async def test_a_client_that_leaves_before_the_response_begins_aborts_the_handler() -> None:
    diary = Diary()

    async def handler(c: Context, stream: Stream) -> None:
        async with diary.of(stream):
            await asyncio.Event().wait()

    async with serve(handler, commit_after=60) as site:
        client = site.connect()
        await eventually("the handler runs", lambda: hasattr(diary, "stream"))
        client.leave()
        await client.over()
        assert client.status is None
        await eventually("on_end has run", lambda: "on_end" in diary)
    assert diary == ["on_abort", "cancelled", "finally", "on_end"]
    assert diary.stream.ending is Ending.CLIENT_DISCONNECT


async def test_a_stream_that_starts_while_the_process_ends_is_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []

    async def handler(c: Context, stream: Stream) -> None:
        ran.append(stream)

    def factory(c: Context) -> Any:
        monkeypatch.setattr(type(registry), "closing", True)
        return lambda stream: handler(c, stream)

    async with serve(factory) as site:
        client = site.connect()
        (last,) = await client.rest()
        assert (last.event, last.data, client.status, ran) == ("sse.overloaded", '{"reason":"shutdown"}', 200, [])
        assert last.retry is not None
        assert 1_500 <= last.retry <= 4_500
