"""What a stream asks of the database, as the page "What it costs" says."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from .servers import ROOT, Server

PAGE = ROOT / "docs/topics/costs.rst"
LOG = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}, "MONITOR": {"REPORTS": False}}
TIMES = 15
"""So often each is done: once at least nothing else, such as the look at all topics twice a second, comes in between."""
STREAMS, IDLE_SECONDS, WINDOWS = 20, 2.0, 3


@pytest.fixture(scope="module")
def promised() -> dict[str, int]:
    """The table of queries."""
    _, _, after = PAGE.read_text().partition("Queries of a stream")
    rows = re.findall(r"^   \* - (.+)\n     - (\d+)$", after.partition("\n\nA topic")[0], re.MULTILINE)
    return {what: int(queries) for what, queries in rows}


@pytest.fixture(scope="module")
def server(start: Callable[..., Server]) -> Server:
    return start("uvicorn", middleware="default", agent_sse=LOG)


def test_queries_are_as_many_as_the_documentation_says(server: Server, promised: dict[str, int]) -> None:
    server.get("topics/produce/builds/", rate=100, seconds=1, close=0)
    with server.open("topics/follow/builds/") as client:
        last = [client.next() for _ in range(100)][-1].id
    cookie = server.get("client/in/user-000/").headers["set-cookie"].partition(";")[0]
    server.get("client/tell/user-000/")

    def connect(path: str, **headers: str | None) -> None:
        with server.open(path, headers=headers, key="costs") as client:
            client.next() if "Last-Event-ID" not in headers else client.wait_for_comments(1)

    def least(act: Callable[[], object]) -> int:
        counts = []
        for _ in range(TIMES):
            before = server.state()["queries"]
            act()
            counts.append(server.state()["queries"] - before)
        return min(counts)

    found = [
        least(lambda: connect("life/idle/")),
        least(lambda: connect("topics/follow/builds/")),
        least(lambda: connect("topics/follow/builds/", **{"Last-Event-ID": last})),
        least(lambda: connect("client/members/", Cookie=cookie)),
        least(lambda: server.get("client/tell/nobody-here/")),
        queries_of_each_that_is_idle(server),
    ]
    assert found == [*promised.values()], promised


def queries_of_each_that_is_idle(server: Server) -> int:
    """Of as many streams of a topic that they are more than the looks which the process takes for all of them together."""
    clients = server.connect(STREAMS, "topics/follow/builds/")
    asked = []
    for _ in range(WINDOWS):
        before = int(server.state()["queries"])
        time.sleep(IDLE_SECONDS)
        asked.append(int(server.state()["queries"]) - before)
    for client in clients:
        client.close()
    return min(asked) // STREAMS
