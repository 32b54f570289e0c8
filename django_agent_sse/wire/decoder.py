"""From bytes to Events: the WHATWG HTML standard, section 9.2.6 "Interpreting an event stream", for bytes cut at any place."""

from __future__ import annotations

from ..exceptions import InvalidEvent
from .event import FIELD_BYTES, MAX_EVENT_BYTES, MAX_RETRY, Event, decoded

_BOM = b"\xef\xbb\xbf"


class Decoder:
    """An incremental decoder of one ``text/event-stream``. Feed it bytes as they come; it does no I/O.

    An event is returned by the call that brings the last byte of its blank line, also where that byte is a CR whose LF is still
    on its way. The events do not depend on where the bytes were cut, and the work is linear in the number of bytes.

    What the standard leaves to Events: ``Event.event`` and ``Event.id`` are ``None`` where the block had no such field (an id
    stays in force in ``last_event_id``), a NUL in an event's name becomes U+FFFD as undecodable bytes do, and a ``retry`` above
    ``MAX_RETRY`` counts as ``MAX_RETRY``.

    Args:
        max_event_bytes: The most bytes that one event's data, with the line that is being read, may take; the name of the line's
            field does not count. Comments between events do not add up.

    Attributes:
        last_event_id: The last event id, ``""`` before any: what to send as ``Last-Event-ID`` when reconnecting.
        retry: The reconnection time in milliseconds that the stream asked for, or ``None``.
    """

    def __init__(self, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        self._limit = max_event_bytes
        self._room = max_event_bytes + FIELD_BYTES
        self._start()

    def _start(self) -> None:
        self._started = self._after_cr = self._over_limit = False
        self._line = bytearray()
        self._data = bytearray()
        self._event: str | None = None
        self._id: str | None = None
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes and return the events that they complete, in order.

        Raises:
            InvalidEvent: An event is larger than ``max_event_bytes``. Events that the same chunk completed before it are
                returned first, and the next call raises; so does every later one until ``finish()``.
        """
        events: list[Event] = []
        if not self._over_limit:
            for line in self._complete_lines(chunk):
                if not line:
                    if (event := self._dispatch()) is not None:
                        events.append(event)
                # Counted as bytes come in, before they are kept: a source that never ends a line costs no more than the limit.
                elif len(self._data) + len(line) > self._room:
                    self._over_limit = True
                    break
                else:
                    self._take_field(line)
            if len(self._data) + len(self._line) > self._room:
                self._over_limit = True
        if self._over_limit and not events:
            raise self._refusal()
        return events

    def finish(self) -> bool:
        """End the stream, and make the decoder ready for the next connection to the same source.

        As the standard says, an event without its blank line is discarded; ``last_event_id`` and ``retry`` stay.

        Returns:
            Whether the stream was cut inside an event, or inside a line, so that something was discarded.

        Raises:
            InvalidEvent: An event was larger than ``max_event_bytes``; the decoder is ready all the same.
        """
        refusal = self._refusal() if self._over_limit else None
        cut = bool(self._data or self._line) or (self._event, self._id) != (None, None)
        self._start()
        if refusal is not None:
            raise refusal
        return cut

    def _complete_lines(self, chunk: bytes) -> list[bytes]:
        # A CR ends its line at once, so that an event is not held back until the next byte comes; the LF of a CR LF that was cut
        # in two is then dropped.
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._line += chunk
            return []
        lines = chunk.split(b"\n")
        if self._line:
            self._line += lines[0]
            lines[0] = bytes(self._line)
        if not self._started:
            self._started = True
            lines[0] = lines[0].removeprefix(_BOM)
        self._line = bytearray(lines.pop())
        return lines

    def _take_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._data += value
            self._data += b"\n"
        elif name == b"event":
            self._event = value.decode("utf-8", "replace").replace("\0", "\ufffd")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self._retry = self.retry = _milliseconds(value)

    def _dispatch(self) -> Event | None:
        event, id, retry = self._event, self._id, self._retry
        self._event = self._id = self._retry = None
        if id is not None:
            self.last_event_id = id
        if not self._data:  # the standard: a block without data is no event, though its id counts
            return None
        data = self._data[:-1].decode("utf-8", "replace")
        self._data.clear()
        return decoded(data, event, id, retry)

    def _refusal(self) -> InvalidEvent:
        return InvalidEvent(
            f"the stream holds an event of more than {self._limit} bytes. "
            "If its source is to be trusted, give the Decoder a larger max_event_bytes."
        )


def _milliseconds(digits: bytes) -> int:
    # The length comes first: int() refuses thousands of digits, and a hostile stream may send them.
    digits = digits.lstrip(b"0")
    return MAX_RETRY if len(digits) > 10 else min(int(digits or b"0"), MAX_RETRY)
