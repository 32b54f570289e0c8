"""What takes text or bytes of others takes time that grows no faster than they do, in whatever pieces they come."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from django_agent_sse.admin.kv import SHOWN, pretty
from django_agent_sse.eventlog.redis.codec import notification
from django_agent_sse.logs import LINE_CHARACTERS, plain
from django_agent_sse.management.commands.sse_publish import BATCH_BYTES, CHUNK_BYTES, _compact, batches_of
from django_agent_sse.streams.addresses import client_ip
from django_agent_sse.streams.client import LONGEST, SHORT, MonitorOptions, client_of, short_agent
from django_agent_sse.streams.response import names_event_stream
from django_agent_sse.wire import Decoder, Event, frame
from django_agent_sse.wire.drawing import DrawnLines
from django_agent_sse.wire.log_lines import line_text
from tests.timing import LONG

from .test_expressions import check_growth
from .worst import halves, repeated

SMALL = (1_000, 10_000, 100_000) if LONG else (1_000, 10_000)
OPTIONS = MonitorOptions(address="full", user_agent="truncated")


def headers(text: str) -> tuple[object, str]:
    request = RequestFactory().get("/", headers={"User-Agent": text})
    scope = {"client": ("::1", 1), "headers": [(b"x-forwarded-for", text.encode())]}
    return client_ip(scope, 1), client_of(request, OPTIONS)[1]


def accepted(text: str) -> bool:
    return names_event_stream(RequestFactory().get("/", headers={"Accept": text}))


def split_in(size: int) -> Callable[[str], object]:
    """A splitter that gets so many bytes at a time."""

    def work(text: str) -> None:
        splitter, data = DrawnLines(1_048_576), text.encode()
        for start in range(0, len(data), size):
            splitter.feed(data[start : start + size])
        splitter.finish()

    return work


def decoded_in(size: int) -> Callable[[str], object]:
    def work(text: str) -> None:
        decoder, data = Decoder(), text.encode()
        for start in range(0, len(data), size):
            decoder.feed(data[start : start + size])

    return work


def rung_with(text: str) -> None:
    """A notification with so many empty events."""
    count = len(text) // 5
    found = notification(f"1 abcdefgh 1 {count} 0 - 0 1 {count}\n".encode() + b"0 0 \n" * count)
    assert found is not None
    assert len(found.records) == count


@pytest.mark.parametrize(
    ("call", "parts", "sizes"),
    [
        (plain, ["a", "\r", "a\r", "\x1b[", "\x1b]x"], ()),
        (lambda text: line_text(Event(text, event="error")), ["a", "\n", "error"], ()),
        (frame, ["a", "\n", "\r", "\r\n"], ()),
        (headers, ["1,", ",", "Version/1", "["], ()),
        (short_agent, ["Version/1", "Edg"], ()),
        (accepted, [",", "a,", ";"], ()),
        (
            split_in(CHUNK_BYTES),
            ["a", "a\r", "\r", "a\n", "\n", "\xff", "a\n\x1b[A", "\x1b[A", "\x1b[9999A\n", "\x1b[H\x1b[2J", "\x1b[1@"],
            (),
        ),
        (split_in(7), ["a", "a\r", "\r", "a\n", "a\n\x1b[A", "\x1b[31ma", "\x1b[1K\x1b[9D", "\t\b"], SMALL),
        (decoded_in(CHUNK_BYTES), ["data: a\n", "data:", "id: a\n\n"], ()),
        (decoded_in(7), ["data: a\n", "data:", "a", "\r"], SMALL),
        (rung_with, ["a"], SMALL),
        (lambda text: _compact(json.dumps([text])), ['"', "\\", " "], ()),
    ],
    ids=[
        "plain",
        "line_text",
        "frame",
        "headers",
        "agent",
        "accept",
        "lines",
        "lines by 7",
        "decoder",
        "decoder by 7",
        "notification",
        "json",
    ],
)
def test_time_grows_no_faster_than_what_comes(call: Callable[[str], object], parts: list[str], sizes: tuple[int, ...]) -> None:
    for part in parts:
        check_growth(call, repeated(part), *([sizes] if sizes else []))
    check_growth(call, halves(parts[0], parts[-1]), *([sizes] if sizes else []))


@pytest.mark.parametrize("size", [1, 1_000, CHUNK_BYTES])
def test_lines_on_standard_input_are_held_up_to_the_longest(size: int) -> None:
    class Pieces(io.RawIOBase):
        left = 300_000

        def read(self, _: int = -1) -> bytes:
            return b"x" * self.left + b"\nnext\n"

    [batch] = batches_of(Pieces(), size)  # type: ignore[arg-type]
    assert [number for number, _ in batch] == [1, 2]
    assert len(batch[0][1]) > size, "whoever gets it sees that it is too long"
    assert batch[1][1] == b"next"


def test_batches_have_no_more_bytes_than_they_may() -> None:
    class Much(io.RawIOBase):
        def read(self, _: int = -1) -> bytes:
            return (b"x" * 400_000 + b"\n") * 9

    sizes = [sum(len(line) for _, line in batch) for batch in batches_of(Much(), 500_000)]  # type: ignore[arg-type]
    assert sum(sizes) == 3_600_000
    assert max(sizes) < BATCH_BYTES + 400_000


OLD = re.compile(r"[^\n]*\r(?=[^\r\n])")
"""What the package once took away what a carriage return overwrote with: right, but a square."""


@given(st.text(st.sampled_from("ab\r"), max_size=30))
def test_what_a_carriage_return_overwrote_is_gone(line: str) -> None:
    assert plain(line) == OLD.sub("", line).replace("\r", "")


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("x" * LINE_CHARACTERS, "x" * LINE_CHARACTERS),
        ("x" * (LINE_CHARACTERS + 1), f"{'x' * LINE_CHARACTERS}… [cut: the line has 4,097 characters]"),
        ("y\r" + "x" * 50_000, f"{'x' * LINE_CHARACTERS}… [cut: the line has 50,000 characters]"),
        ("\x1b[31m" * 3_000 + "red", "red"),
        ("a\x1b[31", "a"),
    ],
)
def test_a_line_in_the_page_is_cut_where_it_is_too_long(line: str, shown: str) -> None:
    assert plain(line) == shown


@pytest.mark.parametrize(
    ("agent", "short"),
    [
        ("Mozilla/5.0 (Macintosh; Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.4.1", "Version/17.4.1"),
        ("x" * 2_000 + " Chrome/1", ""),
        ("Chrome/1 " * 2_000, ("Chrome/1 " * 2_000)[:SHORT]),
    ],
)
def test_a_user_agent_is_cut_before_it_is_looked_at(agent: str, short: str) -> None:
    assert short_agent(agent) == short


def test_a_forwarded_address_is_the_one_that_the_last_proxy_tells() -> None:
    scope = {"client": ("127.0.0.1", 1), "headers": [(b"x-forwarded-for", b"9,9," * 100_000 + b" 198.51.100.7 ")]}
    assert str(client_ip(scope, 1)) == "198.51.100.7"
    full = MonitorOptions(address="off", user_agent="full")
    assert client_of(RequestFactory().get("/", headers={"User-Agent": "y" * 400_000}), full) == ("", "y" * LONGEST)


class Text(str):
    """As ``SafeString``, which templates make."""


class Large:
    def __init__(self) -> None:
        self.text = "x" * 1_000_000

    def __repr__(self) -> str:
        raise AssertionError("this would make all of it")


@pytest.mark.parametrize(
    ("value", "begins"),
    [
        (Text("x" * 1_000_000), "xxx"),
        ([Text("x" * 1_000_000)], "['xxx"),
        ({"a": Large()}, "{'a': <Large>}"),
        (Large(), "<Large>"),
        ([b"x" * 1_000_000], "[b'xxx"),
    ],
)
def test_a_value_of_any_class_is_shown_by_its_beginning(value: Any, begins: str) -> None:
    text, cut = pretty(value)
    assert text.startswith(begins)
    assert cut
    assert len(text) <= SHOWN
