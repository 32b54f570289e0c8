"""A deploy, seen from the clients: readiness, waves, and what comes in between. Rolling restarts: ``test_rolling``."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.timing import LONG, bound

from . import servers
from .client import Client, EndOfStreamError
from .parser import Received
from .servers import EXIT_WITHIN, Server, poll

Start = Callable[..., Server]
PACE = 60
WINDOW = 1.0
STREAMS = 42
KINDS = ("uvicorn", "daphne", "granian", "hypercorn", "gunicorn", "gunicorn with uvicorn")
ALONE = ("uvicorn", "daphne")
"""Those that are told only when the streams are over."""


@pytest.mark.parametrize("kind", KINDS)
def test_streams_end_in_waves_and_their_handlers_clean_up(start: Start, key: str, kind: str) -> None:
    server = start(kind, agent_sse={"RECONNECTS": PACE, "DRAIN_SECONDS": WINDOW, "RETRY": 1_000})
    clients = [server.open("life/idle/", key=f"{key}-{number}") for number in range(STREAMS)]
    for client in clients:
        client.next()
    told = time.monotonic()
    server.signal(signal.SIGTERM)
    for client in clients:
        with client:
            assert [event.name for event in client.rest()] == ["sse.overloaded"]
            assert client.complete
            assert client.parser.retry is not None
            assert 500 <= client.parser.retry <= 1_500, "all of them fit into the window"
    server.wait(EXIT_WITHIN)
    over = sorted(server.recorded(f"{key}-{number}", "on_end")["at"] - told for number in range(STREAMS))
    # However busy the machine is, they may be late, and never early.
    assert [number for number, at in enumerate(over) if at < WINDOW * number / STREAMS - 0.05] == []
    for number in range(STREAMS):
        assert server.steps(f"{key}-{number}") == ["started", "on_abort", "cancelled", "finally", "on_end"]


@pytest.mark.parametrize("kind", ALONE)
def test_while_streams_end_ready_says_no_others_are_answered_and_a_second_signal_ends_them_at_once(
    start: Start, key: str, kind: str
) -> None:
    server = start(kind, agent_sse={"RECONNECTS": 1, "DRAIN_SECONDS": 600})
    clients = [server.open("life/idle/", key=f"{key}-{number}") for number in range(100)]
    for client in clients:
        client.next()
    server.signal(signal.SIGINT if kind == "uvicorn" else signal.SIGTERM)
    poll("it is told", lambda: server.get("_health/ready/").status == 503)
    told = time.monotonic()
    assert server.get("_health/ready/").json()["problems"] == ["closing"]
    assert server.get("_health/live/").status == 200
    with server.open("life/idle/", key="late") as late:
        assert (late.next().name, late.status) == ("sse.overloaded", 200)
        assert late.parser.retry is not None
        assert late.parser.retry <= 1_500
    refused = server.get("life/idle/", key="late")
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    # A proxy that keeps its connections asks another process the next time.
    for accept in ("*/*", "text/event-stream"):
        with server.open("life/idle/", key="late", headers={"Accept": accept}) as late:
            assert late.answer().headers["connection"] == "close"
    # Later than a terminal and a process manager tell the same, which counts as one.
    poll("half a second is over", lambda: time.monotonic() > told + 0.6)
    server.signal(signal.SIGTERM)
    server.wait(EXIT_WITHIN)
    assert all(_whole(client) for client in clients)


def _whole(client: Client) -> bool:
    with client:
        client.rest()
        return client.complete


@pytest.mark.parametrize(
    ("kind", "flag"),
    [
        ("uvicorn", "--workers 2 --timeout-graceful-shutdown 3"),
        ("gunicorn", "-c {folder}/gunicorn.conf.py"),
    ],
)
def test_a_flag_that_is_too_short_is_said_at_the_start(
    start: Start, kind: str, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("graceful_timeout = 3\n")
    monkeypatch.setitem(servers.COMMANDS, kind, f"{servers.COMMANDS[kind]} {flag}".replace("{folder}", str(tmp_path)))
    server = start(kind)
    assert " is 3 s: when it is told to end" in server.log()


def test_code_that_is_loaded_anew_waits_for_no_window(
    start: Start, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = tmp_path / "changed.py"
    watched.touch()
    command = f"{servers.COMMANDS['uvicorn']} --reload --reload-dir {tmp_path}"
    monkeypatch.setitem(servers.COMMANDS, "uvicorn", command)
    server = start("uvicorn", agent_sse={"DRAIN_SECONDS": 600})
    clients = [server.open("life/idle/", key=f"{key}-{number}") for number in range(30)]
    for client in clients:
        client.next()
    watched.write_text("changed = True\n")
    assert all(_whole(client) for client in clients)
    ends = [server.recorded(f"{key}-{number}", "on_end")["at"] for number in range(30)]
    assert max(ends) - min(ends) < bound(0.5, 30.0)
    poll("the new process answers", lambda: _answers_from_another(server))


def _answers_from_another(server: Server) -> bool:
    with contextlib.suppress(OSError, EndOfStreamError):
        return bool(server.state()["pid"] != server.worker)
    return False


def test_a_worker_that_is_recycled_while_it_ends_goes_on_with_its_waves(
    start: Start, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(servers.COMMANDS, "uvicorn", f"{servers.COMMANDS['uvicorn']} --limit-max-requests {STREAMS + 20}")
    server = start("uvicorn", agent_sse={"RECONNECTS": PACE, "DRAIN_SECONDS": WINDOW})
    clients = [server.open("life/idle/", key=f"{key}-{number}") for number in range(STREAMS)]
    for client in clients:
        client.next()
    told = time.monotonic()
    server.signal(signal.SIGTERM)
    with contextlib.suppress(OSError, EndOfStreamError):  # it listens no more
        for _ in range(40):
            server.get("_health/ready/")
    assert all(_whole(client) for client in clients)
    server.wait(EXIT_WITHIN)
    over = sorted(server.recorded(f"{key}-{number}", "on_end")["at"] - told for number in range(STREAMS))
    assert [number for number, at in enumerate(over) if at < WINDOW * number / STREAMS - 0.05] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["stopped", "reloaded"])
def test_a_window_longer_than_gunicorn_waits_is_cut_and_all_are_told(
    start: Start, key: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, it kills workers after ``--graceful-timeout``; at a reload after ``--timeout``, for they are silent then;
    that counts from their last sign of life, which may be half of it ago."""
    # In short, a machine that stands still has ten seconds after the window, instead of one.
    stopped, reloaded, left = (3, 8, 1) if LONG else (13, 26, 10)
    flag = f"--graceful-timeout {stopped}" if number is signal.SIGTERM else f"--timeout {reloaded}"
    command = f"{servers.COMMANDS['gunicorn with uvicorn']} {flag}"
    monkeypatch.setitem(servers.COMMANDS, "gunicorn with uvicorn", command)
    limits = {"RECONNECTS": 2, "DRAIN_SECONDS": 60, "RETRY": 1_000}
    server = start("gunicorn with uvicorn", grace_left=left, agent_sse=limits)
    clients = [server.open("life/idle/", key=f"{key}-{number}") for number in range(STREAMS)]
    for client in clients:
        client.next()
    server.signal(number)
    assert all(_whole(client) for client in clients)
    retries = sorted(client.parser.retry or 0 for client in clients)
    assert retries[-1] >= 10_000, "what the window has no room for is told to come back later"
    for client in range(STREAMS):
        assert server.recorded(f"{key}-{client}", "on_end")["ending"] == "shutdown"


