"""What the client, the log and the project's error tracking are told when a stream ends."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.signals import got_request_exception

from ..encoding import encode_json
from ..exceptions import HandlerCancelled
from ..signals import stream_closed
from ..wire.encoder import control_frame
from .context import Context
from .counters import counters
from .endings import Ending
from .last_event_id import end_id
from .stream import Stream

if TYPE_CHECKING:
    from .supervisor import Runner

logger = logging.getLogger("django_agent_sse.stream")

OnError = Callable[[Context, Stream, BaseException], object]

FIRST_RETRY = 1000
"""Milliseconds: the first reconnection time after an error, where the route has no ``retry`` of its own."""
LAST_RETRY = 60_000
"""Milliseconds: it grows up to this."""
JITTER = 0.5
"""A reconnection time is drawn from this share around it, so that clients do not come back together."""
ON_ERROR_SECONDS = 5.0


class ErrorStreak:
    """Errors of one route without a good ending between them: the longer, the later clients should come back."""

    __slots__ = ("length",)

    def __init__(self) -> None:
        self.length = 0

    def next_retry(self, base: int | None) -> int:
        """The reconnection time to tell the client, in milliseconds: doubled for each error in a row, with jitter."""
        grown = min((base or FIRST_RETRY) * 2**self.length, LAST_RETRY)
        self.length = min(self.length + 1, 16)
        return jittered(grown)


def jittered(milliseconds: int) -> int:
    """A number around ``milliseconds``."""
    return int(milliseconds * random.uniform(1 - JITTER, 1 + JITTER))


def last_event(runner: Runner, ending: Ending, retry: int | None) -> bytes:
    """The control event that a stream ends with; empty where there is none."""
    if not runner.control:
        return b""
    if ending is Ending.HANDLER_ERROR:
        last_id = end_id(runner.stream.last_event_id) if runner.options.final_on_error else None
        told: dict[str, Any] = {"reason": ending, "message": _message(runner.error)}
        return control_frame(encode_json(told), "sse.error", last_id, runner.streak.next_retry(runner.options.retry))
    if ending.announced:
        last_id = None if retry is not None else end_id(runner.stream.last_event_id)
        return control_frame(encode_json(_reason(runner, ending)), "sse.end", last_id, retry)
    return b""


def _reason(runner: Runner, ending: Ending) -> dict[str, str]:
    """Why the stream ends; of closed topics also what they were closed with."""
    followed = runner.stream.followed
    if ending is not Ending.TOPIC_CLOSED or followed is None:
        return {"reason": ending}
    return {"reason": "deleted"} if followed.reason == "deleted" else {"reason": ending, "closed": followed.reason}


def _message(error: BaseException | None) -> str:
    """Never an exception's text, unless the project runs with ``DEBUG``."""
    return f"{type(error).__name__}: {error}" if settings.DEBUG else "The stream ended because of an error on the server."


def own_cancel(cancelled: asyncio.CancelledError, route: str) -> HandlerCancelled:
    """A ``CancelledError`` of the handler's own must not pass through Django as if the server had cancelled the request."""
    error = HandlerCancelled(f"the handler of {route} awaited something that was cancelled")
    error.__cause__ = cancelled
    return error


async def report(runner: Runner, error: BaseException, on_error: OnError | None) -> None:
    """Tell error tracking and the log, then let the route's ``on_error`` write what it likes."""
    request = runner.context.request if not runner.options.slim else None
    logger.error(
        "the handler of %s failed: %s",
        runner.route,
        type(error).__name__,
        exc_info=error,
        extra={"route": runner.route, "request": request},
    )
    await got_request_exception.asend_robust(sender=Stream, request=request)
    if on_error is None:
        return
    try:
        async with asyncio.timeout(ON_ERROR_SECONDS):
            outcome = on_error(runner.context, runner.stream, error)
            if inspect.isawaitable(outcome):
                await outcome
    except asyncio.CancelledError:
        raise
    except BaseException:
        logger.exception("on_error of %s failed", runner.route, extra={"route": runner.route})


async def tell_closed(runner: Runner, duration: float) -> None:
    """The count, the log line and the signal of a stream that is over: no payload, no query string."""
    assert runner.ending is not None
    counters.closed(runner.route, runner.ending, events=runner.buffer.events, bytes=runner.buffer.bytes, seconds=duration)
    told = {
        "ending": runner.ending,
        "duration": round(duration, 3),
        "events": runner.buffer.events,
        "bytes": runner.buffer.bytes,
    }
    logger.info(
        "stream closed: %s %s after %.3f s, %d events, %d bytes",
        *(runner.route, *told.values()),
        extra={"route": runner.route, **told},
    )
    if stream_closed.has_listeners(Stream):
        await stream_closed.asend_robust(sender=Stream, stream=runner.stream, **told)
