"""Compressed streams: who gets one, what is shared of it, and that clients lose and double nothing wherever one is cut."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import random
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.decorators import async_only_middleware

from django_agent_sse import Context, Router, Stream, aclose_topic, apublish, apublish_many
from django_agent_sse.eventlog import backend
from django_agent_sse.exceptions import RouteError
from django_agent_sse.signals import stream_closed
from django_agent_sse.streams.compression import prefers_gzip
from django_agent_sse.streams.endings import Ending
from django_agent_sse.wire import Decoder
from django_agent_sse.wire.gzip import Block, GzipEncoder
from tests.inprocess import Client, Site, eventually, send_directly, serve

TOPIC = "builds.42"
GZIP = {"Accept-Encoding": "gzip, deflate, br"}
MEMORY = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}
CODINGS = ("gzip", "identity", "*", "br")
HEADERS = 5_000


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    backend.reset()
    yield
    backend.reset()


async def follow(c: Context, stream: Stream) -> None:
    await stream.follow(TOPIC)


async def hello(c: Context, stream: Stream) -> None:
    await stream.write("hello")


async def coding(site: Site, headers: Mapping[str, str] | None = None, method: str = "GET") -> str:
    """The coding of an answer that has begun."""
    client = site.connect(method=method, headers={**GZIP, **(headers or {})})
    assert await client.begun() == 200
    return client.headers["content-encoding"]


# What a request takes


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("GZip", True),
        ("x-gzip", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip ; q = 0.5", True),
        ("gzip;q=0.001", True),
        ("*", True),
        ("*;q=0, gzip", True),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("", False),
        ("br, deflate, zstd", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("identity, gzip;q=0.9", False),
        ("gzip;q=2", False),
        ("gzip;q=-1", False),
        ("gzip;q=nan", False),
        ("gzip;q=inf", False),
        ("gzip;q=1e0", False),
        ("gzip;q=", False),
        ("gzip;level=9", False),
        ("gzip;q=1;q=0", False),
        ("gzip;q=١", False),
        ("not-gzip, gzipped", False),
        (",;,;q,=,;;", False),
    ],
)
def test_accept_encoding(header: str, taken: bool) -> None:
    assert prefers_gzip(header) is taken


def test_generated_headers_mean_what_their_weights_say() -> None:
    rng = random.Random(20261129)
    for _ in range(HEADERS):
        weights = {name: rng.choice([0, 1, 250, 500, 999, 1000]) for name in rng.sample(CODINGS, rng.randint(0, 4))}
        space = rng.choice(["", " ", "\t"])
        members = [
            name if weight == 1000 and rng.random() < 0.5 else f"{name}{space};{space}q={weight / 1000:.3f}"
            for name, weight in weights.items()
        ]
        wanted = weights.get("gzip", weights.get("*", 0))
        assert prefers_gzip(f",{space}".join(members)) is (wanted > 0 and wanted >= weights.get("identity", 0)), members


def test_a_header_of_a_megabyte_is_read_in_no_time() -> None:
    assert prefers_gzip("gzip;q=0.5," * 90_000)
    assert not prefers_gzip("," * 1_000_000 + ";" * 1_000_000)


# Who gets a compressed stream


@pytest.mark.parametrize(
    ("handler", "compress", "headers", "wanted"),
    [
        (follow, None, {}, "gzip"),
        (follow, None, {"Accept-Encoding": "identity"}, "identity"),
        (follow, None, {"Cookie": "theme=dark"}, "identity"),
        (follow, None, {"Authorization": "Bearer x"}, "identity"),
        (follow, True, {"Cookie": "theme=dark", "Authorization": "Bearer x"}, "gzip"),
        (follow, True, {"Accept-Encoding": "gzip;q=0"}, "identity"),
        (follow, False, {}, "identity"),
        (hello, None, {}, "identity"),
        (hello, True, {}, "gzip"),
    ],
)
async def test_what_anybody_may_read_is_compressed_and_the_rest_where_it_is_asked_for(
    handler: Any, compress: bool | None, headers: dict[str, str], wanted: str
) -> None:
    for about in ({"compress": compress}, {"settings": {"AGENT_SSE": {**MEMORY, "COMPRESS": compress}}}):
        async with serve(handler, **about) as site:  # type: ignore[arg-type]
            assert await coding(site, headers) == wanted
            assert await coding(site, headers, "HEAD") == wanted


async def test_a_route_with_a_guard_or_a_user_is_not_for_everybody() -> None:
    async def guard(c: Context) -> bool:
        return True

    @async_only_middleware
    def signed_in(get_response: Any) -> Any:
        async def middleware(request: HttpRequest) -> Any:
            request.user = User(pk=7)
            return await get_response(request)

        return middleware

    for about in ({"guards": [guard]}, {"middleware": [signed_in]}, {"signed": True}):
        async with serve(follow, **about) as site:  # type: ignore[arg-type]
            assert await coding(site) == "identity"
        async with serve(follow, compress=True, **about) as site:  # type: ignore[arg-type]
            assert await coding(site) == "gzip"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_compressed_stream_tells_what_it_depends_on_and_others_have_the_headers_they_had(method: str) -> None:
    async with serve(follow) as site:
        packed, plain = (site.connect(method=method, headers=headers) for headers in (GZIP, {}))
        await packed.begun()
        await plain.begun()
        assert packed.headers == {**plain.headers, "content-encoding": "gzip", "vary": "Accept-Encoding"}
        assert (plain.headers["incremental"], plain.headers["content-encoding"]) == ("?1", "identity")


@pytest.mark.parametrize("value", ["yes", 1, 0, "gzip"])
def test_another_value_is_refused(value: Any) -> None:
    with pytest.raises(RouteError, match="compress must be None or True or False, not"):
        Router().sse("stream/", hello, compress=value)


async def test_an_answer_that_is_no_stream_is_left_alone() -> None:
    async def missing(c: Context, stream: Stream) -> Any:
        return c.json({"error": "no such build"}, status=404)

    async with serve(missing, compress=True) as site:
        client = await site.connect(headers=GZIP).over()
        assert (client.status, client.json()) == (404, {"error": "no such build"})
        assert not {"content-encoding", "vary"} & client.headers.keys()


# Middleware


@async_only_middleware
def upper(get_response: Any) -> Any:
    async def content(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for part in parts:
            yield part.replace(b"hello", b"HELLO")

    async def middleware(request: Any) -> Any:
        response = await get_response(request)
        response.streaming_content = content(response.streaming_content)
        return response

    return middleware


@async_only_middleware
def plain(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        response = await get_response(request)
        del response.headers["Content-Encoding"]
        return response

    return middleware


async def test_a_middleware_that_reads_the_content_reads_events() -> None:
    async with serve(hello, compress=True, middleware=[upper]) as site:
        client = site.connect(headers=GZIP)
        assert (await client.rest())[0].data == "HELLO"
        assert client.headers["content-encoding"] == "identity"


@async_only_middleware
def copies_lazily(get_response: Any) -> Any:
    async def content(response: Any) -> AsyncIterator[bytes]:
        async for part in response.streaming_content:
            yield part.replace(b"hello", b"HELLO")

    async def middleware(request: Any) -> Any:
        response = await get_response(request)
        return StreamingHttpResponse(content(response), headers=response.headers)

    return middleware


@async_only_middleware
def iterates(get_response: Any) -> Any:
    async def content(response: Any) -> AsyncIterator[bytes]:
        async for part in response:
            yield part.replace(b"hello", b"HELLO")

    async def middleware(request: Any) -> Any:
        response = await get_response(request)
        return StreamingHttpResponse(content(response), content_type=response.headers["Content-Type"])

    return middleware


@pytest.mark.parametrize("wraps", [copies_lazily, iterates])
async def test_a_middleware_that_answers_with_a_response_of_its_own_announces_what_it_sends(wraps: Any) -> None:
    async with serve(hello, compress=True, middleware=[wraps]) as site:
        client = site.connect(headers=GZIP)
        assert (await client.rest())[0].data == "HELLO"
        assert client.headers.get("content-encoding", "identity") == "identity"
        assert b"".join(client.chunks) == client.raw


async def test_the_header_that_went_out_decides() -> None:
    async with serve(hello, compress=True, middleware=[plain]) as site:
        client = site.connect(headers=GZIP)
        assert (await client.rest())[0].data == "hello"
        assert b"".join(client.chunks).startswith(b"retry: ")


async def test_djangos_own_compression_leaves_it_alone() -> None:
    settings = {"MIDDLEWARE": ["django.middleware.gzip.GZipMiddleware"]}
    async with serve(hello, compress=True, settings=settings) as site:
        client = site.connect(headers=GZIP)
        assert (await client.rest())[0].data == "hello"
        assert gzip.decompress(b"".join(client.chunks)) == client.raw


async def test_a_slim_stream_is_compressed_too() -> None:
    async with serve(hello, compress=True, slim=True) as site:
        client = site.connect(headers=GZIP)
        assert (await client.rest())[0].data == "hello"
        assert client.headers["content-encoding"] == "gzip"


# What is shared


@pytest.mark.parametrize("way", ["through the task", "past the task"])
async def test_a_batch_is_deflated_once_for_all_its_followers(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    deflated: list[bytes] = []
    make = GzipEncoder.make_block

    def counted(gzip: GzipEncoder, data: bytes) -> Block:
        deflated.append(data)
        return make(gzip, data)

    monkeypatch.setattr(GzipEncoder, "make_block", counted)
    if way == "past the task":
        send_directly(monkeypatch)
    async with serve(follow, retry=None) as site:
        packed = [site.connect(headers=GZIP) for _ in range(5)]
        as_it_is = site.connect()
        for client in (*packed, as_it_is):
            await eventually("the first bytes", lambda client=client: client.chunks)
        await apublish_many(TOPIC, [f"line {number}" for number in range(20)])
        for client in packed:
            assert [event.data for event in await client.take(20)] == [f"line {number}" for number in range(20)]
        await as_it_is.take(20)
        assert deflated == [as_it_is.raw.removeprefix(b":\n")]
        assert len({client.chunks[-1] for client in packed}) == 1
        assert len(packed[0].chunks[-1]) < 0.3 * len(as_it_is.chunks[-1])


async def test_nothing_is_deflated_where_nobody_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GzipEncoder, "make_block", lambda *_: pytest.fail("nobody takes gzip"))
    async with serve(follow) as site:
        client = site.connect(headers={"Accept-Encoding": "br"})
        await apublish(TOPIC, "one")
        assert (await client.event()).data == "one"


async def test_everything_a_stream_can_send_is_in_one_gzip_stream_in_order() -> None:
    """Its own writes, small and large, comments, heartbeats, what was missed, what comes, folded reads and the end."""
    await apublish_many(TOPIC, [f"{'missed ' * 300}{number}" for number in range(30)])
    taken = asyncio.Event()

    async def handler(c: Context, stream: Stream) -> None:
        await stream.comment("so far")
        await stream.write("own")
        await stream.write("large " * 2_000)
        task = asyncio.create_task(_write_beside(stream, taken))
        await stream.follow(TOPIC)
        await task

    async with serve(handler, compress=True, heartbeat=0.05) as site:
        client, twin = site.connect(headers=GZIP), site.connect()
        for each in (client, twin):
            await each.take(32)
        taken.set()
        for number in range(5):
            await apublish(TOPIC, f"live {number}")
            await asyncio.sleep(0.06)
        await eventually("a heartbeat", lambda: b"\n:\n" in client.raw)
        await aclose_topic(TOPIC)
        events = [(event.event, event.data, event.id) for event in await client.rest()]
        assert [data for _, data, _ in events if data.startswith("live")] == [f"live {number}" for number in range(5)]
        assert sum(data == "beside" for _, data, _ in events) == 3
        assert events[-1][0] == "sse.end"
        assert Counter(events) == Counter((event.event, event.data, event.id) for event in await twin.rest())
        wire = b"".join(client.chunks)
        assert gzip.decompress(wire) == client.raw
        assert len(wire) < 0.1 * len(client.raw)


async def _write_beside(stream: Stream, taken: asyncio.Event) -> None:
    await taken.wait()
    for _ in range(3):
        await asyncio.sleep(0.08)
        await stream.write("beside")


async def test_bytes_are_counted_as_they_are_sent() -> None:
    ended: list[dict[str, Any]] = []

    async def note(*, stream: Stream, **told: Any) -> None:
        ended.append(told)

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("x" * 50_000)
        await apublish(TOPIC, "y" * 50_000)
        await aclose_topic(TOPIC)
        await stream.follow(TOPIC)

    stream_closed.connect(note)
    async with serve(handler, compress=True) as site:
        client = site.connect(headers=GZIP)
        await client.rest()
        (told,) = await eventually("the signal is sent", lambda: ended)
        assert told["bytes"] == len(b"".join(client.chunks)) < 1_000
        assert told["events"] == 2
    stream_closed.disconnect(note)


async def test_the_bounds_of_the_buffer_count_what_was_written() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("first")
        for _ in range(5):
            stream.write("x" * 1_000)
        waiting = stream.write("x" * 1_000)
        assert not waiting.done()  # type: ignore[attr-defined]
        await waiting

    async with serve(handler, compress=True, buffer_bytes=2_000) as site:
        client = site.connect(headers=GZIP)
        assert len(await client.rest()) == 8


# Endings


@pytest.mark.parametrize("ending", [Ending.MAX_DURATION, Ending.SHUTDOWN, Ending.KICKED, Ending.REVOKED, Ending.HANDLER_ERROR])
async def test_a_stream_that_is_broken_off_has_no_end_of_gzip(ending: Ending) -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.write("hello")
        if ending is Ending.HANDLER_ERROR:
            raise ValueError("oh")
        await asyncio.Event().wait()

    async with serve(handler, compress=True, control_events=False) as site:
        client = site.connect(headers=GZIP)
        await client.event()
        if ending is not Ending.HANDLER_ERROR:
            (await site.supervisor()).end(ending)
        await client.broken_off()
        with pytest.raises(EOFError):
            gzip.decompress(b"".join(client.chunks))


async def test_the_end_comes_after_the_cleanup_and_its_send_may_time_out() -> None:
    async with serve(hello, compress=True, send_timeout=3_600.0) as site:
        client = site.connect(headers=GZIP)
        client.hold()
        await client.stuck()
        transport: Any = (await site.supervisor())._transport
        while b"sse.end" not in client.raw:
            await client.take_one()
        await client.stuck()
        transport.tick(asyncio.get_running_loop().time() + 3_600)
        await client.over()
        assert not client.complete
        with pytest.raises(EOFError):
            gzip.decompress(b"".join(client.chunks))


# Cut and resumed


def events_of(received: bytes) -> tuple[list[str], str | None]:
    """What a client has of a response that was cut there, and the id that it comes back with."""
    decoder, inflate = Decoder(), zlib.decompressobj(16 + zlib.MAX_WBITS)
    events = decoder.feed(inflate.decompress(received))
    return [event.data for event in events if not (event.event or "").startswith("sse.")], decoder.last_event_id


async def test_wherever_it_is_cut_a_client_that_resumes_gets_each_event_once() -> None:
    """At every byte: in the header, in blocks, between them, in the end."""

    async def handler(c: Context, stream: Stream) -> None:
        await stream.follow(TOPIC)

    wanted = [f"line {number} {'compiled ' * (number % 7)}" for number in range(24)]
    await apublish_many(TOPIC, wanted[:6])
    async with serve(handler) as site:
        first = site.connect(headers=GZIP)
        await first.take(6)
        for start in range(6, 24, 3):
            await apublish_many(TOPIC, wanted[start : start + 3])
            await first.take(3)
        await aclose_topic(TOPIC)
        await first.rest()
        wire = b"".join(first.chunks)
        resumed: dict[str | None, list[str]] = {}
        for cut in range(len(wire) + 1):
            had, last = events_of(wire[:cut])
            assert had == wanted[: len(had)]
            if last not in resumed:
                again = site.connect(headers=GZIP, last_event_id=last)
                await again.over()
                resumed[last] = events_of(b"".join(again.chunks))[0] if again.status == 200 else []
            assert had + resumed[last] == wanted, cut
        assert len(resumed) > 6
        whole = [events_of(wire[:cut])[0] for cut in _ends_of_chunks(first)]
        assert [len(had) for had in whole if had] == [6, 9, 12, 15, 18, 21, 24, 24, 24], "a client has what was sent, at once"


def _ends_of_chunks(client: Client) -> list[int]:
    return [*itertools.accumulate(map(len, client.chunks))]
