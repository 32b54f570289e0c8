"""What users of the client run into: databases, exceptions, floods, encoded paths, settings that change."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.signals import request_started
from django.db import close_old_connections, connection
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import TestCase, TransactionTestCase, override_settings
from django.urls import include, path

from django_agent_sse import Context, Router, Stream, apublish, login_required, publish
from django_agent_sse.testing import PublishedLog, SSEClient, SSETestMixin, StreamTimeout
from tests.serving import served

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
router = Router()
finished: list[bool] = []
router.topic("builds/<int:id>/", "builds.{id}")


@router.sse("who/", guards=[login_required])
async def who(c: Context, stream: Stream) -> None:
    await stream.write([str(c.user), await User.objects.acount()])


@router.sse("echo/", methods=["POST"])
async def echo(c: Context, stream: Stream) -> None:
    await stream.write(c.json_body())


@router.sse("breaks/")
async def breaks(c: Context, stream: Stream) -> None:
    await stream.write("one")
    raise ValueError("in the handler")


@router.sse("lingers/", on_disconnect="continue")
async def lingers(c: Context, stream: Stream) -> None:
    seconds = float(c.query.get("for", "0.05"))
    await stream.open()
    await asyncio.sleep(seconds)
    finished.append(True)


@router.sse("named/<str:name>/")
async def named(c: Context, stream: Stream, name: str) -> None:
    await stream.write(name)


def sync_count(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"users": User.objects.count()})


async def fails(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("in the view")


async def slow_json(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b'{"a":'
        await asyncio.sleep(0.01)
        yield b" 1}"

    return StreamingHttpResponse(parts(), content_type="application/json")


async def flood(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"data: x\n\n"

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


def cookie(request: HttpRequest) -> JsonResponse:
    response = JsonResponse(request.COOKIES)
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


ROUTES = [
    path("", include(router.urls)),
    path("count/", sync_count),
    path("fails/", fails),
    path("slow/", slow_json),
    path("flood/", flood),
    path("cookie/", cookie),
]


@pytest.fixture
def project() -> Iterator[None]:
    with served(ROUTES, middleware=MIDDLEWARE):
        yield


# Databases


async def sign_in(*more: str) -> None:
    with served(ROUTES, middleware=[*MIDDLEWARE, *more]):
        user = await get_user_model().objects.acreate(username="ada")
        async with SSEClient() as client:
            assert (await client.open("/who/")).status == 401
            await client.force_login(user)
            assert (await (await client.open("/who/")).event()).data == '["ada",1]'
            assert (await client.open("/count/")).json() == {"users": 1}


class InATransaction(TestCase):
    async def test_requests_see_what_the_test_has_not_committed(self) -> None:
        await sign_in()
        assert await sync_to_async(lambda: connection.in_atomic_block)()

    async def test_so_do_those_through_a_middleware_of_sync_code(self) -> None:
        await sign_in("tests.site.middleware.sync_stamp")


class Committing(TransactionTestCase):
    async def test_requests_see_what_was_committed(self) -> None:
        await sign_in()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("more", [(), ("tests.site.middleware.sync_stamp",)])
async def test_pytest_with_transactions(more: tuple[str, ...]) -> None:
    await sign_in(*more)


async def test_connections_are_closed_again_when_no_request_runs(project: None) -> None:
    def closes() -> bool:
        return any(receiver[1]() is close_old_connections for receiver in request_started.receivers)

    assert closes()
    async with SSEClient() as client:
        await client.open("/builds/42/")
        assert not closes()
    assert closes()


# Exceptions


async def test_the_5xx_response_of_a_failing_view_is_seen_where_it_is_asked_for(project: None) -> None:
    async with SSEClient(raise_request_exception=False) as client:
        assert (await client.open("/fails/")).status == 500


async def test_what_a_view_raises_is_raised_in_the_test(project: None) -> None:
    async with SSEClient() as client:
        with pytest.raises(RuntimeError, match="in the view"):
            await client.open("/fails/")
        assert (await client.open("/cookie/")).status == 200


async def test_a_time_out_shows_what_the_handler_raised(project: None, caplog: pytest.LogCaptureFixture) -> None:
    async with SSEClient() as client:
        stream = await client.open("/breaks/")
        with pytest.raises(StreamTimeout, match="ValueError: in the handler"):
            await stream.until(lambda event: event.event == "done")


async def test_what_was_raised_once_is_not_raised_again(project: None) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("the application")

    async with SSEClient(broken) as client:
        with pytest.raises(RuntimeError, match="the application"):
            await client.open("/")


async def test_what_was_raised_and_not_seen_is_raised_at_the_end(project: None) -> None:
    async def late(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        raise RuntimeError("late")

    with pytest.raises(RuntimeError, match="late"):
        async with SSEClient(late) as client:
            await client.open("/")


# Waits


def test_a_flood_does_not_hang_the_client() -> None:
    """In a process of its own: a hang of the event loop could not be ended from within."""
    code = """
