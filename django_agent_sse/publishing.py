"""Publish to topics, from any Django code: append to the event log, which rings the bell. The hub reads, it is not told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from .encoding import event_of
from .eventlog.base import EventLog
from .eventlog.checked import valid_topic
from .eventlog.current import check_reach, event_log
from .eventlog.position import Position
from .eventlog.records import TopicState
from .exceptions import AsyncRequired
from .wire.event import Event


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

    def publish(
        self,
        data: object,
        *,
        event: str | None = None,
        retry: int | None = None,
        expect: int | None = None,
        key: str | None = None,
    ) -> Position:
        """Append one event.

        Args:
            data: An ``Event``, or its data: text as it is, ``bytes`` as UTF-8 text, anything else as JSON.
            event: The event's name.
            retry: The followers' new reconnection time, in milliseconds.
            expect: The offset that the topic must end at, 0 for a new one: else somebody else has published.
            key: Names this event: published again with the same key it is not appended again.

        Returns:
            Where it stands; ``str()`` of it is the event's id.

        Raises:
            InvalidEvent: ``data`` cannot stand in an event stream.
            EventLogError: ``TopicClosed``, ``PositionConflict``, ``EventTooLarge`` or ``EventLogUnavailable``.
            ConfigurationError: Nobody could follow what is published in this process.
            AsyncRequired: An event loop runs here. In every case nothing was appended.
        """
        return self.publish_many([event_of(data, event, retry)], expect=expect, key=key)[0]

    async def apublish(
        self,
        data: object,
        *,
        event: str | None = None,
        retry: int | None = None,
        expect: int | None = None,
        key: str | None = None,
    ) -> Position:
        """See ``publish``."""
        return (await self.apublish_many([event_of(data, event, retry)], expect=expect, key=key))[0]

    def publish_many(
        self, values: Iterable[object], *, event: str | None = None, expect: int | None = None, key: str | None = None
    ) -> list[Position]:
        """Append one event for each value, all of them or none, with nobody's in between: for lines, one call for many.

        Args:
            values: As ``data`` of ``publish``.
            event: The name of those that are no ``Event``.
            expect: See ``publish``.
            key: Names all of them together.
        """
        events = [value if isinstance(value, Event) else event_of(value, event) for value in values]
        return list(_log("publish").append(self.name, events, expect=expect, key=key))

    async def apublish_many(
        self, values: Iterable[object], *, event: str | None = None, expect: int | None = None, key: str | None = None
    ) -> list[Position]:
        """See ``publish_many``."""
        events = [value if isinstance(value, Event) else event_of(value, event) for value in values]
        return list(await _alog().aappend(self.name, events, expect=expect, key=key))

    def close(self, reason: str = "completed") -> bool:
        """End the topic: it takes no more events, and who follows it ends after the last one. Whether it was open.

        Args:
            reason: What followers are told; printable ASCII.
        """
        return _log("close").close(self.name, reason)

    async def aclose(self, reason: str = "completed") -> bool:
        """See ``close``."""
        return await _alog().aclose(self.name, reason)

    def delete(self) -> bool:
        """Forget the topic with its events; who follows it ends (``deleted``). Whether there was one."""
        return _log("delete").delete(self.name)

    async def adelete(self) -> bool:
        """See ``delete``."""
        return await _alog().adelete(self.name)

    def state(self) -> TopicState:
        """What is known of it: whether it exists, is closed, how much it keeps."""
        return _checked(event_log(), "state").state(self.name)

    async def astate(self) -> TopicState:
        """See ``state``."""
        return await event_log().astate(self.name)


def publish(
    topic: str,
    data: object,
    *,
    event: str | None = None,
    retry: int | None = None,
    expect: int | None = None,
    key: str | None = None,
) -> Position:
    """Append one event to a topic: see ``Topic.publish``."""
    return Topic(topic).publish(data, event=event, retry=retry, expect=expect, key=key)


async def apublish(
    topic: str,
    data: object,
    *,
    event: str | None = None,
    retry: int | None = None,
    expect: int | None = None,
    key: str | None = None,
) -> Position:
    """Append one event to a topic: see ``Topic.publish``."""
    return await Topic(topic).apublish(data, event=event, retry=retry, expect=expect, key=key)


def publish_many(
    topic: str, values: Iterable[object], *, event: str | None = None, expect: int | None = None, key: str | None = None
) -> list[Position]:
    """Append several events to a topic at once: see ``Topic.publish_many``."""
    return Topic(topic).publish_many(values, event=event, expect=expect, key=key)


async def apublish_many(
    topic: str, values: Iterable[object], *, event: str | None = None, expect: int | None = None, key: str | None = None
) -> list[Position]:
    """Append several events to a topic at once: see ``Topic.publish_many``."""
    return await Topic(topic).apublish_many(values, event=event, expect=expect, key=key)


def close_topic(topic: str, reason: str = "completed") -> bool:
    """End a topic: see ``Topic.close``."""
    return Topic(topic).close(reason)


async def aclose_topic(topic: str, reason: str = "completed") -> bool:
    """End a topic: see ``Topic.close``."""
    return await Topic(topic).aclose(reason)


def _alog() -> EventLog:
    log = event_log()
    check_reach(log)
    return log


def _log(verb: str) -> EventLog:
    return _checked(_alog(), verb)


def _checked(log: EventLog, verb: str) -> EventLog:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return log
    raise AsyncRequired(f"{verb}() would hold up the event loop that runs here; write `await a{verb}(…)`. Nothing was done")
