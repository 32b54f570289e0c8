"""The output of files, pipes and processes as it comes: in chunks, and in lines.

What is read here belongs to the stream: if reading ends before the output does, a file or pipe is closed, and a process is ended,
whatever the ending. Else a client that comes back would start the same program beside the one that still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import subprocess
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from ..exceptions import ArgumentInvalid
from ..wire.lines import LineSplitter
from .iterators import in_thread

CHUNK_BYTES = 65_536
"""Bytes that are read at once, at most."""
MAX_LINE_BYTES = 1_048_576
"""A longer line goes on as further events; the same as the default of an event log's ``MAX_EVENT_BYTES``."""
END_TIMEOUT = 2.0
"""Seconds that a process gets between SIGTERM and SIGKILL."""


def is_output(source: object) -> bool:
    """Whether this is a file, a pipe or a process."""
    return hasattr(source, "readline") or isinstance(source, subprocess.Popen | asyncio.subprocess.Process)


async def lines_of(source: Any) -> AsyncGenerator[str, None]:
    """The lines of an output, and how a line looks that carriage returns draw anew, each time that some of it comes."""
    splitter = LineSplitter(MAX_LINE_BYTES)
    async with contextlib.aclosing(chunks_of(source, lined=True)) as chunks:
        async for chunk in chunks:
            for line in splitter.feed(chunk):
                yield line
            if (drawn := splitter.redrawn()) is not None:
                yield drawn
        for line in splitter.finish():
            yield line


async def chunks_of(source: Any, *, lined: bool = False) -> AsyncGenerator[bytes, None]:
    """The bytes of an output as they come.

    Args:
        source: A process, a ``StreamReader``, or a file, sync or async, of bytes or text.
        lined: Lines that a file of another kind yields have their end, though it left it out.

    Raises:
        ArgumentInvalid: A process whose output is not piped.
    """
    if isinstance(source, subprocess.Popen | asyncio.subprocess.Process):
        chunks = _of_process(source)
    elif isinstance(source, asyncio.StreamReader):
        chunks = _of_reader(source)
    elif hasattr(source, "__aiter__"):
        chunks = _encoded(source.__aiter__(), lined)
    else:
        chunks = _encoded(in_thread(_read(source, lined)), lined=False)
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            yield chunk


async def _of_process(process: subprocess.Popen[Any] | asyncio.subprocess.Process) -> AsyncGenerator[bytes, None]:
    if process.stdout is None:
        raise ArgumentInvalid(
            "the output of this process is not piped: start it with stdout=PIPE, and with stderr=STDOUT for its errors"
        )
    whole = False
    async with contextlib.aclosing(chunks_of(process.stdout)) as chunks:
        try:
            async for chunk in chunks:
                yield chunk
            whole = True
        finally:
            if not whole:
                await _end(process)


async def _of_reader(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    whole = False
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            yield chunk
        whole = True
    finally:
        if not whole:
            _close_reader(reader)


def _close_reader(reader: asyncio.StreamReader) -> None:
    """Close the pipe, and tell the process at its other end to end, where there is one."""
    transport = getattr(reader, "_transport", None)
    if transport is None:
        return
    process = getattr(transport.get_protocol(), "proc", None)
    if process is not None and process.get_returncode() is None:
        _signal(process.get_pid(), signal.SIGTERM)
    transport.close()


async def _encoded(items: AsyncIterator[Any], lined: bool) -> AsyncGenerator[bytes, None]:
    try:
        async for item in items:
            yield _ended(item) if lined else _bytes(item)
    finally:
        if hasattr(items, "aclose"):
            await items.aclose()


def _bytes(item: Any) -> bytes:
    return item.encode("utf-8", "replace") if isinstance(item, str) else bytes(item)


def _ended(line: Any) -> bytes:
    data = _bytes(line)
    return data if data.endswith((b"\n", b"\r")) else data + b"\n"


def _read(file: Any, lined: bool) -> Iterator[Any]:
    """What a file has, as it comes; closes it."""
    with contextlib.closing(file):
        if (read := getattr(file, "read1", None)) or (read := file.read if isinstance(file, io.RawIOBase) else None):
            while data := read(CHUNK_BYTES):
                yield data
        elif isinstance(file, io.TextIOBase):
            while text := file.readline(CHUNK_BYTES):
                yield text
        else:
            yield from map(_ended, file) if lined else file


async def _end(process: subprocess.Popen[Any] | asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL for what is deaf to it; to the whole group where the process leads one of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        _signal(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT):
                await _over(process)


async def _over(process: subprocess.Popen[Any] | asyncio.subprocess.Process) -> None:
    if isinstance(process, asyncio.subprocess.Process):
        await process.wait()
        return
    while process.poll() is None:  # noqa: ASYNC110  # a Popen has nothing to wait for
        await asyncio.sleep(0.01)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg") and os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
