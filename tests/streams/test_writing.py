"""What a write puts on the wire, what it refuses, and what it leaves untouched when it does."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from django_agent_sse import Context, Stream
from django_agent_sse.exceptions import InvalidEvent
from django_agent_sse.wire import Event
from tests.inprocess import serve

Act = Callable[[Stream], Awaitable[object]]
FIRST = b"retry: 3000\n"


class Kind(str, enum.Enum):  # noqa: UP042
    A = "a"


async def wire_of(act: Act, **route: Any) -> bytes:
    """What ``act`` puts on the wire."""

    async def handler(c: Context, stream: Stream) -> None:
        await act(stream)

    async with serve(handler, control_events=False, **route) as site:
        client = await site.connect().over()
        assert client.status == 200
        return client.raw


async def data_of(value: object) -> str:
    """The data of one event with ``value``, as a client reads it."""

    async def handler(c: Context, stream: Stream) -> None:
        await stream.write(value)

    async with serve(handler, control_events=False) as site:
        (event,) = await site.connect().rest()
        return event.data


# What is written

WRITTEN: dict[str, tuple[object, str]] = {
    "test_a22 str": ("hello", "hello"),
    "test_a23 int": (42, "42"),
    "test_a24 bool": (True, "true"),
    "test_a24 None": (None, "null"),
    "test_a24 dict": ({"b": 1, "a": "ü"}, '{"b":1,"a":"ü"}'),
    "test_a24 list": ([1, 2.5, "x"], '[1,2.5,"x"]'),
    "test_a24 tuple": ((1,), "[1]"),
    "test_a24 bytes": ("größe".encode(), "größe"),
    "test_a24 bytearray": (bytearray(b"x"), "x"),
    "test_a24 memoryview": (memoryview(b"x"), "x"),
    "test_a24 datetime": (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), '"2026-01-02T00:00:00Z"'),
    "test_a24 decimal": (decimal.Decimal("1.50"), '"1.50"'),
    "test_a24 uuid": (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
    "test_a24 safe text": (mark_safe("<b>"), "<b>"),
    "test_a24 lazy text": (gettext_lazy("unheard of"), "unheard of"),
    "test_a24 member of a str enum": (Kind.A, "a"),
    "test_a25 Event": (Event("whole"), "whole"),
    "test_h06 empty": ("", ""),
    "test_h12 CR": ("a\rb", "a\nb"),
    "test_h14 mixed line ends": ("A\nB\rC\r\nD", "A\nB\nC\nD"),
    "test_h19 double CR": ("a\r\rb", "a\n\nb"),
    "a line separator of Unicode is data": ("a\u2028b\x85c", "a\u2028b\x85c"),
}


@pytest.mark.parametrize("row", WRITTEN)
async def test_a22_a24_values_arrive_as_text_or_json(row: str) -> None:
    value, data = WRITTEN[row]
    assert await data_of(value) == data


async def test_a25_an_event_is_written_with_all_its_fields() -> None:
    raw = await wire_of(lambda stream: stream.write(Event("d", event="e", id="1", retry=5)))
    assert raw == b"event: e\nretry: 5\ndata: d\nid: 1\n\n"


async def test_a26_write_sse_puts_all_lines_and_write_the_same() -> None:
    raw = b"event: e\nretry: 0\ndata: one\ndata: two\nid: 1\n\n"
    assert await wire_of(lambda stream: stream.write_sse(data="one\ntwo", event="e", id="1", retry=0)) == raw
    assert await wire_of(lambda stream: stream.write("one\ntwo", event="e", id="1", retry=0)) == raw


async def test_h08_an_awaitable_as_data_is_awaited() -> None:
    async def answer() -> object:
        await asyncio.sleep(0)
        return {"n": 1}

    async def act(stream: Stream) -> None:
        assert await stream.write(answer(), event="e", id="1")
        assert await stream.write_sse(asyncio.ensure_future(answer()))

    assert await wire_of(act) == b"event: e\n" + FIRST + b'data: {"n":1}\nid: 1\n\ndata: {"n":1}\n\n'


async def test_h08_what_an_awaitable_raises_is_raised_and_nothing_is_written() -> None:
    async def answer() -> object:
        raise LookupError

    async def act(stream: Stream) -> None:
        with pytest.raises(LookupError):
            await stream.write(answer())
        await stream.write("next")

    assert await wire_of(act) == FIRST + b"data: next\n\n"


async def test_the_first_event_carries_the_retry_and_no_other_does() -> None:
    async def act(stream: Stream) -> None:
        await stream.comment("before")
        await stream.write("one", event="e")
        await stream.write("two", event="e")

    assert await wire_of(act) == b": before\nevent: e\n" + FIRST + b"data: one\n\nevent: e\ndata: two\n\n"
    assert await wire_of(lambda stream: stream.write("one"), retry=None) == b"data: one\n\n"
    assert await wire_of(lambda stream: stream.write("one", retry=7)) == b"retry: 7\ndata: one\n\n"


async def test_k04_writeln_takes_one_line_end_off() -> None:
    async def act(stream: Stream) -> None:
        for line in ("a\n", "b\r\n", "c\r", "d\n\n", "e"):
            await stream.writeln(line, event="log")

    async with serve(lambda_handler(act), control_events=False) as site:
        events = await site.connect().rest()
    assert [(event.event, event.data) for event in events] == [("log", data) for data in ("a", "b", "c", "d\n", "e")]


def lambda_handler(act: Act) -> Any:
    async def handler(c: Context, stream: Stream) -> None:
        await act(stream)

    return handler


async def test_comments_are_lines_of_their_own_and_never_blank() -> None:
    async def act(stream: Stream) -> None:
        await stream.comment()
        await stream.comment("one\n\ntwo")
        await stream.write("x")

    assert await wire_of(act) == b":\n: one\n:\n: two\n" + FIRST + b"data: x\n\n"


# What is refused, and leaves no trace

REFUSED: dict[str, Act] = {
    "test_h15 LF in event": lambda stream: stream.write("x", event="a\nb"),
    "test_h16 CR in event": lambda stream: stream.write("x", event="a\rb"),
    "test_h17 LF in id": lambda stream: stream.write("x", id="a\nb"),
    "test_h18 CR in id": lambda stream: stream.write("x", id="a\rb"),
    "NUL in id": lambda stream: stream.write("x", id="a\0b"),
    "a reserved id": lambda stream: stream.write("x", id="sse.end~1"),
    "a negative retry": lambda stream: stream.write("x", retry=-1),
    "a fractional retry": lambda stream: stream.write("x", retry=1.5),  # type: ignore[arg-type]
    "a lone surrogate": lambda stream: stream.write("\ud800"),
    "a lone surrogate in a dict": lambda stream: stream.write({"a": "\ud800"}),
    "bytes that are no UTF-8": lambda stream: stream.write(b"\xff"),
    "no JSON": lambda stream: stream.write(object()),
    "not a number": lambda stream: stream.write([float("nan")]),
    "an Event and a name": lambda stream: stream.write(Event("x"), event="e"),
    "an Event as data": lambda stream: stream.write_sse(Event("x")),
    "a reserved id in an Event": lambda stream: stream.write(Event("x", id="sse.1")),
    "an id that is no text": lambda stream: stream.write("x", id=1),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("row", REFUSED)
@pytest.mark.parametrize("first", [True, False])
async def test_what_cannot_be_an_event_raises_at_the_call_and_leaves_nothing_behind(row: str, first: bool) -> None:
    async def act(stream: Stream) -> None:
        if not first:
            await stream.write("before", id="1")
        with pytest.raises(InvalidEvent):
            REFUSED[row](stream)
        assert stream.last_event_id == (None if first else "1")
        await stream.write("after")

    before = b"" if first else FIRST + b"data: before\nid: 1\n\n"
    assert await wire_of(act) == before + (FIRST if first else b"") + b"data: after\n\n"


async def test_a_refused_write_does_not_begin_the_response() -> None:
    async def handler(c: Context, stream: Stream) -> Any:
        with pytest.raises(InvalidEvent):
            stream.write("x", id="sse.1")
        return c.json({"error": "nothing to say"}, status=409)

    async with serve(handler) as site:
        assert (await site.connect().over()).status == 409
