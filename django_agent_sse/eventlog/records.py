"""The values that event logs take and return: limits, records, pages, states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from .. import conf
from ..exceptions import ConfigurationError
from ..wire.event import Event
from .position import Position

MOST_EVENT_BYTES = 8 * 1024 * 1024
"""The most that ``MAX_EVENT_BYTES`` may be: half of what a stream carries. An event is written to a database, read from it and
framed in steps that hold up the whole process.
"""
SLACK: Final = 1 / 16
"""The share by which a topic in a database may exceed its limits before it is trimmed. What is beyond them is not read."""
SLACK_EVENTS: Final = 1024
SLACK_BYTES: Final = 1_048_576
"""The most that this share may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a log keeps: its ``OPTIONS``, in small letters.

    Attributes:
        max_event_bytes: The largest event, data and name in UTF-8; ``MOST_EVENT_BYTES`` at most.
        max_events: Events of one topic; the oldest go first.
        max_bytes: Bytes of one topic's events.
        max_age: Seconds that an event is kept.
        max_topics: Topics; the one that was longest without an event goes, a closed one before an open one. Those that somebody
            follows stay, and so does what begins with ``sse.``.
        key_window: Seconds in which a repeated ``key`` is recognised.
    """

    max_event_bytes: int = 1_048_576
    max_events: int = 100_000
    max_bytes: int = 67_108_864
    max_age: float = 604_800.0
    max_topics: int = 10_000
    key_window: float = 86_400.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                option = name.upper()
                raise ConfigurationError(
                    f"AGENT_SSE['EVENT_LOG']['OPTIONS'][{option!r}] is {conf.shown(value)}; it must be a number above 0"
                )
        if self.max_event_bytes > MOST_EVENT_BYTES:
            raise ConfigurationError(
                f"AGENT_SSE['EVENT_LOG']['OPTIONS']['MAX_EVENT_BYTES'] is {conf.shown(self.max_event_bytes)}; it must be "
                f"{MOST_EVENT_BYTES} (8 MiB) at most, for a larger event would hold up every other request: store what is larger "
                "elsewhere, and publish where"
            )


class Bounds(NamedTuple):
    """How far a topic in a database may go before it is trimmed.

    Args:
        events: Events that it may keep.
        bytes: Bytes that they may take.
        oldest: When the oldest one may have been appended at the earliest, in seconds since 1970.
    """

    events: float
    bytes: float
    oldest: float

    @classmethod
    def of(cls, limits: Limits, now: float) -> Bounds:
        """Return the bounds of a log with these limits, at a time."""
        return cls(
            limits.max_events + min(limits.max_events * SLACK, SLACK_EVENTS),
            limits.max_bytes + min(limits.max_bytes * SLACK, SLACK_BYTES),
            now - limits.max_age * (1 + SLACK),
        )


class Record(NamedTuple):
    """One event of a topic. A tuple, since one is made for each event of each read.

    Args:
        offset: Its number, from 1.
        event: What was published; its ``id`` is ``None``, for positions are the log's.
        at: When, in seconds since 1970.
        nonce: Tells it from another event that could stand at this offset after a failover; ``""`` where no event can.
    """

    offset: int
    event: Event
    at: float
    nonce: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What one read found: the state of the topic and the records at one moment.

    Attributes:
        epoch: The topic's incarnation; ``""`` where there is no topic.
        floor: The newest offset that is no longer kept, 0 where nothing was dropped.
        top: The newest offset, 0 where there is none.
        closed: Why the topic was closed; ``None`` while it is open.
        records: Consecutive ones after the cursor, the first ``floor + 1`` where the cursor is below that.
        nonce: That of the event at ``top``, where the log has nonces and knows it.
        before: That of the event at the cursor, where it is kept: the reader's own, or its history is another one.
        forked: The epoch before this one, if the log changed it since it had lost what it had acknowledged.
        lost: There is no topic, and nobody deleted it: it was evicted, the store lost it, or it was never there.
    """

    epoch: str = ""
    floor: int = 0
    top: int = 0
    closed: str | None = None
    records: Sequence[Record] = ()
    nonce: str = ""
    before: str = ""
    forked: str = ""
    lost: bool = False


class Head(NamedTuple):
    """A topic's epoch, range and end, without its events: asked of many topics at once. The fields are those of `Page`."""

    epoch: str
    floor: int
    top: int
    closed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """What is known of a topic. ``epoch``, ``floor``, ``top``, ``closed`` and ``nonce`` are those of `Page`.

    Attributes:
        events: How many are kept.
        bytes: What they take, data and names in UTF-8.
        oldest_at: When the oldest kept one was appended, in seconds since 1970; ``None`` without one.
        newest_at: When the newest one was.
    """

    epoch: str = ""
    floor: int = 0
    top: int = 0
    closed: str | None = None
    events: int = 0
    bytes: int = 0
    oldest_at: float | None = None
    newest_at: float | None = None
    nonce: str = ""

    @classmethod
    def of(cls, head: Head, size: int, oldest_at: float, newest_at: float, nonce: str = "") -> TopicState:
        """Return the state of a topic that exists; the times are left out where it keeps no events."""
        kept = head.top - head.floor
        oldest, newest = (oldest_at, newest_at) if kept else (None, None)
        return cls(**head._asdict(), events=kept, bytes=size, oldest_at=oldest, newest_at=newest, nonce=nonce)

    @property
    def exists(self) -> bool:
        """Whether the topic exists."""
        return bool(self.epoch)


@dataclass(frozen=True, slots=True)
class Appended:
    """The positions of one append, which are consecutive; ``first > last`` where nothing was appended."""

    epoch: str
    first: int
    last: int
    nonce: str = ""

    @property
    def first_position(self) -> Position:
        """The position of the first event."""
        return Position(self.epoch, self.first, self.nonce)

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __iter__(self) -> Iterator[Position]:
        return (Position(self.epoch, offset, self.nonce) for offset in range(self.first, self.last + 1))


@dataclass(frozen=True, slots=True)
class StoreWarning:
    """What a store said about itself that bears on what the log promises.

    Attributes:
        kind: ``unusable``: topics cannot be kept there. ``evicts``: it may drop them. ``forgets``: a restart may.
            ``untested``: nobody has tried whether they can.
        about: What is so, and what that means: a sentence without its full stop.
        hint: What to do.
    """

    kind: Literal["unusable", "evicts", "forgets", "untested"]
    about: str
    hint: str
