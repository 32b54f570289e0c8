"""SIGTERM and SIGINT with open streams: the process ends soon, cleanly, with its default flags."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from .client import Client, EndOfStreamError
from .servers import ASGI, BLOCKING, Server

STREAMS = 50
WITHIN = 5.0

Start = Callable[..., Server]


def open_streams(server: Server, key: str, route: str, count: int = STREAMS) -> list[Client]:
    """Open so many streams and read the first event of each."""
    clients = [server.open(f"life/{route}/", key=f"{key}-{number}") for number in range(count)]
    for client in clients:
        client.next()
    return clients


def end(server: Server, number: signal.Signals) -> float:
    """Signal the server; return how long it took to end."""
    asked = time.monotonic()
    server.signal(number)
    server.wait(WITHIN)
    return time.monotonic() - asked


@pytest.mark.parametrize("kind", ASGI)
def test_sigterm_with_fifty_open_streams_ends_the_process_with_finally_run(start: Start, key: str, kind: str) -> None:
    server = start(kind, middleware="default")
    clients = open_streams(server, key, "idle")
    took = end(server, signal.SIGTERM)
    assert took < WITHIN
    complete = [read_to_end(client) for client in clients]
    if kind != "daphne":  # it stops its loop under the handlers, whatever they are doing
        assert all(complete)
        for number in range(STREAMS):
            assert server.steps(f"{key}-{number}") == ["started", "on_abort", "cancelled", "finally", "on_end"]
            assert server.recorded(f"{key}-{number}", "on_end")["ending"] == "shutdown"


def read_to_end(client: Client) -> bool:
    """Read what is left, however the connection ended, and close; return whether the response was complete."""
    with client:
        try:
            client.rest()
        except ConnectionResetError:
            return False
        return client.complete


@pytest.mark.parametrize("kind", ASGI)
def test_the_last_event_written_before_sigterm_is_delivered(start: Start, key: str, kind: str) -> None:
    server = start(kind, middleware="default")
    clients = open_streams(server, key, "ticks", count=10)
    for client in clients:
        client.take(3)
    end(server, signal.SIGTERM)
    for number, client in enumerate(clients):
        read_to_end(client)
        wrote = [entry["number"] for entry in server.journal(f"{key}-{number}") if entry["what"] == "wrote"]
        assert int(client.events[-1].data) >= wrote[-1]
        assert [int(event.data) for event in client.events] == list(range(1, len(client.events) + 1))


@pytest.mark.parametrize("kind", BLOCKING)
def test_a_cleanup_of_a_second_is_waited_for(start: Start, key: str, kind: str) -> None:
    server = start(kind, middleware="default")
    (client,) = open_streams(server, key, "tidies", count=1)
    assert 1 < end(server, signal.SIGTERM) < WITHIN
    assert read_to_end(client)
    assert server.steps(f"{key}-0") == ["started", "on_abort", "tidied", "cancelled", "finally", "on_end"]


def test_a_handler_whose_client_has_left_long_ago_is_cleaned_up_too(start: Start, key: str) -> None:
    """On uvicorn. granian and hypercorn hear of the signal from the event loop, so nobody can hold them up."""
    server = start("uvicorn", middleware="default")
    (client,) = open_streams(server, key, "outlives", count=1)
    client.close()
    server.recorded(f"{key}-0", "goes on")
    assert end(server, signal.SIGTERM) < WITHIN
    assert server.steps(f"{key}-0")[-3:] == ["cancelled", "finally", "on_end"]


@pytest.mark.parametrize("kind", BLOCKING)
def test_a_client_that_does_not_read_holds_up_no_handler(start: Start, key: str, kind: str) -> None:
    """The server itself waits until its connection has taken everything or is gone."""
    server = start(kind, middleware="default", agent_sse={"SEND_TIMEOUT": 60})
    with server.open("life/flood/", key=key, megabytes=64, receive_buffer=4096) as client:
        client.next()
        assert server.settled_steps(key)[-1] == "progress"
        server.signal(signal.SIGTERM)
        assert server.recorded(key, "on_end", within=WITHIN)["ending"] == "shutdown"
        assert server.steps(key)[-4:] == ["on_abort", "cancelled", "finally", "on_end"]
    server.wait(WITHIN)


def test_sigint_ends_uvicorn_with_finally_run(start: Start, key: str) -> None:
    server = start("uvicorn", middleware="default")
    clients = open_streams(server, key, "idle", count=10)
    assert end(server, signal.SIGINT) < WITHIN
    assert all(read_to_end(client) for client in clients)
    for number in range(10):
        assert server.recorded(f"{key}-{number}", "on_end")["ending"] == "shutdown"


def test_a_second_generation_of_streams_is_ended_too(start: Start, key: str) -> None:
    """The signal handlers are chained at each stream's start: those of a server's whole life must end."""
    server = start("uvicorn", middleware="default")
    for client in open_streams(server, f"{key}-first", "idle", count=5):
        client.close()
    second = open_streams(server, f"{key}-second", "waits", count=5)
    assert end(server, signal.SIGTERM) < WITHIN
    assert all(read_to_end(client) for client in second)


def test_a_client_is_told_nothing_final_at_a_shutdown(start: Start, key: str) -> None:
    """It shall reconnect, to whatever serves next."""
    server = start("uvicorn", middleware="default")
    (client,) = open_streams(server, key, "idle", count=1)
    end(server, signal.SIGTERM)
    with client, pytest.raises(EndOfStreamError):
        client.next()
