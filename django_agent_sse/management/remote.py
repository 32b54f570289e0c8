"""The event stream of any server, followed over HTTP as a browser's ``EventSource`` does."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx
from django.core.management.base import CommandError

from ..exceptions import InvalidEvent
from ..runtime.backoff import Backoff
from ..runtime.safe_text import printable
from ..wire.decoder import Decoder
from ..wire.event import Event
from .output import Pause, Received

RETRY = 3.0
"""Seconds before the next connection, where the server asks for no other time."""
LAST_RETRY = 60.0
"""Seconds that this grows to, doubled for each connection in a row that brought nothing."""
LONGEST_RETRY: Final = 86_400.0
"""Seconds that a server can make us wait."""
CONNECT_TIMEOUT: Final = 30.0
REDIRECTS: Final = 5
SHORT: Final = 80
"""Characters of what a server says that stand in a message."""
KEEPALIVE: Final = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds and times: a server that has vanished is noticed within a minute, also where it sends no heartbeats."""
STREAM: Final = "text/event-stream"
HEADERS: Final = {"Accept": STREAM, "Accept-Encoding": "identity", "Cache-Control": "no-store"}
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_MEANING = {
    400: "the server does not understand the request",
    401: "the server wants to know who asks: give -H 'Authorization: Bearer …' or --cookie 'sessionid=…'",
    403: "who asks may not read this stream",
    404: "there is no such address on the server",
    405: "the server does not take GET there: it is not an event stream",
    406: "the server has no event stream there",
    410: "the server no longer has what follows the position that was asked for: begin without --after",
}


