"""An HTTP/1.1 client on a bare socket: what arrives, when it arrives, and how the connection is left is under control."""

from __future__ import annotations

import json
import socket
import struct
import time
import zlib
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit

from .parser import Parser, Received

RST_ON_CLOSE = struct.pack("ii", 1, 0)
PATIENCE = 60.0
"""Seconds that anything may take which is not itself measured."""


class EndOfStreamError(Exception):
    """The server ended the response before what was waited for had come."""


class _Body:
    """Takes the codings off a body: it is chunked, counted, or lasts until the connection ends, and may be gzip.

    Attributes:
        complete: It has ended as HTTP says.
        whole: It has ended as gzip says; true where it is not compressed.
    """

    def __init__(self, headers: dict[str, str]) -> None:
        self.chunked = headers.get("transfer-encoding") == "chunked"
        length = headers.get("content-length")
        self.left = None if length is None else int(length)
        self.complete = self.left == 0
        self._buffer = b""
        self._gzip = zlib.decompressobj(16 + zlib.MAX_WBITS) if headers.get("content-encoding") == "gzip" else None

    @property
    def whole(self) -> bool:
        return self._gzip is None or self._gzip.eof

    def feed(self, data: bytes) -> bytes:
        payload = self._payload(data)
        return payload if self._gzip is None else self._gzip.decompress(payload)

    def _payload(self, data: bytes) -> bytes:
        if not self.chunked:
            if self.left is not None:
                self.left -= len(data)
                self.complete = self.left <= 0
            return data
        self._buffer += data
        payload = b""
        while not self.complete:
            size, found, rest = self._buffer.partition(b"\r\n")
            if not found or len(rest) < (length := int(size.split(b";")[0], 16)) + 2:
                break
            assert rest[length : length + 2] == b"\r\n", f"a broken chunk: {self._buffer[:80]!r}"
            payload += rest[:length]
            self._buffer = rest[length + 2 :]
            self.complete = length == 0
        return payload


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)


_clients: set[Client] = set()


def close_all() -> None:
    """Close what a failing test left open."""
    for client in tuple(_clients):
        client.close()


class Client:
    """One request on its own connection. It is sent at once; everything that waits takes ``within`` seconds at most.

    Attributes:
        complete: The body ended as HTTP says; false while it is open, and after a connection that was cut.
        events: Every event so far.
        most: Bytes that it reads at once.
    """

    most = 1 << 16

    def __init__(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: dict[str, str | None] | None = None,
        body: bytes = b"",
        receive_buffer: int | None = None,
        **query: Any,
    ) -> None:
        address = urlsplit(url)
        assert not address.query, f"{url}: give the query as keywords"
        target = address.path + (f"?{urlencode(query)}" if query else "")
        fields = {"Host": address.netloc, "Accept": "text/event-stream", **(headers or {})}
        if body:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
        self.method = method
        self.events: list[Received] = []
        self.parser = Parser()
        self._pending: deque[Received] = deque()
        self._buffer = b""
        self._body: _Body | None = None
        self._closed = False
        self.socket = socket.socket()
        _clients.add(self)
        try:
            if receive_buffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.settimeout(PATIENCE)
            self.socket.connect((address.hostname, address.port))
            self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        except OSError:
            self.close()
            raise

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def complete(self) -> bool:
        """Whether the body has ended as HTTP says."""
        return self._body is not None and self._body.complete

    @property
    def whole(self) -> bool:
        """Whether it has ended as gzip says; true where it is not compressed."""
        return self._body is not None and self._body.whole

    def close(self) -> None:
        """Leave with a FIN."""
        _clients.discard(self)
        self.socket.close()

    def reset(self) -> None:
        """Leave with an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
        self.close()

    def half_close(self) -> None:
        """Say that nothing more will be sent, and go on listening."""
        self.socket.shutdown(socket.SHUT_WR)

    def head(self, within: float = PATIENCE) -> tuple[int, dict[str, str]]:
        """The status and the headers, names in lower case."""
        deadline = time.monotonic() + within
        while self._body is None:
            self._receive(deadline)
        return self.status, self.headers

    def next(self, within: float = PATIENCE) -> Received:
        """The next event. Raises ``EndOfStreamError`` where none comes any more, ``TimeoutError`` where none came in time."""
        deadline = time.monotonic() + within
        while not self._pending:
            self._receive(deadline)
        return self._pending.popleft()

    def take(self, count: int, within: float = PATIENCE) -> list[Received]:
        """The next ``count`` events."""
        deadline = time.monotonic() + within
        return [self.next(max(0.0, deadline - time.monotonic())) for _ in range(count)]

    def rest(self, within: float = PATIENCE) -> list[Received]:
        """Every event that is left when the response ends."""
        deadline = time.monotonic() + within
        try:
            while True:
                self._receive(deadline)
        except EndOfStreamError:
            left, self._pending = list(self._pending), deque()
            return left

    def own_events(self, within: float = PATIENCE) -> list[Received]:
        """``rest()`` without control events."""
        return [event for event in self.rest(within) if not event.name.startswith("sse.")]

    def wait_for_comments(self, count: int, within: float = PATIENCE) -> list[float]:
        """The times of the first ``count`` comments."""
        deadline = time.monotonic() + within
        while len(self.parser.comments) < count:
            self._receive(deadline)
        return self.parser.comments

    def answer(self, within: float = PATIENCE) -> Answer:
        """The whole response, of a route that does not stream. ``EndOfStreamError`` where the connection ends before one."""
        self.head(within)
        self.rest(within)
        return Answer(self.status, self.headers, self.parser.raw)

    def _receive(self, deadline: float) -> None:
        """Read once. ``EndOfStreamError`` when nothing more can come."""
        if self._closed or self.complete:
            raise EndOfStreamError(f"{self.parser.raw[-300:]!r}")
        self.socket.settimeout(max(0.001, deadline - time.monotonic()))
        data = self.socket.recv(self.most)
        self._closed = not data
        if self._body is None:
            self._buffer += data
            head, found, data = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            self._read_head(head.decode("latin-1"))
        self._take_body(data)

    def _read_head(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._body = _Body(self.headers)
        if self.method == "HEAD" or self.status in (204, 304):
            self._body.complete = True

    def _take_body(self, data: bytes) -> None:
        payload = self._body.feed(data) if self._body and not self._body.complete else b""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            for event in self.parser.feed(payload):
                self.events.append(event)
                self._pending.append(event)
        else:
            self.parser.raw += payload
