"""Django's real ``ASGIHandler`` in this process: one request after another, with a ``receive`` and a ``send`` of the test's own.

Nothing here reads a socket, so a test decides to the turn of the loop when a client leaves, stops taking, or comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from types import ModuleType
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.test import override_settings
from django.urls import include, path

from django_agent_sse import Router, Stream
from django_agent_sse.asgi import wrap
from django_agent_sse.streams.registry import registry
from django_agent_sse.streams.supervisor import Supervisor
from django_agent_sse.wire import Decoder, Event

PATIENCE = 5.0
"""Seconds that anything may take which is not itself measured."""
POLL = 0.002
ROUTE = "stream/<int:number>/"
PATH = "/stream/7/"


async def eventually(what: str, probe: Callable[[], Any], within: float = PATIENCE) -> Any:
    """Return the first truthy result of ``probe``; fail, and show the last one, after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not (result := probe()):
        assert time.monotonic() < deadline, f"{what}: not within {within} s, last seen {result!r}"
        await asyncio.sleep(POLL)
    return result


class Client:
    """One request, in a task and a context of its own.

    Attributes:
        status: Of the response, once it has begun.
        headers: Likewise, with lower-case names.
        chunks: The body as the application sent it.
        complete: The response has its end.
    """

    def __init__(self, application: Any, scope: Mapping[str, Any], body: bytes, context: contextvars.Context) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.cookies: list[str] = []
        self.chunks: list[bytes] = []
        self.complete = False
        self.decoder = Decoder()
        self._body: bytes | None = body
        self._unread: deque[Event] = deque()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._left = asyncio.Event()
        self.sending = False
        self.task = asyncio.get_running_loop().create_task(application(scope, self._receive, self._send), context=context)

    async def _receive(self) -> dict[str, Any]:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.sending = True
        await self._flowing.wait()
        self.sending = False
        if message["type"] == "http.response.start":
            self.status = message["status"]
            pairs = [(name.decode().lower(), value.decode("latin-1")) for name, value in message["headers"]]
            self.headers = dict(pairs)
            self.cookies = [value for name, value in pairs if name == "set-cookie"]
            return
        if chunk := message.get("body", b""):
            self.chunks.append(chunk)
            self._unread.extend(self.decoder.feed(chunk))
        self.complete = not message.get("more_body", False)

    @property
    def raw(self) -> bytes:
        """The body so far."""
        return b"".join(self.chunks)

    def json(self) -> Any:
        """The body of an answer that is no stream."""
        return json.loads(self.raw)

    async def begun(self) -> int:
        """Wait for the response to begin; return its status."""
        status: int = await eventually("the response begins", lambda: self.status or (self.task.done() and -1))
        return status

    async def event(self) -> Event:
        """The next event."""
        await eventually("an event comes", lambda: self._unread or self.task.done())
        assert self._unread, f"the response ended (status {self.status}) before an event came: {self.raw[-400:]!r}"
        return self._unread.popleft()

    async def take(self, count: int) -> list[Event]:
        """The next ``count`` events."""
        return [await self.event() for _ in range(count)]

    async def rest(self) -> list[Event]:
        """What is left, after the end."""
        await self.over()
        assert self.complete, f"the response was cut (status {self.status})"
        events = [*self._unread]
        self._unread.clear()
        return events

    async def broken_off(self) -> list[Event]:
        """What is left of a response that the application leaves unfinished."""
        await self.over()
        assert not self.complete, f"the response looks finished: {self.raw[-400:]!r}"
        events = [*self._unread]
        self._unread.clear()
        return events

    async def over(self) -> Client:
        """Wait for the application to return; what it raised is raised here."""
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE)
        return self

    def leave(self) -> None:
        """Go, as ``http.disconnect`` says it."""
        self._left.set()

    def hold(self) -> None:
        """Take nothing any more: ``send()`` blocks."""
        self._flowing.clear()

    def flow(self) -> None:
        """Take again."""
        self._flowing.set()

    async def take_one(self) -> None:
        """While holding: let the one ``send()`` that waits through, and no other."""
        await self.stuck()
        before = self.status, len(self.chunks)
        self._flowing.set()
        self._flowing.clear()
        await eventually("it is sent", lambda: (self.status, len(self.chunks)) != before)

    async def stuck(self) -> None:
        """Wait until the application waits in ``send()``."""
        await eventually("the application waits in send()", lambda: self.sending)


