"""A process that ends sends its clients away in waves, no more a second than it may, and tells each when to come back."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from django.test import override_settings

from django_agent_sse import Context, Ending, Stream, process_closing
from django_agent_sse.streams import drain, server_flags
from django_agent_sse.streams.drain import Drain, plan
from django_agent_sse.streams.registry import Registry, registry
from django_agent_sse.streams.server_flags import Grace
from tests.inprocess import eventually, serve
from tests.records import records_of


@pytest.fixture(autouse=True)
def _reopened() -> Iterator[None]:
    yield
    registry._closing_until = registry._drains_until = registry._told_at = 0.0
    for companion in registry.companions:
        companion.ending_topics = frozenset()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("streams", "settings", "window", "spread"),
    [
        (0, {}, 0.0, 0.0),
        (50, {}, 0.0, 0.0),
        (280, {}, 2.0, 0.0),
        (560, {}, 4.0, 0.0),
        (7_000, {}, 4.0, 46.0),
        (7_000, {"DRAIN_SECONDS": 25}, 25.0, 25.0),
        (7_000, {"DRAIN_SECONDS": None}, 0.0, 50.0),
        (7_000, {"RECONNECTS": None}, 0.0, 0.0),
        (7_000, {"RECONNECTS": 1_000}, 4.0, 6.0),
    ],
)
def test_streams_are_spread_by_how_many_they_are(streams: int, settings: dict[str, Any], window: float, spread: float) -> None:
    with override_settings(AGENT_SSE=settings):
        assert plan(streams) == Drain(window, spread)


def test_a_server_that_waits_for_less_cuts_the_window_and_the_rest_is_told_to_come_back_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain, "grace", lambda: Grace(3.0, "--graceful-timeout", "hypercorn"))
    with override_settings(AGENT_SSE={}):
        assert plan(7_000) == Drain(2.0, 48.0)
    monkeypatch.setattr(drain, "grace", lambda: Grace(0.5, "--graceful-timeout", "hypercorn"))
    with override_settings(AGENT_SSE={}):
        assert plan(7_000) == Drain(0.0, 50.0)


@pytest.mark.parametrize("streams", [100, 1_000, 10_000])
def test_no_more_come_back_a_second_than_the_project_says(streams: int) -> None:
    """Each is ended within the window, and comes back after what it was told."""
    with override_settings(AGENT_SSE={"RECONNECTS": 100}):
        spread = plan(streams)
        back = sorted(spread.window * number / streams + spread.retry(number / streams) / 1000 for number in range(streams))
    most = max(sum(second <= at < second + 1 for at in back) for second in range(int(back[-1]) + 1))
    assert most <= 100, "times drawn by themselves would add what chance adds: some 40"
    assert back[-1] <= streams / 70 + 4.5


async def _many(site: Any, count: int) -> list[Any]:
    clients = [site.connect() for _ in range(count)]
    for client in clients:
        await client.event()
    return clients


async def stays(c: Context, stream: Stream, number: int) -> None:
    ends[stream] = None
    stream.on_end(lambda: ends.__setitem__(stream, time.monotonic()))
    await stream.write("hello")
    await asyncio.Event().wait()


ends: dict[Stream, float | None] = {}


@pytest.fixture(autouse=True)
def _forgets() -> Iterator[None]:
    yield
    ends.clear()


async def test_open_streams_end_in_waves_over_the_window_and_new_ones_are_sent_elsewhere() -> None:
    settings = {"AGENT_SSE": {"RECONNECTS": 100, "DRAIN_SECONDS": 0.6}}
    async with serve(stays, settings=settings) as site:
        clients = await _many(site, 60)
        registry.end_all(Ending.SHUTDOWN)
        began = registry._told_at
        assert registry.closing
        assert registry._drains_until - began == pytest.approx(0.6)
        (refusal,) = await site.connect().rest()
        assert refusal.event == "sse.overloaded"
        for client in clients:
            (last,) = await client.rest()
            assert (last.event, last.data, last.id) == ("sse.overloaded", '{"reason":"shutdown"}', None)
            assert last.retry is not None
            assert 1_500 <= last.retry <= 4_500 + 260
        over = sorted(at - began for at in ends.values() if at is not None)
        assert len(over) == 60
        # However busy the machine is, they may be late, and never early.
        assert [number for number, at in enumerate(over) if at < 0.6 * number / 60 - 0.02] == []


async def test_a_client_without_control_events_is_broken_off_in_its_turn() -> None:
    async with serve(stays, settings={"AGENT_SSE": {"RECONNECTS": 80, "DRAIN_SECONDS": 0.3}}, control_events=False) as site:
        clients = await _many(site, 30)
        registry.end_all(Ending.SHUTDOWN)
        for client in clients:
            assert await client.broken_off() == []


async def test_told_twice_it_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(stays, settings={"AGENT_SSE": {"RECONNECTS": 1, "DRAIN_SECONDS": 60}}) as site:
        clients = await _many(site, 20)
        registry.end_all(Ending.SHUTDOWN)
        registry.end_all(Ending.SHUTDOWN)  # the same moment: a terminal's Ctrl-C, and the process above
        assert registry.drain_left > 10
        registry._told_at -= 1
        registry.end_all(Ending.SHUTDOWN)
        assert registry.drain_left == 0
        for client in clients:
            await client.rest()


async def test_runs_go_on_for_the_window_and_are_interrupted_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []

    class Work:
        busy = False
        ending_topics: frozenset[str] = frozenset()

        def shut_down(self) -> None:
            told.append(time.monotonic())

    monkeypatch.setattr(registry, "companions", [Work()])
    async with serve(stays, settings={"AGENT_SSE": {"RECONNECTS": 80, "DRAIN_SECONDS": 0.3}}) as site:
        clients = await _many(site, 40)
        registry.end_all(Ending.SHUTDOWN)
        for client in clients:
            await client.rest()
        await eventually("runs are told", lambda: told)
        assert len(told) == 1
        assert told[0] >= registry._told_at + 0.3


async def test_who_wants_to_know_is_told_that_the_process_ends() -> None:
    told: list[dict[str, Any]] = []

    async def receiver(**about: Any) -> None:
        told.append(about)

    process_closing.connect(receiver)
    try:
        async with serve(stays, settings={"AGENT_SSE": {"RECONNECTS": 80, "DRAIN_SECONDS": 0.3}}) as site:
            clients = await _many(site, 30)
            registry.end_all(Ending.SHUTDOWN)
            for client in clients:
                await client.rest()
    finally:
        process_closing.disconnect(receiver)
    assert [(about["sender"], about["seconds"]) for about in told] == [(Registry, 0.3)]


async def test_a_maximum_duration_is_each_streams_own() -> None:
    """As many as came together would else come back together, for ever."""
    async with serve(stays, max_duration=100) as site:
        await _many(site, 40)
        transports: list[Any] = [stream._transport for stream in registry.loop_state().streams]  # type: ignore[attr-defined]
        left = sorted(one._expires - one.opened for one in transports)
    assert left[0] >= 80
    assert left[-1] <= 100
    assert left[-1] - left[0] > 8


# What the server does


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    def started(*words: str, **environment: str) -> None:
        monkeypatch.setattr("sys.argv", [*words])
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        server_flags.server.cache_clear()
        server_flags.grace.cache_clear()
        server_flags._said.clear()

    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "that of a worker")
    yield started
    monkeypatch.undo()
    started("pytest")
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("words", "environment", "seconds"),
    [
        ("/usr/bin/uvicorn app", {}, None),
        ("/usr/bin/uvicorn app --timeout-graceful-shutdown 3", {}, 3.0),
        ("/usr/bin/uvicorn --timeout-graceful-shutdown=3 app --timeout-graceful-shutdown=4", {}, 4.0),
        ("/lib/uvicorn/__main__.py app", {"UVICORN_TIMEOUT_GRACEFUL_SHUTDOWN": "7"}, 7.0),
        ("/usr/bin/gunicorn -k asgi app", {}, 30.0),
        ("/usr/bin/gunicorn --graceful-timeout 2 app", {}, 2.0),
        ("/usr/bin/granian --interface asgi app", {}, None),
        ("/usr/bin/granian --workers-kill-timeout 10s app", {}, 10.0),
        ("/usr/bin/gunicorn --timeout 7 app", {}, 7.0),
        ("/usr/bin/gunicorn --timeout 0 --graceful-timeout 40 app", {}, 40.0),
        ("/usr/bin/gunicorn app", {"GUNICORN_CMD_ARGS": "--graceful-timeout 9"}, 9.0),
        ("/usr/bin/gunicorn app --graceful-timeout 8", {"GUNICORN_CMD_ARGS": "--graceful-timeout 9"}, 8.0),
        ("/lib/hypercorn/__main__.py --graceful-timeout 5 app", {}, 5.0 if sys.version_info < (3, 12) else None),
        ("/usr/bin/daphne app", {}, None),
        ("manage.py runserver --graceful-timeout 5", {}, None),
        ("/usr/bin/gunicorn --graceful-timeout soon app", {}, 30.0),
    ],
)
def test_how_long_a_server_waits_is_read_where_it_is_said(
    command: Callable[..., None], words: str, environment: dict[str, str], seconds: float | None
) -> None:
    command(*words.split(), **environment)
    found = server_flags.grace()
    assert (found and found.seconds) == seconds


def test_a_server_that_is_told_when_the_streams_are_over_limits_nothing(
    command: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: None)
    command("/usr/bin/uvicorn", "app", "--timeout-graceful-shutdown", "3")
    assert server_flags.grace() is None


def test_what_a_program_configures_is_found_where_it_runs_us(command: Callable[..., None]) -> None:
    command("serve.py")
    server = uvicorn.Server(uvicorn.Config("app", timeout_graceful_shutdown=6))

    def calls(self: object) -> None:
        assert server_flags.grace() == Grace(6.0, "--timeout-graceful-shutdown", "uvicorn")
        assert server_flags.server() == "uvicorn"

    calls(server)


def test_a_setting_that_cannot_be_used_keeps_no_server_from_its_start(command: Callable[..., None]) -> None:
    command("/usr/bin/gunicorn", "--graceful-timeout", "5", "app")
    with override_settings(AGENT_SSE={"DRAIN_SECONDS": "soon"}):
        server_flags.look_at_start(5.0)


def test_a_flag_that_does_not_fit_is_said_once(command: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    command("/usr/bin/gunicorn", "--graceful-timeout", "5", "app")
    with override_settings(AGENT_SSE={"DRAIN_SECONDS": 10}), caplog.at_level(logging.WARNING):
        server_flags.look_at_flags(5.0)
        server_flags.look_at_flags(5.0)
    (record,) = records_of(caplog)
    assert "gunicorn --graceful-timeout is 5 s" in record.getMessage()
    assert "give the flag 15 or more, or lower that setting" in record.getMessage()


def test_a_worker_of_gunicorn_may_have_said_that_it_lives_half_of_its_time_ago(
    command: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    command("/usr/bin/gunicorn", "--timeout", "20", "app")
    limit = server_flags.grace()
    assert limit is not None
    assert (limit.sure, limit.enough_for(9.0)) == (9.0, 20.0)
    with override_settings(AGENT_SSE={"DRAIN_SECONDS": 25, "RECONNECTS": 100}), caplog.at_level(logging.WARNING):
        assert drain.plan(7_000).window == 9.0 - drain.GRACE_LEFT
        server_flags.look_at_flags(5.0)
    (record,) = records_of(caplog)
    assert "gunicorn --timeout is 20 s: when it is told to end, gunicorn may wait no longer than 9 s" in record.getMessage()
    assert "give the flag 62 or more" in record.getMessage()


@pytest.mark.parametrize(
    "words", ["/usr/bin/gunicorn app", "/usr/bin/uvicorn app", "/usr/bin/hypercorn app", "/usr/bin/daphne app"]
)
def test_the_defaults_of_servers_fit(
    command: Callable[..., None], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setattr(server_flags, "FLAGS", {**server_flags.FLAGS, "hypercorn": ()})
    command(*words.split())
    with override_settings(AGENT_SSE={}):
        server_flags.look_at_flags(5.0)
    assert records_of(caplog) == []
