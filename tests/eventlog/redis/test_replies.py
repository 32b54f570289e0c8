"""What comes in on a connection to Redis, cut anywhere."""

from __future__ import annotations

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from django_agent_sse.eventlog.redis.pubsub_socket import Reply, ReplyReader

REPLIES: list[Reply] = [
    [b"subscribe", b"sse:{a}:notify", 1],
    [b"message", b"sse:{a}:notify", b"line\r\nline\r\n*1\r\n"],
    [b"message", b"c", b""],
    [b"unsubscribe", None, 0],
    b"OK",
    [],
]


def encoded(reply: Reply) -> bytes:
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    return b"$-1\r\n" if reply is None else b"$%d\r\n%s\r\n" % (len(reply), reply)


@given(st.lists(st.integers(1, 40)))
def test_replies_are_the_same_wherever_they_are_cut(sizes: list[int]) -> None:
    data, reader, found = b"".join(map(encoded, REPLIES)), ReplyReader(), list[Reply]()
    for size in sizes:
        found += reader.feed(data[:size])
        data = data[size:]
    found += reader.feed(data)
    assert found == REPLIES
    assert not reader._buffer


def test_a_simple_string_is_one() -> None:
    assert [*ReplyReader().feed(b"+PONG\r\n")] == [b"PONG"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"-NOPERM this user has no permissions\r\n", redis.exceptions.ResponseError),
        (b"HTTP/1.1 400 Bad Request\r\n", redis.exceptions.InvalidResponse),
        (b"$x\r\n", ValueError),
    ],
)
def test_a_refusal_and_what_is_not_redis_are_errors(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        [*ReplyReader().feed(data)]
