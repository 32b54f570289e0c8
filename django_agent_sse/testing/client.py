"""A client in the test's own process: no socket, no server, and no wait without an end."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from http.cookies import SimpleCookie
from types import TracebackType
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.test import AsyncClient

from ..exceptions import AgentSSEError, ArgumentInvalid
from ..streams.endings import Ending
from ..streams.registry import OpenStream, registry
from ..wire import Decoder, Event
from .run import Run, scope

TIMEOUT = 5.0
"""Seconds that anything is waited for, where a client or a call does not say otherwise."""
POLL = 0.005
SHOWN = 10
"""Events that a time-out shows, the newest ones."""


class StreamTimeout(AgentSSEError, AssertionError):
    """What a test waited for did not come in time, or cannot come any more. The message shows what came."""


class _Unchecked(ASGIHandler):
    """Django's application, with the one liberty that Django's own test clients take."""

    def create_request(self, scope: Any, body_file: Any) -> Any:
        request, answer = super().create_request(scope, body_file)
        if request is not None:
            request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
        return request, answer


class SSEClient:
    """Asks the project's ASGI application. Leaving its block disconnects every stream, and waits until their handlers are over.

    Args:
        application: ASGI; Django's own, with the project's middleware and URLs, where not given.
        timeout: Seconds that anything is waited for.
        headers: Sent with every request.
        enforce_csrf_checks: Without it a POST needs no token, as with Django's clients; a given ``application`` always checks.
        raise_request_exception: Raise what a view let pass, as Django's clients do; without it the test sees the 5xx response.
    """

    def __init__(
        self,
        application: Any = None,
        *,
        timeout: float = TIMEOUT,
        headers: Mapping[str, str] | None = None,
        enforce_csrf_checks: bool = False,
        raise_request_exception: bool = True,
    ) -> None:
        self.application = application or (ASGIHandler() if enforce_csrf_checks else _Unchecked())
        self.timeout = timeout
        self.raise_request_exception = raise_request_exception
        self.headers = {name.lower(): value for name, value in (headers or {}).items()}
        self._session = AsyncClient()
        self._streams: list[ClientStream] = []
        self._others: frozenset[OpenStream] = frozenset()

    @property
    def cookies(self) -> SimpleCookie:
        """What is sent as ``Cookie``; what answers set is kept here."""
        return self._session.cookies

    async def force_login(self, user: Any) -> None:
        """Sign in as this user, without a password."""
        await self._session.aforce_login(user)

    async def logout(self) -> None:
        """Sign out."""
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
        """Send a request, and return when its response has begun; where that is not an event stream, when it is complete.

        Args:
            path: With the query, if there is one.
            method: GET, as an ``EventSource`` sends, or another one.
            headers: ``Accept`` is ``text/event-stream`` where they do not say otherwise.
            last_event_id: Sent as ``Last-Event-ID``.
            data: The body: ``bytes`` as they are, anything else as JSON.
            timeout: Seconds for this response.

        Raises:
            StreamTimeout: It did not come.
            Exception: What the application raised, also where Django made a 5xx response of it (``raise_request_exception``).
        """
        body = data if isinstance(data, bytes) else b"" if data is None else json.dumps(data).encode()
        sent = {"host": "testserver", "accept": "text/event-stream", **self.headers}
        if data is not None:
            sent |= {"content-type": "application/json", "content-length": str(len(body))}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{morsel.key}={morsel.coded_value}" for morsel in self.cookies.values())
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        stream = ClientStream(self, path, method, sent, body, last_event_id)
        stream._again = {"path": path, "method": method, "headers": headers, "data": data}
        self._streams.append(stream)
        await stream._begun(timeout, self.raise_request_exception)
        return stream

    def _start(self, work: Coroutine[Any, Any, None], over: Callable[[], None]) -> Run:
        return Run(work, over)

    async def __aenter__(self) -> SSEClient:
        self._others = frozenset(registry.loop_state().streams)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for stream in self._streams:
            stream._left.set()
        ends = [*(stream._end() for stream in self._streams), self._handlers_over()]
        failures = [failure for failure in await asyncio.gather(*ends) if failure is not None]
        if failures and error is None:
            raise failures[0]
        for failure in failures:
            error.add_note(f"When its client had left: {failure!r}")  # type: ignore[union-attr]

    async def _handlers_over(self) -> StreamTimeout | None:
        """Wait also for handlers that go on without their client; those that do so for too long are cancelled."""
        loop = asyncio.get_running_loop()
        cancel_at, give_up_at = loop.time() + self.timeout, math.inf
        while lingering := registry.loop_state().streams - self._others:
            now = loop.time()
            if now > give_up_at:
                return StreamTimeout(f"{len(lingering)} handlers go on {2 * self.timeout:g} s after their clients had left")
            if now > cancel_at:
                give_up_at = min(give_up_at, now + self.timeout)  # they have their time from when they are told
                for stream in lingering:
                    stream.end(Ending.SHUTDOWN)
            await asyncio.sleep(POLL)
        await asyncio.sleep(0)  # the stream's task has one more step to go
        return None


class ClientStream:
    """One response.

    Attributes:
        status: Of the response.
        headers: Likewise, with lower-case names.
        ended: The response has its end.
        last_event_id: What an ``EventSource`` would send back now; ``None`` for nothing.
    """

    _again: Mapping[str, Any]

    def __init__(
        self, client: SSEClient, path: str, method: str, headers: dict[str, str], body: bytes, last_event_id: str | None
    ) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.ended = False
        self.last_event_id = last_event_id
        self._client = client
        self._path = path
        self._request: bytes | None = body
        self._body = bytearray()
        self._decoder = Decoder()
        self._decode: Callable[[bytes], bytes] = bytes
        self._unread: deque[Event] = deque()
        self._seen: deque[Event] = deque(maxlen=SHOWN)
        self._news = asyncio.Event()
        self._left = asyncio.Event()
        self._told = False
        work = client.application(scope(path, method, headers, last_event_id), self._receive, self._send)
        self._run = client._start(work, self._news.set)
        self._task = self._run.task

    @property
    def body(self) -> bytes:
        """What came so far; of a compressed response, what it holds."""
        return bytes(self._body)

    async def event(self, timeout: float | None = None) -> Event:
        """The next event, control events (``sse.*``) included.

        Raises:
            StreamTimeout: None came in time, or the response ended.
        """
        await self._wait("an event", lambda: bool(self._unread), timeout)
        return self._take()

    async def events(self, count: int, timeout: float | None = None) -> list[Event]:
        """The next ``count`` events; ``timeout`` is for each."""
        return [await self.event(timeout) for _ in range(count)]

    async def until(self, found: Callable[[Event], object], timeout: float | None = None) -> Event:
        """The next event for which this is true; those before it are skipped. ``timeout`` is for all of it.

        Raises:
            ArgumentInvalid: ``found`` is not a function.
        """
        if not callable(found):
            raise ArgumentInvalid(f"until() takes a function of an event, not {found!r}: until(lambda event: event.event == …)")
        matches: list[Event] = []

        def there() -> bool:
            while self._unread and not matches:
                if found(event := self._take()):
                    matches.append(event)
            return bool(matches)

        await self._wait("an event that matches", there, timeout)
        return matches[0]

    async def rest(self, timeout: float | None = None) -> list[Event]:
        """Every event up to the end of the response."""
        await self._wait("the end of the response", lambda: self.ended, timeout)
        return [self._take() for _ in range(len(self._unread))]

    def json(self) -> Any:
        """The body of a response that is not a stream."""
        return json.loads(self._body)

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
        """Leave, and come back as an ``EventSource`` does: with the last id that was read, and the cookies of now."""
        await self.disconnect()
        return await self._client.open(**self._again, last_event_id=self.last_event_id)

    async def _receive(self) -> dict[str, Any]:
        body, self._request = self._request, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        self._take_message(message)
        await asyncio.sleep(0)  # an application that sends without a pause would leave no room for a time-out

    def _take_message(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            pairs = [(name.decode().lower(), value.decode("latin-1")) for name, value in message["headers"]]
            self.headers = dict(pairs)
            self.status = message["status"]
            if self.headers.get("content-encoding") == "gzip":
                self._decode = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress
            for cookie in (value for name, value in pairs if name == "set-cookie"):
                self._client.cookies.load(cookie)
        else:
            chunk = self._decode(message.get("body", b""))
            self._body += chunk
            if self._streams:
                self._unread.extend(self._decoder.feed(chunk))
            self.ended = not message.get("more_body", False)
        self._news.set()

    @property
    def _streams(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def _take(self) -> Event:
        event = self._unread.popleft()
        self._seen.append(event)
        if event.id is not None:
            self.last_event_id = event.id or None
        return event

    async def _begun(self, timeout: float | None, raise_request_exception: bool) -> None:
        await self._wait("the response to begin", lambda: self.status is not None, timeout)
        assert self.status is not None
        if self.status >= 500 and self._run.reported is not None and raise_request_exception:
            raise self._run.reported
        if not self._streams:
            await self._wait("the end of a response that is not an event stream", lambda: self.ended, timeout)

    async def _wait(self, what: str, there: Callable[[], bool], timeout: float | None) -> None:
        timeout = self._client.timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(timeout):
                while not there() and not self._over:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass
        if not there():
            if (failure := self._failure()) is not None:
                raise failure
            over = "the response ended" if self._over else f"it did not come within {timeout:g} s"
            raise StreamTimeout(f"waited for {what} of {self._path}, but {over}; {self._shown()}") from self._run.reported

    @property
    def _over(self) -> bool:
        return self.ended or self._task.done()

    def _failure(self) -> BaseException | None:
        """What the application raised; who asks, tells."""
        if not self._task.done() or self._task.cancelled():
            return None
        self._told = True
        return self._task.exception()

    def _shown(self) -> str:
        events = "\n".join(f"  {event!r}"[:200] for event in [*self._seen, *self._unread][-SHOWN:])
        if self.status is None:
            return "there is no status yet"
        kept = f"the last events were\n{events}" if events else f"the body is {self.body[:200]!r}"
        error = self._run.reported
        raised = f"\nthe application raised {type(error).__name__}: {error}" if error is not None else ""
        return f"the status is {self.status}, {kept}{raised}"

    async def _end(self) -> BaseException | None:
        """Wait for the application after a disconnect; what it raised, or that it did not return. Nothing is told twice."""
        if self._told:
            return None
        patience = self._client.timeout
        try:
            await asyncio.wait([self._task], timeout=patience)
        finally:
            returned = self._task.done() or not self._task.cancel()
        if returned:
            return self._failure()
        await asyncio.wait([self._task], timeout=patience)
        self._told = True
        return StreamTimeout(
            f"the view of {self._path} did not return within {patience:g} s after its client had left; "
            "does its handler swallow CancelledError?"
        )
