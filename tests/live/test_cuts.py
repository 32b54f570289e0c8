"""Cut after any byte, inside of an event as well as between two, every client that resumes gets each event once and in order.

What an event's id is worth depends on where it stands: clients that take it line by line would lose the event with the id first.
Those of browsers are in ``tests/browser/test_cuts.py``.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import httpx_sse
import niquests
import pytest
from aiohttp import ClientError, ClientSession
from aiohttp_sse_client2.client import EventSource as AiohttpEventSource
from ld_eventsource import SSEClient
from ld_eventsource.config import ConnectStrategy, ErrorStrategy, RetryDelayStrategy
from requests_sse import EventSource as RequestsEventSource

from tests import warm
from tests.npm import Node
from tests.timing import LONG

from .cuts import count_bytes, cutting
from .servers import ROOT, Server

SITE = {"middleware": "none"}
TO = 3 if LONG else 2
WANTED = [*range(1, TO + 1)]
NPM = ("fetch-event-source", "eventsource", "EventStream")
PATIENCE = 120.0
NIQUESTS = {"http": "psse", "https": "sse"}
"""The schemes of niquests' extension."""


def with_httpx_sse(url: str) -> list[int]:
    """Come back with the last id for as long as the connection breaks: httpx-sse reads one response."""
    numbers: list[int] = []
    last = None
    for _ in range(5):
        headers = {"Last-Event-ID": last} if last else {}
        try:
            with (
                httpx.Client(timeout=PATIENCE, verify=False) as client,
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


def with_niquests(url: str) -> list[int]:
    """Come back with the last id for as long as there is no end: its extension reads one response."""
    scheme, rest = url.split("://")
    numbers: list[int] = []
    last = ""
    for _ in range(5):
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        try:
            with (
                niquests.Session() as session,
                session.get(f"{NIQUESTS[scheme]}://{rest}", headers=headers, timeout=PATIENCE, verify=False) as response,
            ):
                while event := response.extension.next_payload():
                    last = event.id
                    if event.event == "sse.end":
                        return numbers
                    numbers.append(event.json()["number"])
        except niquests.exceptions.RequestException:
            continue
    raise AssertionError(f"no end after five connections: {numbers}")


def with_requests_sse(url: str) -> list[int]:
    """It comes back by itself."""
    numbers: list[int] = []
    with RequestsEventSource(url, timeout=PATIENCE, reconnection_time=timedelta(milliseconds=10)) as source:
        for event in source:
            if event.type == "sse.end":
                break
            numbers.append(json.loads(event.data)["number"])
    return numbers


def with_launchdarkly(url: str) -> list[int]:
    """It comes back by itself."""
    numbers: list[int] = []
    errors = ErrorStrategy.continue_with_max_attempts(5)
    with SSEClient(
        ConnectStrategy.http(url),
        error_strategy=errors,
        initial_retry_delay=0.01,
        retry_delay_strategy=RetryDelayStrategy.default(jitter_multiplier=0),
    ) as client:
        for event in client.events:
            if event.event == "sse.end":
                break
            numbers.append(json.loads(event.data)["number"])
    return numbers


def with_aiohttp_sse_client2(url: str) -> list[int]:
    """Come back with the last id when the connection breaks: it does so by itself only where a response ends."""
    numbers: list[int] = []

    async def read() -> list[int]:
        last = ""
        async with ClientSession() as session:
            for _ in range(5):
                headers = {"Last-Event-ID": last} if last else {}
                try:
                    async with AiohttpEventSource(url, session=session, headers=headers) as source:
                        async for event in source:
                            last = event.last_event_id or last
                            if event.type == "sse.end":
                                return numbers
                            numbers.append(json.loads(event.data)["number"])
                except ClientError:
                    continue
        raise AssertionError(f"no end after five connections: {numbers}")

    return asyncio.run(read())


def with_sse_tail(url: str) -> list[int]:
    """Read with the package's own command."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.site.settings",
        "PYTHONPATH": str(ROOT),
        "SITE_DATABASE": ":memory:",
    }
    command = [sys.executable, "-m", "django", "sse_tail", "--json", url]
    done = warm.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return [json.loads(json.loads(line)["data"])["number"] for line in done.stdout.splitlines()]


PYTHON: dict[str, Callable[[str], list[int]]] = {
    "httpx-sse": with_httpx_sse,
    "niquests": with_niquests,
    "requests-sse": with_requests_sse,
    "launchdarkly-eventsource": with_launchdarkly,
    "aiohttp-sse-client2": with_aiohttp_sse_client2,
}


@pytest.mark.parametrize("server", ["uvicorn"], indirect=True)
def test_whoever_resumes_gets_each_event_once_wherever_the_connection_is_cut(server: Server, node: Node) -> None:
    count = count_bytes(server, to=TO)
    with cutting(server, node, to=TO, clients=NPM, count=count) as cuts, ThreadPoolExecutor(16) as pool:
        for name, read in PYTHON.items():
            got = pool.map(read, [f"{cuts.base}/{name}/{k}/" for k in range(count)])
            assert {k: numbers for k, numbers in enumerate(got) if numbers != WANTED} == {}, name
        tails = [f"{cuts.base}/sse_tail/{k}/" for k in range(5, count, count // 4)]
        assert [with_sse_tail(url) for url in tails] == [WANTED] * len(tails)
    for name in (*NPM, *PYTHON):
        cuts.must_cover(name, count)
    assert (cuts.wrong["eventsource"], cuts.wrong["EventStream"]) == ([], [])
    lost = cuts.wrong["fetch-event-source"]
    assert [cut for cut in lost if not cuts.is_past_help("fetch-event-source", cut["k"], cut["numbers"], WANTED)] == []
