"""From the commit of an event to its arrival at a client over HTTP: each way to another process, and within one.

``-s`` prints the figures; ``tox run -e ledger`` measures more of them. Nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.live.servers import running

from .logs import DATABASE, environment_of
from .reader import Reader
from .test_ledger import PATIENCE, run, site_environment

COUNT = 400 if "LONG_PROOFS" in os.environ else 40
PAUSE = 0.05
"""Seconds between two events, more or less: seldom enough that each is on its own."""
TOPIC = "builds-1"


class Clock(Reader):
    """Notes when each event came, in nanoseconds of the machine's clock."""

    def __init__(self, url: str) -> None:
        super().__init__(url, [TOPIC])
        self.came: dict[str, int] = {}
        self.wanted: set[str] | None = None
        self.complete = asyncio.Event()

    def note(self, topic: str, name: str) -> None:
        self.came[name] = time.monotonic_ns()
        self.look()

    def look(self) -> None:
        """See whether everything has come."""
        if self.wanted is not None and self.came.keys() >= self.wanted:
            self.complete.set()


async def watch(url: str, publish: Callable[[], Awaitable[dict[str, int]]]) -> list[float]:
    """Follow, have ``publish()`` publish, and return the milliseconds from each commit to its arrival."""
    clock = Clock(url)
    following = asyncio.create_task(clock.follow())
    try:
        await asyncio.wait_for(clock.opened.wait(), PATIENCE)
        committed = await publish()
        clock.wanted = {*committed}
        clock.look()
        await asyncio.wait_for(clock.complete.wait(), PATIENCE)
    finally:
        following.cancel()
    return sorted((clock.came[name] - at) / 1e6 for name, at in committed.items())


WAYS = {
    "in one process": "postgres",
    "by the poll alone": "postgres",
    "through PostgreSQL itself": "postgres",
    "through SQLite itself": "sqlite",
    "through channels_redis": "postgres",
}


@pytest.mark.parametrize("way", [*WAYS])
def test_what_is_committed_arrives(way: str, request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> None:
    about = environment_of(WAYS[way], request, tmp_path)
    if way == "by the poll alone":
        about["SITE_AGENT_SSE"] = json.dumps({"EVENT_LOG": {**DATABASE["EVENT_LOG"], "OPTIONS": {"NOTIFY_ALIAS": None}}})
    if way == "through channels_redis":
        layer = {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [redis_url]}}
        about["SITE_CHANNEL_LAYERS"] = json.dumps({"default": layer})
    site = {name.removeprefix("SITE_").lower(): value for name, value in about.items()}
    with running("uvicorn", tmp_path / "server", **site) as server:
        if WAYS[way] == "sqlite":
            about["SITE_DATABASE"] = str(tmp_path / "server" / "site.sqlite3")  # the server's own copy

        async def publish_here() -> dict[str, int]:
            with server.open(f"topics/stamped/{TOPIC}/", count=COUNT, pause=PAUSE) as client:
                answer = await asyncio.to_thread(client.answer, PATIENCE)
            return dict(answer.json())

        async def publish_elsewhere() -> dict[str, int]:
            return dict(await run("stamper", TOPIC, COUNT, PAUSE, environment=site_environment(about)))

        publish = publish_here if way == "in one process" else publish_elsewhere
        lags = asyncio.run(watch(f"{server.url}/topics/several/", publish))
    print(f"\n{way}: {len(lags)} events, p50 {lags[len(lags) // 2]:.1f} ms, p99 {lags[int(len(lags) * 0.99)]:.1f} ms")
    assert len(lags) == COUNT
