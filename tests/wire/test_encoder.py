"""The dialect, byte by byte."""

from __future__ import annotations

import subprocess
import sys

import pytest

from django_agent_sse.exceptions import InvalidEvent
from django_agent_sse.wire import Event, comment, encode, frame, split_lines
from django_agent_sse.wire.encoder import id_first


def framed(data, **fields):
    """The bytes of one event, which must be the same through both doors."""
    assert frame(data, **fields) == encode(Event(data, **fields))
    return frame(data, **fields)


def test_h01_each_line_of_data_has_a_field_and_the_order_is_event_id_retry_data():
    assert (
        framed("Message\nIt is 0", event="time-update", id="0") == b"event: time-update\ndata: Message\ndata: It is 0\nid: 0\n\n"
    )
    assert framed("x", event="e", id="1", retry=2) == b"event: e\nretry: 2\ndata: x\nid: 1\n\n"


def test_an_id_can_be_moved_to_the_front_of_a_frame():
    assert id_first(frame("a\nid: b", event="e", id="1", retry=2)) == b"id: 1\nevent: e\nretry: 2\ndata: a\ndata: id: b\n\n"
    assert id_first(frame("x", id="é")) == "id: é\ndata: x\n\n".encode()
    for without in (frame("id: x"), frame("x", event="e")):
        assert id_first(without) == without


def test_h04_retry_is_written_inside_the_event():
    assert framed("x", retry=3000) == b"retry: 3000\ndata: x\n\n"


def test_h05_a_retry_of_zero_is_written():
    assert framed("x", retry=0) == b"retry: 0\ndata: x\n\n"


def test_h06_an_empty_id_is_written_and_no_id_is_not():
    assert framed("reset", id="") == b"data: reset\nid: \n\n"
    assert framed("reset", id=None) == b"data: reset\n\n"


def test_h06_empty_data_is_an_event():
    assert framed("") == b"data: \n\n"


def test_h12_cr_ends_a_line_of_data():
    assert framed("A\rB") == b"data: A\ndata: B\n\n"


def test_h13_crlf_ends_one_line_of_data():
    assert framed("A\r\nB") == b"data: A\ndata: B\n\n"


def test_h14_line_ends_may_be_mixed():
    assert framed("A\nB\rC\r\nD") == b"data: A\ndata: B\ndata: C\ndata: D\n\n"


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("end", ["\r", "\n"])
def test_h15_h16_h17_h18_a_line_end_in_event_or_id_raises_and_frames_nothing(field, end):
    with pytest.raises(InvalidEvent):
        frame("x", **{field: f"a{end}data: injected"})


def test_h19_two_crs_leave_an_empty_line_between():
    assert framed("A\r\rB") == b"data: A\ndata: \ndata: B\n\n"


@pytest.mark.parametrize("data", ["a\u2028b", "a\u2029b", "a\x85b", "a\x0bb", "a\x0cb", "a\x1cb", "a\x1db", "a\x1eb", "a\0b"])
def test_nothing_else_ends_a_line_of_data(data):
    assert framed(data) == f"data: {data}\n\n".encode()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        ("a\n", ["a", ""]),
        ("\na", ["", "a"]),
        ("\n", ["", ""]),
        ("a\n\nb", ["a", "", "b"]),
        ("\r\n\r", ["", "", ""]),
        ("\n\r", ["", "", ""]),
    ],
)
def test_empty_lines_of_data_are_kept(data, lines):
    assert framed(data) == "".join(f"data: {line}\n" for line in lines).encode() + b"\n"


def test_leading_and_trailing_spaces_are_data():
    assert framed("  x ", event=" e", id=" 1") == b"event:  e\ndata:   x \nid:  1\n\n"


def test_an_empty_name_is_written_as_an_empty_line_which_means_message():
    assert framed("x", event="") == b"event: \ndata: x\n\n"


def test_text_is_utf_8_without_a_byte_order_mark():
    assert framed("é😀\ufeff", event="ü", id="中") == "event: ü\ndata: é😀\ufeff\nid: 中\n\n".encode()
    assert framed("\ufeffx") == b"data: \xef\xbb\xbfx\n\n"


@pytest.mark.parametrize("data", ["x", "event: forged", "id: 1", ": comment", "\n\ndata: forged\n\n", "retry: 1\r\r"])
def test_data_cannot_leave_its_field(data):
    *lines, last, blank = framed(data).split(b"\n")
    assert all(line.startswith(b"data: ") for line in lines)
    assert (last, blank) == (b"", b"")


def test_a_comment_is_the_keep_alive_of_two_bytes():
    assert comment() == b":\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ping", b": ping\n"),
        ("a\nb", b": a\n: b\n"),
        ("a\r\n\rb", b": a\n:\n: b\n"),
        ("a\n\n", b": a\n:\n:\n"),
        (" x", b":  x\n"),
        ("data: x\n\n", b": data: x\n:\n:\n"),
        ("\u2028\0", b": \xe2\x80\xa8\0\n"),
    ],
)
def test_a_comment_is_one_line_each_and_never_a_blank_one(text, expected):
    assert comment(text) == expected


@pytest.mark.parametrize("bad", ["\ud800", None, 7, b"x"])
def test_a_comment_that_is_no_text_is_refused(bad):
    with pytest.raises(InvalidEvent, match=r"^comment (must be a str|holds a lone surrogate)"):
        comment(bad)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("a", ["a"]),
        ("a\n", ["a", ""]),
        ("a\rb\nc\r\nd", ["a", "b", "c", "d"]),
        ("\r\r\n\n", [""] * 4),
        ("a\x0b\x85b", ["a\x0b\x85b"]),
    ],
)
def test_split_lines_knows_three_line_ends(text, lines):
    assert split_lines(text) == lines


def test_the_wire_needs_no_django():
    source = "import sys, django_agent_sse.wire; print({'django', 'asgiref'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "set()\n", "")
