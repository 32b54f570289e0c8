"""A deploy, seen from the clients: readiness, waves, and a rolling restart in which nothing is lost and nobody rushes."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests import warm
from tests.timing import LONG, bound

from . import servers
from .client import Client
from .crowd import Crowd, crowd, in_any_second
from .servers import EXIT_WITHIN, ROOT, Server, poll

Start = Callable[..., Server]
PACE = 40
WINDOW = 1.0
STREAMS = 40
KINDS = ("uvicorn", "daphne", "granian", "hypercorn", "gunicorn", "gunicorn with uvicorn")
ALONE = ("uvicorn", "daphne")
"""Those that are told only when the streams are over."""


@pytest.mark.parametrize("kind", KINDS)
def test_streams_end_in_waves_and_their_handlers_clean_up(start: Start, key: str, kind: str) -> None:
    server = start(kind, agent_sse={"RECONNECTS": PACE, "DRAIN_SECONDS": WINDOW, "RETRY": 1_000})
    clients = [server.open("life/idle/", key=f"{key}-{number}") for number in range(STREAMS)]
    for client in clients:
        client.next()
    told = time.monotonic()
    server.signal(signal.SIGTERM)
    for client in clients:
        with client:
            assert [event.name for event in client.rest()] == ["sse.overloaded"]
            assert client.complete
            assert client.parser.retry is not None
            assert 500 <= client.parser.retry <= 1_500
    server.wait(EXIT_WITHIN)
    over = sorted(server.recorded(f"{key}-{number}", "on_end")["at"] - told for number in range(STREAMS))
    # However busy the machine is, they may be late, and never early.
    assert [number for number, at in enumerate(over) if at < WINDOW * number / STREAMS - 0.05] == []
    for number in range(STREAMS):
        assert server.steps(f"{key}-{number}") == ["started", "on_abort", "cancelled", "finally", "on_end"]


@pytest.mark.parametrize("kind", ALONE)
def test_while_streams_end_ready_says_no_others_are_answered_and_a_second_signal_ends_them_at_once(
    start: Start, key: str, kind: str
) -> None:
    server = start(kind, agent_sse={"RECONNECTS": 1, "DRAIN_SECONDS": 600})
    clients = [server.open("life/idle/", key=f"{key}-{number}") for number in range(100)]
    for client in clients:
        client.next()
    server.signal(signal.SIGTERM)
    poll("it is told", lambda: server.get("_health/ready/").status == 503)
    told = time.monotonic()
    assert server.get("_health/ready/").json()["problems"] == ["closing"]
    assert server.get("_health/live/").status == 200
    with server.open("life/idle/", key="late") as late:
        assert (late.next().name, late.status) == ("sse.overloaded", 200)
        assert late.parser.retry is not None
        assert late.parser.retry <= 1_500
    refused = server.get("life/idle/", key="late")
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    # Later than a terminal and a process manager tell the same, which counts as one.
    poll("half a second is over", lambda: time.monotonic() > told + 0.6)
    server.signal(signal.SIGTERM)
    server.wait(EXIT_WITHIN)
    assert all(_whole(client) for client in clients)


def _whole(client: Client) -> bool:
    with client:
        client.rest()
        return client.complete


def test_a_flag_that_is_too_short_is_said_when_the_first_stream_begins(
    start: Start, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(servers.COMMANDS, "gunicorn", f"{servers.COMMANDS['gunicorn']} --graceful-timeout 3")
    server = start("gunicorn")
    with server.open("life/idle/", key=key) as client:
        client.next()
        poll("it is said", lambda: "gunicorn --graceful-timeout is 3 s" in server.log())


# A rolling restart

WORKERS = 4 if LONG else 2
PACE_OF_ROLL = 200 if LONG else 20
CLIENTS = 1_000 if LONG else 40
ROLLING = {
    "uvicorn": f"{servers.COMMANDS['uvicorn']} --workers {WORKERS} --timeout-worker-healthcheck 90",
    "gunicorn": f"{servers.COMMANDS['gunicorn']} --workers {WORKERS}",
    "granian": f"{servers.COMMANDS['granian']} --workers {WORKERS}",
}
AT_A_TIME = {"uvicorn": 1, "gunicorn": WORKERS, "granian": 1}
"""Workers that a server ends together: gunicorn starts the new ones first."""
PUBLISHER = """
import os, sys, time, django
django.setup()
from django_agent_sse import publish
number = 0
while not os.path.exists(sys.argv[1]):
    publish("news", str(number))
    number += 1
    time.sleep(0.05)
