"""The last event of a stream: which bytes tell the client how it ended. Pure: what is to be sent is decided in ``lifecycle``."""

from __future__ import annotations

import json

from ..wire.encoder import control_frame
from .endings import Ending
from .last_event_id import end_id
from .lifecycle import Finish

MASKED = "The stream ended because of an error on the server."
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def last_event(
    finish: Finish,
    ending: Ending,
    *,
    last_id: str | None,
    retry: int | None,
    closed: str | None,
    error: BaseException | None,
    debug: bool,
) -> bytes:
    """Return the last event as bytes; empty where there is none.

    Args:
        last_id: The last id that was sent, which the end id carries.
        retry: Milliseconds after which the client may come back.
        closed: What the topic that ended last was closed with, or ``deleted``; where topics were followed to their end.
        error: What the handler raised. Its text is shown with ``debug`` only: it may hold anything.
    """
    if finish.last_event is None:
        return b""
    payload: dict[str, str] = {"reason": ending}
    if finish.last_event == "sse.error":
        payload["message"] = f"{type(error).__name__}: {error}" if debug else MASKED
    elif ending is Ending.TOPIC_CLOSED and closed == "deleted":
        payload["reason"] = closed
    elif ending is Ending.TOPIC_CLOSED and closed is not None:
        payload["closed"] = closed
    return control_frame(_encode(payload), finish.last_event, end_id(last_id) if finish.final else None, retry)
