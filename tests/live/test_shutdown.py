"""SIGTERM and SIGINT with open streams: the process ends soon, cleanly, with its default flags."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.timing import LONG

from .client import Client
from .servers import ASGI, BLOCKING, EXIT_WITHIN, Server

STREAMS = 50 if LONG else 20
TICKING = 10

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
    server.wait(EXIT_WITHIN)
    return time.monotonic() - asked


def read_to_end(client: Client) -> bool:
    """Read what is left, however the connection ended, and close; return whether the response was complete."""
    with client:
        try:
            client.rest()
        except ConnectionResetError:
            return False
        return client.complete


@dataclass
class Ended:
    """A server that has had a second generation of streams of each kind when SIGTERM ended it.

    Attributes:
        server: What it recorded, under the name of the route and a number.
        clients: Of each route, the clients that were connected then; they have read to the end.
        complete: Of each route, whether their responses were whole.
        took: The seconds from the signal to the end of the process.
    """

    server: Server
    clients: dict[str, list[Client]] = field(default_factory=dict)
    complete: dict[str, list[bool]] = field(default_factory=dict)
    took: float = 0.0


@pytest.fixture(scope="module", params=ASGI)
def ended(start: Start, request: pytest.FixtureRequest) -> Ended:
    """Each of the servers, after SIGTERM. Their signal handlers are chained at a stream's start: the first ones are over then."""
    ended = Ended(start(request.param, middleware="default"))
    for client in open_streams(ended.server, "first", "idle", count=5):
        client.close()
    for route, count in {"idle": STREAMS, "waits": 5, "tidies": 1, "ticks": TICKING}.items():
        ended.clients[route] = open_streams(ended.server, route, route, count)
    for client in ended.clients["ticks"]:
        client.take(3)
    ended.took = end(ended.server, signal.SIGTERM)
    ended.complete = {route: [read_to_end(client) for client in clients] for route, clients in ended.clients.items()}
    return ended


without_daphne = pytest.mark.parametrize("ended", BLOCKING, indirect=True)
"""daphne stops its loop under the handlers, whatever they are doing."""


def test_sigterm_with_open_streams_ends_the_process_soon(ended: Ended) -> None:
    assert ended.took < EXIT_WITHIN


@without_daphne
def test_finally_has_run_in_every_stream(ended: Ended) -> None:
    assert all(ended.complete["idle"])
    for number in range(STREAMS):
        assert ended.server.steps(f"idle-{number}") == ["started", "on_abort", "cancelled", "finally", "on_end"]
        assert ended.server.recorded(f"idle-{number}", "on_end")["ending"] == "shutdown"


def test_the_last_event_written_before_sigterm_is_delivered(ended: Ended) -> None:
    for number, client in enumerate(ended.clients["ticks"]):
        wrote = [entry["number"] for entry in ended.server.journal(f"ticks-{number}") if entry["what"] == "wrote"]
        events = [event for event in client.events if not event.name.startswith("sse.")]
        assert int(events[-1].data) >= wrote[-1]
        assert [int(event.data) for event in events] == list(range(1, len(events) + 1))


@without_daphne
def test_a_cleanup_of_a_second_is_waited_for(ended: Ended) -> None:
    assert ended.took > 1
    assert all(ended.complete["tidies"])
    assert ended.server.steps("tidies-0") == ["started", "on_abort", "tidied", "cancelled", "finally", "on_end"]


@pytest.mark.parametrize("ended", ["uvicorn"], indirect=True)
def test_streams_that_wait_for_their_own_end_are_ended_too(ended: Ended) -> None:
    assert all(ended.complete["waits"])


@without_daphne
def test_a_client_is_told_when_to_come_back_at_a_shutdown_and_nothing_final(ended: Ended) -> None:
    """It shall reconnect, to whatever serves next, and not at one moment with all others."""
    clients = ended.clients["idle"]
    assert Counter(event.name for client in clients for event in client.events) == {"message": STREAMS, "sse.overloaded": STREAMS}
    told = [client.events[-1] for client in clients]
    assert {(event.name, event.data) for event in told} == {("sse.overloaded", '{"reason":"shutdown"}')}
    times = [client.parser.retry for client in clients if client.parser.retry is not None]
    assert len(times) == STREAMS
    assert min(times) >= 1_500
    assert max(times) <= 4_500
    assert max(times) - min(times) > 1_000


@pytest.mark.parametrize("kind", BLOCKING)
def test_a_stream_that_is_let_in_after_the_signal_is_no_reason_to_stay(start: Start, key: str, kind: str) -> None:
    """It is the first one of its process, and its guard was being asked when the signal came."""
    server = start(kind, middleware="default")
    with server.open("life/guarded/", key=key, seconds=1.0) as client:
        server.recorded(key, "asked")
        assert end(server, signal.SIGTERM) < EXIT_WITHIN
        client.rest()
        assert client.complete
        assert client.events[-1].name == "sse.overloaded"


def test_a_handler_whose_client_has_left_long_ago_is_cleaned_up_too(start: Start, key: str) -> None:
    """On uvicorn. granian and hypercorn hear of the signal from the event loop, so nobody can hold them up."""
    server = start("uvicorn", middleware="default")
    (client,) = open_streams(server, key, "outlives", count=1)
    client.close()
    server.recorded(f"{key}-0", "goes on")
    assert end(server, signal.SIGTERM) < EXIT_WITHIN
    assert server.steps(f"{key}-0")[-3:] == ["cancelled", "finally", "on_end"]


@pytest.mark.parametrize("kind", BLOCKING)
def test_a_client_that_does_not_read_holds_up_no_handler(start: Start, key: str, kind: str) -> None:
    """The server itself waits until its connection has taken everything or is gone."""
    server = start(kind, middleware="default", agent_sse={"SEND_TIMEOUT": 600})
    with server.open("life/flood/", key=key, megabytes=64, receive_buffer=4096) as client:
        client.next()
        assert server.settled_steps(key)[-1] == "progress"
        server.signal(signal.SIGTERM)
        assert server.recorded(key, "on_end", within=EXIT_WITHIN)["ending"] == "shutdown"
        assert server.steps(key)[-4:] == ["on_abort", "cancelled", "finally", "on_end"]
    server.wait(EXIT_WITHIN)


def test_sigint_ends_uvicorn_with_finally_run(start: Start, key: str) -> None:
    server = start("uvicorn", middleware="default")
    clients = open_streams(server, key, "idle", count=10)
    assert end(server, signal.SIGINT) < EXIT_WITHIN
    assert all(read_to_end(client) for client in clients)
    for number in range(10):
        assert server.recorded(f"{key}-{number}", "on_end")["ending"] == "shutdown"
