"""Builds and the processes that start, run and show them: a server that is killed, a terminal, several workers."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, expect

from tests.chromium import launched
from tests.live.client import Client
from tests.live.servers import poll

from .recipe import HALF
from .server import BY_KEY, OFTEN, Server, numbered, outcome, wait_until_gone

SECONDS = 120.0
"""For a process that Django has to be loaded in."""
COMMAND_SECONDS = 60.0
"""The two seconds before SIGKILL, and a busy machine's."""
AT_ONCE = 2

expect.set_options(timeout=SECONDS * 1000)
HALVES = [("stdout", f"line {number}") for number in range(1, 2 * HALF + 1)]
SAYS = "import sys; print('out'); print('err', file=sys.stderr); sys.stdout.flush(); sys.stdin.readline(); sys.exit({code})"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


def other_log(server: Server, name: str) -> Client:
    return Client(f"{server.url}/logs/{name}/", headers=BY_KEY)


def newest(server: Server) -> int:
    found = re.search(r'<li[^>]* data-build="(\d+)"', server.get("/").text)
    assert found
    return int(found[1])


# The server


def test_a_server_that_is_killed_in_the_middle_changes_nothing_in_a_log(tmp_path: Path) -> None:
    doomed = Server("uvicorn", tmp_path)
    build = doomed.start("gated")
    with doomed.watch(build) as client:
        before = [client.next() for _ in range(HALF)]
    doomed.kill()
    doomed.open_gate(build, "half")
    heir = Server("uvicorn", tmp_path)
    try:
        assert len(heir.runners()) == 1, "it goes on"
        heir.open_gate(build, "end")
        after = heir.whole_log(build, before[-1].id)
        assert [(event.name, event.data) for event in before + after[:-1]] == HALVES
        whole = heir.whole_log(build)
        assert numbered(whole) == HALVES
        assert outcome(whole) == outcome(after)
        assert outcome(whole)["status"] == "passed"
    finally:
        heir.stop()


def test_a_build_ends_while_there_is_no_server(tmp_path: Path) -> None:
    doomed = Server("uvicorn", tmp_path)
    build, waiting = doomed.start("gated"), [doomed.start("passes") for _ in range(AT_ONCE)]
    doomed.kill()
    for gate in ("half", "end"):
        doomed.open_gate(build, gate)
    poll("the end of every build, those that waited too", lambda: not list(tmp_path.glob("build-*.lock")), SECONDS)
    heir = Server("uvicorn", tmp_path)
    try:
        assert numbered(heir.whole_log(build)) == HALVES
        assert [outcome(heir.whole_log(one))["status"] for one in waiting] == ["passed"] * AT_ONCE
    finally:
        heir.stop()


def test_a_build_whose_process_is_killed_is_lost_and_its_place_is_free(server: Server) -> None:
    builds = [server.start("waits") for _ in range(AT_ONCE)]
    waiting = server.start("passes")
    with server.watch(builds[0]) as client, server.watch(builds[1]) as other:
        command = int(client.next().data)
        other.next()
        victim = psutil.Process(command).parent()
        assert victim is not None
        victim.kill()
        told = outcome(client.own_events(SECONDS))
        assert (told["status"], told["exit_code"]) == ("lost", None)
        assert outcome(server.whole_log(waiting))["status"] == "passed"
        wait_until_gone([command], within=COMMAND_SECONDS)
        server.post(f"/builds/{builds[1]}/cancel/")
        other.own_events(SECONDS)


# A terminal


def test_a_build_in_a_terminal_is_seen_by_everybody(server: Server) -> None:
    with server.terminal("run_build", "gated") as terminal:
        poll("its first line", lambda: server.commands(), SECONDS, OFTEN)
        build = newest(server)
        with server.watch(build) as client:
            for _ in range(HALF):
                client.next()
            for gate in ("half", "end"):
                server.open_gate(build, gate)
            client.own_events(SECONDS)
            assert numbered([event for event in client.events if not event.name.startswith("sse.")]) == HALVES
        out, err = terminal.communicate(timeout=SECONDS)
        assert terminal.returncode == 0
        assert out.splitlines() == [text for _, text in HALVES]
        assert err == f"Build {build}: Course: gated\n"


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_in_a_terminal_is_a_build_like_others(server: Server, code: int) -> None:
    argv = [sys.executable, "-c", SAYS.format(code=code)]
    with server.terminal("run_build", "--", *argv) as terminal:
        out, err = terminal.communicate(timeout=SECONDS)
    assert terminal.returncode == code
    build = newest(server)
    assert (out, err) == ("out\n", f"Build {build}: {shlex.join(argv)}\nerr\n")
    whole = server.whole_log(build)
    assert sorted(numbered(whole)) == [("stderr", "err"), ("stdout", "out")]
    assert outcome(whole)["exit_code"] == code


def test_quiet_prints_no_line(server: Server) -> None:
    with server.terminal("run_build", "--quiet", "passes") as terminal:
        out, err = terminal.communicate(timeout=SECONDS)
    assert (terminal.returncode, out) == (0, "")
    assert err == f"Build {newest(server)}: Course: passes\n"


