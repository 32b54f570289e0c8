"""A second reading of the event stream format, apart from the package's, so that the two share no bug."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One event as an ``EventSource`` would dispatch it, and when its last byte was read (``time.monotonic()``)."""

    name: str
    data: str
    id: str
    at: float


@dataclass(slots=True)
class Parser:
    """Bytes in, events out; comments and ``retry`` are kept beside."""

    comments: list[float] = field(default_factory=list)
    retry: int | None = None
    raw: bytes = b""
    _rest: bytes = b""
    _id: str = ""

    def feed(self, data: bytes) -> Iterator[Received]:
        """Yield the events that ``data`` completes. The server writes LF only: a CR is an error here."""
        assert b"\r" not in data, f"a CR in the stream: {data!r}"
        self.raw += data
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            event = self._event(block.decode())
            if event is not None:
                yield event
        while self._rest.startswith(b":") and b"\n" in self._rest:
            self.comments.append(time.monotonic())
            self._rest = self._rest.split(b"\n", 1)[1]

    def _event(self, block: str) -> Received | None:
        name, data = "message", []
        for line in block.split("\n"):
            label, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if label == "":
                self.comments.append(time.monotonic())
            elif label == "event":
                name = value or "message"
            elif label == "data":
                data.append(value)
            elif label == "id":
                self._id = value
            elif label == "retry":
                self.retry = int(value)
        return Received(name=name, data="\n".join(data), id=self._id, at=time.monotonic()) if data else None
