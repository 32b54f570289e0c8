"""A relay before servers, on threads of this process, that breaks an answer off where a request's header ``X-Cut`` says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

from tests.timing import LONG

PATIENCE = 60.0
PLACES = 6
"""Places for a cut in each event: before it, after one byte, in its middle twice, before its id, before its last line end."""


def cuts(events: int) -> list[str]:
    """Places for a cut in an answer of so many events; the last one is between the last event and the end of the body.

    In the short form each event is cut before it, and at one place within, one event here and the next one there.
    """
    within = range(1, PLACES)
    places = {event: within if LONG else [within[event % len(within)]] for event in range(events)}
    return [*(f"{event}/{place}" for event in range(events) for place in (0, *places[event])), f"{events}/0"]


def bytes_before(frame: bytes, place: int) -> int:
    """How much of an event goes through before the cut at a place."""
    return (0, 1, len(frame) // 2, len(frame) // 2 + 1, frame.rfind(b"\nid:") + 1, len(frame) - 1)[place]


class Relay(ThreadingHTTPServer):
    """Takes ``/NAME/…`` for the path of one of some servers.

    ``X-Cut: 3/2`` breaks the answer off in the fourth event, and ``X-Cut: head`` before it begins, once for a key.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Relayed)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.origins: dict[str, str] = {}
        self.dropped: dict[str, int] = {}
        """How many requests each idempotency key, or its absence, has had dropped or let through after one was."""
        self.lock = threading.Lock()
        self.open: set[socket.socket] = set()

    def drops(self, key: str) -> bool:
        """Whether this is the first request with a key."""
        with self.lock:
            self.dropped[key] = self.dropped.get(key, 0) + 1
            return self.dropped[key] == 1

    def break_off(self) -> None:
        """End every answer that is still going on."""
        for connection in [*self.open]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has left."""


class _Relayed(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Relay
    own: ClassVar = {"x-cut", "connection", "host", "transfer-encoding", "content-length"}

    def setup(self) -> None:
        """Be known as open."""
        super().setup()
        self.server.open.add(self.connection)

    def finish(self) -> None:
        """Be known no more."""
        self.server.open.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        name, _, path = self.path.lstrip("/").partition("/")
        where = urlsplit(self.server.origins[name])
        kept = {key: value for key, value in self.headers.items() if key.lower() not in self.own}
        cut, self.close_connection = self.headers.get("x-cut"), True
        upstream = HTTPConnection(str(where.hostname), where.port, timeout=PATIENCE)
        try:
            upstream.request(self.command, f"/{path}", body, {**kept, "Connection": "close"})
            answer = upstream.getresponse()
            if cut == "head" and self.server.drops(self.headers.get("idempotency-key", "")):
                return
            self._head(answer)
            self._body(answer, None if cut in (None, "head") else [int(part) for part in str(cut).split("/")])
        finally:
            upstream.close()

    def do_GET(self) -> None:
        """Relay it."""
        self._relay()

    do_POST = do_DELETE = do_GET  # noqa: N815

    def _head(self, answer: HTTPResponse) -> None:
        self.send_response_only(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in self.own:
                self.send_header(key, value)
        self.send_header("Connection", "close")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _body(self, answer: HTTPResponse, cut: list[int] | None) -> None:
        """Pass on each event as a chunk, up to the cut; the end only of what has ended well."""
        rest = b""
        with suppress(HTTPException):  # it is broken off there too
            while data := answer.read1():
                *frames, rest = (rest + data).split(b"\n\n")
                if not all(self._chunk(frame + b"\n\n", cut) for frame in frames):
                    return
            if cut is None or cut[0] > 0:
                self.wfile.write((b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b"") + b"0\r\n\r\n")

    def _chunk(self, data: bytes, left: list[int] | None) -> bool:
        """Whether a chunk went through whole."""
        whole = left is None or left[0] > 0
        sent = len(data) if left is None or whole else bytes_before(data, left[1])
        if sent:
            self.wfile.write(b"%x\r\n%b" % (len(data), data[:sent]) + (b"\r\n" if whole else b""))
        if left is not None:
            left[0] -= 1
        return whole


@contextmanager
def relaying(**origins: str) -> Iterator[Relay]:
    """Run a relay before these servers."""
    with Relay() as relay:
        relay.origins |= origins
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield relay
        finally:
            relay.shutdown()
            relay.break_off()
            thread.join()
