"""The poll: one question for everything that is followed, often while there is news, and no notification is needed."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from pathlib import Path

import pytest

from django_agent_sse.eventlog.notify import poll as poll_module
from django_agent_sse.eventlog.notify.poll import FASTEST, SLOWEST, FollowedTopics, Heads, Poll
from django_agent_sse.wire.event import Event

from ..shared import SharedEventLog


@pytest.fixture
def log(tmp_path: Path) -> SharedEventLog:
    return SharedEventLog(str(tmp_path / "log"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> SharedEventLog:
    """The log as another process has it."""
    return SharedEventLog(str(tmp_path / "log"))


class Follower:
    """A watch that notes what it is told."""

    def __init__(self, log: SharedEventLog, *topics: str) -> None:
        self.told: list[Heads] = []
        self.watch = FollowedTopics(log, asyncio.get_running_loop(), self.told.append)
        for topic in topics:
            self.watch.add(topic)

    async def heard(self) -> dict[str, object]:
        """What it was told since it was last asked."""
        await asyncio.sleep(0)
        told, self.told[:] = [*self.told], []
        return {topic: head for heads in told for topic, head in heads.items()}


def poll_for(*followers: Follower) -> Poll:
    return Poll(lambda: {one.watch: topics for one in followers if (topics := one.watch.topics())})


async def pauses(poll: Poll, count: int) -> list[float | None]:
    return [await poll.look() for _ in range(count)]


async def test_without_a_notification_it_finds_what_was_appended_closed_deleted_and_begun_anew(
    log: SharedEventLog, elsewhere: SharedEventLog
) -> None:
    follower = Follower(log, "a", "b")
    poll = poll_for(follower)
    await poll.look()
    assert await follower.heard() == {"a": None, "b": None}, "once after it was followed"
    await poll.look()
    assert await follower.heard() == {}
    first = elsewhere.append("a", Event("1"))
    await poll.look()
    assert await follower.heard() == {"a": (first.epoch, 0, 1, None)}
    elsewhere.close("a", "completed")
    await poll.look()
    assert await follower.heard() == {"a": (first.epoch, 0, 1, "completed")}
    elsewhere.delete("a")
    second = elsewhere.append("a", Event("1"))
    await poll.look()
    assert await follower.heard() == {"a": (second.epoch, 0, 1, None)}, "another incarnation of the same length"
    elsewhere.delete("a")
    await poll.look()
    assert await follower.heard() == {"a": None}


async def test_all_loops_are_asked_for_at_once_and_told_what_they_follow(log: SharedEventLog, elsewhere: SharedEventLog) -> None:
    one, other = Follower(log, "a", "b"), Follower(log, "b", "c")
    poll = poll_for(one, other)
    await poll.look()
    assert log.asked == [["a", "b", "c"]]
    await one.heard(), await other.heard()
    elsewhere.append("b", Event("1"))
    elsewhere.append("c", Event("1"))
    await poll.look()
    assert [*await one.heard()] == ["b"]
    assert sorted(await other.heard()) == ["b", "c"]


async def test_it_hurries_after_news_and_calms_down(log: SharedEventLog, elsewhere: SharedEventLog) -> None:
    follower = Follower(log, "a")
    poll = poll_for(follower)
    assert await pauses(poll, 3) == [SLOWEST] * 3, "what is followed anew is no news"
    elsewhere.append("a", Event("1"))
    after = await pauses(poll, 12)
    assert after[0] == FASTEST
    assert after == sorted(after)  # type: ignore[type-var]
    assert after[-1] == SLOWEST


async def test_what_a_notification_told_of_is_no_reason_to_hurry(log: SharedEventLog) -> None:
    follower = Follower(log, "a")
    poll = poll_for(follower)
    await poll.look()
    log.append("a", Event("1"))
    poll.notified("a")
    assert await poll.look() == SLOWEST
    assert (await follower.heard())["a"] is not None, "who follows is told all the same"
    log.append("a", Event("2"))
    assert await poll.look() == FASTEST


async def test_a_hurried_question_comes_at_once_and_what_it_finds_is_no_reason_to_ask_often(
    log: SharedEventLog, elsewhere: SharedEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll_module, "SLOWEST", 3600.0)
    follower = Follower(log, "a")
    poll = poll_for(follower)
    asking = asyncio.create_task(poll.run())
    for top in (1, 2, 3):
        elsewhere.append("a", Event(str(top)))
        poll.hurry()
        async with asyncio.timeout(60):
            while not any(heads["a"] and heads["a"].top == top for heads in follower.told):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert len(log.asked) <= 4, "the first one, and one each"
    asking.cancel()


async def test_a_database_that_commits_all_the_time_does_not_make_it_spin(log: SharedEventLog) -> None:
    follower = Follower(log, "a")
    poll = poll_for(follower)
    loop = asyncio.get_running_loop()
    asking = asyncio.create_task(poll.run())
    began = loop.time()
    while len(log.asked) < 8:
        poll.hurry()
        await asyncio.sleep(0.001)
    assert loop.time() - began >= 5 * poll_module.FRUITLESS, "but for the first ones, each has to wait"
    asking.cancel()


async def test_a_log_that_is_away_is_not_asked_more_often_for_being_hurried(log: SharedEventLog) -> None:
    follower = Follower(log, "a")
    poll = poll_for(follower)
    log.away = True
    asking = asyncio.create_task(poll.run())
    began = time.monotonic()
    while not poll._failures.failures or time.monotonic() - began < 0.3:
        poll.hurry()
        await asyncio.sleep(0.001)
    assert poll._failures.failures == 1
    asking.cancel()


async def test_where_nothing_is_followed_nothing_is_asked(log: SharedEventLog) -> None:
    follower = Follower(log, "a")
    poll = poll_for(follower)
    await poll.look()
    follower.watch.discard("a")
    assert await pauses(poll, 3) == [None] * 3
    assert len(log.asked) == 1
    poll.notified("a")
    assert not poll.asks


@pytest.mark.parametrize("away", [True, False])
async def test_what_went_wrong_before_nothing_was_followed_any_more_is_not_said_for_ever(log: SharedEventLog, away: bool) -> None:
    follower = Follower(log, "a")
    poll = poll_for(follower)
    log.away = away
    await poll.look()
    poll._took = 0.0 if away else 2 * poll_module.LATE
    assert poll.trouble
    follower.watch.discard("a")
    await poll.look()
    assert poll.trouble == ""


async def test_a_log_that_is_away_is_said_once_and_tried_again_ever_later(
    log: SharedEventLog, elsewhere: SharedEventLog, caplog: pytest.LogCaptureFixture
) -> None:
    follower = Follower(log, "a")
    poll = poll_for(follower)
    await poll.look()
    await follower.heard()
    log.away = True
    tried = await pauses(poll, 8)
    assert all(pause is not None and SLOWEST <= pause <= 5 for pause in tried), tried
    assert tried[-1] is not None
    assert tried[-1] >= 2.5
    own = [record for record in caplog.records if record.name == "django_agent_sse.eventlog"]
    (said,) = own
    assert said.levelno == logging.WARNING
    assert "the file is away" in said.getMessage()
    assert "AGENT_SSE['EVENT_LOG']" in said.getMessage()
    log.away = False
    assert await pauses(poll, 3) == [SLOWEST] * 3
    assert (await follower.heard()) == {"a": None}, "told again: it may not have been able to read meanwhile"
    own = [record for record in caplog.records if record.name == "django_agent_sse.eventlog"]
    assert "works again after 8 failures" in own[1].getMessage()
    assert len(own) == 2


async def test_an_error_of_any_kind_does_not_end_it(log: SharedEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(topics: list[str]) -> None:
        raise ZeroDivisionError

    follower = Follower(log, "a")
    poll = poll_for(follower)
    monkeypatch.setattr(log, "_summaries", broken)
    assert await poll.look() is not None
    monkeypatch.undo()
    assert await poll.look() == SLOWEST


async def test_a_watch_of_a_closed_loop_is_skipped(log: SharedEventLog) -> None:
    made: list[Follower] = []

    async def follow() -> None:
        made.append(Follower(log, "gone"))

    ended = threading.Thread(target=lambda: asyncio.run(follow()))
    ended.start()
    await asyncio.to_thread(ended.join, 10)
    here = Follower(log, "a")
    poll = poll_for(made[0], here)
    await poll.look()
    assert log.asked == [["a"]]
    assert await here.heard() == {"a": None}


async def test_it_looks_by_itself_twice_a_second_at_most(log: SharedEventLog) -> None:
    follower = Follower(log, *(f"topic.{number}" for number in range(50)))
    poll = poll_for(follower)
    loop = asyncio.get_running_loop()
    began = loop.time()
    asking = asyncio.create_task(poll.run())
    async with asyncio.timeout(60):
        while len(log.asked) < 5:  # noqa: ASYNC110  another thread appends to it
            await asyncio.sleep(0.01)
    assert loop.time() - began >= 4 * poll_module.SLOWEST, "the fifth question comes after four pauses"
    assert all(len(topics) == 50 for topics in log.asked)
    asking.cancel()