publish("news", f"last {number}")
"""


@contextmanager
def publishing(server: Server) -> Iterator[Callable[[], None]]:
    """A process that publishes until it is told to say a last word."""
    stop = server.directory / "stop"
    command = [sys.executable, "-m", "tests.program", PUBLISHER, str(stop)]
    with warm.Popen(command, cwd=ROOT, env=server.environment) as publisher:
        try:
            yield stop.touch
            assert publisher.wait(60) == 0
        finally:
            publisher.kill()


@pytest.mark.parametrize("kind", ROLLING if LONG else ["uvicorn"])
def test_a_rolling_restart_loses_nothing_and_no_more_come_back_a_second_than_may(
    start: Start, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(servers.COMMANDS, kind, ROLLING[kind])
    log = {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}
    limits = {"LIMITS": {"ADDRESS": None, "ADDRESS_CONNECTS": None}}
    server = start(kind, agent_sse={"EVENT_LOG": log, "RECONNECTS": PACE_OF_ROLL, "DRAIN_SECONDS": 2, "RETRY": 400, **limits})
    with publishing(server) as last_word:
        asyncio.run(roll(server, kind, last_word))


async def roll(server: Server, kind: str, last_word: Callable[[], None]) -> None:
    async with crowd() as clients:
        clients.join(server.port, "topics/follow/news/", CLIENTS)
        await until("all have an event", lambda: all(client.events for client in clients))
        before = set(workers(server))
        began = time.monotonic()
        server.signal(signal.SIGHUP)
        await until("all workers are others", lambda: not before & set(workers(server)), within=180.0)
        last_word()
        await until("all have the last event", lambda: all(client.events[-1].data.startswith("last") for client in clients))
        report(kind, clients, began)
        for client in clients:
            got = [event.data for event in client.events if not event.name.startswith("sse.")]
            count = int(got[-1].removeprefix("last "))
            assert got == [*map(str, range(count)), f"last {count}"], "each event once, in order"
            assert not any(event.name == "sse.gap" for event in client.events)
        back = [at for client in clients for at in client.connects[1:]]
        assert len(back) >= CLIENTS * 0.9, "all were sent away"
        if LONG:  # a machine that does other work makes clients late, and so lets them come together
            bounded = 2 * PACE_OF_ROLL * AT_A_TIME[kind]  # of one worker, or of two when one begins as another ends
            assert in_any_second(back) <= bounded + 4 * bounded**0.5


def report(kind: str, clients: Crowd, began: float) -> None:
    """The table of the long form."""
    seconds = clients.reconnects(began)
    print(f"\n{kind}: {WORKERS} workers, {len(clients)} clients, RECONNECTS={PACE_OF_ROLL}")
    for second in range(max(seconds, default=0) + 1):
        print(f"{second:4} s {seconds[second]:5} {'#' * (seconds[second] // max(1, PACE_OF_ROLL // 20))}")


def workers(server: Server) -> list[int]:
    """The children of the process that was started, and theirs: whatever answers."""
    found, look = [], [server.pid]
    while look:
        try:
            with open(f"/proc/{look[0]}/task/{look[0]}/children", encoding="ascii") as file:
                children = [int(pid) for pid in file.read().split()]
        except OSError:
            children = []
        found += children
        look = [*look[1:], *children]
    return [pid for pid in found if listens(pid)]


def listens(pid: int) -> bool:
    """Whether a process is one of those that serve, not a helper of Python's."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read()
    except OSError:
        return False
    return bool(words) and b"resource_tracker" not in words


async def until(what: str, probe: Callable[[], Any], within: float = bound(30.0, 90.0)) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + within
    while not probe():
        assert time.monotonic() < deadline, f"{what}: not within {within} s"
        await asyncio.sleep(0.05)
