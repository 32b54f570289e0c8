"""gunicorn, with its own ASGI worker and with uvicorn's: what its page promises of every server."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from .servers import AT_ONCE, EXIT_WITHIN, Server

KINDS = ("gunicorn", "gunicorn with uvicorn")
STREAMS = 20


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, start: Callable[..., Server]) -> Server:
    return start(request.param, middleware="default")


def test_the_first_event_arrives_before_the_handler_ends(server: Server, key: str) -> None:
    with server.open("parity/order/", key=key) as client:
        assert client.next().data == "first"
        server.recorded(key, "write")  # noted when the write has returned: its event may be here before
        assert server.steps(key) == ["start", "work", "write"]
        server.open_gate(key)
        assert client.next().data == "last"
        client.rest()
        assert client.complete


def test_a_disconnect_is_seen_at_once(server: Server, key: str) -> None:
    client = server.open("life/idle/", key=key)
    client.next()
    left = time.monotonic()
    client.close()
    assert server.recorded(key, "on_end")["ending"] == "client_disconnect"
    at = {entry["what"]: entry["at"] - left for entry in server.journal(key)}
    assert at["on_abort"] < AT_ONCE


def test_sigterm_ends_all_streams_and_runs_their_finally_blocks(server: Server, key: str) -> None:
    """The last of this module: it ends the server."""
    clients = [server.open("life/idle/", key=f"{key}-{number}") for number in range(STREAMS)]
    for client in clients:
        client.next()
    asked = time.monotonic()
    server.signal(signal.SIGTERM)
    server.wait(EXIT_WITHIN)
    assert time.monotonic() - asked < EXIT_WITHIN
    for number, client in enumerate(clients):
        with client:
            client.rest()
            assert client.complete
        assert server.steps(f"{key}-{number}") == ["started", "on_abort", "cancelled", "finally", "on_end"]
        assert server.recorded(f"{key}-{number}", "on_end")["ending"] == "shutdown"
