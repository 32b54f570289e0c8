"""``stream.follow()``: topics on a stream. It has no queue: the transport pulls what is ready, when the client takes it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import InitVar, dataclass, field
from typing import Any

from ..encoding import encode_json, text_of
from ..eventlog.position import MAX_TOPICS
from ..exceptions import FollowError, PositionGone
from ..topics.batch import Batch, Entry
from ..topics.follower import Gap, Start
from ..topics.reading import Fold, Replay
from ..topics.subscription import Part, Subscription
from ..wire import Event, frame
from ..wire.encoder import control_frame, id_first
from ..wire.gzip import GzipEncoder
from .buffer import Buffer
from .callbacks import contained
from .last_event_id import LastEventId
from .replays import LARGE_BYTES, LARGE_EVENTS, replays_here

Filter = Callable[[Event], object]
Map = Callable[[Event], object]

POSITION_EVERY = 100
"""Hidden events after which a client is told where it is: so many, at most, are looked at again when it comes back."""
_NOTHING = b"", 0


@dataclass(frozen=True, slots=True)
class FollowResult:
    """How following ended.

    Attributes:
        reasons: By topic, in the order of their ends: what it was closed with, or ``deleted``.
    """

    reasons: Mapping[str, str]

    @property
    def reason(self) -> str:
        """That of the topic that ended last."""
        return [*self.reasons.values()][-1]


@dataclass(slots=True, eq=False, repr=False)
class TopicSource:
    """The topics that a stream follows, until all of them have ended. A ``Source`` of the stream's buffer.

    Attributes:
        done: How following ended; ``None`` where the stream ended first, or an error that ended it.
        idle: There is nothing to pull before the feed wakes the buffer.
        result: How following ended; ``None`` where it has not.
        running: The buffer is fed from it.
        subscription: To the topics: their names, the client's position after all that was pulled, and what was not.
    """

    topics: InitVar[tuple[str, ...]]
    start: InitVar[Start]
    _filter: Filter | None
    _map: Map | None
    _buffer: Buffer
    _control: bool
    _route: str
    _take_retry: Callable[[], int | None]  # what the stream's first event must tell: it is there once
    _id_first: bool = False
    subscription: Subscription = field(init=False)
    done: asyncio.Future[FollowResult | None] = field(init=False)
    result: FollowResult | None = None
    running: bool = False
    idle: bool = False
    _late: bool = False
    _hidden: int = 0

    def __post_init__(self, topics: tuple[str, ...], start: Start) -> None:
        self.subscription = Subscription([*dict.fromkeys(topics)], start, self._woken)
        self.done = asyncio.get_running_loop().create_future()

    async def replay(self, position: LastEventId, after: str | None, fold: Fold) -> LastEventId:
        """Send what the topic has now, folded, as the client takes it. Return the client's position after that."""
        replay = Replay(self.subscription.topics[0], position.value or after, fold)
        async with aclosing(replay.__aiter__()) as events:
            async for event in events:
                if self._buffer.finished:
                    break
                framed = frame(event.data, event.event, event.id, self._take_retry())
                await replays_here().paced(len(framed))
                await self._buffer.put(id_first(framed) if self._id_first else framed)
        return LastEventId(value=replay.after)

    async def begin(self, position: LastEventId, after: str | None, live: bool, offsets: bool) -> None:
        """Find the place where the client goes on, and feed the buffer from there.

        Raises:
            PositionGone: Continuity was lost, and the client gets no control events.
            EventLogError: The log cannot be read; the response has not begun.
        """
        asked = position.value if position.value is not None else None if position.malformed else after
        lost = await self.subscription.open(asked, position.malformed, offsets)
        self.running = True
        if self._buffer.finished:  # the stream was closed while its place was being found
            self.stop()
            return
        if lost is not None:
            self._buffer.put_uncounted(self._gap(lost))
        elif live and asked is None and self._control:
            self._buffer.put_uncounted(self._position())
        self._buffer.set_source(self)

    def end(self) -> None:
        self.running = False
        self._buffer.set_source(None)
        self.subscription.close()
        self.subscription.wake = self._take_retry = _over
        self._caught_up()

    def pull(self, gzip: GzipEncoder | None) -> tuple[bytes, int]:
        if self.idle:
            return _NOTHING
        if self._late and not replays_here().may(self):
            self.idle = True
            return _NOTHING
        try:
            # A batch may hold nothing for this client. Then the next one is pulled, lest the taker think that there is no more.
            while (pulled := self.subscription.pull()) is not None:
                if isinstance(pulled, Gap):
                    told = self._gap(pulled)
                    return told if gzip is None else gzip.add(told), 0
                data, count = self._framed(pulled)
                if data:
                    self.idle = self.subscription.rest()
                    if count >= LARGE_EVENTS or len(data) >= LARGE_BYTES:
                        replays_here().took(len(data))
                        self._late = True
                    if self._late and self.idle:
                        self._caught_up()
                    return data if gzip is None else _encoded(gzip, pulled, data), count
        except BaseException as error:  # a filter's or map's, called where a feed wakes its streams
            if not self.done.done():
                self.done.set_exception(contained(error, f"a filter or map of {self._route}"))
            return _NOTHING
        self.idle = True
        if self._late and self.subscription.behind == 0:
            self._caught_up()
        if self.subscription.over and not self.done.done():
            self.result = FollowResult(self.subscription.finished)
            self.done.set_result(self.result)
        return _NOTHING

    def _woken(self) -> None:
        self.idle = False
        self._buffer.wake()

    def turn_came(self) -> None:
        """It may catch up further: see ``replays``."""
        self._woken()

    def _caught_up(self) -> None:
        if self._late:
            self._late = False
            replays_here().done(self)

    def stop(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _framed(self, part: Batch | Part) -> tuple[bytes, int]:
        if type(part) is Batch:
            if self._filter is None and self._map is None and not self._id_first:
                first = self._take_retry()
                data = part.data if first is None else part.entries[0].with_retry(part.data, first)
                return data, len(part.entries)
            return self._framed_each((entry, entry.id) for entry in part.entries)
        assert isinstance(part, Part)
        return self._framed_each((entry, part.id_of(entry)) for entry in part.batch.entries)

    def _framed_each(self, numbered: Iterable[tuple[Entry, str]]) -> tuple[bytes, int]:
        frames: list[bytes] = []
        for entry, id in numbered:
            event = self._event_for_client(entry.event)
            if event is None:
                self._hidden += 1
                continue
            first = self._take_retry()
            if event is entry.event and first is None:
                frames.append(entry.numbered(id))
            else:
                frames.append(frame(event.data, event.event, id, event.retry if first is None else first))
            self._hidden = 0
        count = len(frames)
        if self._id_first:
            frames = [id_first(framed) for framed in frames]
        if self._hidden >= POSITION_EVERY and self._control:
            frames.append(self._position())
        return b"".join(frames), count

    def _event_for_client(self, event: Event) -> Event | None:
        """Return what this client gets of an event; ``None`` for nothing."""
        if self._filter is not None and not self._filter(event):
            return None
        if self._map is None:
            return event
        mapped: Any = self._map(event)
        if mapped is None or type(mapped) is Event:
            return mapped
        return Event(text_of(mapped), event=event.event, retry=event.retry)

    def _gap(self, gap: Gap) -> bytes:
        if not self._control:
            raise PositionGone(
                f"the position that the client asked for cannot be honoured ({gap.reason}), and no control event may tell it: "
                "begin again without an id",
                gap.reason,
                of_client=True,
            )
        payload = {"reason": gap.reason, "asked": gap.asked, "missed": gap.missed}
        return control_frame(encode_json(payload), "sse.gap", gap.id, self._take_retry())

    def _position(self) -> bytes:
        self._hidden = 0
        return control_frame(
            encode_json({"position": self.subscription.id}), "sse.position", self.subscription.id, self._take_retry()
        )


def _over() -> None:
    """In place of methods of a stream that is over, which would keep it in memory."""


def _encoded(gzip: GzipEncoder, pulled: Batch | Part, data: bytes) -> bytes:
    """Return what is sent of ``data``: of a batch as it is in all its followers' streams, the block that they share."""
    shared = type(pulled) is Batch and data is pulled.data
    return gzip.add_block(pulled.block(gzip)) if shared else gzip.add(data)  # type: ignore[union-attr]


def check_follow(
    topics: tuple[object, ...], start: object, filter: object, map: object, offsets: object, fold: object = None
) -> None:
    """Raise ``FollowError`` for what ``follow()`` cannot take, with what it takes."""
    if not 0 < len(topics) <= MAX_TOPICS:
        raise FollowError(f"follow() takes 1 to {MAX_TOPICS} topics, not {len(topics)}; open another stream for more")
    if wrong := next((type(topic).__name__ for topic in topics if not isinstance(topic, str)), None):
        raise FollowError(f"follow() takes names of topics, not {wrong}: write follow(*names) where you have a list")
    if start not in ("oldest", "live"):
        raise FollowError(f"start={start!r}: 'oldest' begins with the oldest event that is kept, 'live' with the next one")
    if not isinstance(offsets, bool) or (offsets and len(topics) > 1):
        raise FollowError(f"offsets={offsets!r}: True or False, and True with one topic only, whose events a bare number counts")
    for name, function in (("filter", filter), ("map", map)):
        if function is not None and (not callable(function) or inspect.iscoroutinefunction(function)):
            raise FollowError(f"{name}={function!r}: a plain function of an Event, which is called for each event of each client")
    if fold is not None and (not callable(fold) or len(topics) > 1 or filter is not None or map is not None):
        raise FollowError(f"fold={fold!r}: a wire's, as AI_SDK.fold, for one topic, without filter= and map=")
