"""Limits of what others send: a tail in the page, a body, records of logging, a server that never stops."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management.base import OutputWrapper
from django.http import Http404
from django.test import AsyncRequestFactory, override_settings
from django.urls import include, path

from django_agent_sse import Context, Event, Stream, Topic
from django_agent_sse.contrib.log_records import CHARACTERS
from django_agent_sse.contrib.logging import LONGEST, TopicHandler
from django_agent_sse.eventlog.backend import event_log, reset
from django_agent_sse.eventlog.base import PAGE_BYTES
from django_agent_sse.exceptions import BodyTooLarge
from django_agent_sse.logs import LINE_CHARACTERS, MAX_COUNT, READS, TEXT_CHARACTERS, LogTail, log_tail
from django_agent_sse.management.output import Pause
from django_agent_sse.management.remote import RemoteTail
from django_agent_sse.streams import body as bodies
from django_agent_sse.streams.body import AT_ONCE, MOST_BYTES, MOST_VALUES
from django_agent_sse.topics.buffered_publisher import CAPACITY_BYTES
from tests.live.servers import poll
from tests.serving import ask, ask_route, served
from tests.views.test_answers import routed

from .measuring import PING, WAIT, cost_of, get, ping

NAME = "limits.1"
KERNEL_BYTES = 64 * 2**20
"""More than the system keeps of one connection, in both of its buffers."""


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    reset()
    yield
    event_log().clear_all()
    reset()


# A tail in the page


def test_the_last_lines_are_the_last_also_where_a_page_of_the_log_has_not_room_for_all() -> None:
    Topic(NAME).publish_many([f"{number} {'x' * 100_000}" for number in range(60)])
    tail = log_tail(NAME, 60)
    numbers = [int(line.partition(" ")[0]) for line in tail.lines]
    assert numbers == [*range(numbers[0], 60)]
    assert len(numbers) > 1
    assert tail.position == f"{event_log().state(NAME).epoch}.60"


@pytest.mark.parametrize("count", [1, 100, MAX_COUNT, 10**9])
def test_a_tail_reads_so_much_of_the_log_and_shows_so_much_of_it(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    Topic(NAME).publish_many([f"{'x' * (number * 997 % 90_000)}" for number in range(300)])
    read: list[int] = []
    original = event_log()._read_after

    def reading(*asked: Any) -> Any:
        page = original(*asked)
        read.append(sum(len(record.event.data) for record in page.records))
        return page

    monkeypatch.setattr(event_log(), "_read_after", reading)
    tail = log_tail(NAME, count)
    assert sum(read) <= (READS + 1) * PAGE_BYTES
    assert len(tail.text) <= TEXT_CHARACTERS + len(tail.lines)
    assert 0 < len(tail.lines) <= min(count, MAX_COUNT)
    assert max(map(len, tail.lines)) < LINE_CHARACTERS + 60


@pytest.mark.parametrize("count", [0, -1, -(10**9)])
def test_a_tail_without_lines_reads_no_event(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    Topic(NAME).publish_many(["x" * 1_000_000, "y"])
    state = event_log().state(NAME)
    monkeypatch.setattr(event_log(), "_read_after", None)
    assert log_tail(NAME, count) == LogTail(lines=[], top=2, position=f"{state.epoch}.2")


def test_many_short_lines_of_one_event_are_looked_at_from_their_end() -> None:
    Topic(NAME).publish("\n" * 1_000_000 + "a\nb")
    assert log_tail(NAME, 3).lines == ["", "a", "b"]


# A body


def context(body: bytes) -> Context:
    request = AsyncRequestFactory().post("/", data=body, content_type="application/json")
    return Context(request, {}, route="/", cache="default")


LISTS = b"[" + b"[]," * 800_000 + b"0]"


@pytest.mark.parametrize("body", [LISTS, b"[" + b"0," * MOST_VALUES + b"0]", b"[" + b'"",' * 800_000 + b"0]", b"[" * 1_000_000])
async def test_a_body_with_too_many_values_is_a_413(body: bytes) -> None:
    with pytest.raises(BodyTooLarge, match="over 100,000 values and names") as refused:
        await context(body).json_body()
    assert refused.value.status == 413


async def test_commas_in_text_are_no_values() -> None:
    text = '1,2:[{\\"' * 200_000
    assert await context(f'"{text}"'.encode()).json_body(limit=3_000_000) == text.replace("\\", "")
    assert await context(b"[" + b"0," * (MOST_VALUES - 2) + b"0]").json_body() == [0] * (MOST_VALUES - 1)


async def test_no_limit_of_a_project_is_above_the_most_that_is_parsed() -> None:
    for about in ({"limit": 10**9}, {}):
        with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=None), pytest.raises(BodyTooLarge, match=f"over {MOST_BYTES} bytes"):
            await context(b'"' + b"x" * MOST_BYTES + b'"').json_body(**about)


@pytest.mark.parametrize(("size", "aside"), [(AT_ONCE - 2, False), (AT_ONCE, True)])
async def test_a_large_body_is_parsed_in_a_thread(size: int, aside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set[int]()
    original = bodies._parsed

    def parsing(body: bytes) -> Any:
        threads.add(threading.get_ident())
        return original(body)

    monkeypatch.setattr(bodies, "_parsed", parsing)
    assert await context(b'"' + b"x" * size + b'"').json_body() == "x" * size
    assert (threads != {threading.get_ident()}) == aside


async def test_the_route_answers_413_before_it_begins() -> None:
    async def reads(c: Context, stream: Stream) -> None:
        await stream.write(await c.json_body())

    answer = await ask_route(routed(reads, methods=["POST"], commit_after=60), method="POST", body=LISTS)
    assert answer.status == 413
    assert "100,000 values" in answer.json()["error"]["message"]


@pytest.mark.urls("tests.cost.urls")
@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * 49_990 + b"0]",
        b"{" + b",".join(b'"%x":0' % number for number in range(49_990)) + b"}",
        b"[" + (b"9" * 4_299 + b",") * 560 + b"0]",
        LISTS,
        b'"' + b'\\" ,' * 1_000_000 + b'"',
    ],
    ids=["lists", "names", "numbers", "too many", "text"],
)
async def test_no_body_holds_up_others(body: bytes) -> None:
    async def parse() -> None:
        try:
            await context(body).json_body(limit=MOST_BYTES)
        except BodyTooLarge:
            assert body is LISTS

    assert (await cost_of(parse)).held < WAIT


@pytest.mark.parametrize("part", [",", "text/htm,", ";", " ,"])
async def test_no_accept_header_of_a_request_that_is_refused_holds_up_others(part: str) -> None:
    async def missing(c: Context, stream: Stream) -> None:
        raise Http404

    async def asks() -> None:
        answer = await ask("/", headers={"Accept": part * (1_000_000 // len(part))})
        assert (answer.status, answer.json()["error"]["type"]) == (404, "not_found")

    with served([path("", include(routed(missing).urls)), path(PING[1:], ping)]):
        assert (await cost_of(asks)).held < WAIT


@pytest.mark.parametrize("framed", ["data: " + "x" * 8_000_000 + "\n\n", "data: x\n" * 500_000 + "\n"])
async def test_framed_text_is_piped_in_steps(framed: str) -> None:
    async def pipes(c: Context, stream: Stream) -> None:
        await stream.pipe_sse(framed)

    with served([path("", include(routed(pipes).urls)), path(PING[1:], ping)]):

        async def piped() -> None:
            status, size, _, _ = await get("/")
            assert status == 200
            assert size > len(framed)

        assert (await cost_of(piped)).held < WAIT


# Records of logging


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    handler = TopicHandler(NAME)
    logger = logging.getLogger("tests.limits")
    logger.setLevel(1)
    logger.propagate = False
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)
    handler.close()


def kept(logger: logging.Logger) -> list[Event]:
    next(handler for handler in logger.handlers if isinstance(handler, TopicHandler)).flush()
    return [record.event for record in event_log().read_after(NAME, 0, 5_000).records if record.event.event != "record"]


def test_a_record_that_is_too_long_is_cut_and_keeps_no_other_out(logger: logging.Logger) -> None:
    logger.info("before")
    logger.info("x" * 8_000_000)
    logger.info("after")
    assert [event.data for event in kept(logger)] == [
        "before",
        "x" * LONGEST + "… [cut: the record has 8,000,000 characters]",
        "after",
    ]


def test_a_record_that_is_larger_than_the_log_takes_is_cut_to_that(logger: logging.Logger) -> None:
    with override_settings(AGENT_SSE={"EVENT_LOG": {"BACKEND": event_log_path(), "OPTIONS": {"MAX_EVENT_BYTES": 100}}}):
        reset()
        for text in ("before", "é" * 1_000, "after"):
            logger.error(text)
        found = kept(logger)
    assert [event.data for event in found if len(event.data) < 10] == ["before", "after"]
    [cut] = [event for event in found if len(event.data) > 10]
    assert cut.data.startswith("é" * 20)
    assert cut.data.endswith("… [cut: the record has 1,000 characters]")


def test_records_wait_up_to_so_many_bytes(logger: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = next(handler for handler in logger.handlers if isinstance(handler, TopicHandler))._publisher
    held = threading.Event()
    monkeypatch.setattr(publisher, "_append", lambda events, key: held.wait(20))
    logger.info("x" * LONGEST)
    poll("the first one is on its way", lambda: publisher._sending)  # else it would tell of those that are missing already
    for _ in range(99):
        logger.info("x" * LONGEST)
    told = sum(len(event.data) + len(event.details.data) for event, _ in publisher._waiting)
    assert told <= publisher._bytes <= CAPACITY_BYTES + LONGEST + CHARACTERS
    assert publisher._missing == 100 - len(publisher._waiting) - publisher._sending > 0
    held.set()


# A server that never stops


def test_a_server_that_sends_faster_than_is_printed_is_held() -> None:
    """What nobody has printed yet stays with the server, but for what the kernel has."""
    sent = 0

    def serve() -> None:
        nonlocal sent
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            with contextlib.suppress(OSError):
                while True:
                    sent += connection.send(b"data: x\n\n" * 8_192)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        tail = RemoteTail(
            f"http://127.0.0.1:{listener.getsockname()[1]}/", {}, tell=print, pause=Pause(OutputWrapper(io.StringIO()))
        )
        batches = tail.batches()
        assert next(batches)
        before = -1
        while before != sent:
            before = sent
            time.sleep(0.3)
        assert before < KERNEL_BYTES
        assert next(batches)
        batches.close()
        server.join(60)
        assert not server.is_alive()


def event_log_path() -> str:
    return "django_agent_sse.eventlog.memory.MemoryEventLog"
