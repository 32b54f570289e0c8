"""One request to a route: what is asked before there is a stream, in one order, and the answer.

The order is the contract, and stands in docs/internals/admission.rst: a step learns nothing of a request that an earlier one has
turned away, and whoever may not see a stream learns nothing of it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, Protocol

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .access.identity import identity_of
from .access.service import access
from .eventlog.outage import outage
from .exceptions import (
    EventLogUnavailable,
    KVKeyInvalid,
    PositionGone,
    QueryInvalid,
    RequestBodyError,
    RunNotFound,
    TooManyThreads,
    TopicForbidden,
    TopicNameInvalid,
)
from .guards import Guard, refused, run_guards
from .signed_urls import signature_allowed
from .streams.admission import ELSEWHERE_RETRY, Arrival, Refused, Ticket, admission
from .streams.compression import takes_gzip
from .streams.context import Context, route_of
from .streams.counters import Refusal, counters
from .streams.error_responses import error_body
from .streams.handlers import HandlerSignature
from .streams.options import StreamOptions
from .streams.registry import StreamWatch, registry
from .streams.reporting import ErrorStreak, OnError
from .streams.response import (
    SESSION_HEADER,
    SSEResponse,
    ended_response,
    head_response,
    is_event_stream,
    names_event_stream,
    overloaded_response,
    say_gzip,
    send_elsewhere,
    session_tag,
)
from .streams.stream import Stream
from .streams.supervisor import Supervisor
from .streams.topic_access import check_follow_access
from .streams.transport import Transport

logger = logging.getLogger("django_agent_sse.stream")

NAMES_NOBODY_HAS = (TopicNameInvalid, KVKeyInvalid)
"""Errors about names that cannot exist: answered with 404, as for one that does not, since most likely the client named it."""
CLOSING = Refused(Refusal.CLOSING, "this server is being restarted; come back at once", 503, ELSEWHERE_RETRY)
DRAINED = Refused(Refusal.OVERLOADED, "this server is being drained", 503)
UNREADABLE = "the event log cannot be read now"
"""All that a client is told: the reason, which may name addresses, is in the project's log."""


class StreamView(Protocol):
    """What a request needs of its view; see ``SSEView``."""

    handle: Callable[..., Any]
    on_error: OnError | None
    serves_drained: ClassVar[bool]
    for_operators: ClassVar[bool]
    answers_head: ClassVar[bool]

    def _takes_place(self, request: HttpRequest) -> bool: ...
    def _wrap_response(self, response: HttpResponseBase) -> HttpResponseBase: ...


class Route(Protocol):
    """What a request needs of its route; see ``RouteEndpoint``."""

    shape: HandlerSignature
    streak: ErrorStreak

    def options(self) -> StreamOptions: ...
    def guards_of(self, view: Any) -> tuple[Guard, ...]: ...


