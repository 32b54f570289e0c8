"""Clients that people use: curl and httpx-sse."""

from __future__ import annotations

import shutil
import subprocess

import httpx
import httpx_sse

from .servers import Server

SITE = {"middleware": "everything"}


def test_curl_shows_each_event_as_it_comes(server: Server, key: str) -> None:
    curl = shutil.which("curl")
    assert curl, "curl is needed: apt-get install curl"
    command = [curl, "-sN", "--max-time", "60", f"{server.url}/life/stepwise/?key={key}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for number in range(1, 5):
            seen = []
            while f"data: {number}\n" not in seen:
                seen.append(process.stdout.readline())
                assert seen[-1], f"curl ended after {seen}"
            assert f"data: {number + 1}\n" not in seen
            server.open_gate(f"{key}-{number}")
        assert "sse.end" not in process.stdout.read()
        assert process.wait(60) == 0


def test_curl_compressed_shows_each_event_as_it_comes(uvicorn: Server) -> None:
    command = ["curl", "-sN", "--compressed", f"{uvicorn.url}/parity/count/?count=3&delay=0.05"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("data:")] == [
        'data: {"n":1}',
        'data: {"n":2}',
        'data: {"n":3}',
    ]


def test_httpx_sse_reads_the_same_events(server: Server) -> None:
    with httpx.Client(timeout=120) as client, httpx_sse.connect_sse(client, "GET", f"{server.url}/parity/values/") as source:
        events = [(event.event, event.data, event.id) for event in source.iter_sse()]
    assert events == [
        ("message", "hello", ""),
        ("message", "42", ""),
        ("message", "true", ""),
        ("message", "null", ""),
        ("message", '{"a":[1,"ü"]}', ""),
        ("message", '["x",2.5]', ""),
        ("message", "bytes", ""),
        ("typed", "from an Event", "e1"),
        ("label", "named", "e2"),
        ("sse.end", '{"reason":"completed"}', "sse.end~e2"),
    ]


def test_httpx_sse_sees_the_retry_and_no_event_in_comments(uvicorn: Server) -> None:
    url = f"{uvicorn.url}/verbs/pipes/"
    with httpx.Client(timeout=120) as client, httpx_sse.connect_sse(client, "GET", url) as source:
        events = list(source.iter_sse())
    assert [event.event for event in events] == ["token", "token", "sync", "sync", "file", "file", "line", "sse.end"]
    assert (events[0].retry, events[1].retry) == (3000, None)
