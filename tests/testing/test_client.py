"""The client for users' tests: reads streams, comes back, and never hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpRequest, JsonResponse
from django.urls import include, path

from django_agent_sse import Context, Router, Stream, aclose_topic, apublish, apublish_many, login_required
from django_agent_sse.exceptions import ArgumentInvalid
from django_agent_sse.streams.registry import registry
from django_agent_sse.testing import PublishedLog, SSEClient, StreamTimeout
from tests.serving import served

router = Router()
over: list[str] = []


@router.sse("three/")
async def three(c: Context, stream: Stream) -> None:
    for number in range(int(c.last_event_id or 0), 3):
        await stream.write(str(number), id=str(number + 1))


@router.sse("silent/")
async def silent(c: Context, stream: Stream) -> None:
    await stream.write("hello")
    try:
        await stream.wait_closed()
    finally:
        over.append("silent")


@router.sse("deaf/")
async def deaf(c: Context, stream: Stream) -> None:
    await stream.open()
    for _ in range(100):
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue


@router.sse("who/", guards=[login_required])
async def who(c: Context, stream: Stream) -> None:
    await stream.write(str(c.user))


@router.sse("echo/", methods=["POST"], csrf_exempt=True)
async def echo(c: Context, stream: Stream) -> None:
    await stream.write(c.json_body())


router.topic("builds/<int:id>/", "builds.{id}")


async def plain(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"plain": True}, status=418)


async def fails(request: HttpRequest) -> JsonResponse:
    raise RuntimeError("deliberate")


async def broken(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("the application itself")


@pytest.fixture(autouse=True)
def project() -> Iterator[None]:
    over.clear()
    middleware = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    with served([path("", include(router.urls)), path("plain/", plain), path("fails/", fails)], middleware=middleware):
        yield


async def test_events_and_the_rest() -> None:
    async with SSEClient() as client:
        stream = await client.open("/three/")
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
        assert (await stream.event()).data == "0"
        assert [event.data for event in await stream.events(2)] == ["1", "2"]
        assert [event.event for event in await stream.rest()] == ["sse.end"]
        assert stream.ended
        again = await stream.reconnect()
        assert (again.status, again.body) == (204, b"")


async def test_until_takes_a_function() -> None:
    async with SSEClient() as client:
        stream = await client.open("/three/")
        with pytest.raises(ArgumentInvalid, match=r"until\(\) takes a function of an event, not 'notice'"):
            await stream.until("notice")  # type: ignore[arg-type]


async def test_until_skips_what_comes_before() -> None:
    async with SSEClient() as client:
        stream = await client.open("/three/")
        assert (await stream.until(lambda event: event.data == "2")).id == "3"
        with pytest.raises(StreamTimeout, match="the response ended"):
            await stream.until(lambda event: event.data == "never")


async def test_coming_back_goes_on_where_it_was() -> None:
    async with SSEClient() as client:
        stream = await client.open("/three/")
        await stream.event()
        again = await stream.reconnect()
        assert again is not stream
        assert [event.data for event in await again.events(2)] == ["1", "2"]
        other = await client.open("/three/", last_event_id="2")
        assert (await other.event()).data == "2"


async def test_a_topic_across_reconnects(sse_log: PublishedLog) -> None:
    async with SSEClient() as client:
        stream = await client.open("/builds/42/")
        await apublish("builds.42", "one")
        assert (await stream.event()).data == "one"
        await stream.disconnect()
        await apublish_many("builds.42", ["two", "three"])
        stream = await stream.reconnect()
        assert [event.data for event in await stream.events(2)] == ["two", "three"]
        await aclose_topic("builds.42", "passed")
        assert (await stream.rest())[-1].event == "sse.end"
    assert [event.data for event in sse_log.published("builds.42")] == ["one", "two", "three"]
    assert (sse_log.topics, sse_log.closed("builds.42")) == (["builds.42"], "passed")


async def test_what_does_not_come_is_an_error_that_shows_what_came() -> None:
    async with SSEClient(timeout=0.3) as client:
        stream = await client.open("/silent/", timeout=60)
        await stream.event(timeout=60)
        with pytest.raises(StreamTimeout, match=r"waited for an event of /silent/.*within 0.3 s") as raised:
            await stream.event()
        assert "the status is 200" in str(raised.value)
        assert "data='hello'" in str(raised.value)
        with pytest.raises(StreamTimeout, match="the end of the response"):
            await stream.rest()
        assert isinstance(raised.value, AssertionError)
        client.timeout = 60  # leaving is not what is timed here


async def test_leaving_the_block_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with SSEClient() as client:
        for _ in range(3):
            await client.open("/silent/")
    assert over == ["silent"] * 3
    assert not registry.loop_state().streams
    assert asyncio.all_tasks() == before


async def test_a_handler_that_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    client = SSEClient(timeout=0.1)
    stream = await client.open("/deaf/", timeout=60)
    with pytest.raises(StreamTimeout, match="swallow CancelledError"):
        await stream.disconnect()
    for _ in range(1000):
        if not registry.loop_state().streams:
            break
        await asyncio.sleep(0.01)


async def test_answers_that_are_no_streams() -> None:
    async with SSEClient() as client:
        answer = await client.open("/plain/")
        await answer.rest()
        assert (answer.status, answer.json()) == (418, {"plain": True})
        assert (await client.open("/nothing/")).status == 404


async def test_what_the_application_raises_is_raised_in_the_test() -> None:
    async with SSEClient(broken) as client:
        with pytest.raises(RuntimeError, match="the application itself"):
            await client.open("/")


@pytest.mark.django_db(transaction=True)
async def test_users_sign_in_without_a_password() -> None:
    user = await get_user_model().objects.acreate(username="ada")
    async with SSEClient() as client:
        assert (await client.open("/who/")).status == 401
        await client.force_login(user)
        assert (await (await client.open("/who/")).event()).data == "ada"
        await client.logout()
        assert (await client.open("/who/")).status == 401


async def test_a_post_with_a_body() -> None:
    async with SSEClient(headers={"X-Test": "1"}) as client:
        stream = await client.open("/echo/", method="POST", data={"a": 1})
        assert (await stream.event()).data == '{"a":1}'
