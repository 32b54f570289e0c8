"""The stream: what a handler writes to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from ..encoding import text_of
from ..exceptions import FollowError, InvalidEvent, StreamClosed
from ..topics.follower import Start
from ..topics.reading import Fold
from ..wire import Event, comment, frame
from .buffer import Buffer
from .callbacks import Callback
from .endings import Ending
from .last_event_id import LastEventId
from .sources import events_of, items_of, without_line_end
from .topic_source import Filter, FollowResult, Map, TopicSource, check_follow

CUT_SHORT = frozenset({"lost", "interrupted"})
"""Reasons of topics that a process left unfinished, as ``RunEnding`` has them: nobody must take what they hold for whole."""


class StreamPort(Protocol):
    """What a stream asks of whoever runs it."""

    @property
    def route(self) -> str: ...
    @property
    def ending(self) -> Ending | None: ...
    @property
    def error(self) -> BaseException | None: ...

    def touch(self) -> None: ...  # the handler uses the stream: the response may begin
    def pause_commit_timer(self) -> None: ...  # it waits for the next verb, however long: it may turn out to be another response
    def close(self) -> None: ...  # end the stream after what is queued
    def write_after_end(self) -> Awaitable[bool]: ...  # what such a write returns; or raises ``StreamClosed``
    def wait_closed(self) -> Awaitable[object]: ...  # done when the transport is over
    def on_abort(self, callback: Callback) -> None: ...
    def on_end(self, callback: Callback) -> None: ...
    def connection(self) -> AbstractAsyncContextManager[None]: ...  # one thread and its connections meanwhile
    async def check_follow_access(self, topics: Sequence[str]) -> None: ...  # or raise; ends a stream that has begun


@dataclass(slots=True, weakref_slot=True, eq=False, repr=False)
class Stream:
    """One open response to one client.

    ``write`` and its relatives frame and enqueue at the call; awaiting them waits for the client while the buffer is full.
    They raise ``InvalidEvent`` for what cannot stand in an event stream, ``StreamClosed`` after the end, and
    ``StreamOverflow`` when writes that nobody awaits pile up. Use a stream on its own event loop only.
    """

    _port: StreamPort
    _buffer: Buffer
    _position: LastEventId
    _control: bool
    _retry: int | None
    _first: bool = True
    _last_id: str | None = None
    _numbered: bool = False
    _incomplete: bool = False
    _id_first: bool = False
    _source: TopicSource | None = None

    def __post_init__(self) -> None:
        self._last_id = self._position.value

    def write(
        self, value: object, *, event: str | None = None, id: str | None = None, retry: int | None = None
    ) -> Awaitable[bool]:
        """Send one event.

        Args:
            value: An ``Event``, or its data: text as it is, ``bytes`` as UTF-8 text, an awaitable's result,
                anything else as JSON (``None`` is ``null``).
            event: The event's name. Names and ids that begin with ``sse.`` are the stream's own, and refused.
            id: The event's id, which a client sends back when it reconnects.
            retry: The client's new reconnection time, in milliseconds, up to an hour.

        Returns:
            An awaitable: ``True`` once there is room again; ``False`` where the client has left under
            ``on_disconnect="continue"`` and the event was dropped.
        """
        if type(value) is Event:
            if event is not None or id is not None or retry is not None:
                raise InvalidEvent("an Event carries its own event, id and retry; write(Event(…)) takes no others")
            return self.write_sse(value.data, event=value.event, id=value.id, retry=value.retry)
        return self.write_sse(value, event=event, id=id, retry=retry)

    def write_sse(
        self, data: object, *, event: str | None = None, id: str | None = None, retry: int | None = None
    ) -> Awaitable[bool]:
        """Send one event from its parts; the same as ``write(data, event=…, id=…, retry=…)``."""
        text = data if type(data) is str else self._text_of(data)
        if text is None:
            return self._write_later(data, event, id, retry)
        if self._buffer.finished:
            return self._port.write_after_end()
        if id is not None or self._first:
            return self._write_noted(text, event, id, retry)
        return self._buffer.put(frame(text, event, None, retry))

    def writeln(self, text: str, *, event: str | None = None) -> Awaitable[bool]:
        """Send one line of text, without its line end, as one event."""
        return self.write_sse(without_line_end(text), event=event)

    def comment(self, text: str = "") -> Awaitable[bool]:
        """Send a comment, which clients ignore; empty, it is a heartbeat."""
        if self._buffer.finished:
            return self._port.write_after_end()
        framed = comment(text)
        self._port.touch()
        return self._buffer.put_uncounted(framed)

    async def pipe(self, source: Any, *, event: str | None = None) -> int:
        """Send each item of an async or sync iterator, or each line of a file, pipe or process; wait for the client in between.

        A blocking iterator or file runs on a thread of its own while it is piped. Lines may be of any length: beyond 1 MiB they
        go on as further events, after a ``…``. Lines that are drawn again, as progress bars are, are one event each when they are
        done, and events ``replace`` before, one a second at most: see :doc:`/reference/live-log`.

        The source ends with the stream, whatever the ending: an iterator and a file are closed, a process gets SIGTERM, and
        SIGKILL 2 s later; with its group, where it leads one (``start_new_session=True``). Its pipe alone (``process.stdout``)
        ends it too.

        Returns:
            How many events were sent.
        """
        return await self._send_each(items_of(source, event), event)

    async def pipe_sse(self, source: Any) -> int:
        """Send the events of text that is framed already (``data: …\\n\\n``), as other encoders and upstreams make it.

        The text is parsed into events and framed anew, never passed through raw. ``sse.*`` events of the upstream stay behind.

        Returns:
            How many events were sent.
        """
        return await self._send_each(events_of(source))

    async def follow(
        self,
        *topics: str,
        start: Start = "oldest",
        after: str | None = None,
        filter: Filter | None = None,
        map: Map | None = None,
        offsets: bool = False,
        fold: Fold | None = None,
    ) -> FollowResult:
        """Send what the client missed of these topics, then what is published to them, until all of them are closed or deleted.

        Args:
            topics: 1 to 16 names. Events of one topic keep their order.
            start: Where a client without an id begins: with the ``"oldest"`` event that is kept, or ``"live"``, the next one.
            after: A position to begin after, for a client without an id: an event's id, or what ``topic_cursor()`` returned.
            filter: Called with each event, for each client; it gets those for which this is true.
            map: Called with each event, for each client: returns an ``Event``, or other data for it, or ``None`` for nothing.
            offsets: Take a bare number for an id as well: after so many events of the one topic, as it is now. For clients that
                count events instead of keeping ids; a topic that was made anew meanwhile is not noticed.
            fold: A wire's, as ``AI_SDK.fold``: of what is there when the client comes, consecutive deltas of one part are sent as
                one event with the id of the last; what is published later, each. For one topic, without ``filter`` and ``map``. A
                client that has sent a number for an id gets each.

        Returns:
            Why each topic ended. When the handler returns then, the stream ends as ``topic_closed``.

        Raises:
            FollowError: Called twice, with too many topics, or on a stream that has ids of its own.
            TopicForbidden: ``AGENT_SSE["CAN_FOLLOW"]`` says no; answered with 401 or 403. A stream that has begun is ``revoked``.
            PositionGone: Continuity was lost and the client takes no control events; answered with 410.
            TopicNameInvalid: No topic can have such a name.
            EventLogUnavailable: The log cannot be read. Once the stream has begun, it is tried again and again instead.
            StreamClosed: The stream has ended while it followed.
        """
        if self._source is not None:
            raise FollowError("follow() was called on this stream before; it takes up to 16 topics at once")
        if self._numbered:
            raise FollowError("events with ids were written to this stream, and the ids of a stream that follows are the log's")
        check_follow(topics, start, filter, map, offsets, fold)
        await self._port.check_follow_access(topics)
        self._source = source = TopicSource(
            *(topics, start, filter, map), self._buffer, self._control, self.route, self._take_retry, self._id_first
        )
        self._port.pause_commit_timer()
        position = self._position
        asked = position.value or after
        counts = offsets and asked is not None and asked.isdecimal()
        try:
            if fold is not None and not (position.malformed or counts or (asked is None and start == "live")):
                position = await source.replay(position, after, fold)
            await source.begin(position, after, start == "live", offsets)
            self._port.touch()
            result = await source.done
        finally:
            if source.running:
                self._last_id = source.subscription.id
                source.end()
            else:  # it never began
                self._source = None
        if result is None:
            raise late_error(self._port.ending or Ending.COMPLETED)
        self._incomplete = not CUT_SHORT.isdisjoint(result.reasons.values())
        return result

    async def sleep(self, seconds: float) -> None:
        """Pause the handler; the response has begun by then."""
        self._port.touch()
        await asyncio.sleep(seconds)

    async def open(self) -> None:
        """Begin the response, so that the client knows that it is connected, before there is anything to say."""
        self._port.touch()

    async def wait_closed(self) -> None:
        """Return when the transport is over; never waits for the handler."""
        self._port.touch()
        await self._port.wait_closed()

    def close(self) -> None:
        """End the stream after what is queued. The handler's code after it may run on for ``close_grace`` seconds."""
        self._port.close()

    def on_abort(self, callback: Callback) -> Callback:
        """Call back once if the stream is aborted (the client left, was slow or was told to go, or the process ends).

        Callbacks may be sync or async; they run in order, each on its own, beside the handler, which is cancelled. Registered
        after the abort, it is called at once. Never after a regular end. Works as a decorator too.
        """
        self._port.on_abort(callback)
        return callback

    def on_end(self, callback: Callback) -> Callback:
        """Call back once when the handler with its ``finally`` blocks, and the transport, are really over.

        ``stream.ending`` and ``stream.error`` are there then: the place for deferred work. Works as a decorator too.
        """
        self._port.on_end(callback)
        return callback

    def connection(self) -> AbstractAsyncContextManager[None]:
        """Keep one thread and its connections meanwhile, as an open transaction or ``aiterator()`` does by itself."""
        return self._port.connection()

    @property
    def closed(self) -> bool:
        """Whether the stream has ended, in any way."""
        return self._port.ending is not None

    @property
    def aborted(self) -> bool:
        """Whether it was aborted rather than ended by the handler."""
        ending = self._port.ending
        return ending is not None and ending.aborts

    @property
    def ending(self) -> Ending | None:
        """How the stream ended, or ``None``."""
        return self._port.ending

    @property
    def error(self) -> BaseException | None:
        """What the handler raised, or ``None``."""
        return self._port.error

    @property
    def last_event_id(self) -> str | None:
        """The last id that was written here, else the one that the client came with."""
        return self._source.subscription.id if self._source is not None and self._source.running else self._last_id

    @property
    def followed(self) -> FollowResult | None:
        """How following ended; ``None`` where it has not, or was not asked for."""
        return self._source.result if self._source is not None else None

    @property
    def topics(self) -> Sequence[str]:
        """What it follows now; empty where it does not."""
        return self._source.subscription.topics if self._source is not None and self._source.running else ()

    @property
    def behind(self) -> int:
        """Events of the followed topics that this process knows of and that were not yet sent here."""
        return self._source.subscription.behind if self._source is not None and self._source.running else 0

    @property
    def route(self) -> str:
        """The route's URL pattern, as it stands in the log."""
        return self._port.route

    def __repr__(self) -> str:
        return f"<Stream {self.route!r} {self.ending or 'open'}>"

    async def _send_each(self, items: AsyncGenerator[Any, None], event: str | None = None) -> int:
        sent = 0
        async with contextlib.aclosing(items):
            async for item in items:
                await (self.write(item) if type(item) is Event else self.write_sse(item, event=event))
                sent += 1
        return sent

    def _take_retry(self) -> int | None:
        """Return the reconnection time for the first event, once: whoever sends that event must tell it."""
        first, self._first = self._first, False
        return self._retry if first else None

    def _text_of(self, data: object) -> str | None:
        """The data as text; ``None`` where it must be awaited first."""
        if isinstance(data, str):
            return data
        if isinstance(data, Awaitable):
            return None
        if type(data) is Event:
            raise InvalidEvent("write_sse() takes the parts of an event; write(Event(…)) sends a whole one")
        return text_of(data)

    def _write_noted(self, text: str, event: str | None, id: str | None, retry: int | None) -> Awaitable[bool]:
        """A write that is the stream's first, or has an id to remember."""
        if self._first and retry is None:
            retry = self._retry
        framed = frame(text, event, id, retry)
        if id is not None and self._source is not None:
            raise InvalidEvent(f"this stream follows topics, whose positions are its ids; {id[:40]!r} cannot be written")
        # What follows stands after the put, which may raise: a write that was refused must not use up the reconnection time.
        waiting = self._buffer.put(framed)
        self._first = False
        self._port.touch()
        if id is not None:
            self._last_id = id
            self._numbered = True
        return waiting

    async def _write_later(self, data: Any, event: str | None, id: str | None, retry: int | None) -> bool:
        return await self.write_sse(await data, event=event, id=id, retry=retry)


def late_error(ending: Ending) -> StreamClosed:
    """What a write after the end raises."""
    return StreamClosed(f"the stream has ended ({ending}); nothing more can be written to it")
