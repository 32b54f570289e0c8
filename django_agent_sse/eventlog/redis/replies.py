"""What a connection to Redis reads, as it comes: only the parts of RESP 2 that a subscribed connection is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import redis

Reply: TypeAlias = "bytes | int | list[Reply] | None"
_END = b"\r\n"


class _Incomplete(Exception):
    """The rest has not come yet."""


class ReplyReader:
    """Replies out of chunks of bytes, cut anywhere.

    redis-py's own parser waits on the socket for the rest of a reply; on a loop that others share nothing may wait.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._place = 0

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Yield the replies that are complete now.

        Raises:
            ResponseError: The server refused a command.
            ProtocolError: It speaks something else.
        """
        self._buffer += data
        while True:
            begin = self._place
            try:
                reply = self._reply()
            except _Incomplete:
                self._place = 0
                del self._buffer[:begin]
                return
            yield reply

    def _reply(self) -> Reply:
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return self._bulk(int(rest))
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        if kind == b"-":
            raise redis.exceptions.ResponseError(rest.decode(errors="replace"))
        raise redis.exceptions.InvalidResponse(f"a reply begins with {kind!r}")

    def _line(self) -> bytes:
        end = self._buffer.find(_END, self._place)
        if end < 0:
            raise _Incomplete
        line = bytes(self._buffer[self._place : end])
        self._place = end + 2
        return line

    def _bulk(self, size: int) -> bytes | None:
        if size < 0:
            return None
        end = self._place + size
        if len(self._buffer) < end + 2:
            raise _Incomplete
        value = bytes(self._buffer[self._place : end])
        self._place = end + 2
        return value
