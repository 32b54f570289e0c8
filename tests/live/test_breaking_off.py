"""Broken is not finished: what a client without control events sees of an answer that is not whole, on every server."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from .client import Client
from .servers import EVERY, EXIT_WITHIN, Server, poll

SITE = {"middleware": "default", "agent_sse": {"SEND_TIMEOUT": 5.0}}  # who stalls is seen to, though the test stands still
CURL_PARTIAL_FILE = 18
STALLED = 10

on_every_server = pytest.mark.parametrize("server", EVERY, indirect=True)


def curl(url: str, *options: str) -> subprocess.Popen[str]:
    """Ask as curl does by itself: ``Accept: */*``."""
    return subprocess.Popen(["curl", "-sN", "--max-time", "120", *options, url], stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The exit code, and the data of each event."""
    printed, _ = process.communicate(timeout=150)
    return process.returncode, [line for line in printed.splitlines() if line.startswith("data:")]


@on_every_server
def test_an_error_breaks_the_answer_off_behind_the_routes_own_last_event(server: Server, key: str) -> None:
    asked = [curl(f"{server.url}/life/fails/?key={key}"), curl(f"{server.url}/life/fails/?key={key}", "-XPOST")]
    for process in asked:
        assert result(process) == (CURL_PARTIAL_FILE, ["data: hello", "data: sorry"])


@on_every_server
def test_code_that_exits_ends_one_stream_and_the_process_lives(server: Server, key: str) -> None:
    with server.open("life/idle/", key=key) as other:
        other.next()
        assert result(curl(f"{server.url}/life/fails/?key={key}-x&exit=1"))[0] == CURL_PARTIAL_FILE
        assert server.recorded(f"{key}-x", "on_end")["ending"] == "handler_error"
        assert server.state()["pid"] == server.worker
        assert server.steps(key) == ["started"], "other streams go on"


@on_every_server
def test_the_longest_duration_breaks_the_answer_off(server: Server, key: str) -> None:
    assert result(curl(f"{server.url}/life/limited/?key={key}")) == (CURL_PARTIAL_FILE, ["data: hello"])


@on_every_server
def test_a_finished_answer_is_finished(server: Server) -> None:
    url = f"{server.url}/parity/count/?count=3"
    assert result(curl(url)) == (0, ['data: {"n":1}', 'data: {"n":2}', 'data: {"n":3}'])


@on_every_server
def test_with_control_events_an_irregular_end_is_told_and_the_answer_is_whole(server: Server, key: str) -> None:
    with server.open("life/fails/", key=key) as client:
        assert [event.name for event in client.rest()][-1] == "sse.error"
        assert client.complete
    with server.open("life/limited/", key=key) as client:
        client.rest()
        assert client.complete


def stalled(server: Server, key: str, count: int = STALLED, megabytes: int = 8) -> list[Client]:
    """Clients that read the first event of a flood, and then nothing."""
    clients = [
        server.open("life/flood/", key=f"{key}-{number}", receive_buffer=4096, megabytes=megabytes) for number in range(count)
    ]
    for client in clients:
        client.next()
    return clients


def kernel_bytes(server: Server) -> int:
    """What the kernel keeps for clients of this server that have not taken it."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    port = f":{server.port:04X}"
    return sum(int(row[4].split(":")[0], 16) for row in rows if row[1].endswith(port))


@pytest.mark.parametrize("server", ["uvicorn", "granian", "hypercorn", "gunicorn"], indirect=True)
def test_slow_clients_are_cut_off_and_the_kernel_has_its_memory_back(server: Server, key: str) -> None:
    stalled(server, key)
    poll("the kernel keeps what they have not taken", lambda: kernel_bytes(server) > STALLED * 4096)
    for number in range(STALLED):
        assert server.recorded(f"{key}-{number}", "on_end")["ending"] == "slow_client"
    poll("the kernel keeps nothing", lambda: kernel_bytes(server) == 0)


@pytest.mark.parametrize("kind", EVERY)
def test_kicked_clients_that_never_read_are_cut_off_too(start: Callable[..., Server], key: str, kind: str) -> None:
    server = start(kind, middleware="default", agent_sse={"SEND_TIMEOUT": 20})
    stalled(server, key)
    server.get("_command/", route="life/flood/")
    for number in range(STALLED):
        assert server.recorded(f"{key}-{number}", "on_end")["ending"] in ("kicked", "completed")
    poll("the kernel keeps nothing", lambda: kernel_bytes(server) == 0)


@pytest.mark.parametrize("kind", EVERY)
def test_clients_that_never_read_keep_no_server_from_ending(start: Callable[..., Server], key: str, kind: str) -> None:
    server = start(kind, middleware="default", agent_sse={"SEND_TIMEOUT": 600})
    stalled(server, key)
    must_end_soon(server, key)


def test_a_client_that_never_read_what_was_over_keeps_no_memory_after_daphne(start: Callable[..., Server], key: str) -> None:
    """daphne takes all of an answer, and ends with its last stream: the kernel goes on alone."""
    server = start("daphne", middleware="default", agent_sse={"SEND_TIMEOUT": 600})
    stalled(server, key, megabytes=1)
    for number in range(STALLED):
        assert server.recorded(f"{key}-{number}", "on_end")["ending"] == "completed"
    assert kernel_bytes(server) > 0
    server.signal(signal.SIGTERM)
    server.wait(EXIT_WITHIN)
    poll("the kernel keeps nothing", lambda: kernel_bytes(server) == 0)


@on_every_server
def test_clients_that_were_cut_off_keep_no_server_from_ending(server: Server, key: str) -> None:
    """The last of this module: it ends the server."""
    stalled(server, key)
    if server.kind != "daphne":  # whose send() never waits
        for number in range(STALLED):
            server.recorded(f"{key}-{number}", "on_end")
    must_end_soon(server, key)


def must_end_soon(server: Server, key: str) -> None:
    """Ask it to end, which it does though one client still reads."""
    reader = curl(f"{server.url}/life/idle/?key={key}-reader")
    assert reader.stdout is not None
    while reader.stdout.readline() != "data: hello\n":
        assert reader.poll() is None
    asked = time.monotonic()
    server.signal(signal.SIGTERM)
    server.wait(EXIT_WITHIN)
    assert time.monotonic() - asked < EXIT_WITHIN
    assert result(reader) == (CURL_PARTIAL_FILE, [])
    poll("the kernel keeps nothing", lambda: kernel_bytes(server) == 0)
