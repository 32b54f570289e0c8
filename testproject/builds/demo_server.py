"""uvicorn in this process, for a demo: it starts by itself, says when, and ends quietly."""

from __future__ import annotations

import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn

HOST = "127.0.0.1"
TRIES = 100
"""Ports that are tried, the asked-for one included."""
ENDING = 1
"""Seconds that requests get at the end. Streams need none of them: they are told to end at once."""


class DemoServer(uvicorn.Server):
    """A server that calls ``started`` when it serves, and whose end is no error."""

    def __init__(self, application: Any, started: Callable[[], Awaitable[None]]) -> None:
        super().__init__(
            uvicorn.Config(
                application, lifespan="off", ws="none", log_level="warning", access_log=False, timeout_graceful_shutdown=ENDING
            )
        )
        self._call = started
        logging.getLogger("uvicorn.error").addFilter(_is_news)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self._call()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Keep the handlers to the end, where uvicorn puts the old ones back and raises the signal once more.

        Ctrl-C under tox comes twice, and the second would print a traceback.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def _is_news(record: logging.LogRecord) -> bool:
    """Streams whose end no event can tell are broken off on purpose, and uvicorn has a line for each."""
    return "without completing response" not in record.getMessage()


def bind(port: int) -> socket.socket:
    """A listening socket on the loopback address, at ``port`` or at the next one that is free (0: at any).

    Raises:
        OSError: There is none.
    """
    for candidate in range(port, min(port + TRIES, 65536)):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, candidate))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
        else:
            return listener
    raise OSError(errno.EADDRINUSE, f"no port is free from {port} on")
