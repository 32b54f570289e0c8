"""The connection under a response: found by its addresses, looked after, and cut off for a client that never reads."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import math
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from django_agent_sse.streams import departures, sockets
from django_agent_sse.streams.departures import Departures
from django_agent_sse.streams.registry import registry
from django_agent_sse.streams.shutdown import ListenerWatch
from django_agent_sse.streams.sockets import Addresses, addresses_of
from tests.inprocess import eventually


class Connection:
    """A server's end and a client's end over TCP, and the server's address book entry."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.server, _ = listener.accept()
        self.addresses = Addresses("127.0.0.1", self.client.getsockname()[1], self.server.getsockname()[1])

    def fill(self) -> int:
        """Send until the kernel takes no more; how many bytes that is."""
        self.server.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += self.server.send(bytes(65536))
        return sent

    def server_sees(self) -> str:
        """What the server's next look at the connection tells it."""
        looks = select.poll()
        looks.register(self.server, select.POLLOUT)
        ((_, events),) = looks.poll(0) or [(0, 0)]
        return "closed" if events & select.POLLHUP else "open" if events & select.POLLOUT else "blocked"

    def close(self) -> None:
        self.server.close()
        self.client.close()


@pytest.fixture
def connection() -> Iterator[Connection]:
    made = Connection()
    yield made
    made.close()


@pytest.fixture
def closing() -> list[bool]:
    return [False]


@pytest.fixture
async def leaving(closing: list[bool], monkeypatch: pytest.MonkeyPatch) -> Departures:
    monkeypatch.setattr(departures, "CHECK_INTERVAL", 0.01)
    return Departures(asyncio.get_running_loop(), lambda: closing[0])


SCOPE = {"http_version": "1.1", "client": ("127.0.0.1", 4000), "server": ("127.0.0.1", 80)}


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (SCOPE, Addresses("127.0.0.1", 4000, 80)),
        ({**SCOPE, "client": ["127.0.0.1", "4000"], "server": ["127.0.0.1", "80"]}, Addresses("127.0.0.1", 4000, 80)),
        ({**SCOPE, "http_version": "2"}, None),
        ({**SCOPE, "http_version": "1.0"}, Addresses("127.0.0.1", 4000, 80)),
        ({**SCOPE, "client": None}, None),
        ({**SCOPE, "server": ("/run/site.sock", None)}, None),
        ({**SCOPE, "client": ("203.0.113.9", 0)}, None),
        ({**SCOPE, "client": ("", "x")}, None),
        ({}, None),
    ],
    ids=["pairs", "lists of text", "HTTP/2", "HTTP/1.0", "no client", "Unix socket", "a proxy's word", "garbage", "nothing"],
)
def test_the_addresses_of_a_request(scope: dict[str, object], expected: Addresses | None) -> None:
    assert addresses_of(scope) == expected


def test_a_connection_is_found_among_all_descriptors_and_no_other(connection: Connection) -> None:
    other = Connection()
    try:
        assert sockets.find({connection.addresses}) == {connection.addresses: connection.server.fileno()}
        sockets.shut(other.server.fileno(), connection.addresses, reset=True)
        assert other.server_sees() == "open", "a descriptor that was used anew is left alone"
        assert sockets.unsent(other.server.fileno(), connection.addresses) is None
    finally:
        other.close()


def test_looking_leaves_no_descriptor_behind(connection: Connection) -> None:
    before = {*os.listdir(sockets.DESCRIPTORS)}  # others of this process may go meanwhile
    sockets.find({connection.addresses})
    sockets.unsent(connection.server.fileno(), connection.addresses)
    sockets.listeners(connection.addresses.server_port)
    assert {*os.listdir(sockets.DESCRIPTORS)} <= before


