"""Where a client says that it stopped: ``Last-Event-ID``, read strictly and never trusted."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.http import HttpRequest

END_PREFIX = "sse.end~"
"""An id that begins so was sent with ``sse.end``: the client has the whole stream."""

MAX_BYTES = 512
"""The longest id taken from a client, in bytes of UTF-8."""

QUERY_PARAMETER = "last_event_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastEventId:
    """The last event id of one request.

    Attributes:
        value: The id without ``END_PREFIX``; ``None`` when there is none, or none that can be used.
        ended: The client came back with the id of a finished stream's end.
        malformed: The client sent something that is no id: its position is unknown, which is not the same as having none.
    """

    value: str | None = None
    ended: bool = False
    malformed: bool = False

    @classmethod
    def of(cls, request: HttpRequest) -> LastEventId:
        """Read the ``Last-Event-ID`` header, or where that is absent or empty the ``last_event_id`` query parameter.

        An id is at most ``MAX_BYTES`` of valid UTF-8 without control characters. Anything else is ``malformed``; nothing raises.
        """
        raw = request.META.get("HTTP_LAST_EVENT_ID") or None
        text = None if raw is None else _from_header(raw)
        if raw is None and QUERY_PARAMETER in request.META.get("QUERY_STRING", ""):  # request.GET stays for as long as the stream
            raw = request.GET.get(QUERY_PARAMETER) or None
            # Django decodes a query with replacement: where there is a replacement character, bytes may have been lost.
            text = None if raw is None or "\ufffd" in raw else raw
        if raw is None:
            return _NONE
        if text is None or not _usable(text):
            return _MALFORMED
        if text.startswith(END_PREFIX):
            return cls(value=text[len(END_PREFIX) :] or None, ended=True)
        return cls(value=text)


_NONE = LastEventId()
_MALFORMED = LastEventId(malformed=True)


def end_id(last_id: str | None) -> str:
    """The id that ``sse.end`` carries: ``END_PREFIX`` and the last id sent, or the prefix alone where that would be too long."""
    whole = f"{END_PREFIX}{last_id or ''}"
    return whole if len(whole.encode()) <= MAX_BYTES else END_PREFIX


def _from_header(raw: str) -> str | None:
    """Undo Django's latin-1 reading of header bytes: the standard has clients send UTF-8."""
    if raw.isascii():
        return raw
    try:
        return raw.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return None


def _usable(text: str) -> bool:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return False
    return size <= MAX_BYTES and not any(unicodedata.category(character) == "Cc" for character in text)
