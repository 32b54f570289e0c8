"""Streams drawn from a seed: what a careless caller might write, and bytes that nobody's encoder made.

A fast generator for very many of them; ``test_roundtrip.py`` asks Hypothesis, which finds the shortest example of a failure.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django_agent_sse.exceptions import EventTooLarge, InvalidEvent
from django_agent_sse.wire import MAX_EVENT_BYTES, MAX_RETRY, comment, frame

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
SURROGATES = ["\ud800", "\udbff", "\udc00", "\udfff", "\ud83d\ude00", "\ude00\ud83d"]
BREAKING = ["\r", "\n", "\r\n", "\n\n", "\r\r", "\n\r", "\0", *SURROGATES]
HARMLESS = [
    *(character for character in CONTROLS if character not in "\r\n\0"),
    *(
        "\ufeff",
        "\u2028",
        "\u2029",
        "\u200b",
        "\u202e",
        "\ufffd",
        "\ufffe",
        "\uffff",
        "\U0010ffff",
        "😀",
        "é",
        "e\u0301",
        "漢",
        "ﷺ",
    ),
    *(" ", "  ", "\t", ":", "::", ": ", " :", "data: x", "event: y", "id: z", "retry: 1", "data", "[DONE]", "null", '{"a": 1}'),
    *("sse", "sse ", "ss", "message", "error", "0", "-1", "٣", "\u3000", "x" * 100),
]
RESERVED = ["sse.", "sse.end", " sse.gap", "SSE.END", "\t Sse.x"]
RETRIES: list[Any] = [0, 1, 250, MAX_RETRY - 1, MAX_RETRY, MAX_RETRY + 1, -1, -(10**30), 10**30, 2**31, 2**63]
WRONG: list[Any] = [None, 0, 7, 1.5, True, b"bytes", bytearray(b"x"), ["x"], {"a": 1}, object()]
TOO_LARGE = ["x" * (MAX_EVENT_BYTES + 1), "é" * (MAX_EVENT_BYTES // 2 + 1), "\n" * (MAX_EVENT_BYTES // 7 + 8)]
LONGEST = 200_000


@dataclass(slots=True)
class Written:
    """One stream, and what whoever wrote it meant.

    Attributes:
        stream: Its bytes.
        chunks: The same bytes, cut as a network might.
        events: What was taken: data with its line ends as LF, name, id, retry.
        refused: How many attempts were refused.
    """

    stream: bytes = b""
    chunks: list[bytes] = field(default_factory=list)
    events: list[tuple[str, str | None, str | None, int | None]] = field(default_factory=list)
    refused: int = 0


class Generator:
    """Draws streams. The same seed draws the same."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._pieces = [*HARMLESS, *BREAKING, *RESERVED]

    def written(self, attempts: int) -> Written:
        """Attempts to write so many events and comments, one after the other. Each is taken whole, or refused with our error."""
        made, parts = Written(), list[bytes]()
        for _ in range(attempts):
            if self._random.random() < 0.1:
                self._write_comment(made, parts)
            else:
                self._write_event(made, parts)
        made.stream = b"".join(parts)
        made.chunks = self.cut(made.stream)
        return made

    def _write_event(self, made: Written, parts: list[bytes]) -> None:
        data, name, id, retry = self._text(), self._name(), self._name(), self._retry()
        if self._take(made, parts, lambda: frame(data, name, id, retry), (data, name, id, retry)):
            made.events.append((data.replace("\r\n", "\n").replace("\r", "\n"), name, id, retry))

    def _write_comment(self, made: Written, parts: list[bytes]) -> None:
        text = self._text()
        self._take(made, parts, lambda: comment(text), (text, None, None, None))

    def _take(self, made: Written, parts: list[bytes], write: Callable[[], bytes], meant: tuple[Any, Any, Any, Any]) -> bool:
        """Write it; return whether it was taken. It is refused where it has to be, and nowhere else."""
        refusal: type[InvalidEvent] | None = None
        try:
            parts.append(write())
        except InvalidEvent as error:
            refusal = type(error)
            made.refused += 1
        wanted = refusal_of(*meant)
        assert refusal is wanted, f"{meant!r:.500}: {refusal}, not {wanted}"
        return refusal is None

    def raw(self) -> bytes:
        """Bytes that nobody's encoder made: a soup of what the format knows, noise, or a stream of ours with something wrong."""
        draw = self._random
        kind = draw.random()
        if kind < 0.6:
            stream = b"".join(draw.choice(draw.choice(SOUP)) for _ in range(draw.randrange(40)))
        elif kind < 0.7:
            stream = draw.randbytes(draw.randrange(200))
        else:
            stream = self._spoiled(b"".join(frame(text) for text in ("one", "two\nlines", "three")) + frame("x", "name", "7", 30))
        if draw.random() < 0.1:
            stream = draw.choice([b"\xef\xbb\xbf", b"\xef\xbb", b"\xef\xbb\xbf" * 2, b"\xfe\xff", b"\xff\xfe"]) + stream
        return stream

    def _spoiled(self, stream: bytes) -> bytes:
        draw, spoiled = self._random, bytearray(stream)
        for _ in range(draw.randrange(1, 6)):
            place, how = draw.randrange(len(spoiled)), draw.random()
            if how < 0.4:
                spoiled[place] = draw.choice(b"\r\n\0: \xff\xc3") if draw.random() < 0.7 else draw.randrange(256)
            elif how < 0.6:
                del spoiled[place]
            elif how < 0.8:
                spoiled.insert(place, draw.choice(b"\r\n\0: \xff\xc3"))
            else:
                other = draw.randrange(len(spoiled))
                spoiled[place:place] = spoiled[min(place, other) : max(place, other)]
        return bytes(spoiled)

    def cut(self, stream: bytes) -> list[bytes]:
        """Cut it: not at all, byte by byte with nothing between, or at any places."""
        draw, length = self._random, len(stream)
        how = draw.random()
        if how < 0.1 or not stream:
            return [stream]
        if how < 0.2 and length < 2_000:
            return [chunk for place in range(length) for chunk in (stream[place : place + 1], b"")]
        places = sorted(draw.randrange(length + 1) for _ in range(draw.randrange(1, 12)))
        return [stream[start:end] for start, end in zip([0, *places], [*places, length], strict=True)]

    def _text(self) -> Any:
        draw, how = self._random, self._random.random()
        if how < 0.02:
            return draw.choice(WRONG)
        if how < 0.021:
            return self._long(LONGEST)
        if how < 0.05:
            return ""
        pieces = self._pieces if how < 0.2 else [*HARMLESS, "\n", "\r\n", "\r"]
        return "".join(self._piece(pieces) for _ in range(draw.randrange(8)))

    def _name(self) -> Any:
        draw, how = self._random, self._random.random()
        if how < 0.4:
            return None
        if how < 0.42:
            return draw.choice(WRONG)
        if how < 0.421:
            return self._long(LONGEST // 10)
        pieces = self._pieces if how < 0.5 else HARMLESS
        return "".join(self._piece(pieces) for _ in range(draw.randrange(5)))

    def _long(self, longest: int) -> str:
        piece = self._random.choice(self._pieces)
        return piece * (self._random.randrange(longest) // len(piece) + 1)

    def _piece(self, pieces: list[str]) -> str:
        draw = self._random
        if draw.random() < 0.8:
            return draw.choice(pieces)
        first, end = draw.choice([(0x20, 0x7F), (0xA0, 0x800), (0x800, 0xD800), (0xE000, 0x110000)])
        return "".join(chr(draw.randrange(first, end)) for _ in range(draw.randrange(6)))

    def _retry(self) -> Any:
        draw, how = self._random, self._random.random()
        if how < 0.5:
            return None
        return draw.choice(RETRIES) if how < 0.6 else draw.choice(WRONG) if how < 0.62 else draw.randrange(MAX_RETRY + 1)


_DIGITS = [b"1", b"12", b"0012", b"99999999999", b"9" * 400, b"+1", b"1.5", b"1_0", b" 5", "٣".encode()]
SOUP: list[list[bytes]] = [
    [
        b"data",
        b"event",
        b"id",
        b"retry",
        b"data:",
        b"event: ",
        b"id: ",
        b"retry:",
        b":",
        b": ",
        b" ",
        b"Data:",
        b"dataa:",
        b"\0data:",
    ],
    [b"\r", b"\n", b"\r\n", b"\n\n", b"\r\r", b"\n\r", b"\r\n\r\n"],
    [
        b"x",
        b"\0",
        b" ",
        b"\t",
        b"\x0b",
        b"\x0c",
        b"\x1c",
        b"\x85",
        b"message",
        b"data: x\n",
        b"id: 1\n",
        b"event: e\r\n",
        b"id\n",
    ],
    [*_DIGITS, *(b"retry: %b\n" % digits for digits in _DIGITS)],
    [
        b"\xef\xbb\xbf",
        b"\xef",
        b"\xbb",
        b"\xff",
        b"\xc3",
        b"\xa9",
        b"\xe2\x80\xa8",
        b"\xe2\x80",
        b"\xf0\x9f\x98\x80",
        b"\xf0\x9f\x98",
    ],
    [b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xc0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\x80"],
]


def refusal_of(data: Any, name: Any, id: Any, retry: Any) -> type[InvalidEvent] | None:
    """The error that there has to be, said from the rules and not from the code: the worst of what is wrong."""
    lines = [value for value in (name, id) if value is not None]
    texts = [data, *lines]
    if not all(isinstance(value, str) for value in texts):
        return InvalidEvent
    if retry is not None and (type(retry) is not int or not 0 <= retry <= MAX_RETRY):
        return InvalidEvent
    if any(character in line for line in lines for character in "\r\n\0"):
        return InvalidEvent
    if any(line.strip().lower().startswith("sse.") for line in lines):
        return InvalidEvent
    if any("\ud800" <= character <= "\udfff" for value in texts if not value.isascii() for character in value):
        return InvalidEvent
    ends = data.replace("\r\n", "\n").replace("\r", "\n").count("\n")
    return EventTooLarge if len(data.encode()) + 6 * ends > MAX_EVENT_BYTES else None


def many(seed: int, attempts: int) -> Iterator[Written]:
    """Streams of so many attempts altogether."""
    generator = Generator(seed)
    while attempts > 0:
        some = min(attempts, generator._random.randrange(1, 40))
        attempts -= some
        yield generator.written(some)
