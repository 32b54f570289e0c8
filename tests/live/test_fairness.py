"""A handler that writes for ever leaves room for everybody else."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.timing import LONG, bound

from .servers import AT_ONCE, Server

SITE = {"middleware": "none"}
REQUESTS = 15 if LONG else 5


@contextmanager
def greedy_reader(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Read as fast as can be, in a process of its own."""
    curl = shutil.which("curl")
    assert curl, "curl is needed: apt-get install curl"
    process = subprocess.Popen([curl, "-sN", "-o", "/dev/null", url])
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


def test_another_request_is_answered_while_a_handler_writes_for_ever(server: Server, key: str) -> None:
    with greedy_reader(f"{server.url}/life/forever/?key={key}"):
        server.recorded(key, "started")
        times = []
        for _ in range(REQUESTS):
            began = time.monotonic()
            assert server.get("_ping/").status == 200
            times.append(time.monotonic() - began)
        assert "finally" not in server.steps(key)
        assert statistics.median(times) < bound(0.5, 10.0)


def test_a_disconnect_ends_a_handler_that_writes_for_ever(server: Server, key: str) -> None:
    with greedy_reader(f"{server.url}/life/forever/?key={key}") as process:
        server.recorded(key, "started")
        process.kill()
        process.wait(60)
        left = time.monotonic()
        over = server.recorded(key, "on_end")
    assert over["ending"] == "client_disconnect"
    assert over["at"] - left < AT_ONCE
    assert "on_abort" in server.steps(key)
