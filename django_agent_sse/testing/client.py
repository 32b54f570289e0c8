"""A client in the test's own process: no socket, no server, and no wait without an end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from http.cookies import SimpleCookie
from types import TracebackType
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.test import AsyncClient

from ..streams.endings import Ending
from ..streams.registry import OpenStream, registry
from .stream import ClientStream, StreamTimeout

TIMEOUT = 5.0
"""Seconds that anything is waited for, where a client or a call does not say otherwise."""
POLL = 0.005


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
        given = {"host": "testserver", "accept": "text/event-stream", **self.headers}
        if data is not None:
            given |= {"content-type": "application/json", "content-length": str(len(body))}
        if self.cookies:
            given["cookie"] = "; ".join(f"{one.key}={one.coded_value}" for one in self.cookies.values())
        given |= {name.lower(): value for name, value in (headers or {}).items()}
        stream = ClientStream(self, path, method, given, body, last_event_id)
        stream._again = {"path": path, "method": method, "headers": headers, "data": data}
        self._streams.append(stream)
        await stream._begun(timeout, self.raise_request_exception)
        return stream

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
        cancel_at = loop.time() + self.timeout
        while lingering := registry.loop_state().streams - self._others:
            if loop.time() > cancel_at + self.timeout:
                return StreamTimeout(f"{len(lingering)} handlers go on {2 * self.timeout:g} s after their clients had left")
            for stream in lingering if loop.time() > cancel_at else ():
                stream.end(Ending.SHUTDOWN)
            await asyncio.sleep(POLL)
        await asyncio.sleep(0)  # the stream's task has one more step to go
        return None
