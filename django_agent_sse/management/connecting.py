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
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from django.core.management.base import CommandError
from django.utils.encoding import iri_to_uri

from ..runtime.safe_text import printable

CONNECT_SECONDS: Final = 30.0
REDIRECTS: Final = 5
SHORT: Final = 80
"""Characters of what a server says that stand in a message."""
READ: Final = 65536
WAITING: Final = 16
"""Chunks that are read ahead: a server that sends faster than is printed is held by a full connection."""
KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds and times: a server that has vanished is noticed within a minute, also where it sends no heartbeats."""
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

    @property
    def said(self) -> str:
        """Its status and reason, in a few words that a terminal can show."""
        return printable(f"{self.status} {self.reason}".strip(), SHORT)

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
        raise CommandError(f"{printable(url)!r} is no address to ask: it looks like http://127.0.0.1:8000/events/")
    return parts


def get(url: str, headers: Mapping[str, str], given: Mapping[str, str], tell: Callable[[str], object]) -> Answer:
    """Ask for a stream, through redirects. The answer has no body yet.

    Args:
        url: Where; without a user's name, see ``split_user``.
        headers: What anybody may be sent.
        given: What is for the server at ``url`` only, and for no other scheme, host or port that it redirects to.
        tell: Called with a sentence where ``given`` is held back.

    Raises:
        OSError, http.client.HTTPException: The server cannot be reached, or does not speak HTTP.
        CommandError: It leads nowhere, or from https to http.
    """
    for _ in range(REDIRECTS + 1):
        parts = split_url(url)
        named = {name.lower() for name in given}
        sent = {**{name: value for name, value in headers.items() if name.lower() not in named}, **given}
        answer = _asked(parts, url, sent)
        where = answer.headers.get("Location")
        if answer.status not in (301, 302, 303, 307, 308) or where is None:
            return answer
        answer.close()
        there = _redirected(url, where)
        if _origin(there) != _origin(url):
            if given:
                names = ", ".join(sorted(given))
                tell(f"the server redirects to {_named(there)}, which is another one: it is not sent what you gave ({names})")
            given = {}
        url = there
    raise CommandError(f"the server redirects more than {REDIRECTS} times, at last to {printable(url)}")


def split_user(url: str) -> tuple[str, dict[str, str]]:
    """An address without the name and password in it, which then stand in no message; and the header that sends them."""
    parts = split_url(url)
    if parts.username is None:
        return url, {}
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return _without_user(parts), {"Authorization": "Basic " + b64encode(user.encode()).decode()}


def _asked(parts: SplitResult, url: str, headers: Mapping[str, str]) -> Answer:
    connection = _connection(parts)
    try:
        connection.connect()
        _keep_alive(connection.sock)
        connection.request("GET", _target(parts), headers=dict(headers))
        return Answer(connection, url)
    except UnicodeError as error:  # a host that no name server could be asked for
        connection.close()
        raise CommandError(f"{printable(url)!r} is no address to ask: {error}") from error
    except BaseException:
        connection.close()
        raise


def _redirected(url: str, where: str) -> str:
    """The address that a server sends on to, without a name and password: it chooses nobody's credentials."""
    try:
        there = urljoin(url, where)
    except ValueError as error:
        raise CommandError(f"the server redirects to {printable(where)!r}, which is no address") from error
    parts = split_url(there)
    if urlsplit(url).scheme == "https" and parts.scheme == "http":
        raise CommandError(
            f"the server redirects from https to {_named(there)}, where everybody on the way could read and change the stream. "
            "If you mean it, give that address yourself"
        )
    return _without_user(parts)


def _without_user(parts: SplitResult) -> str:
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _named(url: str) -> str:
    """The origin of an address, for a message."""
    parts = urlsplit(url)
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")


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
    return iri_to_uri(f"{path}?{parts.query}" if parts.query else path) or "/"


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = split_url(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]
