"""Bytes become lines, however they are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from django_agent_sse.wire.lines import LineSplitter

PIECES = st.lists(
    st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", "é".encode(), b"\xff", b"", "€".encode()[:2]]), max_size=40
)


def split(data: bytes, cuts: list[int], limit: int = 1000) -> list[str]:
    """The lines of ``data``, fed in pieces of these sizes."""
    splitter, lines = LineSplitter(limit), []
    for size in [*cuts, len(data)]:
        lines += splitter.feed(data[:size])
        data = data[size:]
    return lines + splitter.finish()


@given(pieces=PIECES, cuts=st.lists(st.integers(0, 5)))
def test_the_lines_do_not_depend_on_where_the_bytes_are_cut(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(pieces)
    assert split(data, cuts) == split(data, [])


@given(pieces=PIECES, cuts=st.lists(st.integers(0, 5)), limit=st.integers(7, 12))
def test_no_line_is_longer_than_it_may_be_and_nothing_is_lost(pieces: list[bytes], cuts: list[int], limit: int) -> None:
    data = b"".join(pieces).replace(b"\r", b"")
    lines = split(data, cuts, limit)
    assert all(len(line.encode()) <= limit for line in lines)
    if "\ufffd" not in data.decode("utf-8", "replace"):
        assert "".join(line.removesuffix("…") for line in lines) == data.decode().replace("\n", "")


def test_lf_and_crlf_end_lines_and_nothing_else_does() -> None:
    assert split("a\r\nb\n\nc\u2028d\x0be".encode(), []) == ["a", "b", "", "c\u2028d\x0be"]


def test_a_line_that_is_too_long_goes_on_behind_a_mark() -> None:
    assert split(b"x" * 25 + b"\nshort", [], limit=13) == ["xxxxxxxxxx…", "xxxxxxxxxx…", "xxxxx", "short"]
    assert split(b"x" * 13 + b"\n", [5, 5], limit=13) == ["x" * 13]
