"""Runs as others see them, and how one is asked to stop: from Python, and at once where the log says so."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from django_agent_sse import Topic, produce
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.backend import build_log
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.leases import STOPS, Lease
from django_agent_sse.eventlog.notify.local import local_notifier
from django_agent_sse.eventlog.notify.notifier import notifier
from django_agent_sse.exceptions import AsyncRequired, RunNotFound
from django_agent_sse.runs import keeper, stops
from django_agent_sse.runs.state import RunState

NAME = "runs.42"
PATIENCE = 60.0
NEVER = 3600.0

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["memory", "database", "redis"])
def log(request: pytest.FixtureRequest) -> Iterator[EventLog]:
    backends = {
        "memory": ("memory.MemoryEventLog", {}),
        "database": ("database.DatabaseEventLog", {}),
        "redis": ("redis.RedisEventLog", {"prefix": "runs-stops"}),
    }
    place, options = backends[request.param]
    if request.param == "redis":
        options["url"] = request.getfixturevalue("redis_url")
    with override_settings(AGENT_SSE={"EVENT_LOG": {"BACKEND": f"django_agent_sse.eventlog.{place}", "OPTIONS": options}}):
        backend.event_log().clear_all()
        yield backend.event_log()
        backend.event_log().clear_all()
    backend.reset()


def until(what: str, probe: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := probe()):
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
    return found


def another_process() -> EventLog:
    """The same log, as another process has it: what it notifies reaches this one through the store only."""
    return build_log(settings.AGENT_SSE["EVENT_LOG"])


def run_of(topic: str = NAME) -> RunState:
    run = Topic(topic).run_state()
    assert run is not None
    return run


def test_a_topic_tells_of_its_run_until_it_is_over_and_after(log: EventLog) -> None:
    assert Topic(NAME).run_state() is None
    with produce(NAME, lease=20) as out:
        run = run_of()
        assert (run.id, run.stopping, run.ending) == (out.id, False, None)
        assert 0 < run.left <= 20
    assert run_of() == RunState(id=out.id, left=0.0, stopping=False, ending="finished")
    Topic("plain").publish("x")
    assert Topic("plain").run_state() is None


def test_whoever_looks_at_a_run_whose_process_has_died_closes_it_as_lost(log: EventLog) -> None:
    log.acquire(NAME, "r1", 0.001)
    time.sleep(0.02)
    assert run_of() == RunState(id="r1", left=0.0, stopping=False, ending="lost")
    assert log.state(NAME).closed == "lost"


def test_a_run_is_stopped_by_its_topic_as_often_as_one_likes(log: EventLog) -> None:
    with produce(NAME) as out:
        first = Topic(NAME).stop_run(out.id)
        assert (first.id, first.stopping) == (out.id, True)
        Topic(NAME).stop_run()
        until("it learns of it", lambda: out.stopping)
        out.write("late")
        raise AssertionError("it has raised")
    assert run_of().ending == "stopped"
    assert Topic(NAME).stop_run().ending == "stopped"
    assert log.state(NAME).top == 0


def test_a_stop_never_meets_another_run_than_was_meant(log: EventLog) -> None:
    with produce(NAME) as out:
        with pytest.raises(RunNotFound, match=f"is written by the run '{out.id}', not by 'older'") as refused:
            Topic(NAME).stop_run("older")
        assert refused.value.topic == NAME
        assert not run_of().stopping


def test_where_no_run_is_known_a_stop_leaves_nothing_behind(log: EventLog) -> None:
    for id in (None, "r1"):
        with pytest.raises(RunNotFound, match=f"no run has written the topic '{NAME}'"):
            Topic(NAME).stop_run(id)
    assert log.topics() == []


async def test_coroutines_have_twins(log: EventLog) -> None:
    with pytest.raises(RunNotFound):
        await Topic(NAME).astop_run()
    assert await Topic(NAME).arun_state() is None
    async with produce(NAME) as out:
        stopped = await Topic(NAME).astop_run(out.id)
        assert (stopped.id, stopped.stopping) == (out.id, True)
        with pytest.raises(AsyncRequired, match="astop_run"):
            Topic(NAME).stop_run()
        with pytest.raises(AsyncRequired, match="arun_state"):
            Topic(NAME).run_state()
        await asyncio.sleep(PATIENCE)
    assert (await Topic(NAME).astop_run()).ending == "stopped"


# At once: in these tests the leases are looked at once, and then when a stop is notified


@pytest.fixture
def no_looks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keeper, "TICK", NEVER)
        yield
    local_notifier.notify(STOPS)


@pytest.mark.parametrize("log", ["memory"], indirect=True)
def test_a_stop_in_this_process_is_found_without_waiting_for_a_look(log: EventLog, no_looks: None) -> None:
    with produce(NAME) as out:
        Topic(NAME).stop_run()
        until("it learns of it", lambda: out.stopping)


@pytest.mark.parametrize("log", ["memory"], indirect=True)
def test_a_stop_does_not_wait_for_the_lease_to_be_renewed(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "RENEW_AT", 1.0)
    leases, renew_all = type(log).leases, type(log).renew_all
    seen, go_on = threading.Event(), threading.Event()

    def look(self: EventLog, topics: list[str]) -> dict[str, Lease]:
        found = leases(self, topics)
        if any(lease.stop for lease in found.values()):
            seen.set()
        return found

    def late(self: EventLog, due: Any) -> Any:
        assert not seen.is_set() or go_on.wait(2 * PATIENCE)
        return renew_all(self, due)

    monkeypatch.setattr(type(log), "leases", look)
    monkeypatch.setattr(type(log), "renew_all", late)
    with produce(NAME) as out:
        try:
            Topic(NAME).stop_run()
            until("it learns of it", lambda: out.stopping)
        finally:
            go_on.set()
    assert run_of().ending == "stopped"


@pytest.mark.parametrize("log", ["redis"], indirect=True)
def test_so_is_one_of_another_process_through_redis(log: EventLog, no_looks: None) -> None:
    with produce(NAME) as out:
        another_process().request_stop(NAME, out.id)
        until("it learns of it", lambda: out.stopping)


@pytest.mark.parametrize("log", ["database"], indirect=True)
def test_so_is_one_that_a_channel_layer_brings(log: EventLog, no_looks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stops, "layer_configured", lambda: True)
    with produce(NAME) as out:
        until("its notifications are followed", lambda: STOPS in notifier.followed())
        other = another_process()
        other.request_stop(NAME, out.id)
        assert other.leases([NAME])[NAME].stop
        notifier.on_notify({STOPS})  # what the layer calls when it hears of it
        until("it learns of it", lambda: out.stopping)
    local_notifier.notify(STOPS)
    until("nothing is followed for nobody", lambda: STOPS not in notifier.followed())
