"""The feeds of one event loop: opened by the first follower, refreshed when notified, kept a while after the last one."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

from ..eventlog.backend import event_log
from ..eventlog.base import EventLog
from ..eventlog.eviction import NOTE_EVERY
from ..eventlog.notify.local import EVERY_TOPIC, LocalNotifier, local_notifier
from ..eventlog.notify.notifier import Notifier, notifier
from ..eventlog.notify.poll import Heads, ask_heads
from ..eventlog.outage import outage
from ..eventlog.records import Head, Page
from ..eventlog.validation import valid_topic
from ..exceptions import EventLogError
from ..runtime.backoff import FailureLog
from ..runtime.process import on_fork
from .feed import Feed
from .lease_watch import LeaseWatch

LINGER = 30.0
"""Seconds that a feed is kept without followers: who reconnects finds its ring."""
CHECK = 15.0
"""Seconds between two looks at every followed topic, whether or not a notification came; less by up to a half, by chance, so that
processes do not look all at once. A lost notification costs no more than this."""

NOTE_PAUSE = 0.25
"""Seconds between two writes of which topics are followed, at least: those that are opened meanwhile are written together."""


class Feeds:
    """The followed topics of the running loop.

    Args:
        log: Where they are kept.
        local: What says that there is more; this loop listens from now on.
        across: What asks for news where other processes write to the log.
    """

    def __init__(self, log: EventLog, local: LocalNotifier, across: Notifier = notifier) -> None:
        self.log = log
        self._watch = across.watch(log, self._compare)
        self._leases = LeaseWatch(log, lambda: self._followers)
        self._loop = asyncio.get_running_loop()
        self._feeds: dict[str, Feed] = {}
        self._followers: Counter[str] = Counter()
        self._lingering: dict[str, asyncio.TimerHandle] = {}
        self._hearing: dict[str, asyncio.Task[None]] = {}
        self._check: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._noting: asyncio.Task[None] | None = None
        self._to_note: set[str] = set()
        self._note_at = self._loop.time() + NOTE_EVERY
        self._note_failures = FailureLog(
            "followed topics cannot be noted",
            "They may be evicted (MAX_TOPICS) though they are followed.",
            logger="django_agent_sse.notify",
        )
        local.listen(self._on_topics, self._on_pages)

    def __len__(self) -> int:
        return len(self._feeds)

    async def open(self, topic: str) -> Feed:
        """Return the feed of a topic, as up to date as the log; give it back with ``release``.

        Raises:
            TopicNameInvalid: No topic has such a name.
            EventLogError: The log cannot be read; there is nothing to give back.
        """
        feed = self._feeds.get(topic)
        lingered = feed is not None and topic not in self._followers
        if feed is None:
            feed = self._feeds[topic] = Feed(valid_topic(topic), self.log, self._found)
            if self.log.notifier is not None:
                self._hearing[topic] = self._loop.create_task(self.log.notifier.follow(topic))
        self._followers[topic] += 1
        self._watch.add(topic)
        if (lingering := self._lingering.pop(topic, None)) is not None:
            lingering.cancel()
        if self._check is None:
            self._check_later()
        try:
            if (hearing := self._hearing.get(topic)) is not None:
                await asyncio.shield(hearing)
            await feed.refresh()  # also where it lingered, so that nobody begins behind what was published before
        except BaseException:  # nobody has it to give it back
            self.release(feed)
            raise
        if lingered:  # nobody looked meanwhile
            self._leases.look()
        return feed

    def release(self, feed: Feed) -> None:
        topic = feed.topic
        if feed.obsolete:
            return
        self._followers[topic] -= 1
        if self._followers[topic] <= 0:
            del self._followers[topic]
            self._watch.discard(topic)
            self._lingering[topic] = self._loop.call_later(LINGER, self._drop, topic)

    def close(self) -> None:
        """Forget every feed, and every timer."""
        self._watch.clear()
        self._leases.close()
        for timer in [*self._lingering.values(), *([self._check] if self._check else [])]:
            timer.cancel()
        for topic, feed in self._feeds.items():
            self._close(topic, feed)
        self._feeds.clear()
        self._followers.clear()
        self._lingering.clear()
        self._check = None
        for task in (self._asking, self._noting):
            if task is not None and not self._loop.is_closed():
                task.cancel()

    def _drop(self, topic: str) -> None:
        self._lingering.pop(topic, None)
        self._close(topic, self._feeds.pop(topic))

    def _close(self, topic: str, feed: Feed) -> None:
        feed.close()
        if self._hearing.pop(topic, None) is not None and self.log.notifier is not None:
            self.log.notifier.unfollow(topic)

    def _on_topics(self, topics: frozenset[str]) -> None:
        if EVERY_TOPIC in topics:
            self.close()  # who follows opens it anew, in whatever log there is now
        for topic in topics:
            if (feed := self._feeds.get(topic)) is not None:
                feed.request_refresh()

    def _on_pages(self, pages: list[tuple[str, Page]]) -> None:
        for topic, page in pages:
            if (feed := self._feeds.get(topic)) is not None:
                feed.offer(page)

    def _check_later(self) -> None:
        self._check = self._loop.call_later(CHECK * random.uniform(0.5, 1), self._check_now)

    def _check_now(self) -> None:
        for topic in self._followers:
            self._feeds[topic].tidy()
        if self.log.notifier is not None:  # it sees to what was missed, but for what could not be read then
            for feed in self._feeds.values():
                if feed.stale:
                    feed.request_refresh()
        elif self._followers:
            self._asking = self._loop.create_task(self._ask([*self._followers]))
        if self._loop.time() >= self._note_at:
            self._note_at = self._loop.time() + NOTE_EVERY
            self._note(*(topic for topic in self._followers if self._feeds[topic].epoch))
        if self._feeds:
            self._check_later()
        else:
            self._check = None

    def _found(self, topic: str) -> None:
        """The log has a followed topic, or another one of that name."""
        self._note(topic)
        self._leases.look()

    def _note(self, *topics: str) -> None:
        """Tell the log that these topics are followed, so that they are not evicted: soon, and many at once."""
        if not self.log.crosses_processes:
            self.log.note_followed(topics)
            return
        self._to_note.update(topics)
        if self._to_note and self._noting is None:
            self._noting = self._loop.create_task(self._note_all())

    async def _note_all(self) -> None:
        try:
            while self._to_note:
                topics, self._to_note = sorted(self._to_note), set()
                try:
                    await self.log.anote_followed(topics)
                except Exception as error:
                    self._note_failures.failed(error, quietly=outage.lasts)
                else:
                    self._note_failures.recovered()
                await asyncio.sleep(NOTE_PAUSE)
        finally:
            self._noting = None

    async def _ask(self, topics: list[str]) -> None:
        """Compare all of them with the log, by one query."""
        with contextlib.suppress(EventLogError):  # which is logged by now
            self._compare(await ask_heads(self.log, topics))

    def _compare(self, heads: Heads) -> None:
        for topic, head in heads.items():
            feed = self._feeds.get(topic)
            if feed is not None and _is_stale(feed, head):
                feed.request_refresh()


def _is_stale(feed: Feed, head: Head | None) -> bool:
    """Return whether the log has what the feed has not seen. The feed may have seen more than ``head``, which is older."""
    if head is None:
        return bool(feed.epoch)
    more = head.top > feed.top or head.floor > feed.floor or (head.closed is not None and feed.closed is None)
    return more or head.epoch != feed.epoch


_by_loop: dict[asyncio.AbstractEventLoop, Feeds] = {}
on_fork(_by_loop.clear)


def feeds_here() -> Feeds:
    """Return the feeds of the running loop, in the log of this process.

    Raises:
        ConfigurationError: See ``event_log``.
    """
    loop, log = asyncio.get_running_loop(), event_log()
    feeds = _by_loop.get(loop)
    if feeds is not None and feeds.log is log:
        return feeds
    for other in [other for other in _by_loop if other.is_closed() or other is loop]:
        if (old := _by_loop.pop(other, None)) is not None:
            old.close()
    made = _by_loop[loop] = Feeds(log, local_notifier)
    return made
