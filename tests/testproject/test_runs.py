"""Builds that are cancelled, run again, and wait their turn, on a real server."""

from __future__ import annotations

import re

from tests.live.servers import poll

from .recipe import HALF
from .server import OFTEN, Server, outcome, wait_until_gone

PATIENCE = 180.0
AT_ONCE = 2
WAITING = 20


def number(location: str) -> int:
    found = re.fullmatch(r"/builds/(\d+)/", location)
    assert found, location
    return int(found[1])


def cancel(server: Server, *builds: int) -> None:
    for build in builds:
        assert server.post(f"/builds/{build}/cancel/").headers["Location"] == f"/builds/{build}/"


def test_a_cancelled_build_ends_with_all_that_it_printed(server: Server) -> None:
    build = server.start("waits")
    with server.watch(build) as client:
        pid = int(client.next().data)
        cancel(server, build)
        end = client.own_events()
    wait_until_gone([pid], within=PATIENCE)
    told = outcome(end)
    assert (told["status"], told["exit_code"], told["lines"]) == ("cancelled", -15, 1)
    assert outcome(server.whole_log(build)) == told
    cancel(server, build)
    assert outcome(server.whole_log(build)) == told, "a build that is over stays as it is"


def test_a_build_that_ignores_sigterm_is_killed_with_its_children(server: Server) -> None:
    build = server.start("stubborn")
    with server.watch(build) as client:
        pids = [int(pid) for pid in client.next().data.split()]
        cancel(server, build)
        told = outcome(client.own_events())
    wait_until_gone(pids, within=PATIENCE)
    assert (told["status"], told["exit_code"]) == ("cancelled", -9)


def test_a_build_runs_again_as_another_build(server: Server) -> None:
    first = server.finish("fails")
    second = number(server.post(f"/builds/{first}/again/").headers["Location"])
    assert second > first
    assert outcome(server.whole_log(second))["exit_code"] == 3
    assert server.post("/builds/999999/again/").status_code == 404


def test_more_builds_than_may_run_wait_their_turn(server: Server) -> None:
    running = [server.start("waits") for _ in range(AT_ONCE)]
    third, fourth = server.start("gated"), server.start("passes")
    try:
        with server.watch(third) as client, server.watch(fourth) as other:
            for one in (client, other):
                assert (one.next().name, one.events[-1].data) == ("status", '{"status":"queued"}')
            cancel(server, fourth)
            assert outcome(other.own_events()) == {"status": "cancelled", "exit_code": None, "duration": None, "lines": 0}
            poll("as many as may run", lambda: len(server.commands()) == AT_ONCE, PATIENCE, OFTEN)
            cancel(server, running[0])
            events = client.take(HALF + 1, PATIENCE)  # its lines and its status, which is looked for twice a second
            assert [event.data for event in events if event.name == "status"] == ['{"status":"running"}']
            server.open_gate(third, "half")
            server.open_gate(third, "end")
            assert outcome(client.own_events())["status"] == "passed"
    finally:
        cancel(server, *running)
    for build in running:  # their places are free: the next test counts those that wait
        server.whole_log(build)


def test_no_more_wait_than_may(server: Server) -> None:
    builds = [server.start("waits") for _ in range(AT_ONCE + WAITING)]
    try:
        with server.client() as client:
            form = {"recipe": "waits", "csrfmiddlewaretoken": client.cookies["csrftoken"]}
            for address in ("/builds/start/", f"/builds/{builds[0]}/again/"):
                refused = client.post(address, data=form, follow_redirects=True)
                assert refused.url.path == "/"
                assert f"{WAITING} builds are waiting" in refused.text
    finally:
        cancel(server, *reversed(builds))
    poll("the end of all builds", lambda: not server.commands(), PATIENCE, OFTEN)
    assert outcome(server.whole_log(server.start("passes")))["status"] == "passed"
