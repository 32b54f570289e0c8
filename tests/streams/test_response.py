"""The HTTP responses of a stream: their headers, middleware around their content, and being dropped."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tempfile
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncRequestFactory
from django.utils.decorators import async_only_middleware

from django_agent_sse import Context, Stream
from django_agent_sse.asgi import wrap
from django_agent_sse.exceptions import AgentSSEError
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.response import names_event_stream
from tests.inprocess import PATIENCE, Diary, eventually, serve

OWN = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-store, no-transform",
    "x-accel-buffering": "no",
    "incremental": "?1",
    "content-encoding": "identity",
}


async def hello(c: Context, stream: Stream) -> None:
    await stream.write("hello")


def stays(diary: Diary) -> Any:
    async def handler(c: Context, stream: Stream) -> None:
        async with diary.of(stream):
            await stream.write("hello")
            await asyncio.Event().wait()

    return handler


# Headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_headers_are_exactly_these_and_never_hop_by_hop(method: str) -> None:
    async with serve(hello) as site:
        client = await site.connect(method=method).over()
        headers = client.headers
        headers.pop("content-length", None)
        assert len(headers.pop("agent-sse-session")) == 33
        assert headers == OWN


async def test_c04_headers_and_cookies_that_a_guard_set_are_there() -> None:
    async def guard(c: Context) -> bool:
        c.set_header("X-Build", "7")
        c.set_header("Cache-Control", "no-store")
        c.set_cookie("seen", "1")
        return True

    async with serve(hello, guards=[guard]) as site:
        client = await site.connect().over()
        assert client.headers.items() >= {"x-build": "7", "cache-control": "no-store"}.items()
        assert client.cookies[0].startswith("seen=1;")


async def test_an_ended_client_gets_204_after_the_guards() -> None:
    asked, ran = [], []

    async def guard(c: Context) -> bool:
        asked.append(c.last_event_id)
        return True

    def factory(c: Context) -> Any:
        ran.append(c)

    async with serve(factory, guards=[guard]) as site:
        for client in (site.connect(last_event_id="sse.end~e.1"), site.connect(query="last_event_id=sse.end~e.1")):
            await client.over()
            assert (client.status, client.raw) == (204, b"")
    assert (asked, ran) == (["e.1", "e.1"], [])


@pytest.mark.parametrize(
    ("method", "accept", "names"),
    [
        ("GET", "text/event-stream", True),
        ("GET", "application/json, Text/Event-Stream;q=0.9", True),
        ("GET", "*/*", False),
        ("GET", "text/*", False),
        ("GET", None, False),
        ("POST", "text/event-stream", False),
    ],
)
async def test_control_events_are_for_a_get_that_names_the_event_stream(method: str, accept: str | None, names: bool) -> None:
    request = AsyncRequestFactory().generic(method, "/", headers={"accept": accept} if accept else None)
    assert names_event_stream(request) is names


@pytest.mark.parametrize(("option", "accept"), [(True, "*/*"), (None, "text/event-stream")])
async def test_control_events_may_be_set_for_a_route(option: bool | None, accept: str) -> None:
    async with serve(hello, control_events=option) as site:
        events = await site.connect(headers={"accept": accept}).rest()
        assert [event.event for event in events] == [None, "sse.end"]


# Around the content


@async_only_middleware
def shouting(get_response: Any) -> Any:
    """Wraps the content, as a middleware that counts or compresses does."""

    async def upper(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for part in content:
            yield part.replace(b"hello", b"HELLO")

    async def middleware(request: Any) -> Any:
        response = await get_response(request)
        assert isinstance(response, StreamingHttpResponse)
        response.streaming_content = upper(response.streaming_content)
        return response

    return middleware


async def test_a_middleware_that_wraps_the_content_sees_each_event_and_the_end() -> None:
    diary = Diary()
    async with serve(stays(diary), middleware=[shouting]) as site:
        client = site.connect()
        assert (await client.event()).data == "HELLO"
        client.leave()
        await client.over()
        await eventually("on_end has run", lambda: "on_end" in diary)
    assert diary == ["on_abort", "cancelled", "finally", "on_end"]


async def test_a_client_that_is_gone_during_send_ends_a_wrapped_stream_too() -> None:
    diary = Diary()
    async with serve(stays(diary), middleware=[shouting]) as site:
        client = site.connect()
        await client.event()
        client.hold()
        diary.stream.write("not taken")
        await client.stuck()
        client.leave()
        await client.over()
        assert diary[:3] == ["on_abort", "cancelled", "finally"]


@pytest.mark.parametrize("closes", [True, False])
async def test_a_response_that_is_dropped_without_being_sent_ends_the_stream(closes: bool) -> None:
    diary = Diary()

    @async_only_middleware
    def replacing(get_response: Any) -> Any:
        async def middleware(request: Any) -> HttpResponse:
            response = await get_response(request)
            if closes:
                response.close()
            return HttpResponse("something else", status=418)

        return middleware

    async with serve(stays(diary), middleware=[replacing]) as site:
        client = await site.connect().over()
        assert client.status == 418
        gc.collect()
        await eventually("on_end has run", lambda: "on_end" in diary)
    assert diary == ["on_abort", "cancelled", "finally", "on_end"]
    assert diary.stream.ending is Ending.CLIENT_DISCONNECT


async def test_a_response_that_is_closed_and_sent_all_the_same_does_not_end_as_if_it_were_whole() -> None:
    diary = Diary()

    @async_only_middleware
    def closing(get_response: Any) -> Any:
        async def middleware(request: Any) -> Any:
            response = await get_response(request)
            response.close()
            await eventually("on_end has run", lambda: "on_end" in diary)
            return response

        return middleware

    async with serve(stays(diary), middleware=[closing]) as site:
        await site.connect().broken_off()
    assert diary.stream.ending is Ending.CLIENT_DISCONNECT


@pytest.fixture
def _body_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django 5.2 leaves the body's file of a request that its server cancels to the garbage collector, which complains."""
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda **_: BytesIO())


@pytest.mark.usefixtures("_body_in_memory")
@pytest.mark.parametrize("sending", [False, True])
async def test_a_cancel_by_the_server_is_a_disconnect_under_the_wrapper(sending: bool) -> None:
    diary = Diary()
    async with serve(stays(diary), around=wrap) as site:
        client = site.connect()
        await client.event()
        if sending:
            client.hold()
            diary.stream.write("not taken")
            await client.stuck()
        client.task.cancel()
        await asyncio.wait([client.task], timeout=PATIENCE)
        assert client.task.done()
        assert diary[:3] == ["on_abort", "cancelled", "finally"]
        assert diary.stream.ending is Ending.CLIENT_DISCONNECT


# Slim


async def test_a_slim_stream_lets_its_request_go_when_the_response_begins() -> None:
    seen: list[Any] = []

    async def handler(c: Context, stream: Stream) -> None:
        seen.append(c.request.path)
        await stream.write("hello")
        await eventually("the request is gone", lambda: _is_gone(c))
        with pytest.raises(AgentSSEError, match="slim"):
            _ = c.request
        seen.append((c.params, c.last_event_id, c.user_pk, c.route))

    async with serve(handler, slim=True) as site:
        await site.connect(last_event_id="e.1").rest()
    assert seen == ["/stream/7/", ({"number": 7}, "e.1", None, "stream/<int:number>/")]


def _is_gone(c: Context) -> bool:
    with contextlib.suppress(AgentSSEError):
        return not c.request
    return True
