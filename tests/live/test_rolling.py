"""A rolling restart loses nothing, in short. The long form, and how many come back in a second: ``benchmarks/rolling.py``."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import rolling
from .crowd import crowd
from .rolling import publishing, roll, until
from .servers import EXIT_WITHIN, Server

PACE, CLIENTS = 20, 40
SITE = {
    "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"},
    "LIMITS": {"ADDRESS": None, "ADDRESS_CONNECTS": None},
    "RECONNECTS": PACE,
    "RETRY": 400,
}


@pytest.mark.parametrize("kind", ["uvicorn", "granian", "daphne processes"])
def test_a_rolling_restart_loses_nothing(kind: str, terminable: None, sqlite: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    with rolling.deployed(kind, 2, tmp_path / "site", sqlite[0], agent_sse=SITE) as server:
        rolled = roll(server, kind, workers=2, clients=CLIENTS, topics=2, pause=0.05, pace=PACE)
    assert rolled.wrong == [], "each client has had each event once, in order"
    assert len(rolled.back) >= CLIENTS
    if kind == "daphne processes":
        assert rolled.refused == 0, "what ends accepts no more, where others accept from the same socket"


def test_a_process_that_is_killed_in_the_middle_of_a_wave_loses_nothing(start: Callable[..., Server]) -> None:
    server = start("uvicorn", agent_sse=SITE | {"RECONNECTS": 2, "DRAIN_SECONDS": 600})

    async def kill(last_word: Callable[[], None]) -> list[str]:
        async with crowd() as clients:
            clients.join(server.port, "topics/follow/news/", CLIENTS)
            await until("all have an event", lambda: all(client.events for client in clients))
            server.signal(signal.SIGTERM)
            await until("some are sent away", lambda: sum(client.refused.total() for client in clients) >= 5)
            await asyncio.to_thread(server.restart)
            await until("all are back", lambda: all(len(client.connects) > len(client.ended) for client in clients))
            last_word()
            await until("all have the last event", lambda: all(client.events[-1].data.startswith("last") for client in clients))
            return [wrong for client in clients if (wrong := rolling.differs(client))]

    with publishing(server, ["news"], 0.05) as last_word:
        assert asyncio.run(kill(last_word)) == []


def test_what_has_no_ids_begins_anew(start: Callable[..., Server]) -> None:
    """There is nothing to go on from: its clients are told when to come back, as all are, and meet the handler's beginning."""
    server = start("uvicorn", agent_sse=SITE)

    async def come_back() -> list[list[tuple[str, str]]]:
        async with crowd() as clients:
            clients.join(server.port, "life/idle/?key=again", 5)
            await until("all have an event", lambda: all(client.events for client in clients))
            server.signal(signal.SIGTERM)
            await asyncio.to_thread(server.wait, EXIT_WITHIN)
            await asyncio.to_thread(server.restart)
            await until(
                "all are back", lambda: all(sum(one.name == "message" for one in client.events) == 2 for client in clients)
            )
            # Who comes back while it still listens is turned away, and comes again.
            return [[(one.name, one.data) for one in client.events if "being restarted" not in one.data] for client in clients]

    told = [("message", "hello"), ("sse.overloaded", '{"reason":"shutdown"}'), ("message", "hello")]
    assert asyncio.run(come_back()) == [told] * 5
