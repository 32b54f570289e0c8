"""What can be piped, and that it is closed however the stream ends."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from django_agent_sse import Context, Stream
from django_agent_sse.exceptions import ArgumentInvalid
from django_agent_sse.streams import sources
from django_agent_sse.wire import Event
from tests.ids import plain
from tests.inprocess import Client, serve


async def piped(source: Any, **how: Any) -> list[str]:
    """The data that arrives of what is piped."""

    async def handler(c: Context, stream: Stream) -> None:
        counted.append(await stream.pipe(source, **how))

    counted: list[int] = []
    async with serve(handler, control_events=False) as site:
        events = await site.connect().rest()
    assert counted == [len(events)]
    assert {event.event for event in events} <= {how.get("event")}
    return [event.data for event in events]


async def agen(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item
        await asyncio.sleep(0)


def reader(data: bytes) -> asyncio.StreamReader:
    made = asyncio.StreamReader()
    made.feed_data(data)
    made.feed_eof()
    return made


# Kinds of sources


class Agent:
    """An agent as a project would import it: a plain object whose answer is an async iterator of tokens."""

    async def stream(self, prompt: str) -> AsyncIterator[str]:
        for token in ("You said ", prompt, ".\nAnything else?"):
            await asyncio.sleep(0)
            yield token


async def test_c06_an_agent_is_a_plain_import_whose_output_is_piped() -> None:
    agent = Agent()

    async def chat(c: Context, stream: Stream) -> None:
        sent = await stream.pipe(agent.stream(c.query["prompt"]), event="token")
        await stream.write({"tokens": sent}, event="done")

    async with serve(chat, control_events=False) as site:
        events = await site.connect(query="prompt=hello").rest()
    assert [(event.event, event.data) for event in events] == [
        ("token", "You said "),
        ("token", "hello"),
        ("token", ".\nAnything else?"),
        ("done", '{"tokens":3}'),
    ]


async def test_k04_an_async_iterator_with_a_name() -> None:
    assert await piped(agen("a", {"b": 1}, None, 3), event="token") == ["a", '{"b":1}', "null", "3"]


@pytest.mark.parametrize("source", [["a", "b"], ("a", "b"), {"a": 1, "b": 2}, (x for x in "ab"), iter(["a", "b"])], ids=plain)
async def test_k04_a_sync_iterable(source: Any) -> None:
    assert await piped(source) == ["a", "b"]


async def test_k04_the_lines_of_files_and_pipes(tmp_path: Path) -> None:
    lines = "one\ntwo\r\n\nü\n"
    file = tmp_path / "log"
    file.write_bytes(lines.encode())
    expected = ["one", "two", "", "ü"]
    assert await piped(reader(lines.encode())) == expected
    assert await piped(io.BytesIO(lines.encode())) == expected
    assert await piped(io.StringIO(lines)) == expected
    with file.open("rb") as binary, file.open(encoding="utf-8", newline="") as text:
        assert await piped(binary) == expected
        assert await piped(text) == expected


async def test_events_keep_their_own_name() -> None:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.pipe([Event("a", event="own", id="1"), "b"], event="given")

    async with serve(handler, control_events=False) as site:
        events = await site.connect().rest()
    assert [(event.event, event.id, event.data) for event in events] == [("own", "1", "a"), ("given", None, "b")]


async def numbers() -> AsyncIterator[int]:
    yield 1


async def later() -> list[int]:
    return [1]


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("text", "write() sends one value"),
        (b"bytes", "write() sends one value"),
        (memoryview(b"bytes"), "write() sends one value"),
        (42, "write() sends one value"),
        (None, "write() sends one value"),
        (Event("one"), "write() sends one value"),
        (list, "write() sends one value"),
        (numbers, "call it: pipe(numbers(…))"),
        (later(), "await it first: pipe(await later(…))"),
    ],
    ids=plain,
)
async def test_what_cannot_be_piped_says_what_can(source: Any, hint: str) -> None:
    with pytest.raises(ArgumentInvalid, match=r"cannot be piped: pipe\(\) takes an async or sync iterator") as raised:
        await anext(aiter(sources.items_of(source)))
    assert hint in str(raised.value)


# Framed text

FRAMED = [
    'data: {"type":"RUN_STARTED"}\n\n',
    "event: token\nid: 9\ndata: a\nda",
    "ta: b\n\n: a comment\nevent: sse.end\ndata: theirs\n\nid: sse.end~9\ndata: theirs too\n\nevent: ü\r",
    "\ndata: last\r\n\r\n",
    "data: never finished",
]
PARSED = [(None, None, '{"type":"RUN_STARTED"}'), ("token", "9", "a\nb"), ("ü", None, "last")]


async def parsed(source: Any) -> list[tuple[str | None, str | None, str]]:
    async def handler(c: Context, stream: Stream) -> None:
        counted.append(await stream.pipe_sse(source))

    counted: list[int] = []
    async with serve(handler, control_events=False) as site:
        client = site.connect()
        events = await client.rest()
    assert b"\r" not in client.raw
    assert counted == [len(events)]
    return [(event.event, event.id, event.data) for event in events]


@pytest.mark.parametrize(
    "source",
    [
        lambda: agen(*FRAMED),
        lambda: agen(*(part.encode() for part in FRAMED)),
        lambda: FRAMED,
        lambda: iter(FRAMED),
        lambda: "".join(FRAMED),
        lambda: "".join(FRAMED).encode(),
        lambda: io.StringIO("".join(FRAMED), newline=""),
        lambda: io.BytesIO("".join(FRAMED).encode()),
        lambda: reader("".join(FRAMED).encode()),
    ],
    ids=["async text", "async bytes", "list", "iterator", "text", "bytes", "text file", "binary file", "StreamReader"],
)
async def test_framed_text_is_parsed_and_framed_anew_and_reserved_events_stay_behind(source: Any) -> None:
    assert await parsed(source()) == PARSED


# Closing


class Source:
    """An async iterator that stays after its first item, and knows whether it was closed."""

    def __init__(self) -> None:
        self.items = iter(["first"])
        self.closed = 0

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> str:
        for item in self.items:
            return item
        await asyncio.Event().wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await asyncio.sleep(0.01)
        self.closed += 1


async def left_after_the_first_event(source: Any) -> Client:
    async def handler(c: Context, stream: Stream) -> None:
        await stream.pipe(source)

    async with serve(handler) as site:
        client = site.connect()
        await client.event()
        client.leave()
        return await client.over()


async def test_an_async_source_is_closed_when_the_client_leaves() -> None:
    source = Source()
    await left_after_the_first_event(source)
    assert source.closed == 1


async def test_an_async_generator_runs_its_finally_when_the_client_leaves() -> None:
    closed = []

    async def generate() -> AsyncIterator[str]:
        try:
            yield "first"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            closed.append("finally")

    await left_after_the_first_event(generate())
    assert closed == ["finally"]


async def test_a_source_is_closed_when_the_write_fails() -> None:
    source = Source()
    source.items = iter([object()])  # type: ignore[list-item]

    async def handler(c: Context, stream: Stream) -> None:
        await stream.pipe(source)

    async with serve(handler, commit_after=60) as site:
        assert (await site.connect().over()).status == 500
    assert source.closed == 1
