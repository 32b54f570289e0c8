"""Cut after any byte, inside of an event as well as between two, every client that resumes gets each event once and in order.

What an event's id is worth depends on where it stands: clients that take it line by line would lose the event with the id first.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import httpx_sse
import pytest

from tests.npm import Node

from .servers import ROOT, Server

SITE = {"middleware": "none"}
TO = 4
TARGET = f"/client/numbers/?to={TO}"
WANTED = [*range(1, TO + 1)]
PATIENCE = 120.0
STATIC = ROOT / "django_agent_sse/static/django_agent_sse"


def raw_length(server: Server) -> int:
    """Bytes of the whole body as they travel, the coding included."""
    with server.open(TARGET[1:]) as client:
        client.rest()
        return len(client.parser.raw) + 80  # each chunk's frame


@contextmanager
def cutting(server: Server, node: Node) -> Iterator[tuple[str, int, dict[str, list[Any]]]]:
    """Run the npm clients behind the proxy; yield its address, how many cuts there are, and the cuts that went wrong."""
    count = raw_length(server)
    environment = {
        **os.environ,
        "ORIGIN": server.url,
        "TARGET": TARGET,
        "BYTES": str(count),
        "TO": str(TO),
        "STATIC": str(STATIC),
    }
    with subprocess.Popen(
        node.command("cuts.mjs"), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        base = json.loads(program.stdout.readline())["base"]
        told = [json.loads(program.stdout.readline()) for _ in range(3)]
        yield base, count, {one["name"]: one["wrong"] for one in told}
        assert program.stdin is not None
        program.stdin.close()
        program.wait(PATIENCE)


def with_httpx_sse(url: str) -> list[int]:
    """Read with httpx-sse, and come back with the last id for as long as the connection breaks."""
    numbers: list[int] = []
    last = None
    for _ in range(5):
        headers = {"Last-Event-ID": last} if last else {}
        try:
            with (
                httpx.Client(timeout=20, verify=False) as client,
                httpx_sse.connect_sse(client, "GET", url, headers=headers) as source,
            ):
                for event in source.iter_sse():
                    last = event.id or last
                    if event.event == "sse.end":
                        return numbers
                    numbers.append(json.loads(event.data)["number"])
        except (httpx.TransportError, httpx_sse.SSEError):
            continue
    raise AssertionError(f"no end after five connections: {numbers}")


def with_sse_tail(url: str) -> list[int]:
    """Read with the package's own command."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.site.settings",
        "PYTHONPATH": str(ROOT),
        "SITE_DATABASE": ":memory:",
    }
    command = [sys.executable, "-m", "django", "sse_tail", "--json", url]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return [json.loads(json.loads(line)["data"])["number"] for line in done.stdout.splitlines()]


def is_past_help(cut: Any) -> bool:
    """Whether a client that takes an id at the end of its line was cut before the one byte that follows: the blank line's."""
    taken = re.search(r"\nid: (\d+)\n$", cut["after"])
    return bool(taken) and cut["numbers"] == [number for number in WANTED if number != int(taken[1])]


@pytest.mark.parametrize("server", ["uvicorn"], indirect=True)
def test_whoever_resumes_gets_each_event_once_wherever_the_connection_is_cut(server: Server, node: Node) -> None:
    with cutting(server, node) as (base, count, wrong):
        assert (wrong["eventsource"], wrong["EventStream"]) == ([], [])
        assert [cut for cut in wrong["fetch-event-source"] if not is_past_help(cut)] == []
        with ThreadPoolExecutor(16) as pool:
            urls = [f"{base}/httpx-sse/{k}/" for k in range(count)]
            assert [numbers for numbers in pool.map(with_httpx_sse, urls) if numbers != WANTED] == []
        tails = [f"{base}/sse_tail/{k}/" for k in range(5, count, count // 4)]
        assert [with_sse_tail(url) for url in tails] == [WANTED] * len(tails)
