"""The socket of a subscribed connection: whatever the other side does, the loop goes on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import redis

from django_agent_sse.eventlog.redis.pubsub_socket import Reply, ServerSocket
from tests.inprocess import eventually


class Connection:
    """What is used of a connection of redis-py's."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def pack_command(self, *words: str) -> list[bytes]:
        return [" ".join(words).encode()]

    def disconnect(self) -> None:
        self._sock.close()


class Pair:
    """A `ServerSocket`, and the server's side of it."""

    def __init__(self) -> None:
        mine, self.server = socket.socketpair()
        self.replies: list[Reply] = []
        self.failures = 0
        self.socket = ServerSocket(Connection(mine), self.replies.append, self._failed)

    def _failed(self) -> None:
        self.failures += 1


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    yield made
    made.socket.close()
    made.server.close()


async def test_half_a_reply_holds_nobody_up(pair: Pair) -> None:
    pair.server.send(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$10\r\nhalf")
    ticks = 0
    for _ in range(50):
        await asyncio.sleep(0)
        ticks += 1
    assert (ticks, pair.replies) == (50, [])
    pair.server.send(b"a word\r\n")
    await eventually("the whole one is taken", lambda: pair.replies == [[b"message", b"c", b"halfa word"]])
    pair.socket.check()


async def test_commands_that_a_server_does_not_take_wait_until_it_does(pair: Pair) -> None:
    words = "x" * 4_000_000
    pair.socket.send("SUBSCRIBE", words)
    pair.socket.send("SUBSCRIBE", "last")
    assert len(pair.socket._unsent) > 1_000_000, "more than a socket holds"
    pair.server.setblocking(False)
    taken = 0
    async with asyncio.timeout(60):
        while taken < len(words) + len("SUBSCRIBE SUBSCRIBE last"):
            taken += len(await asyncio.get_running_loop().sock_recv(pair.server, 1_000_000))
    await eventually("all is sent", lambda: not pair.socket._unsent)
    assert pair.failures == 0


async def test_a_server_that_leaves_and_one_that_refuses_are_told_of_once(pair: Pair) -> None:
    pair.server.send(b"-NOPERM no\r\n")
    await eventually("it is told", lambda: pair.failures == 1)
    with pytest.raises(Exception, match="NOPERM"):
        pair.socket.check()
    other = Pair()
    other.server.close()
    await eventually("it is told", lambda: other.failures == 1)
    with pytest.raises(redis.exceptions.ConnectionError, match="closed"):
        other.socket.check()
    other.socket.close()
