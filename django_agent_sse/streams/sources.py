"""What can be piped: async and sync iterators, the lines of files, pipes and processes, text that is framed already.

What is read here belongs to the stream: if reading ends before the output does, a file or pipe is closed, and a process is ended,
whatever the ending. Else a client that comes back would start the same program beside the one that still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async

from ..encoding import is_one_value
from ..exceptions import ArgumentInvalid
from ..runtime.connections import give_pooled_back
from ..runtime.loop import in_pool
from ..runtime.worker_threads import ConnectionHold
from ..wire import Decoder, Event
from ..wire.drawing import Change, DrawnLines
from ..wire.event import is_reserved
from ..wire.redraws import Redraw, source_of
from .callbacks import contained
from .threads import current, in_callers_thread, kept_pool, lifelong

CHUNK_BYTES = 65_536
"""Bytes that are read at once, at most; of framed text, that are parsed before others have their turn."""
MAX_LINE_BYTES = 1_048_576
"""A longer line goes on as further events; the same as the default of an event log's ``MAX_EVENT_BYTES``."""
END_TIMEOUT = 2.0
"""Seconds that a process gets between SIGTERM and SIGKILL."""
READY = (list, tuple, deque, range, dict, set, frozenset)
"""Iterables that cannot block: no thread is needed."""


async def items_of(source: Any, event: str | None = None) -> AsyncGenerator[Any, None]:
    """Yield the items of anything that ``stream.pipe`` takes, else raise ``ArgumentInvalid``; close it, also when cancelled.

    ``event`` is what they will be called: what an output draws again is told of these.
    """
    if (is_one_value(source) and not isinstance(source, Mapping)) or isinstance(source, type):
        raise _not_piped(source)
    if is_output(source):
        inner: AsyncIterator[Any] = lines_of(source, event)
    elif hasattr(source, "__aiter__"):
        inner = source.__aiter__()
    elif isinstance(source, READY):
        for item in source:
            yield item
        return
    elif hasattr(source, "__iter__"):
        inner = in_thread(source)
    else:
        raise _not_piped(source)
    try:
        async for item in inner:
            yield item
    finally:
        if hasattr(inner, "aclose"):
            await inner.aclose()


def _not_piped(source: Any) -> ArgumentInvalid:
    name, hint = getattr(source, "__name__", ""), "write() sends one value, as one event"
    if inspect.iscoroutine(source):
        source.close()  # else Python warns that nobody awaited it
        hint = f"await it first: pipe(await {name}(…))"
    elif inspect.isroutine(source):
        hint = f"call it: pipe({name}(…))"
    return ArgumentInvalid(
        f"{type(source).__name__} cannot be piped: pipe() takes an async or sync iterator or iterable, each item of which is an "
        f"event, or a file, a pipe or a process, each line of which is one; {hint}"
    )


def without_line_end(line: Any) -> Any:
    for end in ("\r\n", "\n", "\r") if isinstance(line, str) else (b"\r\n", b"\n", b"\r"):
        if line.endswith(end):
            return line[: -len(end)]
    return line


async def events_of(source: Any) -> AsyncGenerator[Event, None]:
    """Yield the events of text that is framed already, cut anywhere; ``sse.*`` events of the upstream are left out."""
    decoder = Decoder()
    items: Any = chunks_of(source) if is_output(source) else items_of([source] if isinstance(source, str | bytes) else source)
    try:
        async for item in items:
            data = item.encode() if isinstance(item, str) else item
            for start in range(0, len(data), CHUNK_BYTES):
                for event in decoder.feed(data[start : start + CHUNK_BYTES]):
                    if not speaks_for_its_stream(event):
                        yield event
                if len(data) > CHUNK_BYTES:
                    await asyncio.sleep(0)
        decoder.finish()
    finally:
        await items.aclose()


def speaks_for_its_stream(event: Event) -> bool:
    """Return whether an event, or its id, is about the stream that carried it, and so must not be passed on."""
    return is_reserved(event.event or "") or is_reserved(event.id or "")


# The output of files, pipes and processes, as it comes


def is_output(source: object) -> bool:
    return hasattr(source, "readline") or isinstance(source, subprocess.Popen | asyncio.subprocess.Process)


async def lines_of(source: Any, event: str | None = None) -> AsyncGenerator[str | Event, None]:
    """The lines of an output as they come; of those that are drawn again, as progress bars are, events ``replace`` before."""
    drawn = DrawnLines(MAX_LINE_BYTES)
    async with contextlib.aclosing(_in_time(chunks_of(source, lined=True), drawn)) as chunks:
        async for chunk in chunks:
            for change in drawn.feed(chunk) if chunk else drawn.tick():
                yield told(change, event)
        for change in drawn.finish():
            yield told(change, event)


def told(change: Change, event: str | None) -> str | Event:
    """Return a line as it is, and what becomes of lines as an event."""
    return change.event(source_of(event)) if isinstance(change, Redraw) else change


