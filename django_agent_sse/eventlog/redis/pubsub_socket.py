"""The socket of a connection that redis-py has made, read and written on the background loop without ever waiting."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import redis

from .replies import Reply, ReplyReader

CHUNK_BYTES = 65_536
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
        """Send one command."""
        for part in self._connection.pack_command(*words):
            self._unsent += part
        self._write()

    def check(self) -> None:
        """Raise what has broken the connection, if it is broken."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Close it."""
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
