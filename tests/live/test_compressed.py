"""Compressed streams on every server and through clients that people use: each event at once, cut at any byte, and the end."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import niquests
import pytest
import requests
from aiohttp import ClientSession

from tests.npm import Node
from tests.timing import LONG

from .cuts import count_bytes, cutting
from .servers import EVERY, Server
from .test_cuts import PYTHON

SITE = {"middleware": "everything", "agent_sse": {"COMPRESS": True}}
GZIP = {"Accept-Encoding": "gzip"}
CURL_PARTIAL_FILE = 18
TO = 3 if LONG else 2
WANTED = [*range(1, TO + 1)]
NPM = ("eventsource", "EventStream")
PACKED = {name: read for name, read in PYTHON.items() if name != "launchdarkly-eventsource"}
"""Those that ask for gzip: LaunchDarkly's client asks for no compression."""
PATIENCE = 60.0

on_every_server = pytest.mark.parametrize("server", EVERY, indirect=True)


@on_every_server
def test_each_event_is_there_before_the_next_one_is_written(server: Server, key: str) -> None:
    with server.open("life/stepwise/", key=key, headers=GZIP) as client:
        _, headers = client.head()
        assert (headers["content-encoding"], headers["incremental"]) == ("gzip", "?1")
        assert "Accept-Encoding" in headers["vary"]
        for number in range(1, 5):
            assert client.next().data == str(number)
            server.open_gate(f"{key}-{number}")
        assert client.next().name == "sse.end"
        client.rest()
        assert (client.complete, client.whole) == (True, True)


@on_every_server
def test_a_build_log_is_the_same_for_those_who_take_gzip(server: Server, key: str) -> None:
    path = f"topics/follow/{key}/"
    with server.open(path) as plain, server.open(path, headers=GZIP) as packed, server.open(path, headers=GZIP) as other:
        clients = (plain, packed, other)
        for client in clients:
            client.wait_for_comments(1)
        server.get(f"topics/produce/{key}/", rate=2_000, seconds=1)
        logs = [[(event.data, event.id) for event in client.own_events()] for client in clients]
        assert len(logs[0]) == 2_000
        assert logs[1] == logs[2] == logs[0]
        assert all(client.complete and client.whole for client in clients)


@on_every_server
def test_what_is_broken_off_has_no_end_of_gzip(server: Server, key: str) -> None:
    with server.open("life/fails/", key=key, headers={**GZIP, "Accept": "*/*"}) as client:
        assert [event.data for event in client.rest()] == ["hello", "sorry"]
        assert (client.complete, client.whole) == (False, False)


# Clients that people use


def test_curl(server: Server, key: str) -> None:
    command = ["curl", "-sN", "--compressed", "--max-time", "60", f"{server.url}/life/stepwise/?key={key}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        _one_by_one(server, key, process.stdout)
        assert process.wait(PATIENCE) == 0


def test_curl_says_that_an_answer_was_broken_off(uvicorn: Server, key: str) -> None:
    command = ["curl", "-sN", "--compressed", "--max-time", "60", f"{uvicorn.url}/life/fails/?key={key}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert [line for line in done.stdout.splitlines() if line.startswith("data:")] == ["data: hello", "data: sorry"]
    assert done.returncode == CURL_PARTIAL_FILE


def _one_by_one(server: Server, key: str, lines: Any) -> None:
    """Four events, each there before the next one is written."""
    for number in range(1, 5):
        while (line := next(lines)).strip() != f"data: {number}":
            assert not line.startswith("data:"), line
        server.open_gate(f"{key}-{number}")


@contextmanager
def with_httpx(url: str) -> Iterator[Iterator[str]]:
    with httpx.stream("GET", url, timeout=PATIENCE) as response:
        assert response.headers["content-encoding"] == "gzip"
        yield response.iter_lines()


@contextmanager
def with_requests(url: str) -> Iterator[Iterator[str]]:
    with requests.get(url, stream=True, timeout=PATIENCE) as response:
        assert response.headers["content-encoding"] == "gzip"
        yield (line.decode() for line in response.iter_lines(chunk_size=None))


@contextmanager
def with_niquests(url: str) -> Iterator[Iterator[str]]:
    with niquests.Session() as session, session.get(url, stream=True, timeout=PATIENCE) as response:
        assert response.headers["content-encoding"] == "gzip"
        yield (line.decode() for line in response.iter_lines())


@contextmanager
def with_events_of_niquests(url: str) -> Iterator[Iterator[str]]:
    """Its extension, for which an address has a scheme of its own."""
    with niquests.Session() as session, session.get(url.replace("http:", "psse:"), timeout=PATIENCE) as response:
        assert response.headers["content-encoding"] == "gzip"
        yield (f"data: {event.data}" for event in iter(response.extension.next_payload, None))


@pytest.mark.parametrize("opened", [with_httpx, with_requests, with_niquests, with_events_of_niquests])
def test_python(uvicorn: Server, key: str, opened: Callable[[str], Any]) -> None:
    with opened(f"{uvicorn.url}/life/stepwise/?key={key}") as lines:
        _one_by_one(uvicorn, key, lines)


def test_aiohttp(uvicorn: Server, key: str) -> None:
    async def read() -> None:
        async with ClientSession() as session, session.get(f"{uvicorn.url}/life/stepwise/?key={key}") as response:
            assert response.headers["content-encoding"] == "gzip"
            for number in range(1, 5):
                while (await response.content.readline()).strip() != f"data: {number}".encode():
                    assert not response.content.at_eof()
                await asyncio.to_thread(uvicorn.open_gate, f"{key}-{number}")

    asyncio.run(asyncio.wait_for(read(), PATIENCE))


# Cut and resumed


def test_whoever_resumes_gets_each_event_once_wherever_a_compressed_stream_is_cut(uvicorn: Server, node: Node) -> None:
    count = count_bytes(uvicorn, to=TO, compressed=True)
    with cutting(uvicorn, node, to=TO, clients=NPM, count=count) as cuts, ThreadPoolExecutor(16) as pool:
        for name, read in PACKED.items():
            got = pool.map(read, [f"{cuts.base}/{name}/{k}/" for k in range(count)])
            assert {k: numbers for k, numbers in enumerate(got) if numbers != WANTED} == {}, name
    for name in (*NPM, *PACKED):
        cuts.must_cover(name, count, compressed=True)
    assert {name: cuts.wrong[name] for name in NPM} == {name: [] for name in NPM}
