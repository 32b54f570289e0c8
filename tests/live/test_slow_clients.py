"""Clients that do not read, streams that are silent, and streams that are over after a time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.timing import bound

from .servers import ASGI, BLOCKING, Server

SEND_TIMEOUT = 5.0  # who stalls is seen to, though the test stands still
PATIENT = 8.0
"""A send time-out that is longer than it takes to find a connection in the process (``vanished.GATHERED``)."""
MEGABYTES = 16
SITE = {"middleware": "default", "agent_sse": {"SEND_TIMEOUT": SEND_TIMEOUT}}


def assert_slow_client(server: Server, key: str) -> None:
    """Stop reading a flood, and see the stream end for it."""
    with server.open("life/flood/", key=key, receive_buffer=4096, megabytes=64) as client:
        client.next()
        end = server.recorded(key, "on_end")
        assert end["at"] - server.recorded(key, "started")["at"] > SEND_TIMEOUT * 0.9
    assert end["ending"] == "slow_client"
    steps = [step for step in server.steps(key) if step != "progress"]
    assert steps == ["started", "on_abort", "cancelled", "finally", "on_end"]
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("server", BLOCKING, indirect=True)
def test_a_client_that_stops_reading_is_a_slow_client(server: Server, key: str) -> None:
    assert_slow_client(server, key)


def test_a_slow_client_is_seen_through_middleware_around_the_content(start: Callable[..., Server], key: str) -> None:
    assert_slow_client(start("uvicorn", **{**SITE, "middleware": "wrapping"}), key)


def test_a_client_that_reads_slowly_but_reads_is_not_cut(start: Callable[..., Server], key: str) -> None:
    timeout = 10.0  # a machine that stands still keeps the client from reading for some seconds more
    uvicorn = start("uvicorn", middleware="default", agent_sse={"SEND_TIMEOUT": timeout})
    with uvicorn.open("life/flood/", key=key, receive_buffer=65536, megabytes=MEGABYTES) as client:
        began = time.monotonic()
        for _ in range(4):
            client.take(4096)
            pause_until(began := began + timeout / 3)
        assert [event.name for event in client.rest()] == ["sse.end"]
    assert uvicorn.recorded(key, "on_end")["ending"] == "completed"


@pytest.mark.parametrize("kind", BLOCKING)
def test_a_client_that_reads_less_than_the_kernel_wakes_for_is_not_cut(start: Callable[..., Server], key: str, kind: str) -> None:
    """The server can send nothing for several send time-outs: its kernel's buffer has megabytes, and gets free by kilobytes."""
    server = start(kind, middleware="default", agent_sse={"SEND_TIMEOUT": PATIENT})
    stops = f"{key}-stops"
    with server.open("life/flood/", key=key, receive_buffer=4096, megabytes=MEGABYTES) as client:
        client.most = 1024
        client.next()
        with server.open("life/flood/", key=stops, receive_buffer=4096, megabytes=MEGABYTES) as other:
            other.most = 1024
            other.next()
            server.settled_steps(key)  # the kernel has what it takes
            began = now = time.monotonic()
            for second in range(int(2 * PATIENT)):
                for _ in range(20):
                    client.take(1)
                    pause_until(now := now + 0.05)
                if second == 1:
                    sent = server.steps(key).count("progress")
            assert server.steps(key).count("progress") == sent, "the server could send nothing all the time"
            end = server.recorded(stops, "on_end")
        lasted = end["at"] - server.recorded(stops, "started")["at"]
        assert (end["ending"], lasted > PATIENT * 0.9) == ("slow_client", True)
        assert end["at"] - began < bound(2, 4) * PATIENT
        client.most = 1 << 16
        client.rest()
    assert [int(event.data[:8]) for event in client.events[:-1]] == list(range(MEGABYTES * 1024)), "it has everything"
    assert client.events[-1].name == "sse.end"
    assert server.recorded(key, "on_end")["ending"] == "completed"


def pause_until(when: float) -> None:
    """What makes the client slow."""
    time.sleep(max(0.0, when - time.monotonic()))


def test_a_silent_stream_sends_heartbeats(server: Server, key: str) -> None:
    asked = time.monotonic()
    with server.open("life/beats/", key=key) as client:
        client.head()
        *_, last = client.wait_for_comments(4)
        assert last - asked > 1
        assert client.parser.raw == b": heartbeat 1\n" + b":\n" * (len(client.parser.comments) - 1)
        assert client.events == []


def test_a_stream_that_is_over_after_a_time_lets_the_client_come_back(server: Server, key: str) -> None:
    began = time.monotonic()
    with server.open("life/limited/", key=key) as client:
        client.next()
        assert client.rest() == []
        assert time.monotonic() - began > 0.2
        assert client.complete
    assert server.recorded(key, "on_end")["ending"] == "max_duration"
    assert server.steps(key) == ["started", "on_abort", "cancelled", "finally", "on_end"]


@pytest.mark.parametrize("kind", ASGI)
def test_the_first_bytes_come_at_once_on_every_server(start: Callable[..., Server], key: str, kind: str) -> None:
    server = start(kind, middleware="none")
    with server.open("life/beats/", key=key) as client:
        began = time.monotonic()
        client.wait_for_comments(1)
        assert time.monotonic() - began < bound(0.5, 20.0)
        assert client.parser.raw == b": heartbeat 1\n" + b":\n" * (len(client.parser.comments) - 1)
