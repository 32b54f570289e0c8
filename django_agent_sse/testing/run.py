"""One run of the application: on the test's own thread and database connection, and with an eye on what it reports."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from asgiref.sync import SyncToAsync
from django.core.signals import got_request_exception, request_finished, request_started
from django.db import close_old_connections

from ..streams.admission import IN_SCOPE, Arrival

_here: contextvars.ContextVar[Run | None] = contextvars.ContextVar("django_agent_sse.testing", default=None)
_handlers = logging.getLogger("django_agent_sse.stream")


_closing = (request_started, request_finished)
"""Signals at which Django closes connections: not that of the test, on whose thread requests run. Its own clients do the same."""
_running: set[Run] = set()


class Run:
    """Starts the application in a task; ``reported`` is what a view or handler let pass, though the client got an answer."""

    def __init__(self, work: Coroutine[Any, Any, None], over: Callable[[], None]) -> None:
        """Start; ``over`` is called when the task is done.

        The scope that is set here, to none, keeps ``ASGIHandler`` from entering one: outside of Django's ``TestCase`` that is a
        thread and a connection of the request's own, and one to SQLite in memory is never closed.
        """
        self.reported: BaseException | None = None
        self._over = over
        context = contextvars.copy_context()
        context.run(SyncToAsync.thread_sensitive_context.set, None)  # type: ignore[arg-type]
        context.run(_here.set, self)
        _running.add(self)
        for signal in _closing:
            signal.disconnect(close_old_connections)
        got_request_exception.connect(self._view_failed, dispatch_uid=self)
        _handlers.addFilter(self._handler_failed)
        self.task = asyncio.get_running_loop().create_task(work, context=context)
        self.task.add_done_callback(self._returned)

    def _view_failed(self, **_: object) -> None:
        if _here.get() is self:
            self.reported = sys.exc_info()[1] or self.reported

    def _handler_failed(self, record: logging.LogRecord) -> bool:
        # The signal that is sent for a handler comes without its exception where a task of asyncio's is in between.
        if _here.get() is self and record.exc_info:
            self.reported = record.exc_info[1]
        return True

    def _returned(self, _: asyncio.Task[None]) -> None:
        got_request_exception.disconnect(dispatch_uid=self)
        _handlers.removeFilter(self._handler_failed)
        _running.discard(self)
        for signal in _closing if not _running else ():
            signal.connect(close_old_connections)
        self._over()


def scope(path: str, method: str, headers: Mapping[str, str], last_event_id: str | None) -> dict[str, Any]:
    """The ASGI scope of a request, as a server makes it."""
    url = urlsplit(path)
    sent = {**headers, **({"last-event-id": last_event_id} if last_event_id else {})}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(url.path),
        "raw_path": quote(url.path, safe="/%:@!$&'()*+,;=~").encode(),
        "query_string": url.query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 40000),
        "server": ("testserver", 80),
        IN_SCOPE: Arrival(None),  # a suite of tests connects more often, and has more streams, than one client may
    }