class Site:
    """A Django project with one route."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.clients: list[Client] = []

    def connect(
        self,
        path: str = PATH,
        *,
        method: str = "GET",
        query: str = "",
        headers: Mapping[str, str] | None = None,
        last_event_id: str | None = None,
        body: bytes = b"",
        context: contextvars.Context | None = None,
    ) -> Client:
        """Send a request as an ``EventSource`` would; ``context``: where the application shall run."""
        given = {"host": "testserver", "accept": "text/event-stream", **(headers or {})}
        if last_event_id is not None:
            given["last-event-id"] = last_event_id
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 40000),
            "server": ("testserver", 80),
        }
        client = Client(self.application, scope, body, context if context is not None else contextvars.Context())
        self.clients.append(client)
        return client

    async def supervisor(self) -> Supervisor:
        """The owner of the one open stream."""
        (found,) = await eventually("a stream is open", lambda: registry.loop_state().streams)
        assert isinstance(found, Supervisor)
        return found

    async def let_go(self) -> None:
        """Let every client leave, and the application finish."""
        for client in self.clients:
            client.flow()
            client.leave()
        await asyncio.wait([client.task for client in self.clients], timeout=PATIENCE)


@contextlib.asynccontextmanager
async def serve(
    handler: Any,
    *,
    settings: Mapping[str, Any] | None = None,
    around: Callable[[Any], Any] = lambda application: application,
    **route: Any,
) -> AsyncIterator[Site]:
    """Serve ``handler`` at ``PATH``; afterwards every request has returned without an exception, and no stream is left.

    Args:
        handler: What ``router.sse()`` takes.
        settings: Django's; ``MIDDLEWARE`` is empty where not given.
        around: What to put around Django's ASGI application.
        route: Keywords of ``router.sse()``.
    """
    router = Router()
    router.sse(ROUTE, handler, **route)
    urlconf = ModuleType("urlconf")
    urlconf.urlpatterns = [path("", include(router.urls))]  # type: ignore[attr-defined]
    with override_settings(**{"ROOT_URLCONF": urlconf, "MIDDLEWARE": [], **(settings or {})}):
        site = Site(around(ASGIHandler()))
        try:
            yield site
        finally:
            if site.clients:
                await site.let_go()
        for client in site.clients:
            assert client.task.done(), "the application does not return"
            if not client.task.cancelled():
                client.task.result()
        await eventually("no stream is left", lambda: not registry.loop_state().streams)


def send_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every ``serve`` of a test wrap the application, and take the client's ``send()`` for uvicorn's."""
    handler = ASGIHandler
    monkeypatch.setitem(globals(), "ASGIHandler", lambda: wrap(handler()))
    monkeypatch.setattr(Client._send, "__module__", "uvicorn.protocols")


class Diary(list[str]):
    """What became of a handler and its callbacks, in order."""

    stream: Stream

    @contextlib.asynccontextmanager
    async def of(self, stream: Stream) -> AsyncIterator[None]:
        """Note ``on_abort``, ``cancelled``, ``finally`` and ``on_end`` of a handler's body."""
        self.stream = stream
        stream.on_abort(lambda: self.append("on_abort"))
        stream.on_end(lambda: self.append("on_end"))
        try:
            yield
        except asyncio.CancelledError:
            self.append("cancelled")
            raise
        finally:
            await asyncio.sleep(POLL)  # so that a cleanup which is cut does not look finished
            self.append("finally")
