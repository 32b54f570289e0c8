"""What the log, the counters, the signals and error tracking are told of a stream, and its client: when to come back."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass

from django.core.signals import got_request_exception

from ..exceptions import HandlerCancelled, PositionGone, QueryInvalid, RequestBodyError
from ..runtime.backoff import jittered
from ..signals import stream_closed
from .buffer import Buffer
from .context import Context
from .counters import counters
from .stream import Stream

logger = logging.getLogger("django_agent_sse.stream")

OnError = Callable[[Context, Stream, BaseException], object]

ON_ERROR_SECONDS = 5.0
FIRST_RETRY = 1000
"""Milliseconds: the first reconnection time after an error, where the route has no ``retry`` of its own."""
LAST_RETRY = 60_000
"""Milliseconds: it grows up to this."""


@dataclass(slots=True)
class ErrorStreak:
    """Errors of one route without a good ending between them: the longer, the later clients should come back."""

    length: int = 0

    def next_retry(self, base: int | None) -> int:
        """Return the reconnection time to tell the client, in milliseconds: doubled for each error in a row, with jitter."""
        grown = min((base or FIRST_RETRY) * 2**self.length, LAST_RETRY)
        self.length = min(self.length + 1, 16)
        return jittered(grown)


def own_cancel(cancelled: asyncio.CancelledError, route: str) -> HandlerCancelled:
    """Return the error for a ``CancelledError`` of the handler's own.

    It must not pass through Django, which would take it for the server's cancel of the request.
    """
    error = HandlerCancelled(f"the handler of {route} awaited something that was cancelled")
    error.__cause__ = cancelled
    return error


async def report_error(context: Context, stream: Stream, error: BaseException, on_error: OnError | None, *, slim: bool) -> None:
    """Tell error tracking and the log, then let the route's ``on_error`` write what it likes."""
    route = context.route
    counters.failed(route, type(error).__name__)
    request = None if slim else context.request
    if _is_of_client(error):  # anybody can send that, and no code has failed
        logger.warning("%s ends: its client's request cannot be served (%s)", route, type(error).__name__, extra={"route": route})
    else:
        logger.error(
            "the handler of %s failed: %s",
            *(route, type(error).__name__),
            exc_info=error,
            extra={"route": route, "request": request},
        )
        await got_request_exception.asend_robust(sender=Stream, request=request)
    if on_error is None:
        return
    try:
        async with asyncio.timeout(ON_ERROR_SECONDS):
            outcome = on_error(context, stream, error)
            if inspect.isawaitable(outcome):
                await outcome
    except asyncio.CancelledError:
        raise
    except BaseException:
        logger.exception("on_error of %s failed", route, extra={"route": route})


def _is_of_client(error: BaseException) -> bool:
    """Whether what a client has sent is wrong; before the stream has begun it is answered with 4xx, and not reported either."""
    return isinstance(error, RequestBodyError | QueryInvalid) or (isinstance(error, PositionGone) and error.of_client)


async def report_closed(stream: Stream, buffer: Buffer, seconds: float) -> None:
    """Count a stream that is over, log one line, and send the signal: no payload, no query string."""
    route, ending, events, size = stream.route, stream.ending, buffer.events, buffer.sent_bytes
    assert ending is not None
    counters.closed(route, ending, events=events, bytes=size, seconds=seconds)
    summary = {"ending": ending, "duration": round(seconds, 3), "events": events, "bytes": size}
    logger.info(
        "stream closed: %s %s after %.3f s, %d events, %d bytes",
        *(route, *summary.values()),
        extra={"route": route, **summary},
    )
    if stream_closed.has_listeners(Stream):
        await stream_closed.asend_robust(sender=Stream, stream=stream, **summary)
