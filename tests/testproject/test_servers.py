"""The project on each server: pages, static files, streams, and no process of a build after the server's end."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import psutil
import pytest

from tests.live.servers import poll

from .recipe import MANY
from .server import Server, numbered

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
    modules = page.text.count('rel="modulepreload"')
    assert modules
    assert len(files) == modules + 6
    for path in files:
        answer = httpx.get(server.url + path, timeout=120)
        assert answer.status_code == 200, path
        assert answer.headers["Content-Type"].split(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
    assert "Traceback" not in server.log()
    assert "Warning" not in server.log()


def test_a_port_answers_on_loopback_only(start: Callable[[str], Server]) -> None:
    server = start("uvicorn")
    assert {
        connection.laddr.ip
        for connection in psutil.Process(server.process.pid).net_connections()
        if connection.status == "LISTEN"
    } == {"127.0.0.1"}
    assert poll("an answer", lambda: httpx.get(f"{server.url}/login/", timeout=120).status_code) == 200
