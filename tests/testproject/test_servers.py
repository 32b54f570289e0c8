"""The project on each server: pages, static files, streams, and no process of a build after the server's end."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from tests.live.client import Client
from tests.live.servers import poll

from .recipe import MANY
from .server import BY_KEY, Server, numbered, outcome, wait_until_gone

KINDS = ("uvicorn", "daphne", "granian", "hypercorn", "runserver")
KEEPER_GRACE = 2.0
STATIC = re.compile(r'(?:href|src)="(/static/[^"]+)"')


@pytest.mark.parametrize("kind", KINDS)
def test_pages_static_files_and_streams(start: Callable[[str], Server], kind: str) -> None:
    server = start(kind)
    build = server.start("many")
    assert len(numbered(server.whole_log(build))) == MANY
    page = server.get(f"/builds/{build}/")
    files = STATIC.findall(page.text)
    assert len(files) == 6
    for path in files:
        answer = httpx.get(server.url + path)
        assert answer.status_code == 200, path
        assert answer.headers["Content-Type"].split(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
    assert "Traceback" not in server.log()
    assert "Warning" not in server.log()


@pytest.mark.parametrize(("kind", "number"), [*((kind, signal.SIGTERM) for kind in KINDS), ("runserver", signal.SIGINT)])
def test_builds_end_with_the_server(tmp_path: Path, kind: str, number: signal.Signals) -> None:
    server = Server(kind, tmp_path)
    try:
        easy, stubborn = server.start("waits"), server.start("stubborn")
        with server.watch(easy) as one, server.watch(stubborn) as other:
            pids = [int(one.next().data), *map(int, other.next().data.split())]
            assert all(map(psutil.pid_exists, pids))
            server.process.send_signal(number)
            server.process.wait(5)
    finally:
        server.kill()
    wait_until_gone(pids[:1], within=KEEPER_GRACE)
    wait_until_gone(pids, within=KEEPER_GRACE + 2)


def test_a_build_that_the_end_of_its_server_stopped_says_so_afterwards(tmp_path: Path) -> None:
    server = Server("uvicorn", tmp_path)
    build = server.start("waits")
    with server.watch(build) as client:
        client.next()
        server.process.send_signal(signal.SIGINT)
        server.process.wait(5)
    heir = Server("uvicorn", tmp_path)
    try:
        end = outcome([event for event in heir.whole_log(build) if event.name == "complete"])
        assert (end["status"], end["exit_code"], end["lines"]) == ("stopped", None, 1)
    finally:
        heir.stop()


def test_a_restart_for_new_code_ends_builds(start: Callable[[str], Server]) -> None:
    server = start("reloader")
    build = server.start("waits")
    with server.watch(build) as client:
        pid = int(client.next().data)
        (child,) = psutil.Process(server.process.pid).children()
        child.terminate()  # what the reloader does is to leave with code 3; a crash is harder
        wait_until_gone([pid], within=KEEPER_GRACE)


def test_a_log_that_is_no_longer_kept_is_named(tmp_path: Path) -> None:
    server = Server("uvicorn", tmp_path)
    build = server.finish("many")
    server.stop()
    heir = Server("uvicorn", tmp_path)
    try:
        with Client(f"{heir.url}/builds/{build}/logs/", headers=BY_KEY) as client:
            *missing, end = client.own_events()
        assert {event.name for event in missing} == {"missing"}
        assert missing[-1].id == str(MANY)
        assert outcome([end])["status"] == "passed"
    finally:
        heir.stop()


def test_a_port_answers_on_loopback_only(start: Callable[[str], Server]) -> None:
    server = start("uvicorn")
    assert {
        connection.laddr.ip
        for connection in psutil.Process(server.process.pid).net_connections()
        if connection.status == "LISTEN"
    } == {"127.0.0.1"}
    assert poll("an answer", lambda: httpx.get(f"{server.url}/login/").status_code) == 200
