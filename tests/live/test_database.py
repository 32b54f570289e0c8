"""The ORM inside a stream, on SQLite, under sync-only middleware."""

from __future__ import annotations

import time

import pytest

from tests.timing import LONG, bound

from .servers import Server

SITE = {"middleware": "whitenoise"}
USERS = [f"user-{number:03}" for number in range(500)]
CONNECTS = 200 if LONG else 100
WITHIN = bound(2.0, 20.0)


def test_the_orm_works_before_and_after_the_response_began_under_sync_only_middleware(server: Server, key: str) -> None:
    with server.open("data/around/", key=key) as client:
        assert client.head()[1]["x-stamp"] == "stamped"
        assert client.next().data == "user-000"
        server.open_gate(key)
        assert [(event.name, event.data) for event in client.own_events()] == [("after", "500"), ("sync", "user-499")]


@pytest.mark.parametrize("route", ["aiterator", "iterator"])
def test_rows_are_streamed_to_the_end_while_they_are_read(server: Server, route: str) -> None:
    with server.open(f"data/{route}/") as client:
        assert [event.data for event in client.own_events()] == USERS
        assert client.complete


def test_six_streams_read_rows_at_once(uvicorn: Server) -> None:
    clients = [uvicorn.open(f"data/{route}/") for route in ("aiterator", "iterator") * 3]
    for client in clients:
        with client:
            assert [event.data for event in client.own_events()] == USERS


def connect(server: Server, key: str) -> float:
    """Connect ``CONNECTS`` clients and drop them; return how long it took until each had its first event."""
    began = time.monotonic()
    clients = server.connect(CONNECTS, "life/idle/", key=key)
    took = time.monotonic() - began
    for client in clients:
        client.close()
    server.recorded(key, "finally", count=CONNECTS)
    return took


def test_many_connects_at_once_behind_whitenoise_do_not_wait_for_each_other(server: Server, key: str) -> None:
    """The best of three: what else runs on the machine can only add to it."""
    took: list[float] = []
    while len(took) < 3 and min(took, default=WITHIN) >= WITHIN:
        took.append(connect(server, f"{key}-{len(took)}"))
    assert min(took) < WITHIN, took
