"""Publish to topics, from any Django code: append to the event log, which notifies. The hub reads, it is not told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Unpack, overload

from ..encoding import each_of, event_of
from ..eventlog import now_or_later as log
from ..eventlog.backend import event_log
from ..eventlog.now_or_later import Many, One
from ..eventlog.position import Position
from ..eventlog.records import TopicState
from ..eventlog.validation import valid_topic
from ..wire.event import Event


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic by its name: ``Topic("builds.42").publish(…)``. Making one asks nothing of the log.

    Each verb has a twin with an ``a``, for coroutines. The plain ones raise ``AsyncRequired`` under a running event loop, which
    they would hold up.

    Args:
        name: Printable ASCII, 1 to 200 characters.

    Raises:
        TopicNameInvalid: No topic can have that name.
    """

    name: str

    def __post_init__(self) -> None:
        valid_topic(self.name)

    @overload
    def publish(self, data: object, *, on_commit: Literal[False] = False, **how: Unpack[One]) -> Position: ...
    @overload
    def publish(self, data: object, *, on_commit: Literal[True], **how: Unpack[One]) -> None: ...
    def publish(
        self,
        data: object,
        *,
        event: str | None = None,
        retry: int | None = None,
        expect: int | None = None,
        key: str | None = None,
        outside_transaction: bool = False,
        on_commit: bool = False,
    ) -> Position | None:
        """Append one event.

        A log in the project's database appends as a part of the transaction that is open here: followers see it when it commits.
        Other logs append at once.

        Args:
            data: An ``Event``, or its data: text as it is, ``bytes`` as UTF-8 text, anything else as JSON.
            event: The event's name.
            retry: The followers' new reconnection time, in milliseconds.
            expect: The offset that the topic must end at, 0 for a new one: else somebody else has published.
            key: Names this event: published again with the same key it is not appended again.
            outside_transaction: Append at once, for good, whatever becomes of a transaction that is open here.
            on_commit: Append after the transaction that is open here, if it commits; what goes wrong then is logged. Without
                one, at once.

        Returns:
            Where it stands; ``str()`` of it is the event's id. With ``on_commit`` nothing.

        Raises:
            InvalidEvent: ``data`` cannot stand in an event stream.
            EventLogError: ``TopicClosed``, ``PositionConflict``, ``EventTooLarge``, ``TransactionRefused`` or
                ``EventLogUnavailable``.
            ConfigurationError: Nobody could follow what is published in this process.
            AsyncRequired: An event loop runs here. In every case nothing was appended.
        """
        return log.append_one(self.name, event_of(data, event, retry), expect, key, outside_transaction, on_commit)

    @overload
    async def apublish(self, data: object, *, on_commit: Literal[False] = False, **how: Unpack[One]) -> Position: ...
    @overload
    async def apublish(self, data: object, *, on_commit: Literal[True], **how: Unpack[One]) -> None: ...
    async def apublish(
        self,
        data: object,
        *,
        event: str | None = None,
        retry: int | None = None,
        expect: int | None = None,
        key: str | None = None,
        outside_transaction: bool = False,
        on_commit: bool = False,
    ) -> Position | None:
        """See ``publish``."""
        return await log.aappend_one(self.name, event_of(data, event, retry), expect, key, outside_transaction, on_commit)

    @overload
    def publish_many(
        self, values: Iterable[object], *, on_commit: Literal[False] = False, **how: Unpack[Many]
    ) -> list[Position]: ...
    @overload
    def publish_many(self, values: Iterable[object], *, on_commit: Literal[True], **how: Unpack[Many]) -> None: ...
    def publish_many(
        self,
        values: Iterable[object],
        *,
        event: str | None = None,
        expect: int | None = None,
        key: str | None = None,
        outside_transaction: bool = False,
        on_commit: bool = False,
    ) -> list[Position] | None:
        """Append one event for each value, all of them or none, with nobody's in between: for lines, one call for many.

        Args:
            values: As ``data`` of ``publish``.
            event: The name of those that are no ``Event``.
            expect: See ``publish``.
            key: Names all of them together.
            outside_transaction: See ``publish``.
            on_commit: See ``publish``.
        """
        log.refuse_on_a_loop("publish_many")
        return log.append(self.name, _events(values, event), expect, key, outside_transaction, on_commit)

    @overload
    async def apublish_many(
        self, values: Iterable[object], *, on_commit: Literal[False] = False, **how: Unpack[Many]
    ) -> list[Position]: ...
    @overload
    async def apublish_many(self, values: Iterable[object], *, on_commit: Literal[True], **how: Unpack[Many]) -> None: ...
    async def apublish_many(
        self,
        values: Iterable[object],
        *,
        event: str | None = None,
        expect: int | None = None,
        key: str | None = None,
        outside_transaction: bool = False,
        on_commit: bool = False,
    ) -> list[Position] | None:
        """See ``publish_many``."""
        return await log.aappend(self.name, _events(values, event), expect, key, outside_transaction, on_commit)

    @overload
    def close(self, reason: str = "completed", *, on_commit: Literal[False] = False, outside_transaction: bool = ...) -> bool: ...
    @overload
    def close(self, reason: str = "completed", *, on_commit: Literal[True], outside_transaction: bool = ...) -> None: ...
    def close(self, reason: str = "completed", *, outside_transaction: bool = False, on_commit: bool = False) -> bool | None:
        """End the topic: it takes no more events, and who follows it ends after the last one. Whether it was open.

        Args:
            reason: What followers are told; printable ASCII.
            outside_transaction: See ``publish``.
            on_commit: See ``publish``.
        """
        return log.close(self.name, reason, outside_transaction, on_commit)

    @overload
    async def aclose(
        self, reason: str = "completed", *, on_commit: Literal[False] = False, outside_transaction: bool = ...
    ) -> bool: ...
    @overload
    async def aclose(self, reason: str = "completed", *, on_commit: Literal[True], outside_transaction: bool = ...) -> None: ...
    async def aclose(
        self, reason: str = "completed", *, outside_transaction: bool = False, on_commit: bool = False
    ) -> bool | None:
        """See ``close``."""
        return await log.aclose(self.name, reason, outside_transaction, on_commit)

    def delete(self) -> bool:
        """Forget the topic with its events; who follows it ends (``deleted``). Whether there was one."""
        return bool(log.done("delete", lambda its: partial(its.delete, self.name), on_commit=False))

    async def adelete(self) -> bool:
        """See ``delete``."""
        return bool(await log.adone(lambda its: partial(its.delete, self.name), on_commit=False))

    def state(self) -> TopicState:
        """What is known of it: whether it exists, is closed, how much it keeps."""
        log.refuse_on_a_loop("state")
        return event_log().state(self.name)

    async def astate(self) -> TopicState:
        """See ``state``."""
        return await event_log().astate(self.name)


