"""One request for an event stream, with the standard library's HTTP client."""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from django.core.management.base import CommandError

CONNECT_SECONDS: Final = 30.0
REDIRECTS: Final = 5
READ: Final = 65536
WAITING: Final = 16
"""Chunks that are read ahead: a server that sends faster than is printed is held by a full connection."""
KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds and times: a server that has vanished is noticed within a minute, also where it sends no heartbeats."""
_CREDENTIALS = {"authorization", "cookie"}
_PORTS = {"http": 80, "https": 443}


class Answer:
    """A response whose body is read by a thread, so that who waits for it can be interrupted.

    Attributes:
        status: Its status.
        headers: Its headers.
        url: Where it came from, after redirects.
    """

    def __init__(self, connection: http.client.HTTPConnection, url: str) -> None:
        self._socket = connection.sock  # an answer without a length takes it from the connection
        response = connection.getresponse()
        self.status = response.status
        self.reason = response.reason
        self.headers = response.headers
        self.url = url
        self._connection = connection
        self._response = response
        self._chunks: queue.Queue[bytes | None] = queue.Queue(WAITING)
        self._closed = False

    def start(self) -> str:
        """The first kilobyte of a body that is no stream."""
        self._socket.settimeout(CONNECT_SECONDS)
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self._response.read1(1024).decode("utf-8", "replace")
        return ""

    def chunks(self, pause: Callable[[float], object]) -> Iterator[bytes]:
        """The body as it comes, to its end or to that of the connection. ``pause(0)`` is called in between."""
        threading.Thread(target=self._read, name="sse-tail", daemon=True).start()
        while True:
            try:
                chunk = self._chunks.get(timeout=0.5)
            except queue.Empty:
                pause(0)
                continue
            if chunk is None:
                return
            yield chunk

    def close(self) -> None:
        """End the connection, also under the thread that reads it."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(queue.Empty):
            self._chunks.get_nowait()  # the thread may wait for room
        self._response.close()
        self._connection.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError, http.client.HTTPException):  # cut, or closed by `close`
            while not self._closed and (chunk := self._response.read1(READ)):
                self._chunks.put(chunk)
        if not self._closed:
            self._chunks.put(None)


def split_url(url: str) -> SplitResult:
    """The parts of an address.

    Raises:
        CommandError: Nothing can be asked there.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _PORTS and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        usable = usable and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable:
        raise CommandError(f"{url!r} is no address to ask: it looks like http://127.0.0.1:8000/events/")
    return parts


def get(url: str, headers: Mapping[str, str]) -> Answer:
    """Ask for a stream, through redirects. The answer has no body yet.

    Raises:
        OSError, http.client.HTTPException: The server cannot be reached, or does not speak HTTP.
        CommandError: It leads nowhere.
    """
    for _ in range(REDIRECTS + 1):
        parts = split_url(url)
        connection = _connection(parts)
        try:
            connection.connect()
            _keep_alive(connection.sock)
            connection.request("GET", _target(parts), headers=_with_user(parts, headers))
            answer = Answer(connection, url)
        except BaseException:
            connection.close()
            raise
        where = answer.headers.get("Location")
        if answer.status not in (301, 302, 303, 307, 308) or where is None:
            return answer
        answer.close()
        there = urljoin(url, where)
        if _origin(there) != _origin(url):  # credentials are for those whom they were given to
            headers = {name: value for name, value in headers.items() if name.lower() not in _CREDENTIALS}
        url = there
    raise CommandError(f"the server redirects more than {REDIRECTS} times, at last to {url}")


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    assert parts.hostname is not None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=CONNECT_SECONDS, context=context)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=CONNECT_SECONDS)


def _keep_alive(sock: Any) -> None:
    """A stream may be silent as long as it likes; only who is gone is given up."""
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _target(parts: SplitResult) -> str:
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path


def _with_user(parts: SplitResult, headers: Mapping[str, str]) -> dict[str, str]:
    given = dict(headers)
    if parts.username is not None and not any(name.lower() == "authorization" for name in given):
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        given["Authorization"] = "Basic " + b64encode(user.encode()).decode()
    return given


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = split_url(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]
