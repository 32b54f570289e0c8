"""A send that waits for its client: whether the client reads, as the kernel knows it. Over servers: ``tests/live``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from django_agent_sse import Context, Stream
from django_agent_sse.streams import sockets, vanished
from django_agent_sse.streams.endings import Ending
from django_agent_sse.streams.options import StreamOptions
from django_agent_sse.streams.slow_clients import LOWEST_RATE, SlowClient, first_look
from django_agent_sse.streams.sockets import Addresses
from django_agent_sse.streams.supervisor import Supervisor
from django_agent_sse.streams.vanished import patience
from tests.inprocess import Client, eventually, serve

SEND_TIMEOUT = 1.0
LINUX = pytest.mark.skipif(not sockets.CAN_LIMIT, reason="other systems do not tell what a client has acknowledged")


# The rule


@pytest.mark.parametrize(
    ("looks", "since"),
    [
        ([(10, 0)], 0),
        ([(10, 0), (20, 0), (30, 0)], 0),
        ([(10, 0), (20, 50_000)], 20),
        ([(10, 0), (20, 50_000), (30, 50_000)], 20),
        ([(10, 0), (20, 50_000), (30, 100_000)], 30),
        ([(10, 0), (20, 10 * LOWEST_RATE)], 0),
        ([(10, 0), (20, 10 * LOWEST_RATE + 1)], 20),
        ([(10, 0), (20, 2_000), (30, 4_000), (40, 6_000)], 0),
        ([(10, 0), (20, 0), (30, 0), (40, 8_000)], 40),
        ([(10, 7_000_000), (20, 7_000_000)], 0),
        ([(10, 0), (10, 0)], 0),
    ],
    ids=[
        "one look tells nothing",
        "it has stopped",
        "it reads",
        "it has stopped then",
        "it goes on reading",
        "the lowest rate",
        "above it",
        "below it for long",
        "in steps, as kernels acknowledge",
        "it has read much before",
        "two looks at once",
    ],
)
def test_since_when_a_client_takes_nothing(looks: list[tuple[float, int]], since: float) -> None:
    client = SlowClient(0)
    takes = [client.look(0, acknowledged, now) for now, acknowledged in looks]
    assert (client.since, any(takes)) == (since, since > 0)


def test_what_was_taken_before_a_send_waited_does_not_count() -> None:
    client = SlowClient(0)
    assert [client.look(0, 0, 10), client.look(0, 50_000, 20)] == [False, True]
    assert [client.look(25, 1_000_000, 30), client.look(25, 1_000_000, 40)] == [True, False]
    assert (client.first, client.began, client.since) == (0, 25, 25)


@pytest.mark.parametrize("send_timeout", [30.0, 1.0])
def test_a_send_that_waits_is_seen_before_its_time_is_over(send_timeout: float) -> None:
    options = StreamOptions.of({"heartbeat": None, "max_duration": None, "send_timeout": send_timeout})
    assert options.visit_interval == first_look(send_timeout) < send_timeout


# What the kernel tells


class Connection:
    """A server's end of a connection over TCP, and how its server knows it."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.server, _ = listener.accept()
        self.addresses = Addresses("127.0.0.1", self.client.getsockname()[1], self.server.getsockname()[1])

    @property
    def acknowledged(self) -> int | None:
        return sockets.acknowledged(self.server.fileno(), self.addresses)

    @property
    def given_up_after(self) -> float:
        """Seconds."""
        return self.server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1_000

    def carries(self, application: Any) -> Callable[..., Any]:
        """The application, whose requests come over this connection."""
        ends = {"client": self.client.getsockname(), "server": self.server.getsockname()}

        async def with_ends(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            await application({**scope, "http_version": "1.1", **ends}, receive, send)

        return with_ends


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    monkeypatch.setattr(vanished, "GATHERED", 0.01)
    made = Connection()
    yield made
    made.client.close()
    made.server.close()


@LINUX
async def test_what_a_client_has_acknowledged_is_counted(connection: Connection) -> None:
    before = connection.acknowledged
    assert before is not None
    connection.server.sendall(bytes(10_000))
    await eventually("it is acknowledged", lambda: connection.acknowledged == before + 10_000)


def test_of_another_connection_nothing_is_told(connection: Connection) -> None:
    other = Connection()
    assert sockets.acknowledged(connection.server.fileno(), other.addresses) is None
    other.client.close()
    other.server.close()


def test_a_kernel_that_knows_less_tells_nothing(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "getsockopt", lambda *_: bytes(104))
    assert connection.acknowledged is None


# A stream


async def writes(c: Context, stream: Stream) -> None:
    await stream.write("x")
    await stream.wait_closed()


@asynccontextmanager
async def stuck(connection: Connection, send_timeout: float = SEND_TIMEOUT) -> AsyncIterator[tuple[Client, Supervisor]]:
    """A stream whose send waits for its client."""
    async with serve(writes, around=connection.carries, heartbeat=None, send_timeout=send_timeout) as site:
        client = site.connect()
        await client.take(1)
        supervisor = await site.supervisor()
        if sockets.CAN_LIMIT:
            await eventually("its connection is known", lambda: supervisor._transport.descriptor is not None)
        client.hold()
        supervisor._stream.write("more")
        await client.stuck()
        yield client, supervisor


@LINUX
async def test_a_client_that_reads_is_not_ended_and_is_when_it_stops(connection: Connection) -> None:
    """By a clock of the test's own: a machine that stands still would keep the client from reading."""
    async with stuck(connection, send_timeout=400.0) as (_, supervisor):
        transport: Any = supervisor._transport
        now = asyncio.get_running_loop().time()
        for _ in range(12):
            before, left = connection.acknowledged or 0, 40_000
            connection.server.sendall(bytes(left))
            while left:
                left -= len(connection.client.recv(left))
            await eventually("it is acknowledged", lambda before=before: (connection.acknowledged or 0) >= before + 40_000)
            now += 100
            transport.tick(now)
            assert supervisor.ending is None
        transport.tick(now + 399)
        assert supervisor.ending is None
        transport.tick(now + 401)
        assert supervisor.ending is Ending.SLOW_CLIENT


@LINUX
async def test_the_kernel_gives_up_no_client_that_reads_and_does_again_when_it_has_everything(connection: Connection) -> None:
    connection.client.setblocking(False)
    usual = patience(100.0)
    async with stuck(connection, send_timeout=100.0) as (client, supervisor):  # by a clock of the test's own
        transport: Any = supervisor._transport
        now = asyncio.get_running_loop().time()
        assert connection.given_up_after == usual
        while (longer := connection.given_up_after) < usual + 100:
            before = connection.acknowledged or 0
            connection.server.sendall(bytes(7_000))
            await eventually("it is acknowledged", lambda before=before: (connection.acknowledged or 0) >= before + 7_000)
            now += 25
            transport.tick(now)
            assert supervisor.ending is None
        connection.server.setblocking(False)
        with suppress(BlockingIOError):
            while connection.server.send(bytes(65_536)):
                pass
        client.flow()
        await eventually("it is sent", lambda: transport._sending_since is None)
        transport.tick(now + 25)
        assert connection.given_up_after >= longer, "it has not taken everything"

        def is_back() -> bool:
            with suppress(BlockingIOError):
                connection.client.recv(1 << 20)
            transport.tick(now + 25)
            return connection.given_up_after == usual

        await eventually("the kernel is told again", is_back)


@LINUX
async def test_a_client_that_takes_a_byte_now_and_then_is_ended(connection: Connection) -> None:
    async with stuck(connection) as (_, supervisor):
        while supervisor.ending is None:
            connection.server.sendall(b"x")
            await asyncio.sleep(0.05)
        assert supervisor.ending is Ending.SLOW_CLIENT


async def test_where_the_kernel_cannot_be_asked_a_send_has_its_time_and_no_more(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "acknowledged", lambda *_: None)
    async with stuck(connection) as (_, supervisor):
        while supervisor.ending is None:
            connection.server.sendall(bytes(1_000))
            await asyncio.sleep(0.05)
        assert supervisor.ending is Ending.SLOW_CLIENT
