"""A child process and what it prints."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self, cast

STDOUT, STDERR = 1, 2
BUFFER = 65536
"""Bytes that are read ahead, doubled. A process whose readers cannot keep up is held by its full pipe, as in a terminal."""


class ChildProcess(asyncio.SubprocessProtocol):
    """A process in a session and process group of its own, with empty input.

    Unlike ``asyncio.subprocess.Process.wait()``, ``wait()`` is over when the process is, even where something that it left
    behind holds the other end of the pipes.

    Attributes:
        stdout: To be read from; at its end when everybody has closed the other end.
        stderr: Likewise.
    """

    def __init__(self) -> None:
        self.stdout = asyncio.StreamReader(limit=BUFFER)
        self.stderr = asyncio.StreamReader(limit=BUFFER)
        self._readers = {STDOUT: self.stdout, STDERR: self.stderr}
        self._over = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None

    @classmethod
    async def start(cls, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Self:
        """Start ``argv``, without a shell.

        Raises:
            OSError: It cannot be started.
        """
        _, process = await asyncio.get_running_loop().subprocess_exec(
            cls, *argv, stdin=subprocess.DEVNULL, cwd=cwd, env=env, start_new_session=True
        )
        return process

    @property
    def pid(self) -> int:
        """Also the id of the process group."""
        assert self._transport is not None
        return self._transport.get_pid()

    async def wait(self) -> int:
        """Wait until the process is over; return its exit code, negative for the signal that ended it."""
        await self._over.wait()
        assert self._transport is not None
        return cast(int, self._transport.get_returncode())

    def close(self) -> None:
        """Close the pipes. Kills the process where it still runs."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        for descriptor, reader in self._readers.items():
            pipe = self._transport.get_pipe_transport(descriptor)
            assert pipe is not None
            reader.set_transport(pipe)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._readers[fd].feed_data(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._readers[fd].feed_eof()

    def process_exited(self) -> None:
        self._over.set()
