"""The stream of a build with clients of other people: the npm package ``eventsource``, and curl."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.npm import Node

from .cutter import Cutter
from .recipe import HALF, MANY
from .server import BY_KEY, PASSWORD, Server

PATIENCE = 120.0


def run_node(node: Node, url: str, **headers: str) -> tuple[int, list[dict[str, Any]]]:
    """What ``watch.mjs`` printed, and its exit code."""
    done = subprocess.run(
        node.command("watch.mjs", url, json.dumps(headers)), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def cookie(server: Server, name: str) -> str:
    with server.client(name) as client:
        return f"sessionid={client.cookies['sessionid']}"


def test_npm_eventsource_gets_every_line_once_and_stops(server: Server, node: Node) -> None:
    build = server.finish("many")
    code, events = run_node(node, f"{server.url}/builds/{build}/logs/", **BY_KEY)
    assert (code, events[0], events[-1]["type"]) == (0, {"type": "open"}, "complete")
    assert [int(event["id"].partition(".")[2]) for event in events[1:-1]] == list(range(1, MANY + 1))
    assert {event["type"] for event in events[1:-1]} == {"stdout", "stderr"}


def test_npm_eventsource_goes_on_where_its_connection_was_cut(server: Server, node: Node) -> None:
    build = server.finish("many")
    with Cutter(server.port, b".150\n") as cutter:
        code, events = run_node(node, f"{cutter.url}/builds/{build}/logs/", **BY_KEY)
    assert code == 0
    assert [event["type"] for event in events].count("open") == 2
    lines = [int(event["id"].partition(".")[2]) for event in events if event["type"] in ("stdout", "stderr")]
    assert lines == list(range(1, MANY + 1)), "each line once, in order"
    assert [len(re.findall(r"last-event-id: \w+\.149\r\n", request.lower())) for request in cutter.requests] == [0, 1]


def test_npm_eventsource_in_the_admin_with_a_session_and_without(server: Server, node: Node) -> None:
    build = server.finish("passes")
    url = f"{server.url}/admin/builds/build/{build}/log/"
    code, events = run_node(node, url, Cookie=cookie(server, "viewer"))
    assert (code, [event.get("data") for event in events[1:-1]]) == (0, ["one", "two ü €", "  three"])
    for headers, refusal in ({}, 401), ({"Cookie": cookie(server, "stranger")}, 403):
        code, (error,) = run_node(node, url, **headers)
        assert (code, error["type"], error["code"]) == (1, "error", refusal), "it gives up at once"


def test_curl_signs_in_and_watches_a_build_in_the_admin(server: Server, tmp_path: Path) -> None:
    jar = str(tmp_path / "cookies")

    def curl(*arguments: str) -> str:
        done = subprocess.run(
            ["curl", "-sS", "-N", "-b", jar, "-c", jar, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        return done.stdout

    build = server.start("gated")
    stream = f"{server.url}/admin/builds/build/{build}/log/"
    assert json.loads(curl(stream)) == {"error": {"type": "unauthorized", "message": "authentication required"}}
    curl(f"{server.url}/admin/login/")
    token = next(line.split()[-1] for line in Path(jar).read_text().splitlines() if "csrftoken" in line)
    form = [
        "--data-urlencode",
        "username=viewer",
        "--data-urlencode",
        f"password={PASSWORD}",
        "-d",
        f"csrfmiddlewaretoken={token}",
    ]
    curl(f"{server.url}/admin/login/", *form)
    for gate in ("half", "end"):
        server.open_gate(build, gate)
    events = curl(stream).strip().split("\n\n")
    lines = [event for event in events if event.removeprefix(":\n").startswith("event: stdout")]
    assert len(lines) == 2 * HALF
    assert events[-1].splitlines()[0] in ("event: complete", "event: sse.end")
