"""The last event of a stream: which bytes tell the client how it ended. Pure: what is to be sent is decided in ``lifecycle``."""

from __future__ import annotations

import json

from ..wire.encoder import control_frame
from .endings import Ending
from .last_event_id import end_id

MASKED = "The stream ended because of an error on the server."
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def end_event(ending: Ending, *, last_id: str | None, final: bool, retry: int | None, closed: str | None) -> bytes:
    """Return the ``sse.end`` of a stream.

    Args:
        ending: Its reason.
        last_id: The last id that was sent.
        final: Carry the end id, which stops an ``EventSource`` for good.
        retry: Milliseconds after which the client may come back.
        closed: What the topic that ended last was closed with, or ``deleted``; for ``topic_closed``.
    """
    payload: dict[str, str] = {"reason": ending}
    if ending is Ending.TOPIC_CLOSED and closed is not None:
        payload = {"reason": "deleted"} if closed == "deleted" else {"reason": ending, "closed": closed}
    return control_frame(_encode(payload), "sse.end", end_id(last_id) if final else None, retry)


def error_event(error: BaseException | None, *, last_id: str | None, final: bool, retry: int, debug: bool) -> bytes:
    """Return the ``sse.error`` of a stream.

    Args:
        error: What the handler raised. Its text is shown with ``debug`` only: it may hold anything.
        last_id: The last id that was sent.
        final: Carry the end id, which stops an ``EventSource`` for good.
        retry: Milliseconds after which the client may come back.
        debug: The project runs with ``DEBUG``.
    """
    message = f"{type(error).__name__}: {error}" if debug else MASKED
    payload = {"reason": Ending.HANDLER_ERROR, "message": message}
    return control_frame(_encode(payload), "sse.error", end_id(last_id) if final else None, retry)
