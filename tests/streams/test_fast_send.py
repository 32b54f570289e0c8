"""What a topic brings, sent past the response's task: by whom, in which order, and what happens where a send waits or fails."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import async_only_middleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import RequestResponseCycle as H11Cycle
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle as HttptoolsCycle

from django_agent_sse import Context, Stream, apublish, apublish_many
from django_agent_sse.asgi import wrap
from django_agent_sse.eventlog import backend
from django_agent_sse.streams.admission import IN_SCOPE
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.fast_send import attach_send, get_send, release_head, send_now
from django_agent_sse.streams.response import SSEResponse
from django_agent_sse.topics.batch import CHUNK_BYTES
from tests.inprocess import Client, Diary, Site, eventually, send_directly, serve

TOPIC = "builds.42"


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    send_directly(monkeypatch)
    backend.reset()
    yield
    backend.reset()


@contextlib.asynccontextmanager
async def following(diary: Diary | None = None, **how: Any) -> AsyncIterator[Site]:
    async def handler(c: Context, stream: Stream) -> None:
        async with (diary if diary is not None else Diary()).of(stream):
            await stream.follow(TOPIC)

    async with serve(handler, **how) as site:
        yield site


async def connected(site: Site) -> Client:
    """A client whose response has begun, and whose task waits."""
    client = site.connect()
    await eventually("the first bytes", lambda: client.chunks)
    await asyncio.sleep(0)
    return client


@pytest.fixture
def senders(monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Task[Any] | None]:
    """The tasks in which parts of a body were sent."""
    tasks: list[asyncio.Task[Any] | None] = []
    whole = Client._send

    async def send(client: Client, message: dict[str, Any]) -> None:
        if message.get("body"):
            tasks.append(asyncio.current_task())
        await whole(client, message)

    send.__module__ = "uvicorn.protocols"
    monkeypatch.setattr(Client, "_send", send)
    return tasks


async def test_an_event_is_sent_without_waking_the_responses_task(senders: list[Any]) -> None:
    async with following() as site:
        client = await connected(site)
        await apublish_many(TOPIC, ["one", "two"])
        assert [event.data for event in await client.take(2)] == ["one", "two"]
        first, second = senders
        assert second is not first, "the first bytes are the task's own"


async def test_the_head_of_a_response_is_not_kept_once_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    whole = Client._send

    async def send(client: Client, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            kept.append(message["headers"])
        await whole(client, message)

    monkeypatch.setattr(Client, "_send", send)
    send.__module__ = "uvicorn.protocols"
    async with following() as site:
        client = await connected(site)
        assert client.headers["content-type"] == "text/event-stream"
        assert client.headers["cache-control"]
        responses = [found for found in gc.get_objects() if type(found) is SSEResponse and not found._transport.closed]
        assert [dict(response.headers) for response in responses] == [{}]
        assert kept == [[]]


async def test_what_a_handler_writes_is_still_joined_by_the_task(senders: list[Any]) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        following = asyncio.create_task(stream.follow(TOPIC))
        await eventually("it follows", lambda: stream.last_event_id)
        for number in range(100):
            stream.write(number)
        await following

    async with serve(handler) as site:
        client = await connected(site)
        assert len(await client.take(100)) == 100
        assert len({*senders}) == 1
        assert len(client.chunks) <= 2, "the first bytes, and all the rest"


async def test_a_client_that_stops_reading_gets_everything_once_and_in_order_when_it_reads_again() -> None:
    async with following() as site:
        client = await connected(site)
        client.hold()
        for number in range(1000):
            await apublish(TOPIC, number)
            if number % 100 == 50:
                await client.take_one()
        client.flow()
        assert [event.data for event in await client.take(1000)] == [str(number) for number in range(1000)]


async def test_a_large_event_goes_piece_by_piece_each_when_the_one_before_was_taken() -> None:
    async with following() as site:
        client = await connected(site)
        client.hold()
        await apublish(TOPIC, "x" * (3 * CHUNK_BYTES))
        for number in range(1, 4):
            await client.take_one()
            assert [len(chunk) for chunk in client.chunks[1:]] == [CHUNK_BYTES] * number
        client.flow()
        assert (await client.event()).data == "x" * (3 * CHUNK_BYTES)


@pytest.mark.parametrize("size", [1, 2 * CHUNK_BYTES])
async def test_a_client_that_leaves_while_a_send_waits_is_a_disconnect(size: int) -> None:
    diary = Diary()
    async with following(diary) as site:
        client = await connected(site)
        client.hold()
        await apublish(TOPIC, "x" * size)
        await client.stuck()
        client.leave()
        await client.over()
        await eventually("the end", lambda: "on_end" in diary)
        assert diary.stream.ending is Ending.CLIENT_DISCONNECT
        client.flow()
        await asyncio.sleep(0)
        assert len(client.chunks) == 1, "what was given up is not sent any more"


async def test_a_client_that_leaves_before_the_task_takes_over_a_send_is_a_disconnect() -> None:
    diary = Diary()
    async with following(diary) as site:
        client = await connected(site)
        client.hold()
        client.leave()
        await apublish_many(TOPIC, ["x" * (2 * CHUNK_BYTES)])
        await client.over()
        await eventually("the end", lambda: "on_end" in diary)
        assert diary.stream.ending is Ending.CLIENT_DISCONNECT


async def test_the_send_time_out_counts_while_a_send_waits() -> None:
    diary = Diary()
    async with following(diary, send_timeout=0.2) as site:
        client = await connected(site)
        client.hold()
        await apublish(TOPIC, "one")
        await eventually("the end", lambda: "on_end" in diary)
        assert diary.stream.ending is Ending.SLOW_CLIENT


async def test_sends_put_heartbeats_off() -> None:
    async with following(heartbeat=1.0) as site:
        client = await connected(site)
        for number in range(40):
            await apublish(TOPIC, number)
            await asyncio.sleep(0.03)
        await client.take(40)
        assert client.chunks.count(b":\n") <= 1, "the first bytes"


async def test_a_server_whose_send_raises_has_lost_its_client_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Client] = []
    whole = Client._send

    async def send(client: Client, message: dict[str, Any]) -> None:
        if client in lost and message.get("body"):
            raise OSError("the client has left")
        await whole(client, message)

    send.__module__ = "uvicorn.protocols"
    monkeypatch.setattr(Client, "_send", send)
    async with following() as site:
        clients = [await connected(site) for _ in range(3)]
        lost.append(clients[1])
        await apublish(TOPIC, "one")
        for client in (clients[0], clients[2]):
            assert (await client.event()).data == "one"
        await clients[1].over()
        await apublish(TOPIC, "two")
        for client in (clients[0], clients[2]):
            assert (await client.event()).data == "two"


@async_only_middleware
def upper(get_response: Callable[[HttpRequest], Coroutine[Any, Any, Any]]) -> Callable[[HttpRequest], Any]:
    async def middleware(request: HttpRequest) -> HttpResponseBase:
        response = await get_response(request)
        content = response.streaming_content

        async def loud() -> AsyncIterator[bytes]:
            async for part in content:
                yield part.upper()

        response.streaming_content = loud()
        return response

    return middleware


async def test_a_middleware_around_the_content_sees_all_of_it() -> None:
    async with following(settings={"MIDDLEWARE": [f"{__name__}.upper"]}) as site:
        client = await connected(site)
        await apublish(TOPIC, "quiet")
        await eventually("an event", lambda: b"QUIET" in client.raw)


# What may be called from outside


async def test_other_servers_and_other_applications_in_between_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append(scope)

    async def send(message: dict[str, Any]) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "headers": [(b"accept", b"text/event-stream")]}
    assert attach_send(scope, send) is scope, "a server that is not known"
    assert release_head(send) is send
    send.__module__ = "uvicorn.protocols"
    await wrap(application)(scope, None, send)
    assert [{**one, IN_SCOPE: None} for one in seen] == [{**scope, IN_SCOPE: None}]
    assert get_send(object()) is None


@pytest.mark.parametrize("cycle", [H11Cycle, HttptoolsCycle])
async def test_uvicorns_own_send_waits_while_its_client_does_not_read_and_is_done_at_once_else(cycle: Any) -> None:
    class Transport:
        """Keeps what is written, and can be paused."""

        written = b""

        def write(self, data: bytes) -> None:
            self.written += data

        def pause_reading(self) -> None:
            pass

        resume_reading = pause_reading

    transport: Any = Transport()
    flow = FlowControl(transport)
    sender = object.__new__(cycle)
    vars(sender).update(
        scope={"method": "GET"},
        flow=flow,
        disconnected=False,
        response_started=True,
        response_complete=False,
        chunked_encoding=True,
        transport=transport,
    )
    if cycle is H11Cycle:
        import h11

        sender.conn = connection = h11.Connection(h11.SERVER)
        connection.receive_data(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.next_event()
        connection.send(h11.Response(status_code=200, headers=[("transfer-encoding", "chunked")]))
    assert type(sender).send.__module__.startswith("uvicorn.")
    assert send_now(sender.send, b"one") is None
    assert transport.written == b"3\r\none\r\n"
    flow.pause_writing()
    rest = send_now(sender.send, b"two")
    assert rest is not None
    assert transport.written == b"3\r\none\r\n"
    asyncio.get_running_loop().call_soon(flow.resume_writing)
    await asyncio.wait_for(rest, 60)
    assert transport.written == b"3\r\none\r\n3\r\ntwo\r\n"
