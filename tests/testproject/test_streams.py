"""A build's log, streamed by a real server: complete and in order, whoever watches, whenever they come."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.live.servers import ROOT, poll
from tests.timing import LONG

from .recipe import HALF, LONG_LINE, MANY
from .server import BY_KEY, Server, number_of, numbered, outcome, wait_until_gone

WATCHERS = 3
PATIENCE = 300.0


def lines(first: int, last: int) -> list[tuple[str, str]]:
    return [("stdout", f"line {number}") for number in range(first, last + 1)]


def test_a_build_that_passes(server: Server) -> None:
    build = server.start("passes")
    events = server.whole_log(build)
    assert numbered(events) == [("stdout", "one"), ("stdout", "two ü €"), ("stdout", "  three")]
    end = outcome(events)
    assert end.pop("duration") > 0
    assert end == {"status": "passed", "exit_code": 0, "lines": 3}


def test_a_build_that_fails_says_so_and_tells_stderr_apart(server: Server) -> None:
    build = server.start("fails")
    events = server.whole_log(build)
    assert sorted(numbered(events)) == [("stderr", "E   assert 1 == 2"), ("stdout", "collected 1 item")]
    assert (outcome(events)["status"], outcome(events)["exit_code"]) == ("failed", 3)


def test_a_program_that_does_not_exist(server: Server) -> None:
    events = server.whole_log(server.start("nowhere"))
    assert numbered(events) == [("stderr", "/nonexistent/program: No such file or directory")]
    assert (outcome(events)["status"], outcome(events)["exit_code"]) == ("failed", 127)


def test_a_finished_log_is_the_same_again_and_again(server: Server) -> None:
    build = server.start("many")
    live = server.whole_log(build)
    again = server.whole_log(build)
    assert len(numbered(live)) == MANY
    assert numbered(again) == numbered(live)
    assert outcome(again) == outcome(live)
    for source in ("stdout", "stderr"):
        texts = [text for origin, text in numbered(live) if origin == source]
        assert texts == [f"line {n}" for n in range(1, MANY + 1) if (n % 10 == 0) is (source == "stderr")]


def test_lines_arrive_before_the_build_ends(server: Server) -> None:
    build = server.start("gated")
    with server.watch(build) as client:
        events = client.take(HALF)
        assert events[-1].data == f"line {HALF}"
        server.open_gate(build, "half")
        events += client.take(HALF)
        server.open_gate(build, "end")
        events += client.own_events()
    assert numbered(events) == lines(1, 2 * HALF)


def test_whoever_comes_in_the_middle_gets_everything(server: Server) -> None:
    build = server.start("gated")
    with server.watch(build) as early:
        early.take(HALF)
        with server.watch(build) as late:
            got = late.take(HALF)
            server.open_gate(build, "half")
            server.open_gate(build, "end")
            got += late.own_events()
    assert numbered(got) == lines(1, 2 * HALF)


def test_a_reconnect_resumes_after_the_last_line(server: Server) -> None:
    build = server.start("gated")
    with server.watch(build) as client:
        last = client.take(HALF - 17)[-1]
    with server.watch(build, last.id) as client:
        got = client.take(17)
        server.open_gate(build, "half")
        server.open_gate(build, "end")
        got += client.own_events()
    assert [number_of(event) for event in got[:-1]] == list(range(HALF - 16, 2 * HALF + 1))
    assert [event.data for event in got[:-1]] == [text for _, text in lines(HALF - 16, 2 * HALF)]


@pytest.mark.parametrize("last", [0, 1, 255, 256, 257, MANY - 1, MANY])
def test_a_finished_log_resumes_after_any_line(server: Server, finished: int, epoch: str, last: int) -> None:
    events = server.whole_log(finished, f"{epoch}.{last}")
    assert [number_of(event) for event in events[:-1]] == list(range(last + 1, MANY + 1))
    assert events[-1].name == "complete"


@pytest.mark.parametrize("last", ["nonsense", "-3", "1.5", "²", str(MANY + 1), "9" * 400])
def test_an_id_of_no_line_is_a_gap_and_then_everything(server: Server, finished: int, last: str) -> None:
    with server.watch(finished, last) as client:
        assert client.next().name == "sse.gap"
        assert len(numbered(client.own_events())) == MANY


@pytest.fixture(scope="module")
def finished(server: Server) -> int:
    return server.finish("many")


@pytest.fixture(scope="module")
def epoch(server: Server, finished: int) -> str:
    """What stands before the offset in the ids of that log."""
    with server.watch(finished) as client:
        return (client.next().id or "").partition(".")[0]


def test_three_watchers_share_one_process(server: Server) -> None:
    build = server.start("gated")
    clients = [server.watch(build) for _ in range(WATCHERS)]
    got = [client.take(HALF) for client in clients]
    assert len([process for process in server.commands() if "gated" in process.cmdline()]) == 1
    server.open_gate(build, "half")
    server.open_gate(build, "end")
    for client, events in zip(clients, got, strict=True):
        with client:
            assert numbered(events + client.own_events()) == lines(1, 2 * HALF)


def test_a_slow_watcher_loses_nothing_and_holds_nobody_up(server: Server) -> None:
    build = server.start("many")
    with server.watch(build, receive_buffer=4096) as slow:
        first = slow.take(1)
        assert len(numbered(server.whole_log(build))) == MANY
        assert len(numbered(first + slow.own_events())) == MANY


def test_watchers_that_leave_take_no_line_with_them(server: Server) -> None:
    build = server.start("gated")
    with server.watch(build) as stays:
        got = stays.take(HALF)
        for _ in range(5):
            with server.watch(build) as goes:
                goes.take(10)
        server.open_gate(build, "half")
        server.open_gate(build, "end")
        assert numbered(got + stays.own_events()) == lines(1, 2 * HALF)


def test_odd_output(server: Server) -> None:
    texts = [text for _, text in numbered(server.whole_log(server.start("odd")))]
    assert texts == ["caf\ufffd", "x" * LONG_LINE, "\u2028 and \x85 end no line", "", "20 %", "no end of line"]


def test_several_builds_at_once(server: Server) -> None:
    builds = [server.start("many") for _ in range(3)]
    with ThreadPoolExecutor(len(builds)) as pool:
        logs = list(pool.map(server.whole_log, builds))
    assert [len(numbered(events)) for events in logs] == [MANY] * 3


def test_what_a_build_leaves_behind_is_ended_with_it(server: Server) -> None:
    events = server.whole_log(server.start("leaves"))
    ((_, pid),) = numbered(events)
    assert outcome(events)["status"] == "passed"
    wait_until_gone([int(pid)], within=PATIENCE)


def test_the_folder_of_a_build_goes_with_it(server: Server) -> None:
    build = server.finish("passes")
    poll("the folder's end", lambda: not list(server.state.glob(f"build-{build}-*")))


def test_an_unknown_build_is_not_found_before_anything_is_sent(server: Server) -> None:
    answer = httpx.get(f"{server.url}/builds/999999/logs/", headers={"Accept": "text/event-stream", **BY_KEY}, timeout=120)
    assert answer.status_code == 404
    assert answer.json() == {"error": "there is no build 999999"}


def test_head_starts_nothing(server: Server, finished: int) -> None:
    answer = httpx.head(f"{server.url}/builds/{finished}/logs/", headers=BY_KEY, timeout=120)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")


def test_nothing_of_a_request_gets_into_a_command(server: Server) -> None:
    with server.client() as browser:
        token = browser.cookies["csrftoken"]
        for recipe in ("", "passes; true", "../passes", "PASSES"):
            answer = browser.post("/builds/start/", data={"recipe": recipe, "csrfmiddlewaretoken": token})
            assert answer.status_code == 400


def test_a_start_needs_the_page(server: Server) -> None:
    assert server.get("/builds/start/").status_code == 405
    assert httpx.post(f"{server.url}/builds/start/", data={"recipe": "passes"}, timeout=120).status_code == 403


def test_the_recipes_of_the_project_do_real_work_offline(server: Server) -> None:
    compiled = server.whole_log(server.start("compile"))
    assert outcome(compiled)["status"] == "passed"
    assert len(compiled) > (1000 if LONG else 5)
    before = tree(ROOT)
    wheel = server.whole_log(server.start("wheel"), within=PATIENCE)
    assert outcome(wheel)["status"] == "passed", wheel
    assert any(event.data.endswith("django_agent_sse/py.typed") for event in wheel)
    assert tree(ROOT) == before


def tree(root: Path) -> set[Path]:
    """What is at the top, without what tests keep there, whose names begin with a dot; and every file of the package."""
    package = root / "django_agent_sse"
    top = (path for path in root.iterdir() if not path.name.startswith((".", "__pycache__")))
    return {*top, *(path for path in package.rglob("*") if "__pycache__" not in path.parts)}


def test_the_recipe_that_tests_passes(server: Server) -> None:
    events = server.whole_log(server.start("tests"), within=PATIENCE)
    assert outcome(events)["status"] == "passed", [event.data for event in events[-30:]]
    assert any("PASSED" in event.data for event in events)
