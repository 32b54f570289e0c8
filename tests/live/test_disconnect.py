"""A client that leaves: seen on every server, idle or busy, and nothing stays behind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.timing import LONG

from .client import Client
from .servers import AT_ONCE, BLOCKING, Server, poll

SITE = {"middleware": "default", "quiet_seconds": 0.5}
STREAMS = 200 if LONG else 60
ALWAYS = ("started", "on_abort", "finally", "on_end")


def leave(client: Client, how: str) -> float:
    """Leave by one of ``Client``'s ways; return the time."""
    left = time.monotonic()
    getattr(client, how)()
    return left


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
@pytest.mark.parametrize("route", ["idle", "busy"])
def test_a_disconnect_is_seen_and_the_handler_cleaned_up(server: Server, key: str, route: str, how: str) -> None:
    client = server.open(f"life/{route}/", key=key)
    client.next()
    left = leave(client, how)
    end = server.recorded(key, "on_end")
    assert end["ending"] == "client_disconnect"
    steps = server.steps(key)
    if route == "busy":  # a handler that was about to go on anyway may learn of it first: both happen at the same time
        assert sorted(steps[1:3]) == ["cancelled", "on_abort"]
        steps[1:3] = ["on_abort", "cancelled"]
    assert steps == ["started", "on_abort", "cancelled", "finally", "on_end"]
    entries = {entry["what"]: entry["at"] - left for entry in server.journal(key)}
    assert 0 < entries["on_abort"] < AT_ONCE
    assert entries["finally"] < AT_ONCE


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_disconnect_before_the_response_began_ends_the_handler(server: Server, key: str, how: str) -> None:
    client = server.open("life/silent/", key=key)
    server.recorded(key, "started")
    left = leave(client, how)
    end = server.recorded(key, "on_end")
    assert end["ending"] == "client_disconnect"
    assert end["at"] - left < AT_ONCE
    assert server.steps(key) == ["started", "on_abort", "cancelled", "finally", "on_end"]


@pytest.mark.parametrize("middleware", ["default", "wrapping"])
@pytest.mark.parametrize("kind", BLOCKING)
def test_a_client_that_leaves_while_a_send_waits_for_it_is_cleaned_up_after(
    start: Callable[..., Server], key: str, kind: str, middleware: str
) -> None:
    """The cancel lands in Django then, and not in the response's content."""
    server = start(kind, middleware=middleware)
    client = server.open("life/flood/", key=key, megabytes=64, receive_buffer=4096)
    client.next()
    assert server.settled_steps(key)[-1] == "progress"
    left = leave(client, "reset")
    end = server.recorded(key, "on_end")
    assert end["ending"] == "client_disconnect"
    assert end["at"] - left < AT_ONCE
    assert server.steps(key)[-4:] == ["on_abort", "cancelled", "finally", "on_end"]
    assert "Traceback" not in server.log()


def test_wait_closed_returns_when_the_client_has_left(server: Server, key: str) -> None:
    with server.open("life/waits-and-continues/", key=key) as client:
        client.next()
        left = time.monotonic()
    over = server.recorded(key, "wait_closed")
    assert over["at"] - left < AT_ONCE
    assert (over["closed"], over["aborted"], over["written"]) == (True, True, False)
    assert server.recorded(key, "on_end")["ending"] == "client_disconnect"
    assert "cancelled" not in server.steps(key)


def open_and_drop(server: Server, key: str, count: int, session_key: str) -> None:
    """Open so many streams, half of them ones that use session and ORM; leave them by FIN and RST in turn."""
    headers = {"Cookie": f"sessionid={session_key}"}
    clients = []
    for number in range(count):
        route = ("life/idle/", "data/load/", "life/busy/", "life/waits/")[number % 4]
        client = server.open(route, key=key, headers=headers)
        client.next()
        clients.append(client)
    for number, client in enumerate(clients):
        leave(client, ("close", "reset")[number % 2])


def held(server: Server) -> dict[str, Any]:
    """What could be left behind: tasks and descriptors by kind, threads, streams."""
    state = server.state()
    return {
        "tasks": Counter(state["tasks"]),
        "descriptors": Counter(state["descriptors"]),
        "threads": {"threads": state["os_threads"]},
        "streams": {"streams": state["open_streams"]},
    }


def test_many_dropped_streams_leave_nothing_behind(server: Server, key: str, session_key: str) -> None:
    open_and_drop(server, f"{key}-warm-up", 16, session_key)
    server.recorded(f"{key}-warm-up", "on_end", count=16)
    poll("no stream is open", lambda: server.state()["open_streams"] == 0)
    database = str(server.directory / "site.sqlite3")
    poll("the shared threads gave their connections back", lambda: database not in server.state()["descriptors"])
    before = held(server)
    logged = len(server.log())

    open_and_drop(server, key, STREAMS, session_key)

    server.recorded(key, "on_end", count=STREAMS)

    def left_behind() -> dict[str, Any]:
        now = held(server)
        return {kind: dict(more) for kind in now if (more := Counter(now[kind]) - Counter(before[kind]))}

    def nothing() -> bool:
        nonlocal left
        left = left_behind()
        return not left

    left: dict[str, Any] = {}
    try:
        poll("nothing is left behind", nothing)
    except AssertionError:
        pytest.fail(f"left behind by {STREAMS} streams: {left}")
    assert Counter(entry["ending"] for entry in server.journal(key) if entry["what"] == "on_end") == {
        "client_disconnect": STREAMS
    }
    steps = Counter(server.steps(key))
    assert {step: steps[step] for step in ALWAYS} == dict.fromkeys(ALWAYS, STREAMS)
    assert server.log()[logged:] == ""
