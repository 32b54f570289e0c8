"""Lines out of bytes."""

from __future__ import annotations

import pytest
from builds.lines import LineSplitter
from hypothesis import given
from hypothesis import strategies as st

LIMIT = 10


def split(data: bytes, size: int, limit: int = LIMIT) -> list[str]:
    splitter = LineSplitter(limit)
    lines = [line for start in range(0, len(data), size) for line in splitter.feed(data[start : start + size])]
    return lines + splitter.finish()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"\n\n", ["", ""]),
        (b"a\r\n\r\nb\r\n", ["a", "", "b"]),
        (b"10 %\r20 %\n", ["10 %\r20 %"]),
        ("\u2028 \x85 \x0b\n".encode(), ["\u2028 \x85 \x0b"]),
        (b"caf\xe9\n", ["caf\ufffd"]),
        ("ü€😀\n".encode(), ["ü€😀"]),
        (b"0123456789\n", ["0123456789"]),
        (b"0123456789\r\n", ["0123456789"]),
        (b"01234567890\n", ["0123456789", "0"]),
        (b"0123456789" * 3 + b"\nx\n", ["0123456789"] * 3 + ["x"]),
        ("012345678€9\n".encode(), ["012345678", "€9"]),
        (b"\x80" * 25 + b"\n", ["\ufffd" * 10, "\ufffd" * 10, "\ufffd" * 5]),
    ],
)
def test_lines_do_not_depend_on_the_reads(data: bytes, lines: list[str], size: int) -> None:
    assert split(data, size) == lines


@given(st.text(alphabet="ab\n€ü", max_size=200), st.integers(1, 50), st.integers(4, 20))
def test_nothing_is_lost(text: str, size: int, limit: int) -> None:
    lines = split(text.encode(), size, limit)
    assert "".join(lines) == text.replace("\n", "")
    assert all(len(line.encode()) <= limit for line in lines)


def test_a_line_that_never_ends_is_not_held() -> None:
    splitter = LineSplitter(LIMIT)
    for _ in range(1000):
        splitter.feed(b"xxxxxxx")
    assert len(splitter.finish()[0]) <= LIMIT
