"""One line of 1 and 8 MB on every way a line goes, and one of 64 MB refused at every door. With ``-s`` it prints its figures.

Without ``LONG_PROOFS=1`` the lines have half as much.

The seconds that others wait are here those in which this process works; ``test_live_lines`` has those on the wall.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.template import Context, Template
from django.test import override_settings
from django.urls import include, path

from django_agent_sse import Event, Router, Stream, Topic
from django_agent_sse.admin.topic_actions import PublishForm
from django_agent_sse.admin.topics import topic_log_router
from django_agent_sse.contrib.logging import LONGEST, TopicHandler
from django_agent_sse.eventlog.backend import event_log, reset
from django_agent_sse.eventlog.records import MOST_EVENT_BYTES
from django_agent_sse.exceptions import EventTooLarge
from django_agent_sse.logs import LINE_CHARACTERS
from django_agent_sse.wire import MAX_EVENT_BYTES, Decoder, comment, frame
from django_agent_sse.wire.lines import GOES_ON, LineSplitter
from tests.serving import ask_route, served
from tests.timing import LONG, bound

from .measuring import PING, WAIT, cost_of, get, ping

SIZES = (1_000_000, 8_000_000) if LONG else (500_000, 4_000_000)
TOO_LARGE = 64_000_000
KINDS = {"letters": "x", "quotes": '"', "returns": "x" * 79 + "\r"}
DENSE = "x\r"
"""A line end after each character: to a client half a million lines."""
ROOM = {"MAX_EVENT_BYTES": MOST_EVENT_BYTES}
"""The log's own limit, of 1 MiB, is as high here as it may be."""
MEMORY = "django_agent_sse.eventlog.memory.MemoryEventLog"
DATABASE = "django_agent_sse.eventlog.database.DatabaseEventLog"
GROWTH, NOISE = 30, 0.1
COPIES, SPARE = 16, 32_000_000
"""Bytes of memory: so many for each of the line, and for everything else."""
NAME = "lines.1"

Way = Callable[[str], Awaitable[object]]


async def _topic_of(c: object) -> str:
    return NAME


def _urls() -> list[Any]:
    router = Router()
    router.log("lines/<int:number>/log/", "lines.{number}", name="lines")
    topics = topic_log_router(_topic_of, [])
    return [path(PING[1:], ping), path("", include(router.urls)), path("topic/log/", include(topics.urls))]


@pytest.fixture(autouse=True)
def log(request: pytest.FixtureRequest) -> Iterator[None]:
    """A log of its own, in which ``NAME`` is served."""
    backend = getattr(request, "param", MEMORY)
    with served(_urls()), override_settings(AGENT_SSE={"EVENT_LOG": {"BACKEND": backend, "OPTIONS": ROOM}}):
        reset()
        event_log().clear_all()
        yield
        event_log().clear_all()
    reset()


# The ways


async def publish(line: str) -> None:
    await Topic("lines.2").apublish(line, event="stdout")


async def rendered(line: str, lines: int = 100) -> None:
    template = Template(f'{{% load agent_sse %}}{{% sse_log "{NAME}" "/lines/1/log/" lines={lines} %}}')
    html = await sync_to_async(template.render, thread_sensitive=False)(Context())
    assert len(html) < 40_000
    assert (f"… [cut: the line has {len(line):,} characters]" in html) == (lines > 0 and "\r" not in line)
    assert ("x" * 79 + "\n</pre>" in html) == (lines > 0 and line.endswith("x\r") and line[1] == "x")
    assert "position=" in html


async def rendered_without_lines(line: str) -> None:
    await rendered(line, 0)


async def of_range(line: str) -> None:
    status, size, first, last = await get("/lines/1/log/range/")
    assert (status, first[:9], last[-2:]) == (200, b'{"epoch":', b"]}")
    assert size > len(line)


async def of_raw(line: str) -> None:
    status, size, _, last = await get("/lines/1/log/raw/", "follow=0")
    assert (status, last[-1:]) == (200, b"\n")
    assert size == len(line) + 1


async def of_stream(line: str) -> None:
    status, size, _, last = await get("/lines/1/log/")
    assert (status, last[-2:]) == (200, b"\n\n")
    assert size > len(line)


async def of_topics_page(line: str) -> None:
    status, size, _, _ = await get("/topic/log/range/")
    assert status == 200
    assert size > len(line)


