"""A run as a stream: what the handler of a route with ``resumable=True`` writes to, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, NoReturn

from ..encoding import event_of
from ..exceptions import FollowError, InvalidEvent, RunStopped, StreamClosed
from ..streams.callbacks import Callback, run_callbacks
from ..streams.endings import Ending
from ..streams.sources import events_of, items_of, without_line_end
from ..streams.threads import current
from ..wire.encoder import comment
from ..wire.event import Event
from .endings import RunEnding
from .sources import without_id
from .task_run import TaskRun

_ENDINGS = {
    RunEnding.FINISHED: Ending.COMPLETED,
    RunEnding.FAILED: Ending.HANDLER_ERROR,
    RunEnding.STOPPED: Ending.KICKED,
    RunEnding.INTERRUPTED: Ending.SHUTDOWN,
    RunEnding.LOST: Ending.SHUTDOWN,
}


class ResumableStream:
    """The verbs of ``Stream``, over a run: what is written goes to its topic, which numbers it, and from there to every reader.

    Ids are the topic's, so that none can be written, and comments stay behind, for each reader has heartbeats of its own. The
    readers come and go: ``wait_closed()`` returns when the run is told to end.
    """

    def __init__(self, run: TaskRun, route: str, ends: list[Callback]) -> None:
        self._run = run
        self._ends = ends
        self._aborts: list[Callback] = []
        self._closed = asyncio.Event()
        self._done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._done.set_result(True)
        self._tasks: set[asyncio.Task[None]] = set()
        self.route = route
        self.error: BaseException | None = None
        run.on_cancel = self._aborted

    def write(
        self, value: object, *, event: str | None = None, id: str | None = None, retry: int | None = None
    ) -> Awaitable[bool]:
        """See ``Stream.write``."""
        if id is not None:
            raise InvalidEvent(f"this stream is resumable, and its topic numbers its events; id={id[:40]!r} cannot be written")
        if isinstance(value, Awaitable):
            return self._write_later(value, event, retry)
        found = event_of(value, event, retry)
        return self._put(without_id(found) if isinstance(value, Event) else found)

    write_sse = write

    def writeln(self, text: str, *, event: str | None = None) -> Awaitable[bool]:
        """See ``Stream.writeln``."""
        return self.write(without_line_end(text), event=event)

    def comment(self, text: str = "") -> Awaitable[bool]:
        """Do nothing: see above."""
        comment(text)  # what cannot be one is refused as ever
        return self._done

    async def pipe(self, source: Any, *, event: str | None = None) -> int:
        """See ``Stream.pipe``."""
        sent = 0
        items: Any = items_of(source, event)
        try:
            async for item in items:
                await (self.write(item) if isinstance(item, Event) else self.write(item, event=event))
                sent += 1
        finally:
            await items.aclose()
        return sent

    async def pipe_sse(self, source: Any) -> int:
        """See ``Stream.pipe_sse``."""
        sent = 0
        events: Any = events_of(source)
        try:
            async for event in events:
                await self.write(event)
                sent += 1
        finally:
            await events.aclose()
        return sent

    async def follow(self, *topics: str, **options: object) -> NoReturn:
        """Refuse it: topics are resumed as they are.

        Raises:
            FollowError: Always.
        """
        raise FollowError("follow() needs no resumable=True: topics are kept, and resumed, as they are. Take it off the route")

    async def sleep(self, seconds: float) -> None:
        """See ``Stream.sleep``."""
        await asyncio.sleep(seconds)

    async def open(self) -> None:
        """Do nothing: the readers' responses begin by themselves."""

    async def wait_closed(self) -> None:
        """Return when the run is told to end."""
        await self._closed.wait()

    def close(self) -> None:
        """Write nothing more. The run ends with the handler."""
        self._closed.set()

    def on_abort(self, callback: Callback) -> Callback:
        """See ``Stream.on_abort``: the run was stopped, its process ends, or its lease is lost."""
        if self.aborted:
            self._spawn(callback)
        elif not self.closed:
            self._aborts.append(callback)
        return callback

    def on_end(self, callback: Callback) -> Callback:
        """See ``Stream.on_end``."""
        self._ends.append(callback)
        return callback

    def connection(self) -> AbstractAsyncContextManager[None]:
        """See ``Stream.connection``."""
        threads = current.get()
        return threads.held() if threads is not None else nullcontext()

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written."""
        return self._run.ending is not None or self._closed.is_set()

    @property
    def aborted(self) -> bool:
        """Whether it was told to end rather than ended by the handler."""
        ending = self.ending
        return ending is not None and ending.aborts

    @property
    def ending(self) -> Ending | None:
        """How it ended, in a stream's words."""
        return _ENDINGS[self._run.ending] if self._run.ending is not None else None

    @property
    def last_event_id(self) -> str | None:
        """Nothing: the ids are the topic's."""
        return None

    @property
    def followed(self) -> None:
        """Nothing."""
        return

    @property
    def topics(self) -> Sequence[str]:
        """The topic that it writes."""
        return (self._run.topic,)

    behind = 0

    def __repr__(self) -> str:
        return f"<ResumableStream {self.route!r} {self.ending or 'open'}>"

    def _put(self, event: Event) -> Awaitable[bool]:
        if self._closed.is_set():
            raise StreamClosed("the stream was closed: what was written now was not sent")
        try:
            return self._flushed() if self._run.put(event) else self._done
        except RunStopped as error:
            raise StreamClosed(f"what was written now was not sent: {error}") from error

    def _flushed(self) -> Awaitable[bool]:
        return asyncio.ensure_future(self._flush())

    async def _flush(self) -> bool:
        await self._run.flush()
        return True

    async def _write_later(self, value: Awaitable[object], event: str | None, retry: int | None) -> bool:
        return await self.write(await value, event=event, retry=retry)

    def _aborted(self) -> None:
        self._closed.set()
        for callback in self._aborts:
            self._spawn(callback)

    def _spawn(self, callback: Callable[[], object]) -> None:
        task = asyncio.get_running_loop().create_task(run_callbacks((callback,), "on_abort", self.route))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
