"""A topic by its name, with all its verbs: what appends to it, and what reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from ..encoding import event_of
from ..eventlog.backend import event_log, refuse_on_a_loop
from ..exceptions import ArgumentInvalid
from ..streams.sources import events_of, items_of
from ..topics.follower import Start
from ..topics.publish import TopicPublisher
from ..topics.reading import Fold, Followed, Reading
from ..wire import Event
from .sources import framed_events, items, without_id
from .state import RunState, arun_states, astop_run, run_states, stop_run

READ_EVENTS = 256
"""Events of one ``read()``, by default."""


@dataclass(frozen=True, slots=True)
class Topic(TopicPublisher):
    """A topic by its name: ``Topic("builds.42").publish(…)``. Making one asks nothing of the log.

    Each verb has a twin with an ``a``, for coroutines. The plain ones raise ``AsyncRequired`` under a running event loop, which
    they would hold up. ``follow()`` is one for both.

    Args:
        name: Printable ASCII, 1 to 200 characters.

    Raises:
        TopicNameInvalid: No topic can have that name.
    """

    def read(self, after: str | None = None, limit: int = READ_EVENTS) -> list[Event]:
        """Return events that are kept, up to ``limit``; fewer only where the topic has no more. One without events has none.

        Each has its position as its ``id``: give the last one's as ``after`` to read on.

        Args:
            after: The id of an event, or what ``topic_cursor()`` returned; ``None`` begins with the oldest event that is kept.
            limit: How many events at most.

        Raises:
            PositionGone: What came after that event is no longer kept, or the topic is another one by now.
            EventLogUnavailable: The log cannot be read.
            AsyncRequired: An event loop runs here.
        """
        refuse_on_a_loop("read")
        return Reading(self.name, after).read(_valid_limit(limit))

    async def aread(self, after: str | None = None, limit: int = READ_EVENTS) -> list[Event]:
        """See ``read``."""
        return await Reading(self.name, after).aread(_valid_limit(limit))

    def follow(self, after: str | None = None, *, start: Start = "oldest", fold: Fold | None = None) -> Followed:
        """Return the events as they come, for ``async for``; in sync code for ``for``, which looks twice a second.

        They end when the topic is closed or deleted; ``state()`` says why it was closed. A topic that does not exist yet is
        waited for. Close an iterator that you leave early, as with ``contextlib.aclosing``.

        Args:
            after: See ``read``.
            start: Where to begin without ``after``: with the ``"oldest"`` event that is kept, or ``"live"``, the next one.
            fold: A wire's, as ``AI_SDK.fold``: of what is there when the iteration begins, consecutive deltas of one part come as
                one event with the id of the last; what is published later, each.

        Raises:
            PositionGone: From the iteration: see ``read``; also where events are dropped faster than they are taken.
            EventLogUnavailable: From the iteration: the log cannot be read at its beginning. Later it is tried again.
        """
        return Followed(self.name, after, start, fold)

    def run_state(self) -> RunState | None:
        """Return the run that writes the topic, or the last one that did; ``None`` where there was none, or it is no longer kept.

        A run whose lease has run out is closed as ``lost``, as by whoever follows it.

        Raises:
            EventLogUnavailable: The log cannot be read.
            AsyncRequired: An event loop runs here.
        """
        refuse_on_a_loop("run_state")
        return run_states(event_log(), [self.name]).get(self.name)

    async def arun_state(self) -> RunState | None:
        """See ``run_state``."""
        return (await arun_states(event_log(), [self.name])).get(self.name)

    def stop_run(self, id: str | None = None) -> RunState:
        """Ask a run to stop, wherever it goes on; as often as one likes. Return where it is then.

        Its ``ending`` is not known yet while its code cleans up. To stop one that is over does nothing.

        Args:
            id: Its own, so that another one that has begun meanwhile is not stopped; ``None`` for the one that there is now.

        Raises:
            RunNotFound: It has never written this topic, or is not the last that did. Nothing is left behind.
            EventLogUnavailable: The log cannot be reached.
            AsyncRequired: An event loop runs here.
        """
        refuse_on_a_loop("stop_run")
        return stop_run(event_log(), self.name, id)

    async def astop_run(self, id: str | None = None) -> RunState:
        """See ``stop_run``."""
        return await astop_run(event_log(), self.name, id)

    def pipe(self, source: Iterable[Any], *, event: str | None = None) -> int:
        """Append each item of an iterable, or each line of an open file, as it comes. Return how many.

        Args:
            source: A generator, a list, an open file, ``process.stdout``. What has a ``close()`` is closed, whatever happens.
            event: The name of events whose items are not an ``Event``.

        Raises:
            ArgumentInvalid: It cannot be iterated here. What ``publish()`` raises ends it.
        """
        refuse_on_a_loop("pipe")
        count = 0
        for item in items(source, "pipe", event=event):
            self.publish(_event(item, event))
            count += 1
        return count

    async def apipe(self, source: Any, *, event: str | None = None) -> int:
        """Append each item of an async or sync iterable, or each line of a file, pipe or process: see ``Stream.pipe``."""
        count = 0
        async with aclosing(_generator(items_of(source, event))) as found:
            async for item in found:
                await self.apublish(_event(item, event))
                count += 1
        return count

    def pipe_sse(self, source: Iterable[str | bytes] | str | bytes) -> int:
        """Append the events of text that is framed already (``data: …\\n\\n``), cut anywhere, as they come. Return how many.

        As other encoders and upstreams make it. Ids of the upstream are left out, for the log numbers its events, and so are its
        ``sse.*`` events.
        """
        refuse_on_a_loop("pipe_sse")
        count = 0
        for found in framed_events(source):
            self.publish(found)
            count += 1
        return count

    async def apipe_sse(self, source: Any) -> int:
        """See ``pipe_sse``; takes what ``Stream.pipe_sse`` takes."""
        count = 0
        async with aclosing(_generator(events_of(source))) as events:
            async for found in events:
                await self.apublish(without_id(found))
                count += 1
        return count


def _event(item: Any, name: str | None) -> Event:
    return item if isinstance(item, Event) else event_of(item, name)


def _valid_limit(limit: int) -> int:
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ArgumentInvalid(f"limit={limit!r:.40}: how many events to read, 1 at least")
    return limit


def _generator(items: AsyncIterator[Any]) -> Any:
    return items