async def tailed(line: str) -> None:
    out = io.StringIO()
    await sync_to_async(call_command, thread_sensitive=False)("sse_tail", NAME, "--no-follow", stdout=out)
    assert out.tell() == len(line) + 1


async def run(line: str) -> None:
    program = f"import sys; [sys.stdout.write({line[:80]!r} * 10) for _ in range({len(line) // 800})]"
    command = ["sse_run", "run.1", "--quiet", "--replace", "--", sys.executable, "-c", program]
    await sync_to_async(call_command, thread_sensitive=False)(*command, stdout=io.StringIO(), stderr=io.StringIO())
    state = await event_log().astate("run.1")
    [last] = (await event_log().aread_after("run.1", state.top - 1)).records
    assert (last.event.event, state.closed) == ("exit", "completed")


WAYS: dict[str, Way] = {
    "publish": publish,
    "tail in the page": rendered,
    "tail, lines=0": rendered_without_lines,
    "range/": of_range,
    "raw/": of_raw,
    "stream": of_stream,
    "Topics page": of_topics_page,
    "sse_tail": tailed,
    "sse_run": run,
}


@pytest.fixture(scope="module", autouse=True)
def heading() -> None:
    print(f"\n\n{'way':18} {'line of':10} {'MB':>4} {'seconds':>9} {'others wait':>12} {'memory':>9}")


