"""What a handler has written and the client has not taken yet: bounded, and joined when it goes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ..exceptions import StreamOverflow
from ..wire import comment
from ..wire.gzip import GzipEncoder, deflate
from .registry import LoopState


class Source(Protocol):
    """Where a buffer gets more when nothing has been put: topics, whose events wait in no buffer."""

    idle: bool  # there is nothing to pull before ``buffer.wake()``

    # What is ready, by ``gzip`` where the client takes that, and how many events; empty until ``buffer.wake()``. Never raises.
    def pull(self, gzip: GzipEncoder | None) -> tuple[bytes, int]: ...
    def stop(self) -> None: ...  # nothing more will be pulled


OVERFLOW = 4
"""Writes that nobody awaits raise beyond this many times the bound."""
HEARTBEAT = comment()
HEARTBEAT_DEFLATED = deflate(HEARTBEAT)


@dataclass(slots=True, eq=False, repr=False)
class Buffer:
    """Frames on their way out; one task takes, any number put. Belongs to one event loop.

    Attributes:
        events: Events taken so far; comments and the dialect's own last event are not counted.
        sent_bytes: Bytes taken so far, as they are sent.
        finished: Nothing more will be put.
        push: Sends what a source has while the taker waits, and says whether that spared waking it.
        gzip: What is taken goes through it; ``None``: is sent as it is. The bounds count what was put.
    """

    _loop_state: LoopState
    _max_bytes: int
    _max_frames: int
    events: int = 0
    sent_bytes: int = 0
    finished: bool = False
    push: Callable[[bytes], bool] | None = None
    gzip: GzipEncoder | None = None
    _frames: list[bytes] = field(default_factory=list)
    _size: int = 0
    _uncounted: int = 0
    _taker: asyncio.Future[bool] | None = None
    _writers: list[asyncio.Future[bool]] | None = None
    _heartbeat_due: bool = False
    _source: Source | None = None

    def put(self, frame: bytes) -> asyncio.Future[bool]:
        """Enqueue a frame at once. The returned future is done while there is room, else when the client has taken.

        Raises:
            StreamOverflow: ``OVERFLOW`` times the bound is waiting already; the frame was not enqueued.
        """
        frames = self._frames
        if self._size >= self._max_bytes or len(frames) >= self._max_frames:
            self._check_overflow()
        frames.append(frame)
        self._size += len(frame)
        taker = self._taker
        if taker is not None:
            self._taker = None
            if not taker.done():
                taker.set_result(True)
        if self._size < self._max_bytes and len(frames) < self._max_frames:
            return self._loop_state.sent
        waiting: asyncio.Future[bool] = self._loop_state.loop.create_future()
        if self._writers is None:
            self._writers = [waiting]
        else:
            self._writers.append(waiting)
        return waiting

    def put_uncounted(self, frame: bytes) -> asyncio.Future[bool]:
        """Enqueue what is not counted as an event, such as a comment."""
        waiting = self.put(frame)
        self._uncounted += 1
        return waiting

    def put_first(self, frame: bytes) -> None:
        """Enqueue what is not counted as an event before all that waits; called before anything is taken."""
        self._frames.insert(0, frame)
        self._size += len(frame)
        self._uncounted += 1

    def _check_overflow(self) -> None:
        if self._size >= OVERFLOW * self._max_bytes or len(self._frames) >= OVERFLOW * self._max_frames:
            raise StreamOverflow(
                f"{len(self._frames)} writes ({self._size} bytes) wait for this client, which takes more slowly than the "
                "handler writes; await each write, so that the handler waits for the client"
            )

    def request_heartbeat(self) -> None:
        """Ask for a heartbeat comment, unless there is something better to send."""
        self._heartbeat_due = True
        self.wake()

    def take(self) -> bytes:
        """Return all that waits, joined, and let the waiting writers go on; empty where nothing waits."""
        frames = self._frames
        # What the handler wrote goes first: the source loses nothing by waiting, and a frame that waits holds up its writer.
        if not frames:
            if self._source is not None and (chunk := self._pull(self._source)):
                self._heartbeat_due = False
                return chunk
            if self._heartbeat_due:
                self._heartbeat_due = False
                chunk = HEARTBEAT if self.gzip is None else self.gzip.add_deflated(HEARTBEAT, HEARTBEAT_DEFLATED)
                self.sent_bytes += len(chunk)
                return chunk
            return b""
        self._heartbeat_due = False
        chunk = frames[0] if len(frames) == 1 else b"".join(frames)
        if self.gzip is not None:
            chunk = self.gzip.add(chunk)
        self.events += len(frames) - self._uncounted
        self.sent_bytes += len(chunk)
        frames.clear()
        self._size = self._uncounted = 0
        self._release(True)
        return chunk

    def _pull(self, source: Source) -> bytes:
        chunk, count = source.pull(self.gzip)
        if chunk:
            self.events += count
            self.sent_bytes += len(chunk)
        return chunk

    def take_end(self) -> bytes:
        """Return what a coding has after everything that was taken; empty where it has nothing."""
        chunk = b"" if self.gzip is None else self.gzip.finish()
        self.sent_bytes += len(chunk)
        return chunk

    def wait(self) -> asyncio.Future[bool]:
        """Return a future that is done when there is something to take, or the end is there. For one task at a time."""
        if self._frames or self._heartbeat_due or self.finished:
            return self._loop_state.sent
        taker = self._taker = self._loop_state.loop.create_future()
        return taker

    def finish(self, last: bytes = b"") -> None:
        """Take nothing more: what waits, and then ``last``, is the end."""
        if last:
            self._frames.append(last)
            self._size += len(last)
            self._uncounted += 1
        self.finished = True
        self.set_source(None)

    def discard(self, answer: bool | BaseException) -> None:
        """Drop what waits; waiting writers get ``answer``."""
        self._frames.clear()
        self._size = self._uncounted = 0
        self._release(answer)

    @property
    def waiting(self) -> int:
        return len(self._frames)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    def set_source(self, source: Source | None) -> None:
        """Take from ``source`` when nothing has been put; the one before it is stopped."""
        before, self._source = self._source, source
        if before is not None:
            before.stop()
        self.wake()

    def wake(self) -> None:
        """Let the taker try: there may be something to take."""
        taker = self._taker
        if taker is None or (self.push is not None and self._pushed(self.push)):
            return
        self._taker = None
        if not taker.done():
            taker.set_result(True)

    def _pushed(self, push: Callable[[bytes], bool]) -> bool:
        """Push what the source has, if that is all there is; return whether the taker may sleep on."""
        source = self._source
        if source is None or self._frames or self._heartbeat_due or self.finished:
            return False
        chunk = self._pull(source)
        return (not chunk or push(chunk)) and source.idle

    def _release(self, answer: bool | BaseException) -> None:
        writers, self._writers = self._writers, None
        for writer in writers or ():
            if writer.done():
                continue
            if isinstance(answer, bool):
                writer.set_result(answer)
            else:
                writer.set_exception(answer)
                writer.exception()  # a write that nobody awaits must not complain when it is collected