async def _in_time(chunks: AsyncGenerator[bytes, None], drawn: DrawnLines) -> AsyncGenerator[bytes, None]:
    """Yield what comes, and nothing each time that a draft is due and nothing has come."""
    waiting: asyncio.Future[bytes | None] | None = None
    try:
        while True:
            due = drawn.due
            if waiting is None and due is None:
                chunk = await _next(chunks)
            else:
                waiting = waiting or asyncio.ensure_future(_next(chunks))
                seconds = None if due is None else max(0.0, due - time.monotonic())
                if not (await asyncio.wait({waiting}, timeout=seconds))[0]:
                    yield b""
                    continue
                chunk, waiting = waiting.result(), None
            if chunk is None:
                return
            if chunk:
                yield chunk
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait({waiting})
            if not waiting.cancelled():
                waiting.exception()  # what reading raised then is nobody's
        await chunks.aclose()


async def _next(chunks: AsyncGenerator[bytes, None]) -> bytes | None:
    try:
        return await anext(chunks)
    except StopAsyncIteration:
        return None


def chunks_of(source: Any, *, lined: bool = False) -> AsyncGenerator[bytes, None]:
    """The bytes of an output as they come.

    Args:
        source: A process whose output is piped, a ``StreamReader``, or a file, sync or async, of bytes or text.
        lined: Lines that a file of another kind yields have their end, though it left it out.
    """
    if isinstance(source, subprocess.Popen | asyncio.subprocess.Process):
        return _of_process(source)
    if isinstance(source, asyncio.StreamReader):
        return _of_reader(source)
    if hasattr(source, "__aiter__"):
        return _encoded(source.__aiter__(), lined)
    return _encoded(in_thread(read_chunks(source, lined), source), lined=False)


async def _of_process(process: subprocess.Popen[Any] | asyncio.subprocess.Process) -> AsyncGenerator[bytes, None]:
    if process.stdout is None:
        raise ArgumentInvalid(
            "the output of this process is not piped: start it with stdout=PIPE, and with stderr=STDOUT for its errors"
        )
    async with contextlib.aclosing(chunks_of(process.stdout)) as chunks:
        try:
            async for chunk in chunks:
                yield chunk
        except BaseException:  # also GeneratorExit and a cancel: reading ends before the output does
            await _end(process)
            raise


async def _of_reader(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            yield chunk
    except BaseException:
        _close_reader(reader)
        raise


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
            yield _ended(item) if lined else as_bytes(item)
    finally:
        if hasattr(items, "aclose"):
            await items.aclose()


def as_bytes(item: Any) -> bytes:
    return item.encode("utf-8", "replace") if isinstance(item, str) else bytes(item)


def _ended(line: Any) -> bytes:
    data = as_bytes(line)
    return data if data.endswith((b"\n", b"\r")) else data + b"\n"


def read_chunks(file: Any, lined: bool) -> Generator[Any, None, None]:
    """What a file has, as it comes; closes it."""
    with contextlib.closing(file) if hasattr(file, "close") else contextlib.nullcontext():
        if isinstance(file, io.TextIOWrapper):
            with contextlib.suppress(io.UnsupportedOperation):  # somebody has begun to read it
                file.reconfigure(newline="")  # else each frame of a bar would be a line
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


# Sync iterators, each on a thread of its own
#
# They run item by item on a thread that is kept for their life, with database connections of its own, from a bounded and counted
# number of threads: they may block as they like, and are never drained into a list.


_END = object()


async def in_thread(source: Iterable[Any], file: Any = None) -> AsyncIterator[Any]:
    """Iterate a sync iterable on one thread, one item at a time, in the caller's context.

    In the end it is closed, and so is ``file``, which it reads: also where it was never asked for anything.

    Raises:
        TooManyThreads: ``AGENT_SSE["PINNED_THREADS"]`` threads are kept.
    """
    hold: Any = None  # under a test case sync code stays on its thread, where its transaction is seen
    if not in_callers_thread():
        try:
            lifelong.take()
        except BaseException:
            await in_pool(partial(_close, [source, file]))
            raise
        stream = current.get()
        hold = ConnectionHold(kept_pool, stream.prepare if stream is not None else None, keeps=True)
    opened: list[Iterator[Any]] = []

    def advance() -> Any:
        if not opened:
            opened.append(iter(source))
        try:
            return next(opened[0], _END)
        except Exception:
            raise
        except BaseException as error:  # a GeneratorExit that comes out of a thread leaves asyncio's generators half-closed
            raise contained(error, "an iterator that is piped") from error
        finally:
            if hold is not None:
                give_pooled_back()

    def close() -> None:
        _close([opened[0] if opened else source, file])

    step: Callable[[], Awaitable[Any]] = sync_to_async(advance, thread_sensitive=hold is None, executor=hold)
    try:
        while (item := await step()) is not _END:
            yield item
    finally:
        if hold is None:
            await sync_to_async(close)()
        else:
            over: Future[None] = hold.submit(close)
            over.add_done_callback(lambda _: _end_thread(hold))
            await asyncio.shield(asyncio.wrap_future(over))


def _end_thread(hold: ConnectionHold) -> None:
    hold.leave_pool()
    hold.end()
    lifelong.give_back()


def _close(opened: list[Any]) -> None:
    for one in opened:
        with contextlib.suppress(AttributeError):
            one.close()
