"""The socket of a connection that redis-py has made, read and written on the background loop without ever waiting."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import redis

CHUNK_BYTES = 65_536
Reply: TypeAlias = "bytes | int | list[Reply] | None"
"""Of RESP 2, those that a subscribed connection is sent."""
_END = b"\r\n"
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class ServerSocket:
    """A connection that redis-py has opened, with TLS, password and Sentinel as the project has it; only its socket is used.

    Args:
        connection: redis-py's, open.
        on_reply: Called with each reply.
        on_failure: Called when it is broken; ``check()`` raises why.
    """

    def __init__(self, connection: Any, on_reply: Callable[[Reply], object], on_failure: Callable[[], object]) -> None:
        self._connection = connection
        self._on_reply = on_reply
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._replies = ReplyReader()
        self._unsent = bytearray()
        self._error: Exception | None = None
        self.socket: socket.socket = connection._sock  # redis-py has no public name for it; a test pins this one
        self.socket.setblocking(False)
        self._loop.add_reader(self.socket, self._read)

    def send(self, *words: str) -> None:
        for part in self._connection.pack_command(*words):
            self._unsent += part
        self._write()

    def check(self) -> None:
        """Raise what has broken the connection, if it is broken."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._stop()
        self._connection.disconnect()

    def _stop(self) -> None:
        self._loop.remove_reader(self.socket)
        self._loop.remove_writer(self.socket)

    def _read(self) -> None:
        try:
            while True:  # of TLS more may be decrypted already than the selector knows of
                data = self.socket.recv(CHUNK_BYTES)
                if not data:
                    raise redis.exceptions.ConnectionError("the server has closed the connection")
                for reply in self._replies.feed(data):
                    self._on_reply(reply)
                if not isinstance(self.socket, ssl.SSLSocket):
                    return
        except _NOT_NOW:
            return
        except Exception as error:
            self._fail(error)

    def _write(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except _NOT_NOW:
            self._loop.add_writer(self.socket, self._write)
        except Exception as error:
            self._fail(error)
        else:
            self._loop.remove_writer(self.socket)

    def _fail(self, error: Exception) -> None:
        self._error = redis.exceptions.ConnectionError(str(error)) if isinstance(error, OSError) else error
        self._stop()
        self._on_failure()


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
        line = self._until(self._buffer.find(_END, self._place))
        kind, rest = line[:1], line[1:]
        if kind == b"$":
            return self._until(self._place + int(rest)) if int(rest) >= 0 else None
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest
        if kind == b"-":
            raise redis.exceptions.ResponseError(rest.decode(errors="replace"))
        raise redis.exceptions.InvalidResponse(f"a reply begins with {kind!r}")

    def _until(self, end: int) -> bytes:
        """Take what stands before ``end``, and the end of the line there."""
        if not self._place <= end <= len(self._buffer) - len(_END):
            raise _Incomplete
        value = bytes(self._buffer[self._place : end])
        self._place = end + len(_END)
        return value
