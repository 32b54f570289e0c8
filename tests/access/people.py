"""Streams of people in tests of access."""

from __future__ import annotations

from typing import Any

from django_agent_sse import Context, Stream
from tests.inprocess import Client
from tests.serving import connect

from .changes import cookie

PATIENCE = 60.0
"""Seconds that anything may take on a busy machine."""


async def waiting(c: Context, stream: Stream) -> None:
    """A handler that says one thing and waits."""
    await stream.write("hello", id="1")
    await stream.wait_closed()


async def opened(path: str, session: Any = None, *, headers: dict[str, str] | None = None, **options: Any) -> Client:
    """Open a stream and take its first event."""
    own = {} if session is None else cookie(session)
    client = connect(path, headers={"Accept": "text/event-stream", **own, **(headers or {})}, **options)
    client._client.timeout = PATIENCE
    await client.take(1)
    return client


async def revoked(*clients: Client) -> None:
    """Wait for the end of streams: it says why, and leaves it to the guards what becomes of who comes back."""
    for client in clients:
        await client.over(PATIENCE)
        (end,) = await client.rest()
        assert (end.event, end.data, end.id) == ("sse.end", '{"reason":"revoked"}', None)
        assert end.retry is not None


async def leave(*clients: Client) -> None:
    """Leave streams that nobody has ended."""
    for client in clients:
        assert not client.complete
        client.leave()
        await client.over(PATIENCE)