async def costs(way: str, kind: str, sizes: tuple[int, ...], part: str = "") -> None:
    """Send lines of these sizes on a way, print what it costs, and see that it grows no faster than they do."""
    before = NOISE
    for number, size in enumerate(sizes):
        part = part or KINDS[kind]
        line = part * (size // len(part))
        await event_log().aclear_all()
        await Topic(NAME).apublish(line, event="stdout")
        await Topic(NAME).aclose()
        cost = await cost_of(lambda line=line: WAYS[way](line))  # type: ignore[misc]
        shown = f"{cost.seconds:8.3f} s {cost.held * 1000:9.0f} ms {cost.peak / 1e6:6.1f} MB"
        print(f"{way:18} {kind:10} {size / 1e6:4.0f} {shown}")
        assert cost.held < WAIT, f"{way}: others waited {cost.held:.3f} s for a line of {size:,}"
        assert cost.peak < COPIES * size + SPARE
        assert number == 0 or cost.seconds < GROWTH * max(before, bound(NOISE, 1.0))
        before = cost.seconds


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_long_line_costs_no_more_than_it_is_long_and_holds_up_nobody(way: str, kind: str) -> None:
    await costs(way, kind, SIZES)


@pytest.mark.parametrize("way", WAYS)
async def test_a_line_that_is_half_a_million_lines_to_a_client_holds_up_nobody(way: str) -> None:
    await costs(way, "dense", SIZES[:1], DENSE)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("log", [DATABASE], indirect=True)
@pytest.mark.parametrize("way", ["publish", "range/", "raw/"])
async def test_the_same_in_the_database(way: str) -> None:
    await costs(way, "quotes", SIZES[:2])


async def by_publish(line: str) -> None:
    await Topic(NAME).apublish(line)


async def by_publish_many(line: str) -> None:
    await Topic(NAME).apublish_many(["before", line])


async def by_event(line: str) -> None:
    Event(line)


async def by_name(line: str) -> None:
    Event("", event=line)


async def by_frame(line: str) -> None:
    frame(line)


async def by_comment(line: str) -> None:
    comment(line)


async def by_command(line: str) -> None:
    with pytest.raises(CommandError, match=f"has {len(line):,} characters") as refused:
        await sync_to_async(call_command, thread_sensitive=False)("sse_publish", NAME, line, stdout=io.StringIO())
    assert refused.value.__cause__ is not None
    raise refused.value.__cause__


DOORS: dict[str, Way] = {
    "publish": by_publish,
    "publish_many": by_publish_many,
    "Event": by_event,
    "its name": by_name,
    "frame": by_frame,
    "comment": by_comment,
    "sse_publish": by_command,
}


@pytest.mark.parametrize("part", ["x", "\r\n"])
@pytest.mark.parametrize("door", DOORS)
async def test_a_line_of_64_mb_is_refused_at_every_door_before_it_costs_anything(door: str, part: str) -> None:
    line = part * (TOO_LARGE // len(part))

    async def refused() -> None:
        with pytest.raises(EventTooLarge, match=f"has {TOO_LARGE:,} characters .* {MAX_EVENT_BYTES:,} fit"):
            await DOORS[door](line)

    cost = await cost_of(refused)
    assert cost.held < WAIT
    assert cost.peak < SPARE
    assert not (await event_log().astate(NAME)).exists


async def test_the_form_of_the_topics_page_takes_64_kib() -> None:
    form = PublishForm({"text": "x" * TOO_LARGE})
    assert not form.is_valid()
    assert "at most 65536 characters" in form.errors["text"][0]


async def test_records_of_logging_are_cut_and_a_programs_line_is_split() -> None:
    handler = TopicHandler(NAME)
    handler.emit(logging.LogRecord("a", logging.INFO, "", 0, "x" * TOO_LARGE, None, None))
    await sync_to_async(handler.close, thread_sensitive=False)()
    record, details = (await event_log().aread_after(NAME)).records
    assert details.event.event == "record"
    assert record.event.data == "x" * LONGEST + f"… [cut: the record has {TOO_LARGE:,} characters]"
    lines = LineSplitter(MOST_EVENT_BYTES)
    pieces = [piece for _ in range(64) for piece in lines.feed(b"x" * 1_000_000)] + lines.finish()
    rest = TOO_LARGE - 7 * (MOST_EVENT_BYTES - len(GOES_ON.encode()))
    assert [len(piece.encode()) for piece in pieces] == [MOST_EVENT_BYTES] * 7 + [rest]


async def test_a_line_that_a_handler_writes_has_the_same_bound() -> None:
    async def writes(c: object, stream: Stream) -> None:
        await stream.write("x" * MAX_EVENT_BYTES)
        for verb in (stream.write, stream.writeln, stream.comment):
            with pytest.raises(EventTooLarge):
                verb("x" * (MAX_EVENT_BYTES + 1))
        with pytest.raises(EventTooLarge):
            await stream.pipe(["x" * TOO_LARGE])
        await stream.write("after")

    router = Router()
    router.sse("write/", writes)
    answer = await ask_route(router, "/write/")
    decoder = Decoder()
    events = [
        event for start in range(0, len(answer.body), 65_536) for event in decoder.feed(answer.body[start : start + 65_536])
    ]
    assert [len(event.data) for event in events] == [MAX_EVENT_BYTES, 5]


@pytest.mark.parametrize("part", ["x", "é", "\n", "\r", "x\n", "\0", "😀"])
def test_the_largest_event_passes_our_own_decoder_and_one_byte_more_is_refused(part: str) -> None:
    size = len(part.encode()) + 6 * (part[-1] in "\r\n")
    event = Event(part * (MAX_EVENT_BYTES // size))
    framed = frame(event.data)
    assert len(framed) <= MAX_EVENT_BYTES + len("data: \n\n")
    [found] = Decoder().feed(framed)
    assert found.data == event.data.replace("\r", "\n")
    with pytest.raises(EventTooLarge):
        Event(event.data + "x" * (MAX_EVENT_BYTES % size + 1))


@pytest.mark.parametrize("size", [8_000_000, 16_000_000])
async def test_the_logs_own_limit_refuses_a_longer_line_at_once(size: int) -> None:
    with override_settings(AGENT_SSE={"EVENT_LOG": {"BACKEND": MEMORY, "OPTIONS": {}}}):
        reset()
        line = "x" * size

        async def refused() -> None:
            with pytest.raises(EventTooLarge, match=f"{size:,} bytes, 1,048,576 fit"):
                await Topic(NAME).apublish(Event(line))

        cost = await cost_of(refused)
        assert cost.held < WAIT
        assert cost.peak < SPARE
        assert not (await event_log().astate(NAME)).exists


async def test_a_long_line_says_in_the_page_that_it_is_cut() -> None:
    await Topic(NAME).apublish_many(["one", "x" * 900_000, "three"])
    html = await sync_to_async(Template(f'{{% load agent_sse %}}{{% sse_log "{NAME}" "/lines/1/log/" %}}').render)(Context())
    assert f'<pre dir="ltr">\none\n{"x" * LINE_CHARACTERS}… [cut: the line has 900,000 characters]\nthree\n</pre>' in html
