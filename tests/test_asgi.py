"""``asgi.wrap()``: which requests it takes, on which threads they run, and what a server's cancel becomes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.core.exceptions import BadRequest
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.decorators import sync_only_middleware

from django_agent_sse import Context, Router, Stream, asgi
from django_agent_sse.exceptions import ConfigurationError
from django_agent_sse.runtime import worker_threads
from django_agent_sse.streams import threads
from tests.inprocess import PATIENCE, Client, Diary, eventually, serve
from tests.serving import connect, served

EVENT_SOURCE = {"accept": "text/event-stream"}
POOL = "sse-request"


@pytest.fixture(autouse=True)
def _fresh_threads() -> Iterator[None]:
    threads.reset()
    yield
    threads.reset()


Messages = list[dict[str, Any]]


async def thread_name(scope: Any, receive: Any, send: Any) -> None:
    """An application that tells on which thread its sync code runs."""
    current = await sync_to_async(threading.current_thread)()
    await send({"thread": current.name})


async def run(application: Any, scope: dict[str, Any]) -> Messages:
    sent: Messages = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    await application(scope, receive, send)
    return sent


def http(accept: str | None) -> dict[str, Any]:
    return {"type": "http", "headers": [] if accept is None else [(b"host", b"x"), (b"accept", accept.encode())]}


# Which requests


@pytest.mark.parametrize("accept", ["text/event-stream", "text/html, text/event-stream;q=0.9", "Text/Event-Stream"])
async def test_a_request_that_names_the_type_runs_on_a_thread_of_the_pool(accept: str) -> None:
    (sent,) = await run(asgi.wrap(thread_name), http(accept))
    assert sent["thread"].startswith(POOL)


@pytest.mark.parametrize("accept", ["*/*", "text/html", "", None])
async def test_any_other_request_goes_through_as_it_is(accept: str | None) -> None:
    (sent,) = await run(asgi.wrap(thread_name), http(accept))
    assert not sent["thread"].startswith(POOL)


async def test_a_request_that_was_sent_behind_one_for_a_stream_has_a_thread_when_that_is_over() -> None:
    """uvicorn begins it when the other one has sent its last bytes, in the task that does so: in a copy of its context."""
    wrapped, behind = asgi.wrap(thread_name), []

    async def later() -> Messages:
        await over.wait()
        return await run(wrapped, http("text/html"))

    async def last_bytes(message: dict[str, Any]) -> None:
        behind.append(asyncio.create_task(later()))

    over = asyncio.Event()
    await wrapped(http("text/event-stream"), None, last_bytes)
    over.set()
    (told,) = await behind[0]
    assert told["thread"].startswith(POOL)
    (after,) = await run(wrapped, http("text/html"))
    assert not after["thread"].startswith(POOL), "in a context of its own it goes through as it is"


async def test_match_decides_otherwise() -> None:
    application = asgi.wrap(thread_name, match=lambda scope: scope["path"].startswith("/streams/"))
    (inside,) = await run(application, {**http("*/*"), "path": "/streams/1/"})
    (outside,) = await run(application, {**http("text/event-stream"), "path": "/"})
    assert inside["thread"].startswith(POOL)
    assert not outside["thread"].startswith(POOL)


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_a_scope_that_is_not_http_is_handed_on_untouched(kind: str) -> None:
    handed = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        handed.append((scope, receive, send, SyncToAsync.thread_sensitive_context.get(None)))

    scope, receive, send = {"type": kind}, object(), object()
    await asgi.wrap(application, match=lambda scope: True)(scope, receive, send)
    assert handed == [(scope, receive, send, None)]
    assert handed[0][0] is scope


async def test_the_servers_scope_is_not_changed() -> None:
    scope = http("text/event-stream")
    before = dict(scope)
    await run(asgi.wrap(thread_name), scope)
    assert scope == before


def test_an_asgiref_without_executors_is_refused_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older(ThreadSensitiveContext):
        def __init__(self) -> None: ...

    monkeypatch.setattr(asgi, "ThreadSensitiveContext", Older)
    with pytest.raises(ConfigurationError, match=r"asgiref 3\.13 or newer; pip install -U asgiref"):
        asgi.wrap(thread_name)


# Threads


async def test_requests_one_after_another_use_the_same_thread_again() -> None:
    application = asgi.wrap(thread_name)
    names = [sent["thread"] for _ in range(20) for sent in await run(application, http("text/event-stream"))]
    assert len(set(names)) <= worker_threads.AT_ONCE
    assert names[0].startswith(POOL)


async def test_requests_at_the_same_time_have_a_thread_each() -> None:
    met = threading.Barrier(20)

    def meet() -> str:
        met.wait(PATIENCE)
        return threading.current_thread().name

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"thread": await sync_to_async(meet)()})

    answers = await asyncio.gather(*(run(asgi.wrap(application), http("text/event-stream")) for _ in range(20)))
    assert len({sent["thread"] for (sent,) in answers}) == 20


@sync_only_middleware
def note_thread(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        request.seen = threading.current_thread().name  # type: ignore[attr-defined]
        return get_response(request)

    return middleware


async def test_sync_middleware_runs_on_the_requests_thread_and_the_handlers_sync_code_on_the_streams() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write(c.request.seen)  # type: ignore[attr-defined]
        later = await sync_to_async(threading.current_thread)()
        await stream.write(later.name)

    router = Router(middleware=[note_thread])
    router.sse("", handler)
    with served(router):
        client = await connect("/", headers=EVENT_SOURCE, application=asgi.wrap(ASGIHandler())).over()
    before, later, end = await client.rest()
    assert before.data.startswith(POOL)
    assert later.data.startswith("sse-stream")
    assert end.event == "sse.end"


local = threading.local()


@sync_only_middleware
def current_user(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """As projects write it: the user in a ``threading.local``, for whatever runs in the request."""

    def middleware(request: HttpRequest) -> HttpResponse:
        local.user = request.GET["user"]
        try:
            return get_response(request)
        finally:
            local.user = None

    return middleware


def slow_part() -> str:
    before = local.user
    time.sleep(0.05)
    assert local.user == before
    return str(before)


async def test_fifty_requests_at_once_each_find_their_own_user_in_a_thread_local() -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        first = await sync_to_async(slow_part)()
        await asyncio.sleep(0.01)
        return HttpResponse(f"{first} {await sync_to_async(slow_part)()}")

    with served([path("", view)], middleware=[f"{__name__}.current_user"]):
        application = asgi.wrap(ASGIHandler(), match=lambda scope: True)
        clients = [connect(f"/?user={number}", application=application) for number in range(50)]
        for number, client in enumerate(clients):
            await client.over()
            assert client.raw == f"{number} {number}".encode()


async def test_slow_guards_of_strangers_hold_up_neither_other_requests_nor_open_streams() -> None:
    release = threading.Event()

    async def guard(c: Context) -> bool:
        if "key" in c.query:
            await sync_to_async(release.wait)(PATIENCE)
        return "key" not in c.query

    async def handler(c: Context, stream: Stream, number: int) -> None:
        await stream.write("open")
        while True:
            await stream.write(await sync_to_async(time.monotonic)())
            await asyncio.sleep(0.01)

    async with serve(handler, around=asgi.wrap, guards=[guard]) as site:
        opened = site.connect()
        await opened.event()
        guessing = [site.connect(query=f"key={number}") for number in range(24)]
        began = time.monotonic()
        assert (await site.connect().event()).data == "open"
        assert time.monotonic() - began < PATIENCE / 2, "not as long as the guards wait"
        await opened.take(len(opened._unread) + 3)
        assert not any(client.status for client in guessing)
        release.set()
        for client in guessing:
            assert await client.begun() == 403


async def test_beyond_its_threads_a_request_waits_and_streams_do_not(settings: Any) -> None:
    settings.AGENT_SSE = {"REQUEST_THREADS": 2}
    release = threading.Event()

    async def guard(c: Context) -> bool:
        if "key" in c.query:
            await sync_to_async(release.wait)(PATIENCE)
        return True

    async def handler(c: Context, stream: Stream, number: int) -> None:
        await stream.open()
        while True:
            await stream.write(await sync_to_async(threading.current_thread)() is not threading.current_thread())
            await asyncio.sleep(0.01)

    async with serve(handler, settings={"AGENT_SSE": settings.AGENT_SSE}, around=asgi.wrap, guards=[guard]) as site:
        opened = site.connect()
        await opened.event()
        for number in range(2):
            site.connect(query=f"key={number}")
        waits = site.connect()
        await eventually("it waits in line", lambda: threads.request_pool.counts()[2])
        await opened.take(len(opened._unread) + 3)
        assert waits.status is None
        release.set()
        await waits.event()


async def test_other_views_work_inside_too() -> None:
    def sync_view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(threading.current_thread().name)

    with served([path("", sync_view)]):
        client = await connect("/", application=asgi.wrap(ASGIHandler(), match=lambda scope: True)).over()
    assert client.raw.startswith(POOL.encode())


class Refused(ASGIRequest):
    """What Django 6.1 says of a ``Content-Type`` that is no media type, before there is a request that could be answered."""

    def __init__(self, scope: Any, body: Any) -> None:
        body.close()
        raise BadRequest("Invalid Content-Type header.")


async def test_what_makes_no_request_is_answered_with_400() -> None:
    handler = ASGIHandler()
    handler.request_class = Refused
    with served(Router()):
        client = await connect(
            "/", application=asgi.wrap(handler), headers={**EVENT_SOURCE, "origin": "https://x.example"}
        ).over()
    assert client.status == 400
    assert json.loads(client.raw) == {"error": {"type": "bad_request", "message": "Invalid Content-Type header."}}


# A server that cancels


async def cancel(client: Client) -> None:
    """Cancel the application's task, and wait until it is through."""
    client.task.cancel()
    await asyncio.wait([client.task], timeout=PATIENCE)
    assert client.task.done(), "the application does not return"