@pytest.mark.parametrize(
    ("kind", "leave"), [("uvicorn", False), ("granian", False), ("granian", True)], ids=["uvicorn", "granian", "all have left"]
)
def test_a_run_goes_on_while_streams_end_and_is_interrupted_after_them(start: Start, key: str, kind: str, leave: bool) -> None:
    """Also on a server that ends with its last stream."""
    log = {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}
    server = start(kind, ending=60, agent_sse={"EVENT_LOG": log, "RECONNECTS": 10, "DRAIN_SECONDS": 6})
    clients = [server.open("life/idle/", key=f"{key}-{number}") for number in range(STREAMS)]
    for client in clients:
        client.next()
    runs = {}
    for name, about in {"short": {"most": 5, "pause": 0.02}, "endless": {"pause": 0.02}}.items():
        asked = {"method": "POST", "headers": {"Prefer": "respond-async"}, "key": f"{key}-{name}", **about}
        answer = server.get(f"runs/count/{name}/", **asked)
        assert answer.status == 202, answer
        runs[name] = answer.headers["location"].lstrip("/")
    server.signal(signal.SIGTERM)
    if leave:
        for client in clients:
            client.close()
    else:
        assert all(_whole(client) for client in clients)
    server.wait(EXIT_WITHIN)
    if not leave:
        assert server.steps(f"{key}-endless") == ["started", "cancelled", "finally"]
    server.restart()
    for name, endings in {"short": ("finished", "interrupted") if leave else ("finished",), "endless": ("interrupted",)}.items():
        with server.open(runs[name], headers={"Accept": "*/*"}) as reader:
            *numbers, last = [event.data for event in _told(reader) if not event.name.startswith("sse.")]
        assert numbers == [*map(str, range(len(numbers)))]
        assert last in {f"[{ending}]" for ending in endings}


def _told(reader: Client) -> list[Received]:
    """All that a reader gets, though its response breaks off after a run that was interrupted."""
    with contextlib.suppress(EndOfStreamError, ConnectionResetError):
        while True:
            reader.next()
    return reader.events
