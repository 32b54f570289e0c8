"""A client in the test's own process: no socket, no server, and no wait without an end."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from http.cookies import SimpleCookie
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from django.core.handlers.asgi import ASGIHandler
from django.test import AsyncClient

from ..exceptions import AgentSSEError
from ..wire import Decoder, Event

TIMEOUT = 5.0
"""Seconds that anything is waited for, where a client or a call does not say otherwise."""
SHOWN = 10
"""Events that a time-out shows, the newest ones."""


class StreamTimeout(AgentSSEError, AssertionError):
    """What a test waited for did not come in time. The message shows what came."""


class SSEClient:
    """Asks the project's ASGI application. Leaving its block disconnects every stream, and waits until their handlers are over.

    Args:
        application: ASGI; Django's own, with the project's middleware and URLs, where not given.
        timeout: Seconds that anything is waited for.
        headers: Sent with every request.
    """

    def __init__(self, application: Any = None, *, timeout: float = TIMEOUT, headers: Mapping[str, str] | None = None) -> None:
        self.application = application or ASGIHandler()
        self.timeout = timeout
        self.headers = {name.lower(): value for name, value in (headers or {}).items()}
        self._session = AsyncClient()
        self._streams: list[ClientStream] = []

    @property
    def cookies(self) -> SimpleCookie:
        """What is sent as ``Cookie``."""
        return self._session.cookies

    async def force_login(self, user: Any) -> None:
        """Be this user from now on, without a password."""
        await self._session.aforce_login(user)

    async def logout(self) -> None:
        """Be nobody again."""
        await self._session.alogout()

    async def open(
        self,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        last_event_id: str | None = None,
        data: object = None,
        timeout: float | None = None,
    ) -> ClientStream:
        """Send a request, and return when its response has begun.

        Args:
            path: With the query, if there is one.
            method: GET, as an ``EventSource`` sends, or another one.
            headers: ``Accept`` is ``text/event-stream`` where they do not say otherwise.
            last_event_id: Sent as ``Last-Event-ID``.
            data: The body: ``bytes`` as they are, anything else as JSON.
            timeout: Seconds for this response to begin.

        Raises:
            StreamTimeout: It did not.
            Exception: What the application raised.
        """
        given = {"host": "testserver", "accept": "text/event-stream", **self.headers}
        given |= {name.lower(): value for name, value in (headers or {}).items()}
        if self.cookies:
            given.setdefault("cookie", "; ".join(f"{one.key}={one.coded_value}" for one in self.cookies.values()))
        body = data if isinstance(data, bytes) else b"" if data is None else json.dumps(data).encode()
        if data is not None:
            given = {"content-type": "application/json", "content-length": str(len(body)), **given}
        stream = ClientStream(self, path, method, given, body, last_event_id)
        self._streams.append(stream)
        await stream._wait("the response to begin", lambda: stream.status is not None, timeout)
        return stream

    async def __aenter__(self) -> SSEClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for stream in self._streams:
            stream._left.set()
        failures = [failure for stream in self._streams if (failure := await stream._end()) is not None]
        if failures and error is None:
            raise failures[0]


class ClientStream:
    """One response.

    Attributes:
        status: Of the response.
        headers: Likewise, with lower-case names.
        body: What came so far.
        ended: The response has its end.
        last_event_id: What an ``EventSource`` would send back now; ``None`` for nothing.
    """

    def __init__(
        self, client: SSEClient, path: str, method: str, headers: dict[str, str], body: bytes, last_event_id: str | None
    ) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self.last_event_id = last_event_id
        self._client = client
        self._asked = path, method, headers, body
        self._request: bytes | None = body
        self._decoder = Decoder()
        self._unread: deque[Event] = deque()
        self._seen: deque[Event] = deque(maxlen=SHOWN)
        self._news = asyncio.Event()
        self._left = asyncio.Event()
        self._task = asyncio.create_task(self._run(_scope(path, method, headers, last_event_id)))
        self._task.add_done_callback(lambda _: self._news.set())

    async def event(self, timeout: float | None = None) -> Event:
        """The next event, control events (``sse.*``) included.

        Raises:
            StreamTimeout: None came in time, or the response ended.
        """
        await self._wait("an event", lambda: bool(self._unread), timeout)
        event = self._unread.popleft()
        self._seen.append(event)
        if event.id is not None:
            self.last_event_id = event.id or None
        return event

    async def events(self, count: int, timeout: float | None = None) -> list[Event]:
        """The next ``count`` events; ``timeout`` is for each."""
        return [await self.event(timeout) for _ in range(count)]

    async def until(self, found: Callable[[Event], object], timeout: float | None = None) -> Event:
        """The next event for which this is true; those before it are skipped. ``timeout`` is for all of it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._client.timeout if timeout is None else timeout)
        while not found(event := await self.event(max(deadline - loop.time(), 0))):
            pass
        return event

    async def rest(self, timeout: float | None = None) -> list[Event]:
        """Every event up to the end of the response."""
        await self._wait("the end of the response", lambda: self.ended, timeout)
        return [await self.event() for _ in range(len(self._unread))]

    def json(self) -> Any:
        """The body of an answer that is no stream."""
        return json.loads(self.body)

    async def disconnect(self) -> None:
        """Leave, and wait until the view has returned.

        Raises:
            StreamTimeout: It did not: a handler does not end when it is cancelled.
            Exception: What the application raised.
        """
        self._left.set()
        if (failure := await self._end()) is not None:
            raise failure

    async def reconnect(self) -> ClientStream:
        """Leave, and come back as an ``EventSource`` does: with the last id that was read."""
        await self.disconnect()
        path, method, headers, body = self._asked
        data = body or None
        return await self._client.open(path, method=method, headers=headers, last_event_id=self.last_event_id, data=data)

    async def _run(self, scope: dict[str, Any]) -> None:
        await self._client.application(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        body, self._request = self._request, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}
            self.status = message["status"]
        else:
            chunk = message.get("body", b"")
            self.body += chunk
            if self.headers.get("content-type", "").startswith("text/event-stream"):
                self._unread.extend(self._decoder.feed(chunk))
            self.ended = not message.get("more_body", False)
        self._news.set()

    async def _wait(self, what: str, there: Callable[[], bool], timeout: float | None) -> None:
        timeout = self._client.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(timeout):
                while not there():
                    if self._task.done() or self.ended:
                        break
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        if not there():
            if self._task.done() and not self._task.cancelled() and (failure := self._task.exception()) is not None:
                raise failure
            over = "the response ended" if self._task.done() or self.ended else f"it did not come within {timeout:g} s"
            raise StreamTimeout(f"waited for {what} of {self._asked[0]}, but {over}; {self._shown()}")

    def _shown(self) -> str:
        events = "\n".join(f"  {event!r}"[:200] for event in [*self._seen, *self._unread][-SHOWN:])
        if self.status is None:
            return "there is no status yet"
        kept = f"the last events were\n{events}" if events else f"the body is {self.body[:200]!r}"
        return f"the status is {self.status}, {kept}"

    async def _end(self) -> BaseException | None:
        """Wait for the application after a disconnect; what it raised, or that it did not return."""
        await asyncio.wait([self._task], timeout=self._client.timeout)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=self._client.timeout)
            return StreamTimeout(
                f"the view of {self._asked[0]} did not return within {self._client.timeout:g} s after its client had left; "
                "does its handler swallow CancelledError?"
            )
        return None if self._task.cancelled() else self._task.exception()


def _scope(path: str, method: str, headers: Mapping[str, str], last_event_id: str | None) -> dict[str, Any]:
    url = urlsplit(path)
    sent = {**headers, **({"last-event-id": last_event_id} if last_event_id else {})}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": url.path,
        "raw_path": url.path.encode(),
        "query_string": url.query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 40000),
        "server": ("testserver", 80),
    }