def waiting(diary: Diary) -> Callable[[Context, Stream, int], Awaitable[None]]:
    async def handler(c: Context, stream: Stream, number: int) -> None:
        async with diary.of(stream):
            await stream.write("open")
            await stream.wait_closed()

    return handler


async def test_a_servers_cancel_is_a_disconnect_and_finally_has_run_when_it_is_through() -> None:
    """hypercorn and daphne cancel the application; Django 5.2 would leave the stream behind as an orphan."""
    diary = Diary()
    async with serve(waiting(diary), around=asgi.wrap) as site:
        client = site.connect()
        await client.event()
        await cancel(client)
        assert client.task.cancelled()
        assert diary.stream.ending == "client_disconnect"
        assert diary[:1] == ["on_abort"]
        assert "finally" in diary
        await eventually("the end is told", lambda: diary[-1] == "on_end")


async def test_a_servers_cancel_while_it_does_not_take_what_is_sent() -> None:
    diary = Diary()

    async def handler(c: Context, stream: Stream, number: int) -> None:
        async with diary.of(stream):
            while True:
                await stream.write("x" * 1000)

    async with serve(handler, around=asgi.wrap) as site:
        client = site.connect()
        await client.event()
        client.hold()
        await client.stuck()
        await cancel(client)
        assert client.task.cancelled()
        assert "finally" in diary
        assert diary.stream.ending == "client_disconnect"


