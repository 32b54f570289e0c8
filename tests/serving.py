"""Any number of routes of a test's own as the project's URLconf, asked in process through Django's real ASGI handler."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from urllib.parse import quote

from django.core.handlers.asgi import ASGIHandler
from django.test import override_settings
from django.urls import include, path

from django_agent_sse import Router
from django_agent_sse.testing import SSEClient
from tests.inprocess import PATIENCE, Client, Site
from tests.live.parser import Parser, Received

Routes = Router | Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole response."""

    status: int | None
    headers: Mapping[str, str]
    body: bytes

    @property
    def events(self) -> list[Received]:
        """The events of a stream."""
        return list(Parser().feed(self.body))

    @property
    def data(self) -> list[str]:
        """The data of each event."""
        return [event.data for event in self.events]

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


@contextmanager
def served(routes: Routes, *, middleware: Sequence[str] = (), **settings: Any) -> Iterator[None]:
    """Make the routes the project's URLconf, below ``/``."""
    urlconf = ModuleType("urlconf")
    vars(urlconf)["urlpatterns"] = [path("", include(routes.urls))] if isinstance(routes, Router) else list(routes)
    with override_settings(ROOT_URLCONF=urlconf, MIDDLEWARE=list(middleware), **settings):
        yield


def connect(url: str, *, headers: Mapping[str, str] | None = None, application: Any = None, **about: Any) -> Client:
    """Send a request to what is ``served``; without an ``Accept`` of its own it gets no control events."""
    where, _, query = url.partition("?")
    given = {"accept": "*/*", **{name.lower(): value for name, value in (headers or {}).items()}}
    return Site(application or ASGIHandler()).connect(where, query=query, headers=given, **about)


async def ask(
    url: str,
    *,
    broken_off: bool = False,
    headers: Mapping[str, str] | None = None,
    application: Any = None,
    method: str = "GET",
    body: bytes | None = None,
    last_event_id: str | None = None,
) -> Answer:
    """The whole answer to a request to what is ``served``, by the client that the package ships; or one that is ``broken_off``.

    That client takes an answer that is broken off for a failure of the test, rightly, so one that must be is asked for by ours.
    """
    if broken_off:
        whole = {"application": application, "method": method, "body": body or b"", "last_event_id": last_event_id}
        client = await connect(url, headers=headers, **whole).over()
        assert not client.complete, "the response is whole"
        return Answer(status=client.status, headers=client.headers, body=client.raw)
    given = {"accept": "*/*", **{name.lower(): value for name, value in (headers or {}).items()}}
    path, mark, query = url.partition("?")
    about = {"enforce_csrf_checks": True, "raise_request_exception": False}
    async with SSEClient(application, timeout=PATIENCE, **about) as asking:
        stream = await asking.open(
            f"{quote(path)}{mark}{query}", method=method, headers=given, last_event_id=last_event_id, data=body
        )
        await stream.rest()
        return Answer(status=stream.status, headers=stream.headers, body=stream.body)


async def ask_route(routes: Routes, url: str = "/", *, middleware: Sequence[str] = (), **about: Any) -> Answer:
    """Serve the routes for one request."""
    with served(routes, middleware=middleware):
        return await ask(url, **about)
