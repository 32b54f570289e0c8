"""Whoever follows a run whose process has died sees its end, at the deadline and not before, once."""

from __future__ import annotations

import asyncio
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_agent_sse import Event, Topic
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.topics import lease_watch

NAME = "runs.42"
PATIENCE = 60.0
LEASE = 0.6
RENEWED = 6.0
"""Seconds of one that is renewed in time, also where the machine stands still for some of them."""
LAST = [Event('{"type":"error"}', event="e"), Event("[DONE]")]


@pytest.fixture(params=["memory", "redis"])
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    if request.param == "memory":
        backend.reset()
        yield backend.event_log()
    else:
        options = {"url": request.getfixturevalue("redis_url"), "prefix": f"t{secrets.token_hex(6)}"}
        about = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}}
        with override_settings(AGENT_SSE=about):
            yield backend.event_log()
    backend.reset()


async def followed(topic: str = NAME) -> list[str]:
    return [event.data async for event in Topic(topic).follow()]


def in_own_loop(body: Callable[[], Any], count: int) -> list[Any]:
    """Run in event loops of as many threads."""
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(body()))) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return found


def test_all_readers_see_the_last_events_and_the_end_at_the_deadline_and_not_before(log: EventLog) -> None:
    log.append(NAME, Event("1"))
    lease = log.acquire(NAME, "r1", LEASE, last=LAST)

    async def many() -> list[list[str]]:
        return await asyncio.wait_for(asyncio.gather(*(followed() for _ in range(25))), PATIENCE)

    found = in_own_loop(many, 4)
    assert time.time() > lease.deadline - 0.05
    assert found == [[["1", '{"type":"error"}', "[DONE]"]] * 25] * 4
    state = log.state(NAME)
    assert (state.closed, state.top) == ("lost", 3)


async def test_a_run_that_is_renewed_goes_on(log: EventLog) -> None:
    await log.aacquire(NAME, "r1", RENEWED, last=LAST)
    following = asyncio.create_task(followed())
    until = time.monotonic() + RENEWED + LEASE
    while time.monotonic() < until:
        await log.arenew(NAME, "r1", 60)  # a busy machine may be slow to renew
        await asyncio.sleep(LEASE / 4)
    assert not following.done()
    assert (await log.astate(NAME)).closed is None
    await log.aclose(NAME, "finished", last=[Event("bye")], holder="r1")
    assert await asyncio.wait_for(following, PATIENCE) == ["bye"]


async def test_a_lease_that_ran_out_while_nobody_looked_is_found_by_the_first_who_opens_the_topic(log: EventLog) -> None:
    await log.aacquire(NAME, "r1", 0.02, last=LAST)
    await asyncio.sleep(0.05)  # the lease itself
    assert (await log.astate(NAME)).closed is None
    assert await asyncio.wait_for(followed(), PATIENCE) == [event.data for event in LAST]


async def test_a_topic_that_comes_after_its_followers_is_looked_at_then(log: EventLog) -> None:
    following = asyncio.create_task(followed())
    await asyncio.sleep(0)
    await log.aacquire(NAME, "r1", LEASE, last=LAST)
    assert await asyncio.wait_for(following, PATIENCE) == [event.data for event in LAST]


async def test_where_the_log_is_away_it_is_looked_at_again_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend.reset()
    log = backend.event_log()
    monkeypatch.setattr(lease_watch, "CHECK", 0.05)
    asked = 0
    real = log.aleases

    async def leases(topics: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked < 4:
            raise EventLogUnavailable("it is away")
        return await real(topics)

    monkeypatch.setattr(log, "aleases", leases)
    await log.aacquire(NAME, "r1", 0.02, last=LAST)
    following = asyncio.create_task(followed())
    assert await asyncio.wait_for(following, PATIENCE) == [event.data for event in LAST]
    messages = [record.getMessage() for record in caplog.records]
    assert sum("leases of topics cannot be looked at now" in message for message in messages) == 1
    backend.reset()


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop has no wheel for Windows")
def test_topics_that_are_opened_at_once_on_uvloop() -> None:
    """Its ``call_at()`` returns a handle that knows no time, where that has come already."""
    import uvloop

    backend.reset()
    log = backend.event_log()

    async def many() -> list[list[str]]:
        found = []
        for number in range(20):
            log.append(f"{NAME}.{number}", Event("1"))
            found.append(asyncio.create_task(followed(f"{NAME}.{number}")))
        log.acquire(f"{NAME}.19", "r1", 0.02, last=LAST)
        for number in range(19):
            log.close(f"{NAME}.{number}")
        return await asyncio.wait_for(asyncio.gather(*found), PATIENCE)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(many()) == [["1"]] * 19 + [["1", *(event.data for event in LAST)]]
    backend.reset()