async def test_a_servers_cancel_before_the_response_begins() -> None:
    diary = Diary()

    async def handler(c: Context, stream: Stream, number: int) -> None:
        async with diary.of(stream):
            await asyncio.Event().wait()

    async with serve(handler, around=asgi.wrap, commit_after=60) as site:
        client = site.connect()
        await eventually("the handler runs", lambda: hasattr(diary, "stream"))
        await cancel(client)
        assert client.task.cancelled()
        assert "finally" in diary


async def test_a_servers_cancel_under_continue_lets_the_handler_go_on() -> None:
    diary, go_on = Diary(), asyncio.Event()

    async def handler(c: Context, stream: Stream, number: int) -> None:
        async with diary.of(stream):
            await stream.write("open")
            await go_on.wait()
            diary.append(f"dropped {await stream.write('late')}")

    async with serve(handler, around=asgi.wrap, on_disconnect="continue") as site:
        client = site.connect()
        await client.event()
        await cancel(client)
        assert "finally" not in diary
        go_on.set()
        await eventually("the handler is over", lambda: "on_end" in diary)
    assert diary == ["on_abort", "dropped False", "finally", "on_end"]


async def test_a_disconnect_is_still_one() -> None:
    diary = Diary()
    async with serve(waiting(diary), around=asgi.wrap) as site:
        client = site.connect()
        await client.event()
        client.leave()
        await client.over()
        assert diary.stream.ending == "client_disconnect"
        assert "finally" in diary


async def test_a_stream_that_was_not_matched_still_streams() -> None:
    async def handler(c: Context, stream: Stream, number: int) -> None:
        await stream.write(number)

    async with serve(handler, around=asgi.wrap) as site:
        client = site.connect(headers={"accept": "*/*"})
        assert [event.data for event in await client.rest()] == ["7"]