import asyncio, os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.site.settings"
django.setup()
from django.test import override_settings
from tests.testing.test_edges import ROUTES, SSEClient, StreamTimeout, served
async def main():
    with served(ROUTES):
        async with SSEClient(timeout=1) as client:
            stream = await client.open("/flood/", timeout=60)
            await stream.events(3, timeout=60)
            for wait in (stream.until(lambda event: False), stream.rest()):
                try:
                    await wait
                except StreamTimeout as error:
                    print("timeout")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.split() == ["timeout", "timeout"], done.stderr


async def test_a_time_out_of_until_says_what_it_waited_for(project: None, sse_log: PublishedLog) -> None:
    async with SSEClient(timeout=0.5) as client:
        stream = await client.open("/builds/42/", timeout=60)
        await apublish("builds.42", "one")
        await stream.until(lambda event: event.data == "one", timeout=60)
        with pytest.raises(StreamTimeout, match=r"an event that matches .*within 0\.5 s(.|\n)*data='one'"):
            await stream.until(lambda event: event.event == "done")
        client.timeout = 60  # leaving is not what is timed here


async def test_following_a_topic_leaves_no_task(project: None, sse_log: PublishedLog) -> None:
    before = asyncio.all_tasks()
    async with SSEClient() as client:
        stream = await client.open("/builds/42/")
        await apublish("builds.42", "one")
        await stream.event()
    assert asyncio.all_tasks() == before


async def test_a_handler_that_goes_on_without_its_client_is_waited_for(project: None) -> None:
    finished.clear()
    before = asyncio.all_tasks()
    async with SSEClient() as client:
        assert (await client.open("/lingers/")).status == 200
    assert finished == [True]
    assert asyncio.all_tasks() == before


async def test_one_that_goes_on_for_too_long_is_cancelled(project: None) -> None:
    finished.clear()
    before = asyncio.all_tasks()
    async with SSEClient(timeout=60) as client:
        stream = await client.open("/lingers/?for=60")
        assert stream.status == 200
        await stream.disconnect()  # its view has returned, and the handler goes on
        client.timeout = 0.5
    assert finished == []
    assert asyncio.all_tasks() == before


async def test_one_that_was_not_told_to_end_is_not_given_up_on_after_the_machine_stood_still(project: None) -> None:
    finished.clear()
    loop = asyncio.get_running_loop()
    async with SSEClient(timeout=60) as client:
        stream = await client.open("/lingers/?for=60")
        assert stream.status == 200
        await stream.disconnect()
        client.timeout = 0.5
        loop.call_later(0.1, time.sleep, 1.5)  # from before the end of its time until after that of the time to end
    assert finished == []


# Requests


@pytest.mark.parametrize("given", ["/named/a b/", "/named/a%20b/", "/named/%C4%85/", "/named/ą/"])
async def test_paths_are_decoded_as_a_server_does(project: None, given: str) -> None:
    async with SSEClient() as client:
        stream = await client.open(given)
        assert stream.status == 200
        assert (await stream.event()).data in ("a b", "ą")


async def test_a_post_is_not_checked_for_csrf_unless_asked(project: None) -> None:
    async with SSEClient() as client:
        assert (await (await client.open("/echo/", method="POST", data=[])).event()).data == "[]"
    async with SSEClient(enforce_csrf_checks=True) as client:
        assert (await client.open("/echo/", method="POST", data=[])).status == 403


async def test_cookies_are_kept(project: None) -> None:
    async with SSEClient() as client:
        assert (await client.open("/cookie/")).json() == {}
        assert (await client.open("/cookie/")).json() == {"a": "1", "b": "2"}


async def test_an_answer_that_is_no_stream_is_whole(project: None) -> None:
    async with SSEClient() as client:
        assert (await client.open("/slow/")).json() == {"a": 1}


# The log


def test_settings_that_change_in_a_test_do_not_hide_what_is_published(sse_log: PublishedLog) -> None:
    with override_settings(AGENT_SSE={"HEARTBEAT": 1}):
        publish("a", 1)
        assert [event.data for event in sse_log.published("a")] == ["1"]


class WithClient(SSETestMixin, TestCase):
    async def test_the_mixin_makes_clients(self) -> None:
        with served(ROUTES):
            async with self.sse_client() as client:
                stream = await client.open("/builds/42/")
                await apublish("builds.42", "one")
                assert (await stream.event()).data == "one"
