"""What no client's library sends: bytes on a raw socket, on each server. The right status or a clean end, and nobody notices.

A table of requests, and beside them what takes its time or goes: a byte at a time, heads that stall, sockets that are half closed
or reset. Another client listens all the while. Afterwards no stream and no connection is left, and the server has printed no
traceback. Leaving once a stream has begun is in ``test_disconnect.py``, and answers cut at any byte are in ``test_cuts.py``.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from .client import RST_ON_CLOSE
from .servers import EVERY, Server, poll

SITE = {"middleware": "default", "wrapper": "1"}
PATIENCE = 60.0
STALLED = 20

NOT_OURS = (
    "django.core.exceptions.DisallowedHost: ",  # so Django tells of a host that is not allowed
    "RuntimeError: unable to perform operation on <TCPTransport closed=True",  # uvicorn answers what stands behind a stream
    "ExceptionGroup: unhandled errors in a TaskGroup",  # its parts follow
)

CLOSED = 0
"""The connection is closed, without an answer."""
OK = {200}
REFUSED = {CLOSED, 400, 403, 404, 405, 408, 411, 413, 414, 417, 431, 501, 505}
"""What was wrong with it is said, or nothing is."""
EITHER = OK | REFUSED
"""Servers differ, and both are right: some refuse what others put up with."""
BROKEN = {CLOSED, 400, 500}
"""What these servers say themselves of a body that breaks off, when the application has gone without an answer."""

STREAM = b"/answers/ends/?key=raw"
GET = b"GET " + STREAM + b" HTTP/1.1\r\nHost: testserver\r\nAccept: text/event-stream\r\nConnection: close\r\n"
POST = b"POST /answers/posts/ HTTP/1.1\r\nHost: testserver\r\nAccept: text/event-stream\r\nConnection: close\r\n"
ACCEPT = b"Host: testserver\r\nAccept: text/event-stream\r\n\r\n"
JSON = b"Content-Type: application/json\r\n"
PING = b"GET /_ping/ HTTP/1.1\r\nHost: testserver\r\nConnection: close\r\n\r\n"
HIDDEN = b"GET /_gate/?name=hidden HTTP/1.1\r\nHost: testserver\r\n\r\n"
"""A request that hides in the body of another one."""


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes, and what may be answered.

    Attributes:
        sent: The whole of what the client sends.
        wanted: Statuses of the first answer.
        holds: What stands in an answer that is 200.
        of: What some servers do instead, by their names.
    """

    sent: bytes
    wanted: set[int]
    holds: bytes = b""
    of: dict[str, set[int]] = field(default_factory=dict)


def headers(*lines: bytes, request: bytes = GET) -> bytes:
    return request + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(*lines: bytes, body: bytes) -> bytes:
    return headers(JSON[:-2], *lines, request=POST) + body


