"""Django's real ``ASGIHandler`` in this process: one request after another, with a ``receive`` and a ``send`` of the test's own.

Nothing here reads a socket, so a test decides to the turn of the loop when a client leaves, stops taking, or comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.test import override_settings
from django.urls import include, path

from django_agent_sse import Router, Stream, conf
from django_agent_sse.asgi import wrap
from django_agent_sse.streams.registry import registry
from django_agent_sse.streams.supervisor import Supervisor
from django_agent_sse.testing import SSEClient
from django_agent_sse.testing.client import ClientStream
from django_agent_sse.wire import Event

PATIENCE = 30.0
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


class Client(ClientStream):
    """One request, in a task and a context of its own; the package's client for tests, which can also stop taking.

    Attributes:
        chunks: The body as the application sent it.
        sending: The application waits in ``send()``.
        cookies: What the response set, each as it was sent.
    """

    _client: Site

    def __init__(self, site: Site, *request: Any) -> None:
        self.chunks: list[bytes] = []
        self.cookies: list[str] = []
        self.sending = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        super().__init__(site, *request)
        self.task = self._task
        self.decoder = self._decoder

    async def _send(self, message: Mapping[str, Any]) -> None:
        """Take a message at once, unless held: nothing here gives the loop a turn that a server would not give."""
        self.sending = True
        await self._flowing.wait()
        self.sending = False
        if message["type"] == "http.response.start":
            self.cookies = [value.decode("latin-1") for name, value in message["headers"] if name.lower() == b"set-cookie"]
        elif chunk := message.get("body", b""):
            self.chunks.append(chunk)
        self._take_message(message)

    @property
    def raw(self) -> bytes:
        """The body so far."""
        return self.body

    @property
    def complete(self) -> bool:
        """Whether the response has its end."""
        return self.ended

    async def begun(self) -> int:
        """Wait for the response to begin; return its status, or -1 where there will be none."""
        status: int = await eventually("the response begins", lambda: self.status or (self.task.done() and -1))
        return status

    async def take(self, count: int) -> list[Event]:
        """The next ``count`` events."""
        return await self.events(count)

    async def rest(self, timeout: float | None = None) -> list[Event]:
        """What is left, after the end."""
        await self.over()
        assert self.ended, f"the response was cut (status {self.status})"
        return await super().rest(timeout)

    async def broken_off(self) -> list[Event]:
        """What is left of a response that the application leaves unfinished."""
        await self.over()
        assert not self.ended, f"the response looks finished: {self.raw[-400:]!r}"
        return await self.events(len(self._unread))

    async def over(self, within: float = PATIENCE) -> Client:
        """Wait for the application to return; what it raised is raised here."""
        await asyncio.wait_for(asyncio.shield(self.task), within)
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


class Served(NamedTuple):
    """A request in a context that a server would give it: neither the test's thread nor its database connection is its own."""

    task: asyncio.Task[None]
    reported: None = None


class Site(SSEClient):
    """A Django project with one route."""

    def __init__(self, application: Any) -> None:
        super().__init__(application, timeout=PATIENCE)
        self.clients: list[Client] = []
        self._context = contextvars.Context()

    def _start(self, work: Coroutine[Any, Any, None], over: Callable[[], None]) -> Any:
        task = asyncio.get_running_loop().create_task(work, context=self._context)
        task.add_done_callback(lambda _: over())
        return Served(task)

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
        self._context = context if context is not None else contextvars.Context()
        given = {"host": "testserver", "accept": "text/event-stream"}
        given |= {name.lower(): value for name, value in (headers or {}).items()}
        url = f"{quote(path)}{'?' if query else ''}{query}"
        self.clients.append(Client(self, url, method, given, body, last_event_id))
        return self.clients[-1]

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


@contextlib.contextmanager
def compressed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have every ``serve`` of a test compress what it sends, and see that a body has the end of gzip where it is whole, only."""
    clients: list[Client] = []
    connect = Site.connect

    def connect_with_gzip(site: Site, *request: Any, headers: Mapping[str, str] | None = None, **about: Any) -> Client:
        clients.append(connect(site, *request, headers={"accept-encoding": "gzip", **(headers or {})}, **about))
        return clients[-1]

    monkeypatch.setattr(Site, "connect", connect_with_gzip)
    with conf.other_default("COMPRESS", True):
        yield
    streams = [client for client in clients if client.headers.get("content-encoding") == "gzip"]
    plain = [client for client in clients if client not in streams and client.status == 200]
    assert all(b"event: sse.overloaded\n" in client.raw for client in plain), "a stream is not compressed"
    for client in streams:
        decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
        assert decoder.decompress(b"".join(client.chunks)) == client.raw
        assert decoder.eof is client.complete
        assert decoder.unused_data == b""


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
