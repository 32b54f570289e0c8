"""An event log of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.test import override_settings

from .. import conf
from ..eventlog import backend
from ..eventlog.base import EventLog
from ..wire.event import Event
from .client import SSEClient

MEMORY = {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog", "OPTIONS": {}}


class PublishedLog:
    """What was published since the test began, or since it changed ``AGENT_SSE``, which makes another log."""

    @property
    def _log(self) -> EventLog:
        return backend.event_log()

    def published(self, topic: str) -> list[Event]:
        """The events that a topic has, as they were published; none where it does not exist."""
        events: list[Event] = []
        after = 0
        while records := self._log.read_after(topic, after).records:
            events += [record.event for record in records]
            after = records[-1].offset
        return events

    def closed(self, topic: str) -> str | None:
        """What a topic was closed with; ``None`` while it is open, or does not exist."""
        return self._log.state(topic).closed

    @property
    def topics(self) -> list[str]:
        """The names of all topics, sorted."""
        return self._log.topics(limit=1_000_000)


@contextmanager
def fresh_log() -> Iterator[PublishedLog]:
    """Keep topics in a new log in memory meanwhile, whatever the settings say.

    A transaction of the test's makes no difference to it: a follower sees at once what is published in a ``TestCase``, which
    never commits.
    """
    # As the default too: a test that sets AGENT_SSE to something without EVENT_LOG means no other log.
    with (
        conf.other_default("EVENT_LOG", MEMORY),
        override_settings(AGENT_SSE={**getattr(settings, "AGENT_SSE", {}), "EVENT_LOG": MEMORY}),
    ):
        backend.reset()
        yield PublishedLog()


class SSETestMixin:
    """For ``TestCase``: each test has a ``fresh_log()`` as ``self.sse_log``, and ``self.sse_client()``.

    Name it before the test case among the bases; a ``setUp()`` of your own calls ``super().setUp()``.
    """

    sse_log: PublishedLog

    def setUp(self) -> None:
        """See ``unittest``."""
        super().setUp()  # type: ignore[misc]
        this: Any = self
        self.sse_log = this.enterContext(fresh_log())

    def sse_client(self, application: Any = None, **about: Any) -> SSEClient:
        """An ``SSEClient`` with these arguments, for ``async with``."""
        return SSEClient(application, **about)