ONLY = b"data: only"
CASES = {
    "an ordinary stream": Case(headers(), OK, ONLY),
    # Ids and headers that come twice, or are large.
    "an id of the longest kind": Case(headers(b"Last-Event-ID: " + b"a" * 512), OK, ONLY),
    "an id that is too long": Case(headers(b"Last-Event-ID: " + b"a" * 513), OK, ONLY),
    "an id of 60 kB": Case(headers(b"Last-Event-ID: " + b"a" * 60_000), EITHER, ONLY),
    "an id of 1 MB": Case(headers(b"Last-Event-ID: " + b"a" * 1_000_000), REFUSED, ONLY, {"uvicorn": OK}),
    "an id that is no UTF-8": Case(headers(b"Last-Event-ID: \xff\xfe\x80"), EITHER, ONLY),
    "two ids": Case(headers(b"Last-Event-ID: 1", b"Last-Event-ID: 2"), OK, ONLY),
    "two origins": Case(headers(b"Cookie: a=b", b"Origin: http://testserver", b"Origin: https://evil.example"), {403}),
    "two hosts": Case(headers(b"Host: evil.example"), EITHER, ONLY),
    "no host": Case(GET.replace(b"Host: testserver\r\n", b"") + b"\r\n", EITHER, ONLY),
    "1,000 headers": Case(headers(*(b"X-%d: y" % number for number in range(1_000))), EITHER, ONLY),
    # Methods, bodies, versions, targets.
    "HEAD": Case(headers(request=GET.replace(b"GET", b"HEAD", 1)), OK),
    "OPTIONS": Case(headers(request=GET.replace(b"GET", b"OPTIONS", 1)), OK),
    "POST where there is none": Case(headers(b"Content-Length: 2", request=GET.replace(b"GET", b"POST", 1)) + b"{}", {403, 405}),
    "a body where none is read": Case(headers(b"Content-Length: 2") + b"{}", OK, ONLY),
    "POST": Case(post(b"Content-Length: 7", body=b'{"a":1}'), OK, b'data: {"a":1}'),
    "POST in chunks": Case(post(b"Transfer-Encoding: chunked", body=b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n'), OK, b'data: {"a":1}'),
    "POST that waits for a 100": Case(post(b"Content-Length: 7", b"Expect: 100-continue", body=b'{"a":1}'), OK, b'data: {"a":1}'),
    "POST that expects something else": Case(
        post(b"Content-Length: 7", b"Expect: more", body=b'{"a":1}'), EITHER, b'data: {"a":1}'
    ),
    "HTTP/1.0": Case(b"GET " + STREAM + b" HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n", EITHER, ONLY),
    "HTTP/1.0 with a host": Case(
        b"GET " + STREAM + b" HTTP/1.0\r\nHost: testserver\r\nAccept: text/event-stream\r\n\r\n", OK, ONLY
    ),
    "HTTP/0.9": Case(b"GET " + STREAM + b"\r\n\r\n", EITHER),
    "HTTP/1.9": Case(headers().replace(b"HTTP/1.1", b"HTTP/1.9", 1), EITHER, ONLY),
    "HTTP/9.9": Case(headers().replace(b"HTTP/1.1", b"HTTP/9.9", 1), EITHER),
    "a whole address as the target": Case(headers().replace(b"GET /", b"GET http://testserver/", 1), EITHER, ONLY),
    "a target without its slash": Case(headers().replace(b"GET /", b"GET ", 1), REFUSED),
    "a star as the target": Case(headers().replace(STREAM, b"*", 1), REFUSED),
    "a target of 100 kB": Case(headers().replace(b"key=raw", b"key=" + b"a" * 100_000, 1), REFUSED),
    "a target that is no ASCII": Case(headers().replace(b"key=raw", b"key=\xff\xe2\x80", 1), EITHER),
    "a query of broken escapes": Case(headers().replace(b"key=raw", b"key=%ff%zz%e2%80&%", 1), OK, ONLY),
    "CONNECT": Case(b"CONNECT testserver:443 HTTP/1.1\r\nHost: testserver\r\nConnection: close\r\n\r\n", REFUSED),
    # What proxies and servers understand differently.
    "a length and chunks": Case(post(b"Content-Length: 7", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + HIDDEN), EITHER),
    "two lengths": Case(post(b"Content-Length: 7", b"Content-Length: 0", body=b'{"a":1}'), REFUSED),
    "a length with a sign": Case(post(b"Content-Length: +7", body=b'{"a":1}'), REFUSED),
    "a length below nothing": Case(post(b"Content-Length: -1", body=b""), REFUSED),
    "an unknown coding": Case(post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n" + HIDDEN), EITHER),
    "a coding with a space": Case(post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + HIDDEN), EITHER),
    "chunks of no size": Case(post(b"Transfer-Encoding: chunked", body=b"x\r\n\r\n" + HIDDEN), REFUSED, of={"granian": BROKEN}),
    "chunks of too large a size": Case(
        post(b"Transfer-Encoding: chunked", body=b"f" * 40 + b"\r\n" + HIDDEN),
        REFUSED,
        of={"granian": BROKEN, "gunicorn": BROKEN},
    ),
    "a folded header": Case(headers(b"X-Folded: a", b" b"), EITHER, ONLY),
    "a header that begins with a space": Case(GET.replace(b"Host", b" Host", 1) + b"\r\n", EITHER),
    "a NUL in a header": Case(headers(b"Last-Event-ID: a\0b"), EITHER, ONLY),
    "a NUL in a charset": Case(headers(b"Content-Type: text/html; charset=a\0b"), REFUSED),
    "a CR in a header": Case(headers(b"Last-Event-ID: a\rX-Y: b"), EITHER, ONLY),
    "a control character in a name": Case(headers(b"X\x01Y: b"), EITHER, ONLY),
    "a header without a colon": Case(headers(b"nothing"), EITHER, ONLY),
    "a header without a name": Case(headers(b": nothing"), EITHER, ONLY),
    "line feeds alone": Case(headers().replace(b"\r\n", b"\n") + b"\r\n\r\n", EITHER, ONLY),
    # No HTTP at all.
    "TLS": Case(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\xab" * 160 + b"\r\n\r\n", REFUSED),
    "noise": Case(bytes(range(256)) * 8 + b"\r\n\r\n", REFUSED),
    "another protocol": Case(b"HELO example.com\r\nMAIL FROM:<a@b>\r\n\r\n", REFUSED),
}


@pytest.fixture(scope="module", params=EVERY)
def server(request: pytest.FixtureRequest, start: Callable[..., Server]) -> Server:
    return start(request.param, **SITE)


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        yield connection


def send(connection: socket.socket, data: bytes) -> None:
    """Send all of it; a server that has heard enough may close meanwhile."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(data)


def read(connection: socket.socket) -> bytes:
    """All that comes until the server closes; the client gives up after ``PATIENCE``."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(1 << 16):
            received += data
    return received


def status_of(received: bytes) -> int:
    """The status of the first answer that is one; ``CLOSED`` where there is none."""
    while received.startswith(b"HTTP/1.1 100"):
        received = received.partition(b"\r\n\r\n")[2]
    return int(received.split(b" ", 2)[1][:3]) if received.startswith(b"HTTP/") else CLOSED


def ask(server: Server, sent: bytes) -> bytes:
    with connected(server) as connection:
        send(connection, sent)
        return read(connection)


def test_what_no_library_sends(server: Server) -> None:
    wrong = {}
    with calm(server):
        for name, case in CASES.items():
            received = ask(server, case.sent)
            status = status_of(received)
            wanted = case.of.get(server.kind, case.wanted)
            if status not in wanted or (status == 200 and case.holds not in received):
                wrong[name] = (status, received[:300])
    assert wrong == {}
    assert server.steps("hidden") == []


def test_a_byte_at_a_time(server: Server) -> None:
    with calm(server), connected(server) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in headers():
            connection.sendall(bytes([byte]))
        received = read(connection)
        assert status_of(received) == 200
        assert ONLY in received


def test_heads_that_stall_hold_up_nobody(server: Server) -> None:
    with calm(server):
        stalled = [socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) for _ in range(STALLED)]
        try:
            for number, connection in enumerate(stalled):
                connection.sendall(headers()[: 1 + number * 7])
            assert ONLY in ask(server, headers())
            assert status_of(ask(server, PING)) == 200
        finally:
            for connection in stalled:
                connection.close()


def test_a_body_that_stalls_holds_up_nobody(server: Server) -> None:
    with calm(server):
        stalled = [socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) for _ in range(STALLED)]
        try:
            for connection in stalled:
                connection.sendall(post(b"Content-Length: 700", body=b'{"a":'))
            assert ONLY in ask(server, headers())
        finally:
            for connection in stalled:
                connection.close()


def test_requests_one_behind_the_other_are_answered_in_turn_or_not_at_all(server: Server) -> None:
    first = headers().replace(b"Connection: close\r\n", b"")
    with calm(server):
        received = ask(server, first + PING)
        assert status_of(received) == 200
        assert ONLY in received
        assert b"pid" not in received.partition(ONLY)[0], "the second answer does not come first"


def test_a_request_behind_an_endless_stream_does_not_end_it(server: Server, key: str) -> None:
    with calm(server), connected(server) as connection:
        connection.sendall(b"GET /life/idle/?key=%b HTTP/1.1\r\n" % key.encode() + ACCEPT + PING)
        received = b""
        while b"data: hello" not in received:
            data = connection.recv(1 << 16)
            assert data, received
            received += data
    # What came behind it must not keep the client's leaving from being seen.
    assert server.recorded(key, "on_end")["ending"] == "client_disconnect"


@pytest.mark.parametrize("how", ["reset", "close", "half-closed"])
def test_whoever_goes_with_the_requests_last_byte(server: Server, key: str, how: str) -> None:
    with calm(server):
        for number in range(STALLED):
            with connected(server) as connection:
                connection.sendall(b"GET /life/idle/?key=%b-%d HTTP/1.1\r\n" % (key.encode(), number) + ACCEPT)
                if how == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
                elif how == "half-closed":
                    connection.shutdown(socket.SHUT_WR)
    for number in range(STALLED):
        if server.steps(f"{key}-{number}"):
            assert server.recorded(f"{key}-{number}", "on_end")["ending"] == "client_disconnect"


def test_a_traceback_would_be_found() -> None:
    printed = "before\nTraceback (most recent call last):\n  File x\n    line\n{}: no\nafter\n"
    assert len(tracebacks(printed.format("ValueError") + printed.format(NOT_OURS[0]) + printed.format("KeyError"))) == 2


@contextlib.contextmanager
def calm(server: Server) -> Iterator[None]:
    """Somebody listens all the while; afterwards everything is as it was."""
    before, printed = server.state(), len(server.log())
    with server.open("life/beats/", key="listens", headers={"Connection": "close"}) as listening:
        listening.wait_for_comments(1)
        yield
        listening.wait_for_comments(len(listening.parser.comments) + 1)
        assert not listening.complete
    poll("no stream is open", lambda: server.state()["open_streams"] == 0)
    poll("no connection is left", lambda: sockets(server) <= before["descriptors"].count("socket"))
    assert tracebacks(server.log()[printed:]) == []


def tracebacks(printed: str) -> list[str]:
    """The exceptions in what a server has printed, but for those that are not of this package."""
    _, *found = printed.split("Traceback (most recent call last):")
    return [one for one in found if not any(known in one for known in NOT_OURS)]


def sockets(server: Server) -> int:
    return int(server.state()["descriptors"].count("socket"))
