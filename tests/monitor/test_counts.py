"""The monitor tells the truth: its counts are the sockets that the operating system shows, also after a kill."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.logs import LOGS
from tests.ledger.test_ledger import workers_of

from .clustered import Cluster, running_cluster

LONG = "LONG_PROOFS" in os.environ
ROUNDS = 20 if LONG else 3
LIFE = 15.0
LATE = 2.0 if LONG else 120.0
"""Seconds after that until it is seen: the promise, and what a machine with much else to do may take."""


def churn(site: Cluster) -> None:
    """Some come, some leave."""
    site.open(count=random.randint(5, 25))
    site.leave(random.randint(0, len(site.clients) // 2))


@pytest.mark.parametrize("log", LOGS)
def test_counts_are_the_sockets_of_the_operating_system_under_churn_and_after_a_kill(
    log: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with running_cluster(log, request, tmp_path) as site:
        seen = []
        for _ in range(ROUNDS):
            churn(site)
            seen.append(site.agreed())
            assert seen[-1] == len(site.clients)
        for _ in range(20):  # the system says which of the workers gets them
            site.open(count=10)
            before = site.agreed()
            counts = site.sockets()
            if all(counts.values()) and sum(counts.values()) == before:
                break
        else:
            raise AssertionError(f"every worker has streams, {before} together: {counts}")
        victim = random.choice([*workers_of(site.parent)])
        victim.kill()
        killed = time.monotonic()
        left = before - counts[victim.pid]

        def not_yet() -> Any:  # in one answer: another worker may see it a moment later
            seen = site.board(rows=1)
            state = {one["pid"]: one["state"] for one in seen["processes"]}
            if seen["open"] == left and state[victim.pid] == "gone":
                return None
            return f"{seen['open']} of {left} open without {victim.pid}; before it was killed {counts}, now {seen['processes']}"

        gone_after(not_yet, LIFE + LATE)
        took = time.monotonic() - killed
        site.clients = [client for client in site.clients if not gone(client)]
        assert site.agreed() == left == len(site.clients)
        print(
            f"\n{log}: open after each round of churn {seen}, as the sockets; a killed worker with {counts[victim.pid]} of "
            f"{before} streams fell out after {took:.1f} s"
        )


def gone_after(not_yet: Callable[[], Any], seconds: float) -> None:
    """Wait until it falls out, and is said to have stopped reporting; what the page says instead fails the test."""
    deadline = time.monotonic() + seconds
    while (what := not_yet()) is not None:
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def gone(client: object) -> bool:
    """Whether the connection was cut."""
    socket = client.socket  # type: ignore[attr-defined]
    socket.setblocking(False)
    try:
        while data := socket.recv(65536):
            assert data
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True