@overload
def publish(topic: str, data: object, *, on_commit: Literal[False] = False, **how: Unpack[One]) -> Position: ...
@overload
def publish(topic: str, data: object, *, on_commit: Literal[True], **how: Unpack[One]) -> None: ...
def publish(
    topic: str,
    data: object,
    *,
    event: str | None = None,
    retry: int | None = None,
    expect: int | None = None,
    key: str | None = None,
    outside_transaction: bool = False,
    on_commit: bool = False,
) -> Position | None:
    """Append one event to a topic: see ``Topic.publish``."""
    return log.append_one(topic, event_of(data, event, retry), expect, key, outside_transaction, on_commit)


@overload
async def apublish(topic: str, data: object, *, on_commit: Literal[False] = False, **how: Unpack[One]) -> Position: ...
@overload
async def apublish(topic: str, data: object, *, on_commit: Literal[True], **how: Unpack[One]) -> None: ...
async def apublish(
    topic: str,
    data: object,
    *,
    event: str | None = None,
    retry: int | None = None,
    expect: int | None = None,
    key: str | None = None,
    outside_transaction: bool = False,
    on_commit: bool = False,
) -> Position | None:
    """Append one event to a topic: see ``Topic.publish``."""
    return await log.aappend_one(topic, event_of(data, event, retry), expect, key, outside_transaction, on_commit)


@overload
def publish_many(
    topic: str, values: Iterable[object], *, on_commit: Literal[False] = False, **how: Unpack[Many]
) -> list[Position]: ...
@overload
def publish_many(topic: str, values: Iterable[object], *, on_commit: Literal[True], **how: Unpack[Many]) -> None: ...
def publish_many(
    topic: str,
    values: Iterable[object],
    *,
    event: str | None = None,
    expect: int | None = None,
    key: str | None = None,
    outside_transaction: bool = False,
    on_commit: bool = False,
) -> list[Position] | None:
    """Append several events to a topic at once: see ``Topic.publish_many``."""
    log.refuse_on_a_loop("publish_many")
    return log.append(topic, _events(values, event), expect, key, outside_transaction, on_commit)


@overload
async def apublish_many(
    topic: str, values: Iterable[object], *, on_commit: Literal[False] = False, **how: Unpack[Many]
) -> list[Position]: ...
@overload
async def apublish_many(topic: str, values: Iterable[object], *, on_commit: Literal[True], **how: Unpack[Many]) -> None: ...
async def apublish_many(
    topic: str,
    values: Iterable[object],
    *,
    event: str | None = None,
    expect: int | None = None,
    key: str | None = None,
    outside_transaction: bool = False,
    on_commit: bool = False,
) -> list[Position] | None:
    """Append several events to a topic at once: see ``Topic.publish_many``."""
    return await log.aappend(topic, _events(values, event), expect, key, outside_transaction, on_commit)


@overload
def close_topic(
    topic: str, reason: str = "completed", *, on_commit: Literal[False] = False, outside_transaction: bool = ...
) -> bool: ...
@overload
def close_topic(topic: str, reason: str = "completed", *, on_commit: Literal[True], outside_transaction: bool = ...) -> None: ...
def close_topic(
    topic: str, reason: str = "completed", *, outside_transaction: bool = False, on_commit: bool = False
) -> bool | None:
    """End a topic: see ``Topic.close``."""
    log.refuse_on_a_loop("close_topic")
    return log.close(topic, reason, outside_transaction, on_commit)


@overload
async def aclose_topic(
    topic: str, reason: str = "completed", *, on_commit: Literal[False] = False, outside_transaction: bool = ...
) -> bool: ...
@overload
async def aclose_topic(
    topic: str, reason: str = "completed", *, on_commit: Literal[True], outside_transaction: bool = ...
) -> None: ...
async def aclose_topic(
    topic: str, reason: str = "completed", *, outside_transaction: bool = False, on_commit: bool = False
) -> bool | None:
    """End a topic: see ``Topic.close``."""
    return await log.aclose(topic, reason, outside_transaction, on_commit)


def _events(values: Iterable[object], name: str | None) -> list[Event]:
    return [value if isinstance(value, Event) else event_of(value, name) for value in each_of(values, "publish_many")]
