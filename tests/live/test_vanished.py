"""Clients that vanish: packets are dropped, nobody says goodbye. What they had is given back within what the settings promise."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from django_agent_sse.streams.vanished import GATHERED, patience
from tests.timing import LONG

from . import servers
from .attacked import MOST_THREADS, descriptors, held, is_back, others, tell, watched
from .network import network
from .servers import Server, poll

pytestmark = pytest.mark.alone
VANISH = 1_000 if LONG else 50
HEARTBEAT, SEND_TIMEOUT = (15, 30) if LONG else (1, 2)
"""In the long form as they are by default."""
PROMISED = GATHERED + HEARTBEAT + patience(SEND_TIMEOUT)
"""Seconds from the last sign of life: the next heartbeat goes out, and is not acknowledged for so long."""


def test_a_thousand_clients_that_vanish(start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    """Most are idle; a tenth gets events all the time, and a tenth as much as the kernel takes."""
    monkeypatch.setitem(servers.COMMANDS, "uvicorn", servers.COMMANDS["uvicorn"].replace("127.0.0.1", "0.0.0.0"))
    limits = {"ADDRESS": None, "ADDRESS_CONNECTS": None}
    server = start("uvicorn", agent_sse={"HEARTBEAT": HEARTBEAT, "SEND_TIMEOUT": SEND_TIMEOUT, "LIMITS": limits})
    before = held(server)
    with descriptors(3 * VANISH + 500), network() as there, others(server) as them, watched(server) as watch:
        tenth = VANISH // 10
        there.open(server.port, VANISH - 2 * tenth, "life/idle/", key="vanish")
        there.open(server.port, tenth, "life/ticks/", key="vanish")
        there.open(server.port, tenth, "life/flood/", key="vanish", megabytes=64)
        began = time.monotonic()
        there.cut()
        poll("most of them are still there", lambda: server.state()["open_streams"] > VANISH / 2)
        after = is_back(server, before, within=PROMISED + 60.0)
        took = time.monotonic() - began
    assert watch.most["threads"] - before["threads"] <= MOST_THREADS
    assert watch.most["memory"] - before["memory"] < 60_000 + 200 * VANISH, "KiB"
    tell(f"{VANISH} that vanish", before, watch.most, after, seconds=round(took, 1), promised=PROMISED, cut_by=there.kind,
         **them.figures())  # fmt: skip
