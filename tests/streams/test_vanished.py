"""Clients that vanish: the kernel is told when to give each connection up. What comes of it: ``tests/live/test_vanished.py``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from django_agent_sse.streams import sockets, vanished
from django_agent_sse.streams.sockets import Addresses
from django_agent_sse.streams.vanished import Vanished, patience
from tests.inprocess import eventually

pytestmark = pytest.mark.skipif(not sockets.CAN_LIMIT, reason="TCP_USER_TIMEOUT is Linux's")
COUNT = 10
NONE = 0


class Connection:
    """A server's end of a connection over TCP, and how its server knows it."""

    descriptor: int | None = None

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.server, _ = listener.accept()
        self.addresses = Addresses("127.0.0.1", self.client.getsockname()[1], self.server.getsockname()[1])

    @property
    def given_up_after(self) -> float:
        """Seconds."""
        return self.server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1_000


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Connection]]:
    monkeypatch.setattr(vanished, "GATHERED", 0.01)
    monkeypatch.setattr(vanished, "PART", 3)
    made = [Connection() for _ in range(COUNT)]
    yield made
    for one in made:
        one.client.close()
        one.server.close()


async def test_every_connection_that_is_watched_is_given_up_in_time_and_no_other(connections: list[Connection]) -> None:
    watch = Vanished(asyncio.get_running_loop())
    *watched, last, over, another = connections
    for one in (*watched, over):
        watch.watch(one, one.addresses, 30)
    watch.unwatch(over.addresses)
    await eventually("the kernel knows", lambda: all(one.given_up_after == 45 for one in watched))
    watch.watch(last, last.addresses, 1)
    await eventually("of one that comes later too", lambda: last.given_up_after == 6)
    assert (over.given_up_after, another.given_up_after) == (NONE, NONE)
    assert all(one.descriptor == one.server.fileno() for one in (*watched, last)), "each is told its own"
    assert (over.descriptor, another.descriptor) == (None, None)
    await eventually("and then it rests", lambda: not watch._looking)


async def test_connections_that_are_not_there_are_looked_for_once(connections: list[Connection]) -> None:
    """A client has left meanwhile, or a proxy's header has taken the place of its address."""
    watch = Vanished(asyncio.get_running_loop())
    for number in range(5):
        watch.watch(connections[1], Addresses("203.0.113.7", 1_000 + number, 80), 30)
    watch.watch(connections[0], connections[0].addresses, 30)
    await eventually("it rests", lambda: not watch._looking)
    assert connections[0].given_up_after == 45
    assert not watch._new


@pytest.mark.parametrize(("send_timeout", "seconds"), [(1, 6), (10, 15), (30, 45), (600, 900)])
def test_the_stream_itself_ends_who_stops_reading_before_the_kernel_does(send_timeout: float, seconds: float) -> None:
    assert patience(send_timeout) == seconds
