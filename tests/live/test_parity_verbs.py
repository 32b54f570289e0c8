"""Parity rows K01–K08: what a handler can do with its stream."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from .servers import AT_ONCE, Server, poll

SITE = {"middleware": "default"}


@pytest.mark.parametrize("route", ["waits", "idle"])
def test_k01_a_connection_kept_open_for_ever_leaks_no_handler(uvicorn: Server, key: str, route: str) -> None:
    with uvicorn.open(f"life/{route}/", key=key) as client:
        client.next()
    assert uvicorn.recorded(key, "on_end", within=AT_ONCE)["ending"] == "client_disconnect"
    poll("open streams are gone", lambda: uvicorn.state()["open_streams"] == 0)


def test_k02_abort_callbacks_run_in_order_once_each_on_its_own_and_late_ones_too(uvicorn: Server, key: str) -> None:
    with uvicorn.open("verbs/callbacks/", key=key) as client:
        client.next()
    uvicorn.recorded(key, "third", within=AT_ONCE)
    assert uvicorn.steps(key) == ["first", "second", "failing", "third"]
    uvicorn.open_gate(key)
    uvicorn.recorded(key, "late")
    uvicorn.recorded(key, "over")
    assert Counter(uvicorn.steps(key)) == Counter(["first", "second", "failing", "third", "late", "over"])
    assert "a failing on_abort callback" in uvicorn.log()


def test_k02_abort_callbacks_never_run_after_a_normal_end(uvicorn: Server, key: str) -> None:
    with uvicorn.open("verbs/callbacks/", key=key, finish="1") as client:
        client.rest()
        assert client.complete
    poll("open streams are gone", lambda: uvicorn.state()["open_streams"] == 0)
    assert uvicorn.steps(key) == []


@pytest.mark.parametrize(("query", "aborted"), [({}, True), ({"finish": "1"}, False)], ids=["left", "finished"])
def test_k03_the_flags_are_true_when_they_should_be(uvicorn: Server, key: str, query: dict[str, str], aborted: bool) -> None:
    with uvicorn.open("verbs/flags/", key=key, **query) as client:
        client.next()
    over = uvicorn.recorded(key, "over")
    assert (over["closed"], over["aborted"]) == (True, aborted)
    start = uvicorn.recorded(key, "open")
    assert (start["closed"], start["aborted"]) == (False, False)


def test_k04_iterators_and_files_can_be_piped_and_a_pause_made(uvicorn: Server) -> None:
    asked = time.monotonic()
    with uvicorn.open("verbs/pipes/") as client:
        events = client.own_events()
    assert [(event.name, event.data) for event in events] == [
        ("token", "a"),
        ("token", "b"),
        ("sync", "c"),
        ("sync", "d"),
        ("file", "line one"),
        ("file", "line two"),
        ("line", "a line"),
    ]
    assert events[6].at - asked > 0.25


def test_k05_a_timer_writes_while_the_handler_waits(uvicorn: Server) -> None:
    with uvicorn.open("verbs/timer/") as client:
        assert [event.data for event in client.own_events()] == ["tick 0", "tick 1", "tick 2"]
        assert client.complete


def test_k05_frames_of_several_tasks_never_interleave(uvicorn: Server) -> None:
    with uvicorn.open("verbs/tasks/") as client:
        events = client.own_events()
    for name in "abcde":
        own = [event.data for event in events if event.name == name]
        assert own == ["\n".join([f"{name}{number}"] * 4) for number in range(50)]


def test_k05_an_unawaited_write_is_sent_and_raises_over_the_bound(uvicorn: Server, key: str) -> None:
    with uvicorn.open("verbs/overflow/", key=key) as client:
        events = client.own_events()
    refused = uvicorn.recorded(key, "refused")["number"]
    assert 4 * 256 <= refused < 10_000
    assert [event.data for event in events] == [str(number) for number in range(refused)]


def test_k06_an_awaited_write_waits_for_the_client(uvicorn: Server, key: str) -> None:
    megabytes = 24  # far more than the kernel's socket buffers take
    with uvicorn.open("life/flood/", key=key, receive_buffer=4096, megabytes=megabytes) as client:
        client.next()
        assert "finished" not in uvicorn.settled_steps(key)
        rest = client.own_events()
        assert len(rest) == megabytes * 1024 - 1
        assert [int(event.data[:8]) for event in rest] == list(range(1, megabytes * 1024))
    uvicorn.recorded(key, "finished")


def test_k07_head_answers_the_headers_and_runs_no_handler(server: Server, key: str) -> None:
    with server.open("life/idle/", method="HEAD", key=key) as client:
        status, headers = client.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    with server.open("answers/guarded/", method="HEAD", key=key) as client:
        assert client.head()[0] == 401
    assert server.steps(key) == ["guard"]


def test_k08_an_error_hook_of_a_route_may_write_a_last_event(uvicorn: Server, key: str) -> None:
    with uvicorn.open("verbs/hooked-route/", key=key) as client:
        events = client.own_events()
    assert [(event.name, event.data) for event in events] == [("message", "hello"), ("apology", "sorry")]
    assert "for the error hook" in uvicorn.recorded(key, "route hook")["error"]
    assert uvicorn.recorded(key, "on_end")["ending"] == "handler_error"
    assert "router hook" not in uvicorn.steps(key)


def test_k08_an_error_hook_of_a_router_serves_its_routes(uvicorn: Server, key: str) -> None:
    with uvicorn.open("verbs/hooked-router/", key=key) as client:
        assert client.own_events()[0].data == "hello"
    uvicorn.recorded(key, "router hook")
    assert uvicorn.recorded(key, "on_end")["ending"] == "handler_error"