def test_ctrl_c_in_the_terminal_cancels(server: Server) -> None:
    with server.terminal("run_build", "waits") as terminal:
        assert terminal.stdout is not None
        command = int(terminal.stdout.readline())
        build = newest(server)
        terminal.send_signal(signal.SIGINT)
        terminal.communicate(timeout=SECONDS)
    assert terminal.returncode == 128 + signal.SIGINT, "what ended the command"
    assert outcome(server.whole_log(build))["status"] == "cancelled"
    wait_until_gone([command], within=COMMAND_SECONDS)


def test_a_page_cancels_what_runs_in_a_terminal(server: Server) -> None:
    with server.terminal("run_build", "waits") as terminal:
        assert terminal.stdout is not None
        terminal.stdout.readline()
        server.post(f"/builds/{newest(server)}/cancel/")
        terminal.communicate(timeout=SECONDS)
    assert terminal.returncode == 128 + signal.SIGTERM
    assert outcome(server.whole_log(newest(server)))["status"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Name a recipe (pipeline,"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["passes", "--", "true"], "or give a command after --"),
        (["--", "/nonexistent/program"], "sse_run: /nonexistent/program: No such file or directory"),
    ],
)
def test_a_mistake_is_named_without_a_traceback(server: Server, arguments: list[str], told: str) -> None:
    with server.terminal("run_build", *arguments) as terminal:
        _, err = terminal.communicate(timeout=SECONDS)
    assert terminal.returncode in (1, 2, 127)
    assert told in err
    assert "Traceback" not in err


def test_a_log_that_another_terminal_writes_is_listed_and_seen_live(server: Server, browser: Browser, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo first; echo wrong >&2; while [ ! -e {gate} ]; do sleep 0.05; done; echo last; exit 4"
    with browser.new_context() as context, contextlib.ExitStack() as stack:
        server.sign_in(context)
        page = context.new_page()
        page.goto(server.url)
        expect(page.locator("#connection")).to_have_text("live")
        link = page.get_by_role("link", name="builds.nightly.linux")
        expect(link).to_have_count(0)
        terminal = stack.enter_context(server.terminal("sse_run", "builds.nightly.linux", "--", "sh", "-c", script))
        assert terminal.stdout is not None
        assert terminal.stdout.readline() == "first\n"
        link.click()
        expect(page.locator(".sl-count")).to_have_text("2 lines")
        expect(page.locator(".sl-connection")).to_have_text("Live")
        gate.touch()
        expect(page.locator(".sl-line > .sl-t").last).to_have_text("last")
        expect(page.locator(".sl-connection")).to_have_text("Ended")
        terminal.communicate(timeout=SECONDS)
    assert terminal.returncode == 4
    with other_log(server, "nightly.linux") as client:
        told = client.own_events(SECONDS)
    assert json.loads(told[-1].data)["code"] == 4
    kept = httpx.get(f"{server.url}/logs/nightly.linux/raw/", headers=BY_KEY, timeout=120).text.splitlines()
    assert {"first", "wrong", "last"} <= {*kept}


def test_who_may_not_see_builds_sees_no_other_log(server: Server) -> None:
    for who, status in ((None, 401), ("stranger", 403)):
        assert server.get("/logs/nightly.linux/", who).status_code == status
    assert server.get("/logs/nightly.linux/page/", "stranger").status_code == 403


# Workers


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The project in two worker processes."""
    server = Server("two workers", tmp_path_factory.mktemp("workers"))
    yield server
    server.stop()


def test_every_worker_serves_every_build(workers: Server) -> None:
    build = workers.start("gated")
    clients = [workers.watch(build) for _ in range(8)]
    try:
        while len(serving(workers)) < 2 and len(clients) < 200:  # a worker that is quick takes several in a row
            clients.append(workers.watch(build))
        for client in clients:
            for _ in range(HALF):
                client.next()
        assert len(serving(workers)) == 2, "streams of both workers"
        for gate in ("half", "end"):
            workers.open_gate(build, gate)
        ends = [outcome(client.own_events(SECONDS)) for client in clients]
        assert ends == [ends[0]] * len(clients)
    finally:
        for client in clients:
            client.close()
    assert numbered(workers.whole_log(build)) == HALVES


def serving(server: Server) -> set[int]:
    """The processes that hold a connection of a client."""
    return {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.laddr and connection.laddr.port == server.port and connection.status == "ESTABLISHED" and connection.pid
    }


def test_builds_wait_and_are_cancelled_whichever_worker_is_asked(workers: Server) -> None:
    builds = [workers.start("waits") for _ in range(AT_ONCE + 2)]
    try:
        poll("as many as may run", lambda: len(workers.commands()) == AT_ONCE, SECONDS, OFTEN)
    finally:
        answers = [workers.post(f"/builds/{build}/cancel/").status_code for build in builds]
    assert answers == [302] * len(builds)
    assert {outcome(workers.whole_log(build))["status"] for build in builds} == {"cancelled"}
    poll("the end of all builds", lambda: not workers.runners(), SECONDS, OFTEN)
