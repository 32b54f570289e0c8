"""uvicorn in this process, for a demo: it ends quietly."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

HOST = "127.0.0.1"
TRIES = 100
"""Ports that are tried, the asked-for one included."""
OF_THE_END = ("without completing response", "graceful shutdown exceeded")
STOP_SECONDS = 1
"""What requests get at the end. Streams need none of it: they are told to end at once."""


def listen(port: int) -> socket.socket:
    """A listening socket on the loopback address, at ``port`` or at the next one that is free (0: at any).

    Raises:
        OSError: There is none.
    """
    for candidate in range(port, min(port + TRIES, 65536)):
        try:
            return socket.create_server((HOST, candidate), backlog=128)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
    raise OSError(errno.EADDRINUSE, f"no port is free from {port} on")


def serve(application: Any, listener: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        application, lifespan="off", ws="none", log_level="warning", access_log=False, timeout_graceful_shutdown=STOP_SECONDS
    )
    logging.getLogger("uvicorn.error").addFilter(lambda record: not _is_of_the_end(record))
    _Server(config).run(sockets=[listener])


def _is_of_the_end(record: logging.LogRecord) -> bool:
    """What is broken off at the end is so on purpose, and uvicorn has a line for each."""
    error, message = record.exc_info and record.exc_info[1], record.getMessage()
    return isinstance(error, asyncio.CancelledError) or any(words in message for words in OF_THE_END)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Keep the handlers to the end, where uvicorn puts the old ones back and raises the signal once more.

        Ctrl-C under tox comes twice, and the second would print a traceback.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield
