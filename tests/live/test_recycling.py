"""A worker that its server recycles ends its streams within seconds: nobody waits for as long as a stream lives."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import servers
from .client import EndOfStreamError
from .servers import EXIT_WITHIN, Server, poll

REQUESTS = 40
"""More than starting the server and looking into it takes."""

COMMANDS = {
    "uvicorn": f"{servers.COMMANDS['uvicorn']} --limit-max-requests {REQUESTS}",
    "gunicorn": f"{servers.COMMANDS['gunicorn']} --max-requests {REQUESTS}",
    "hypercorn": servers.COMMANDS["hypercorn"].replace("-w 0", "-w 1 -c {folder}/max_requests.toml"),
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_streams_end_when_their_worker_is_recycled(
    start: Callable[..., Server], key: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "max_requests.toml").write_text(f"max_requests = {REQUESTS}\n")
    monkeypatch.setitem(servers.COMMANDS, kind, COMMANDS[kind].replace("{folder}", str(tmp_path)))
    server = start(kind, middleware="default")
    with server.open("life/idle/", key=key) as client:
        client.next()
        asked = time.monotonic()
        poll("it takes no more requests", lambda: not _answers(server) or ended(server, key), within=EXIT_WITHIN)
        assert server.recorded(key, "on_end", within=EXIT_WITHIN)["ending"] == "shutdown"
        assert time.monotonic() - asked < EXIT_WITHIN
    if kind != "uvicorn":  # which leaves it to whoever started it
        poll("the next worker answers", lambda: _answers(server))
    server.kill()


def test_a_stream_that_is_let_in_after_its_worker_took_the_last_request_does_not_keep_it(
    start: Callable[..., Server], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the first one of its process, and its guard was being asked when the worker stopped listening."""
    monkeypatch.setitem(servers.COMMANDS, "uvicorn", COMMANDS["uvicorn"])
    server = start("uvicorn", middleware="default")
    with server.open("life/guarded/", key=key, seconds=3.0) as client:
        server.recorded(key, "asked")
        poll("it takes no more requests", lambda: not _answers(server), within=EXIT_WITHIN)
        server.wait(3.0 + EXIT_WITHIN)
        client.rest()
        assert client.events[-1].name == "sse.overloaded"


def ended(server: Server, key: str) -> bool:
    """Whether the stream is over, though another worker answers."""
    return "on_end" in server.steps(key)


def _answers(server: Server) -> Any:
    try:
        with server.open("_ping/", headers={"Connection": "close"}) as client:
            client.socket.settimeout(10.0)
            return client.answer().status == 200
    except (OSError, AssertionError, EndOfStreamError):
        return False
