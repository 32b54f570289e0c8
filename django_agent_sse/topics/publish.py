"""Publish to topics, from any Django code: append to the event log, which notifies. Followers read the log, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict, Unpack

from ..encoding import each_of, event_of
from ..eventlog.backend import event_log, log_to_publish_to, refuse_on_a_loop
from ..eventlog.position import Position
from ..eventlog.records import TopicState
from ..eventlog.validation import valid_topic
from ..wire.event import Event


class AppendOptions(TypedDict, total=False):
    """The keyword arguments of every append: see ``Topic.publish``."""

    expect: int | None
    key: str | None
    outside_transaction: bool


class PublishManyOptions(AppendOptions, total=False):
    """The keyword arguments of ``publish_many``: see ``Topic.publish_many``."""

    event: str | None


class PublishOptions(PublishManyOptions, total=False):
    """The keyword arguments of ``publish``: see ``Topic.publish``."""

    retry: int | None


@dataclass(frozen=True, slots=True)
class TopicPublisher:
    """What appends to a topic: the part of ``Topic`` that needs no fan-out.

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
        outside_transaction: bool = False,
    ) -> Position:
        """Append one event.

        A log in the project's database appends as a part of the transaction that is open here: followers see it when it commits.
        Other logs append at once; ``transaction.on_commit(partial(publish, "builds.42", data))`` waits for the commit there.

        Args:
            data: An ``Event``, or its data: text as it is, ``bytes`` as UTF-8 text, anything else as JSON.
            event: The event's name.
            retry: The followers' new reconnection time, in milliseconds.
            expect: The offset that the topic must end at, 0 for a new one: else somebody else has published.
            key: Names this event: published again with the same key it is not appended again.
            outside_transaction: Append at once, for good, whatever becomes of a transaction that is open here.

        Returns:
            Where it stands; ``str()`` of it is the event's id.

        Raises:
            InvalidEvent: ``data`` cannot stand in an event stream.
            EventLogError: ``TopicClosed``, ``PositionConflict``, ``EventTooLarge``, ``TransactionRefused`` or
                ``EventLogUnavailable``.
            ConfigurationError: Nobody could follow what is published in this process.
            AsyncRequired: An event loop runs here. In every case nothing was appended.
        """
        refuse_on_a_loop("publish")
        appended = log_to_publish_to().append(
            self.name, event_of(data, event, retry), expect=expect, key=key, outside_transaction=outside_transaction
        )
        return appended.first_position

    async def apublish(
        self, data: object, *, event: str | None = None, retry: int | None = None, **options: Unpack[AppendOptions]
    ) -> Position:
        """See ``publish``."""
        return (await log_to_publish_to().aappend(self.name, event_of(data, event, retry), **options)).first_position

    def publish_many(
        self, values: Iterable[object], *, event: str | None = None, **options: Unpack[AppendOptions]
    ) -> list[Position]:
        """Append one event for each value, all of them or none, with no other event in between: for lines, one call for many.

        Args:
            values: As ``data`` of ``publish``.
            event: The name of those that are not an ``Event``.
            options: As those of ``publish``; ``key`` names all of them together.
        """
        refuse_on_a_loop("publish_many")
        return [*log_to_publish_to().append(self.name, _events(values, event), **options)]

    async def apublish_many(
        self, values: Iterable[object], *, event: str | None = None, **options: Unpack[AppendOptions]
    ) -> list[Position]:
        """See ``publish_many``."""
        return [*await log_to_publish_to().aappend(self.name, _events(values, event), **options)]

    def close(self, reason: str = "completed", *, last: Iterable[object] = (), outside_transaction: bool = False) -> bool:
        """End the topic: it takes no more events, and its followers end after the last one. Return whether it was open.

        Args:
            reason: What followers are told; printable ASCII.
            last: What it ends with, as ``values`` of ``publish_many``: appended in the same step, so that nobody's events come
                after them. A topic that was closed already gets none.
            outside_transaction: See ``publish``.
        """
        refuse_on_a_loop("close")
        return log_to_publish_to().close(
            self.name, reason, last=_events(last, None, "close"), outside_transaction=outside_transaction
        )

    async def aclose(self, reason: str = "completed", *, last: Iterable[object] = (), outside_transaction: bool = False) -> bool:
        """See ``close``."""
        return await log_to_publish_to().aclose(
            self.name, reason, last=_events(last, None, "close"), outside_transaction=outside_transaction
        )

    def delete(self) -> bool:
        """Delete the topic with its events; its followers end (``deleted``). Return whether there was one."""
        refuse_on_a_loop("delete")
        return log_to_publish_to().delete(self.name)

    async def adelete(self) -> bool:
        """See ``delete``."""
        return await log_to_publish_to().adelete(self.name)

    def state(self) -> TopicState:
        """Return what is known of the topic: whether it exists, is closed, how much it keeps."""
        refuse_on_a_loop("state")
        return event_log().state(self.name)

    async def astate(self) -> TopicState:
        """See ``state``."""
        return await event_log().astate(self.name)


def publish(topic: str, data: object, **options: Unpack[PublishOptions]) -> Position:
    """Append one event to a topic: see ``Topic.publish``."""
    return TopicPublisher(topic).publish(data, **options)


async def apublish(topic: str, data: object, **options: Unpack[PublishOptions]) -> Position:
    """Append one event to a topic: see ``Topic.publish``."""
    return await TopicPublisher(topic).apublish(data, **options)


def publish_many(topic: str, values: Iterable[object], **options: Unpack[PublishManyOptions]) -> list[Position]:
    """Append several events to a topic at once: see ``Topic.publish_many``."""
    return TopicPublisher(topic).publish_many(values, **options)


async def apublish_many(topic: str, values: Iterable[object], **options: Unpack[PublishManyOptions]) -> list[Position]:
    """Append several events to a topic at once: see ``Topic.publish_many``."""
    return await TopicPublisher(topic).apublish_many(values, **options)


def close_topic(topic: str, reason: str = "completed", *, outside_transaction: bool = False) -> bool:
    """End a topic: see ``Topic.close``."""
    refuse_on_a_loop("close_topic")  # so that the error names aclose_topic()
    return TopicPublisher(topic).close(reason, outside_transaction=outside_transaction)


async def aclose_topic(topic: str, reason: str = "completed", *, outside_transaction: bool = False) -> bool:
    """End a topic: see ``Topic.close``."""
    return await TopicPublisher(topic).aclose(reason, outside_transaction=outside_transaction)


def _events(values: Iterable[object], name: str | None, verb: str = "publish_many") -> list[Event]:
    return [value if isinstance(value, Event) else event_of(value, name) for value in each_of(values, verb)]