class StreamCall:
    """One request. Middleware is through, and so is what is asked before anybody is known."""

    __slots__ = ("_arrival", "_control", "_guards", "_identity", "_kwargs", "_options", "_route", "_view", "c")

    def __init__(self, route: Route, view: StreamView, request: HttpRequest, kwargs: Mapping[str, Any], arrival: Arrival) -> None:
        self._route = route
        self._view = view
        self._kwargs = kwargs
        self._arrival = arrival
        self._options = options = route.options()
        self._control = wants_control(request, options)
        self.c = Context(request, kwargs, route=route_of(request), cache=options.cache)

    async def answer(self) -> HttpResponseBase:
        c = self.c
        try:
            response = await self._admit()
        except (RequestBodyError, QueryInvalid) as error:
            return c.json(error_body(error.status, str(error)), status=error.status)
        except RunNotFound as error:
            raise Http404(str(error)) from error
        except TooManyThreads as error:
            return self._turn_away(Refused(Refusal.OVERLOADED, str(error), 503))
        except EventLogUnavailable as error:  # of a guard too, as that of signed addresses
            outage.failed(error, ())
            return self._turn_away(Refused(Refusal.OVERLOADED, UNREADABLE, 503))
        except TopicForbidden as error:
            forbidden = refused(c, str(error))
            counters.refused(c.route, Refusal.GUARD, str(forbidden.status_code))
            return forbidden
        except NAMES_NOBODY_HAS as error:  # most likely of what the client sent; the log tells who wrote it himself
            # The message holds what the client sent.
            why = error if settings.DEBUG else f"{type(error).__name__}; with DEBUG this line says of which name"
            logger.warning("%s is answered with 404: %s", c.route, why, extra={"route": c.route})
            raise Http404(str(error)) from error
        if is_event_stream(response):
            self._add_headers(response)
        c.apply_headers(response)
        return response

    async def _admit(self) -> HttpResponseBase:
        c, view = self.c, self._view
        access.book()
        await c.load_user()
        self._identity = identity_of(c)
        guards = self._route.guards_of(view)
        self._guards = (signature_allowed, *guards) if self._options.signed else guards
        refusal = await run_guards(self._guards, c)
        self._arrival.known()
        if refusal is not None:
            counters.refused(c.route, Refusal.GUARD, str(refusal.status_code))
            return refusal
        if c.request.method == "HEAD" and not view.answers_head:
            if topics := await self._route.shape.topics_of(c, self._kwargs):
                await check_follow_access(c, topics)
            return view._wrap_response(head_response())
        if c.ended:  # 204: the client came back after the last event, and only that stops an EventSource for good
            return ended_response()
        if registry.draining and not view.serves_drained:
            return self._turn_away(DRAINED)
        if not view._takes_place(c.request):
            return await self._begin(None)
        if registry.closing:
            return self._turn_away(CLOSING)
        ticket = await admission.admit(c, self._arrival, self._options.max_streams, for_operators=view.for_operators)
        if isinstance(ticket, Refused):
            return self._turn_away(ticket)
        response: HttpResponseBase | None = None
        try:
            response = await self._begin(ticket)
        finally:
            if not isinstance(response, SSEResponse):
                ticket.release()
        return response

    async def _begin(self, ticket: Ticket | None) -> HttpResponseBase:
        c, view = self.c, self._view
        handler = await self._route.shape.prepare(c, self._kwargs, view.handle)
        if isinstance(handler, HttpResponseBase):
            return handler
        if c.request.method == "HEAD":
            return view._wrap_response(head_response())
        permit = access.permit(c, self._guards, self._identity, self._options.recheck, c._began)
        watches: list[StreamWatch] = [permit] if ticket is None else [permit, ticket]
        supervisor = Supervisor(c, self._options, self._route.streak, watches, self._control, view.on_error)
        opened = await self._open(supervisor, handler)
        if isinstance(opened, Transport):
            return view._wrap_response(SSEResponse(opened, slim=c if self._options.slim else None, gzip=self._gzip))
        return opened

    async def _open(self, supervisor: Supervisor, handler: Callable[[Stream], Awaitable[object]]) -> Transport | HttpResponseBase:
        c = self.c
        try:
            return await supervisor.begin(handler)
        except PositionGone as error:
            counters.refused(c.route, Refusal.GONE, error.reason)
            return c.json(error_body(410, str(error), reason=error.reason), status=410)
        except (EventLogUnavailable, TooManyThreads, TopicForbidden):  # counted where they are answered
            raise
        except (Http404, *NAMES_NOBODY_HAS):
            counters.refused(c.route, Refusal.NOT_FOUND)
            raise
        except Exception as error:
            counters.refused(c.route, Refusal.ERROR, type(error).__name__)
            raise

    def _add_headers(self, response: HttpResponseBase) -> None:
        """Tell the client of a stream, and of the answer to HEAD, whose it is. HEAD says of compression what GET would."""
        response.headers[SESSION_HEADER] = session_tag(self.c)
        if self.c.request.method == "HEAD" and self._gzip:
            say_gzip(response)

    @property
    def _gzip(self) -> bool:
        follows, known = self._route.shape.follows, self.c.user_pk is not None
        guarded = bool(self._guards)
        return takes_gzip(self.c.request, self._options.compress, follows=follows, guarded=guarded, known=known)

    def _turn_away(self, refused: Refused) -> HttpResponse:
        response = turn_away(self.c.route, refused, control=self._control)
        return send_elsewhere(self.c.request, response) if registry.closing or registry.draining else response


def wants_control(request: HttpRequest, options: StreamOptions) -> bool:
    """Whether the client of a request is sent control events."""
    return names_event_stream(request) if options.control_events is None else options.control_events


def turn_away(route: str, refused: Refused, *, control: bool) -> HttpResponse:
    """Count a request that gets no stream, and tell its client when to come back."""
    counters.refused(route, refused.reason, user=refused.user, address=refused.address)
    return overloaded_response(control, refused.message, status=refused.status, retry=refused.retry)