def test_looking_gives_up_no_lock_of_the_process(connection: Connection, tmp_path: Path) -> None:
    """Closing any descriptor of a file would: another process could write to a database that this one is writing to."""
    code = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with (tmp_path / "database").open("w+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        sockets.find({connection.addresses})
        sockets.limit(file.fileno(), connection.addresses, seconds=1)
        sockets.listeners(connection.addresses.server_port)
        assert sockets.unsent(file.fileno(), connection.addresses) is None
        sockets.shut(file.fileno(), connection.addresses, reset=True)
        other = subprocess.run([sys.executable, "-c", code, file.name], capture_output=True, check=False)
    assert b"BlockingIOError" in other.stderr


def test_looking_changes_no_socket_where_a_default_timeout_is_set(connection: Connection) -> None:
    connection.server.setblocking(True)
    socket.setdefaulttimeout(5)
    try:
        assert sockets.find({connection.addresses}) == {}
    finally:
        socket.setdefaulttimeout(None)
    assert os.get_blocking(connection.server.fileno())


async def test_a_client_that_was_given_up_is_reset_at_once(connection: Connection, leaving: Departures) -> None:
    connection.fill()
    leaving.reset(connection.addresses)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert connection.server_sees() == "closed"
    connection.server.close()
    connection.client.settimeout(60)
    with pytest.raises(ConnectionResetError):
        while connection.client.recv(1 << 20):
            pass


async def test_a_whole_answer_that_nobody_takes_is_cut_off_after_its_time(connection: Connection, leaving: Departures) -> None:
    connection.fill()
    leaving.add(connection.addresses, 60.0, unfinished=False)
    await asyncio.sleep(0.05)
    assert connection.server_sees() == "blocked"

    def is_cut_off_in_time() -> bool:
        for departure in leaving._departing.values():
            departure.client.since -= 60.0  # a minute passes
        return connection.server_sees() == "closed"

    await eventually("it is cut off", is_cut_off_in_time)


async def test_a_client_that_takes_the_rest_keeps_its_connection(connection: Connection, leaving: Departures) -> None:
    connection.client.setblocking(False)
    left = connection.fill()
    leaving.add(connection.addresses, 60.0, unfinished=False)
    while left > 0:
        with contextlib.suppress(BlockingIOError):
            left -= len(connection.client.recv(1 << 17))
        await asyncio.sleep(0.01)
    await eventually("nobody looks any more", lambda: not leaving._departing)
    assert connection.server_sees() == "open"


@pytest.mark.parametrize(("step", "told", "stays"), [(1, True, False), (1000, True, True), (1, False, True)])
async def test_a_client_that_takes_next_to_nothing_counts_as_one_that_takes_nothing(
    step: int, told: bool, stays: bool, connection: Connection, leaving: Departures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte at each look, or a thousand; where the kernel does not tell how much, any progress counts."""
    looks = itertools.count(1)
    monkeypatch.setattr(sockets, "unsent", lambda *_: 1_000_000 - step * next(looks))
    monkeypatch.setattr(sockets, "acknowledged", lambda *_: step * next(looks) if told else None)
    connection.fill()
    leaving.add(connection.addresses, 60.0, unfinished=False)
    (departure,) = leaving._departing.values()
    await eventually("it was looked at", lambda: departure.unsent >= 0)
    departure.patience = 0.5
    began = asyncio.get_running_loop().time()
    await eventually("it is over", lambda: not leaving._departing or asyncio.get_running_loop().time() > began + 2.0)
    assert bool(leaving._departing) is stays
    assert (connection.server_sees() == "closed") is not stays
    leaving._departing.clear()


async def test_an_unfinished_answer_is_closed_when_it_has_gone_out(connection: Connection, leaving: Departures) -> None:
    connection.server.send(b"the last event")
    connection.client.settimeout(60)
    leaving.add(connection.addresses, math.inf, unfinished=True)
    await eventually("the server sees it closed", lambda: connection.server_sees() == "closed")
    assert connection.client.recv(100).startswith(b"the last event")


async def test_while_the_process_ends_nobody_is_waited_for_long(
    connection: Connection, leaving: Departures, closing: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departures, "CLOSING_TIMEOUT", 0.1)
    connection.fill()
    leaving.add(connection.addresses, math.inf, unfinished=False)
    await asyncio.sleep(0.2)
    assert connection.server_sees() == "blocked"
    closing[0] = True
    await eventually("it is cut off", lambda: connection.server_sees() == "closed")


async def test_a_connection_that_the_server_has_closed_is_forgotten(connection: Connection, leaving: Departures) -> None:
    leaving.add(connection.addresses, math.inf, unfinished=True)
    connection.server.close()
    await eventually("nobody looks any more", lambda: not leaving._departing)


# A worker that is recycled


async def test_streams_end_when_the_process_listens_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_agent_sse.streams.shutdown.CHECK_INTERVAL", 0.01)
    ended: list[str] = []
    monkeypatch.setattr(registry, "end_all", ended.append)
    monkeypatch.setattr(registry.loop_state(), "streams", {object()}, raising=False)
    loop = asyncio.get_running_loop()
    watch = ListenerWatch()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        watch.begin(loop, {"server": listener.getsockname()})
        await asyncio.sleep(0.05)
        assert ended == []
    await eventually("they are ended", lambda: ended == ["shutdown"])


async def test_a_loop_that_only_had_a_request_looks_for_the_streams_of_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request begins to look, too; one of another loop found that done, and its stream would have stayed for ever."""
    monkeypatch.setattr("django_agent_sse.streams.shutdown.CHECK_INTERVAL", 0.01)
    ended: list[str] = []
    monkeypatch.setattr(registry, "end_all", ended.append)
    others = SimpleNamespace(streams={object()}, thread=0)
    monkeypatch.setattr(registry, "loops", lambda: [registry.loop_state(), others])
    watch = ListenerWatch()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        watch.begin(asyncio.get_running_loop(), {"server": listener.getsockname()})
        await asyncio.sleep(0.05)
    await eventually("they are ended", lambda: ended == ["shutdown"])


@pytest.mark.parametrize("scope", [{}, {"server": None}, {"server": ("/run/site.sock", None)}, {"server": ("testserver", 1)}])
async def test_where_no_listening_socket_is_known_nothing_is_looked_at(scope: dict[str, object]) -> None:
    watch = ListenerWatch()
    watch.begin(asyncio.get_running_loop(), scope)
    assert watch._loop is None