class RemoteTail:
    """A stream, followed over as many connections as it takes, after ``last_event_id`` or where the server decides.

    ``headers`` are sent to the server at ``url`` and to nobody whom it redirects to.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        last_event_id: str = "",
        tell: Callable[[str], object],
        pause: Pause,
    ) -> None:
        self._url, user = _split_user(url)
        has_user = any(name.lower() == "authorization" for name in headers)
        self._private = {**({} if has_user else user), **headers}
        self._client = httpx.Client(timeout=httpx.Timeout(CONNECT_TIMEOUT, read=None), verify=ssl.create_default_context())
        self._tell = tell
        self._pause = pause
        self._decoder = Decoder()
        self._decoder.last_event_id = last_event_id
        self._backoff = Backoff(RETRY, LAST_RETRY, jitter=0.25)
        self._connection: socket.socket | None = None
        self._connected = False
        self._ended = False
        pause.when_gone(self._cut)

    def batches(self, *, follow: bool = True) -> Iterator[list[Received]]:
        """The events, those that come together in one list, to the stream's end.

        Raises:
            CommandError: The server refuses, or has no event stream there.
        """
        while True:
            wait: float | None = 0.0
            if (response := self._connect()) is not None:
                with contextlib.closing(response):
                    if (wait := self._wait_after(response)) is None:
                        return
                    if response.status_code == 200:
                        yield from self._events(response)
                        if self._ended or not follow:
                            return
            self._again(wait or 0.0)

    def _again(self, at_least: float) -> None:
        self._pause(0)  # raises where nobody reads any more
        asked = self._decoder.retry
        seconds = self._backoff.next(asked / 1000 if asked is not None else None, at_least)
        position = f" after {self._decoder.last_event_id}" if self._decoder.last_event_id else ""
        self._tell(f"not connected; trying again in {seconds:.1f} s{position}")
        self._pause(seconds)

    def _connect(self) -> httpx.Response | None:
        """Return a response, or ``None`` where the server cannot be reached now, but could be before."""
        try:
            return self._get()
        except (httpx.InvalidURL, ValueError) as error:  # a redirect, or a host that no name server could be asked for
            raise CommandError(f"{self._url} is not an address to ask, or redirects to one that is not: {error}") from error
        except httpx.LocalProtocolError as error:  # an id that holds control characters
            asked = f" after {self._decoder.last_event_id!r}" if self._decoder.last_event_id else ""
            raise CommandError(f"HTTP cannot ask {self._url} for what follows{asked}: {error}") from error
        except httpx.HTTPError as error:
            cause = _root_of(error)
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise CommandError(f"the certificate of {self._url} is not trusted: {printable(cause.verify_message)}") from error
            unknown = isinstance(cause, socket.gaierror)
            why = "its host is not known" if unknown else getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            said = f"{self._url} cannot be reached: {printable(why)}"
            if not self._connected:
                raise CommandError(f"{said}. Is the server running?") from error
            self._tell(said)
            return None

    def _get(self) -> httpx.Response:
        """Ask for the stream, through redirects. What the user gave is for the origin of the address only.

        Raises:
            httpx.HTTPError: The server cannot be reached, or does not speak HTTP.
            CommandError: It redirects from https to http, to another protocol, or too often.
        """
        url, private = httpx.URL(self._url), self._private
        for _ in range(REDIRECTS + 1):
            last = self._decoder.last_event_id.strip(" \t")  # which no header keeps
            headers = httpx.Headers(HEADERS)
            for name, value in {**({"Last-Event-ID": last} if last else {}), **private}.items():
                headers.update({name.encode(): value.encode()})  # in UTF-8, as browsers send ids
            response = self._client.send(httpx.Request("GET", url, headers=headers), stream=True)
            if response.next_request is None:
                return response
            response.close()
            there = _check(urljoin(str(url), response.headers["Location"]))
            there = there.copy_with(userinfo=b"")  # the server chooses nobody's credentials
            if (url.scheme, there.scheme) == ("https", "http"):
                raise CommandError(
                    f"the server redirects from https to {_origin(there)}, where everybody on the way could read and change "
                    "the stream. If you mean it, give that address yourself"
                )
            if _origin(there) != _origin(url) and private:
                names = ", ".join(sorted(private))
                self._tell(
                    f"the server redirects to {_origin(there)}, which is another one: it is not sent what you gave ({names})"
                )
                private = {}
            url = there
        raise CommandError(f"the server redirects more than {REDIRECTS} times, at last to {printable(url)}")

    def _wait_after(self, response: httpx.Response) -> float | None:
        """Return how long the server wants to be left alone; ``None`` where nothing will follow.

        Raises:
            CommandError: It is a refusal, or is not an event stream.
        """
        status = response.status_code
        said = printable(f"{status} {response.reason_phrase}".strip(), SHORT)
        if status == 204:
            self._tell("the server says that nothing will follow (204)")
            return None
        if status in _TRY_AGAIN:
            self._tell(f"the server cannot answer now ({said})")
            return _retry_after(response.headers.get("Retry-After"))
        if status != 200:
            raise CommandError(f"{said}: {_MEANING.get(status, 'the server refuses')}. ({printable(response.url)})")
        kind = printable(response.headers.get("Content-Type", "no type").partition(";")[0].strip().lower(), SHORT)
        if kind != STREAM:
            response.request.extensions["timeout"]["read"] = CONNECT_TIMEOUT
            start = b""
            with contextlib.suppress(httpx.HTTPError):
                start = next(response.iter_raw(), b"")
            begins = start[:1024].decode("utf-8", "replace").strip()[:SHORT]
            raise CommandError(
                f"{printable(response.url)} is not an event stream: it answers with {kind}, which begins with {begins!r}"
            )
        return 0.0

    def _events(self, response: httpx.Response) -> Iterator[list[Received]]:
        self._connection, self._connected = _kept_alive(response), True
        begun = time.monotonic()
        try:
            for chunk in response.iter_raw():
                received = [row for event in self._decoder.feed(chunk) if (row := self._received(event)) is not None]
                if received:
                    self._backoff.reset()
                    yield received
                if self._ended:
                    return
        except httpx.HTTPError:  # the connection was cut
            pass
        except InvalidEvent as error:
            raise CommandError(str(error)) from error
        self._decoder.finish()
        if time.monotonic() - begun > LAST_RETRY:
            self._backoff.reset()

    def _cut(self) -> None:
        """End the wait for the next chunk: nobody reads what is printed."""
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def _received(self, event: Event) -> Received | None:
        """What is to be printed of an event; those of the protocol are told."""
        if event.event is not None and event.event.startswith("sse."):
            self._control(event.event, event.data)
            return None
        last = event.id if event.id is not None else self._decoder.last_event_id
        return Received(id=last, event=event, at=time.time())

    def _control(self, name: str, data: str) -> None:
        payload = _object(data)
        reason = printable(payload.get("reason", ""))
        if name == "sse.end":
            self._ended = True
            closed = f" ({printable(payload['closed'])})" if "closed" in payload else ""
            self._tell(f"the stream is over: {reason}{closed}")
        elif name == "sse.gap":
            missed = payload.get("missed")
            lost = f"; {missed:,} events are missing" if isinstance(missed, int) else ""
            self._tell(f"here is a gap ({reason}){lost}")
        elif name == "sse.error":
            self._tell(f"the server failed: {printable(payload.get('message', data))}")
        elif name == "sse.overloaded":
            self._tell("the server is being restarted" if reason == "shutdown" else "the server is overloaded")


def _object(data: str) -> dict[str, object]:
    try:
        payload = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}


def _split_user(url: str) -> tuple[str, dict[str, str]]:
    """Return an address without the name and password in it, which then stand in no message, and the header that sends them.

    Raises:
        CommandError: Nothing can be asked there.
    """
    parsed = _check(url)
    if not parsed.userinfo:
        return url, {}
    user = f"{parsed.username}:{parsed.password}"
    return str(parsed.copy_with(userinfo=b"")), {"Authorization": "Basic " + b64encode(user.encode()).decode()}


def _check(url: str) -> httpx.URL:
    """Return an address that can be asked.

    Raises:
        CommandError: It is none.
    """
    with contextlib.suppress(httpx.InvalidURL, ValueError):
        parts = urlsplit(url)  # it is stricter
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isprintable() and " " not in url:
            return httpx.URL(url)
    raise CommandError(f"{printable(url)!r} is not an address to ask: it looks like http://127.0.0.1:8000/events/")


def _origin(url: httpx.URL) -> str:
    return printable(f"{url.scheme}://{url.netloc.decode()}")


def _kept_alive(response: httpx.Response) -> socket.socket:
    """Return the connection; a server that vanishes is noticed by the system, since a stream may be silent for long."""
    connection: socket.socket = response.extensions["network_stream"].get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return connection


def _root_of(error: BaseException) -> BaseException:
    """Return what the system said: httpx and httpcore put their own exceptions around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _retry_after(value: str | None) -> float:
    """Seconds, of a number or of a date; a day at most."""
    text = (value or "").strip()
    try:
        if text.isascii() and text.isdigit():
            return min(float(text), LONGEST_RETRY)
        return min(max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()), LONGEST_RETRY)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
