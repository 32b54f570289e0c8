"""What the wires have in common: events whose data is one JSON object, ``[DONE]``, and words for a person to read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from django.http import HttpRequest

from ...encoding import encode_json
from ...eventlog.position import MAX_OFFSET
from ...exceptions import QueryInvalid
from ...runs.endings import RunEnding
from ...runs.wire import last_event_id, plain_headers
from ...wire.event import Event

Message = dict[str, Any]

DONE = "[DONE]"
"""The data of the event that ends a stream in some protocols; nothing may follow it."""

SENTENCES = {
    RunEnding.FAILED: "The run has failed.",
    RunEnding.STOPPED: "The run was stopped.",
    RunEnding.INTERRUPTED: "The run was interrupted: its server was told to end.",
    RunEnding.LOST: "The run was lost: its process has died, or could not be reached.",
}
"""What a person is told. Never what an exception said, which may be nobody's business."""


def messages(events: Iterable[Event]) -> Iterator[Message]:
    """Yield the JSON objects among the data of events."""
    for event in events:
        if event.data[:1] == "{":
            try:
                message = json.loads(event.data)
            except (ValueError, RecursionError):
                continue
            yield message


def message(**members: object) -> Event:
    """Return the event of a JSON object; members that are ``None`` are left out."""
    return Event(encode_json({key: value for key, value in members.items() if value is not None}))


def count(request: HttpRequest, name: str, *, least: int) -> int | None:
    """Return a whole number from the query; ``None`` without it.

    Raises:
        QueryInvalid: It is something else, or out of range.
    """
    text = request.GET.get(name)
    if text is None:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 19 or not least <= int(text) <= MAX_OFFSET:
        raise QueryInvalid(f"{name}= is not a whole number from {least} on: send how many events you have")
    return int(text)


__all__ = ["DONE", "SENTENCES", "Message", "count", "last_event_id", "message", "messages", "plain_headers"]
