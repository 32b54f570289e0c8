"""An optional wrapper around the project's ASGI application.

Without it Django makes a thread for each request for a stream, and joins it; with it that thread is lent to the request by a pool
of at most ``REQUEST_THREADS``, and used again, which makes connecting cheaper. Directly around Django's application it also makes
every request cheaper, see ``loop_middleware.py``, and on uvicorn each delivery to a follower: see ``streams/fast_send.py``. And
it turns a cancel by the server into a disconnect: before Django 6.1 the stream would run on as an orphan.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from django.core.exceptions import BadRequest
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.http import HttpResponse
from django.urls import Resolver404, resolve

from .exceptions import ConfigurationError
from .loop_middleware import run_on_loop
from .signed_urls import take_signature
from .stream_calls import turn_away
from .streams.admission import IN_SCOPE, Refused, arrive
from .streams.error_responses import error_response
from .streams.fast_send import Scope, attach_send, release_head
from .streams.threads import request_hold
from .streams.transport import IN_SERVERS_TASK

ANY_ROUTE = "-"
"""Under this route the counters have what was refused before there was one."""

_serving: ContextVar[bool] = ContextVar("_serving", default=False)
"""Whether this is the context of a request for a stream, or a copy of it."""

Application = Callable[[Scope, Any, Any], Awaitable[None]]


def names_event_stream(scope: Scope) -> bool:
    """Whether a request's ``Accept`` names ``text/event-stream``, as that of every ``EventSource`` does."""
    return any(name == b"accept" and b"text/event-stream" in value.lower() for name, value in scope["headers"])


def wrap(application: Application, *, match: Callable[[Scope], bool] = names_event_stream) -> Application:
    """Serve requests for streams on threads that are used again; each has one to itself until it is answered.

    ::

        application = wrap(get_asgi_application())

    Args:
        application: Django's, or what is around it.
        match: Which requests. Others would take the same ``REQUEST_THREADS``, so not all by default.

    Raises:
        ConfigurationError: asgiref is older than 3.13.
    """
    try:
        ThreadSensitiveContext(executor=request_hold())
    except TypeError as error:
        raise ConfigurationError("django_agent_sse.asgi.wrap() needs asgiref 3.13 or newer; pip install -U asgiref") from error

    # Nothing is left in between that should see what is sent, and the middleware is this handler's.
    if innermost := isinstance(application, ASGIHandler):
        run_on_loop(application)

    async def wrapped(scope: Scope, receive: Any, send: Any) -> None:
        # Off the server's own scope, of which it makes its line of the access log: also where no route will be found for it.
        hidden = take_signature(scope) if scope["type"] == "http" else {}
        if scope["type"] != "http" or not match(scope):
            scope = {**scope, **hidden} if hidden else scope
            if not _serving.get():
                return await application(scope, receive, send)
            return await _serve_behind(application, scope, receive, send)
        arrival = await arrive(scope)
        if arrival.refusal is not None:
            return await _refuse(arrival.refusal, scope, send)
        scope = {**scope, **hidden, IN_SCOPE: arrival}
        if innermost:
            scope, send = attach_send(scope, send), release_head(send)
        hold, before = request_hold(), _serving.set(True)
        try:
            async with ThreadSensitiveContext(executor=hold):
                if IN_SERVERS_TASK:  # a cancel reaches the stream by itself
                    return await application(scope, receive, send)
                return await _cancel_as_disconnect(application, scope, receive, send)
        except BadRequest as error:  # Django 6.1 lets it pass where what came makes no request; later ones it answers
            await _send(error_response(400, str(error)), send)
        finally:
            _serving.reset(before)
            arrival.known()
            if not hold.pinned:  # else the stream has it, and ends it
                hold.end()

    return wrapped


async def _serve_behind(application: Application, scope: Scope, receive: Any, send: Any) -> None:
    """Serve what a client has sent behind its request for a stream, without waiting for the answer.

    uvicorn begins it in the context of that request, whose thread it would take for its own, when that one is over.
    """
    hold = request_hold()
    try:
        async with ThreadSensitiveContext(executor=hold):
            await application(scope, receive, send)
    finally:
        hold.end()


async def _refuse(refused: Refused, scope: Scope, send: Any) -> None:
    """Answer without Django's middleware: what is refused must cost little."""
    response = turn_away(ANY_ROUTE, refused, control=scope["method"] == "GET" and names_event_stream(scope))
    if any(name == b"origin" for name, _ in scope["headers"]):
        _add_origin_headers(scope, response)
    await _send(response, send)


async def _send(response: HttpResponse, send: Any) -> None:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.items()]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.content})


def _add_origin_headers(scope: Scope, response: HttpResponse) -> None:
    """Say to a page of another origin what its route says to it: an ``EventSource`` that cannot read a refusal gives up."""
    with contextlib.suppress(Resolver404, BadRequest, UnicodeError, AttributeError, KeyError):  # a path that leads to no stream
        request = ASGIRequest({**scope}, io.BytesIO())
        view: Any = resolve(request.path_info).func
        view.view_initkwargs["_endpoint"].add_origin_headers(request, response)


async def _cancel_as_disconnect(application: Application, scope: Scope, receive: Any, send: Any) -> None:
    """Keep a cancel from Django's handler, tell it of a disconnect instead, and wait until it has cleaned up."""
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    # Django waits in receive() for a disconnect while it sends. A second reader of receive() would steal messages, so this one
    # stands between the two and only adds the disconnect that the server did not send.
    async def receive_or_gone() -> Any:
        reading = asyncio.ensure_future(receive())
        try:
            await asyncio.wait((reading, gone), return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else {"type": "http.disconnect"}
        finally:
            reading.cancel()

    task = asyncio.ensure_future(application(scope, receive_or_gone, send))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        gone.set_result(None)
        await task
        raise
