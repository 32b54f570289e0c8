"""Topics that are followed, on every log: noted by the process that follows them, and so kept by every other one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.notify.local import LocalNotifier
from django_agent_sse.eventlog.notify.notifier import Notifier
from django_agent_sse.runtime.loop import BackgroundLoop
from django_agent_sse.topics import feeds as feeds_module
from django_agent_sse.topics.feeds import Feeds
from django_agent_sse.topics.follower import Finished, Follower, Gap
from django_agent_sse.wire import Event
from tests.inprocess import eventually
from tests.topics.reading import read, texts_until

from .shared import SharedEventLog


@pytest.fixture
async def opened(new_log: Callable[..., EventLog]) -> AsyncIterator[tuple[EventLog, EventLog, Feeds]]:
    """A log of two topics at most, and what follows it here."""
    log = new_log(MAX_TOPICS=2)
    local = LocalNotifier()
    log.on_change = local.notify
    feeds = Feeds(log, local, notifier := Notifier(local, BackgroundLoop()))
    yield log, feeds
    feeds.close()
    await asyncio.to_thread(notifier.reset)


async def noise(log: EventLog) -> None:
    for number in range(4):
        await log.aappend(f"noise.{number}", Event("x"))


async def test_a_followed_topic_is_noted_and_stays(opened: Any) -> None:
    log, feeds = opened
    await log.aappend("quiet", Event("1"))
    follower = Follower(await feeds.open("quiet"))
    assert await texts_until(follower, 1) == ["1"]
    await eventually("the topic is noted", lambda: feeds._noting is None)
    await noise(log)
    await log.aappend("quiet", Event("2"))
    assert await texts_until(follower, 1) == ["2"]
    assert await log.atopics() == ["noise.3", "quiet"]


async def test_an_evicted_topic_is_one_gap_and_a_deleted_one_the_end(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Feeds, "_note", lambda *about: None)
    log, feeds = opened
    await log.aappend("quiet", Event("1"))
    follower = Follower(await feeds.open("quiet"))
    assert await texts_until(follower, 1) == ["1"]
    await noise(log)
    gap = await read(follower)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.missed) == ("epoch", None)
    await log.aappend("quiet", Event("anew"))
    assert await texts_until(follower, 1) == ["anew"]
    await log.adelete("quiet")
    assert await read(follower) == Finished("deleted")


async def test_notes_are_repeated_while_a_topic_is_followed_and_that_they_fail_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    log, local = SharedEventLog(str(tmp_path / "log")), LocalNotifier()
    feeds = Feeds(log, local, notifier := Notifier(local, BackgroundLoop()))
    noted: list[list[str]] = []

    def note(topics: list[str]) -> None:
        noted.append(topics)
        if len(noted) < 3:
            raise OSError("no")

    monkeypatch.setattr(log, "_note_followed", note)
    monkeypatch.setattr(feeds_module, "CHECK", 0.02)
    monkeypatch.setattr(feeds_module, "NOTE_EVERY", 0.0)
    monkeypatch.setattr(feeds_module, "NOTE_PAUSE", 0.0)
    feeds._note_at = 0.0
    await log.aappend("quiet", Event("1"))
    followers = [Follower(await feeds.open(topic)) for topic in ("quiet", "none")]
    assert await texts_until(followers[0], 1) == ["1"]
    await eventually("it is noted again and again", lambda: len(noted) > 4)
    feeds.close()
    await asyncio.to_thread(notifier.reset)
    assert {tuple(topics) for topics in noted} == {("quiet",)}
    told = [record.getMessage() for record in caplog.records if "cannot be noted" in record.getMessage()]
    assert len(told) == 2, "once that it fails, and once that it works again"
