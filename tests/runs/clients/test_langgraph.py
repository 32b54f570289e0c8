"""``langgraph-sdk`` against two routes of runs at the paths of LangGraph's server: it comes back to ``Location`` after a cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from django_agent_sse.contrib.wires.messages import SENTENCES
from django_agent_sse.runs.endings import RunEnding
from tests.site.routes.agents import TEXT, WORDS

from .cutting import Asked, cuts
from .site import Site

EVENTS = len(WORDS) + 1
PARTS = ["metadata", *["messages"] * len(WORDS)]
JSON = {"Accept": "application/json"}
Part = Any
pytestmark = pytest.mark.filterwarnings("ignore:Reconnecting without a Last-Event-ID")


@contextmanager
def client_of(url: str) -> Iterator[Any]:
    from langgraph_sdk import get_sync_client

    with get_sync_client(url=url, api_key=None) as client:
        yield client.runs


def stream(url: str, thread: str, **query: object) -> list[Part]:
    """All parts of a run that it starts."""
    with client_of(url) as runs:
        return [*runs.stream(thread, "agent", input={}, params=query)]


def text_of(parts: list[Part]) -> str:
    return "".join(part.data[0]["content"] for part in parts if part.event == "messages")


def must_be_in_order(parts: list[Part], at: int = EVENTS) -> None:
    """The first parts of the script, each once, with ids of their own."""
    assert [part.event for part in parts[:-1]] == PARTS[:at]
    assert text_of(parts) == "".join(WORDS[: at - 1])
    ids = [part.id for part in parts]
    assert len({*ids}) == len(ids)


@pytest.fixture
def at_once() -> Iterator[Callable[..., Future[list[Part]]]]:
    """Threads for clients that ask at the same time."""
    with ThreadPoolExecutor(100) as pool:
        yield pool.submit


def test_a_run_is_complete_once_and_in_order(site: Site) -> None:
    created: list[Any] = []
    with client_of(site.server.url) as runs:
        parts = [*runs.stream("whole", "agent", input={}, params={"pause": 0.01}, on_run_created=created.append)]
        must_be_in_order(parts)
        assert text_of(parts) == TEXT
        assert (parts[-1].event, parts[-1].data) == ("end", {"status": "finished"})
        assert created == [{"run_id": parts[0].data["run_id"], "thread_id": "whole"}]
        for known, part in enumerate(parts[:-1], 1):
            assert [*runs.join_stream("whole", created[0]["run_id"], last_event_id=part.id)] == parts[known:]
        assert [*runs.join_stream("whole", created[0]["run_id"])] == parts
        typed = [*runs.stream("whole", "agent", input={}, version="v2")]
        assert [part["type"] for part in typed] == PARTS
        assert runs.get("whole", created[0]["run_id"], headers=JSON)["status"] == "success"


@pytest.mark.parametrize("ending", ["finished", "failed"])
def test_wherever_it_is_cut_it_comes_back_once_and_has_all(
    site: Site, at_once: Callable[..., Future[list[Part]]], ending: str
) -> None:
    at = EVENTS if ending == "finished" else 5
    asked = [
        (cut, site.proxy.plan(name, cut=cut), at_once(stream, site.proxy.url, name, at=at, then=ending))
        for cut in cuts(at + 1)
        for name in [f"{ending}{cut.events}-{cut.place}"]
    ]
    for cut, plan, one in asked:
        parts = one.result()
        if cut.events == at + 1:  # it comes back for the end, which it has
            assert parts[-1] == parts[-2]
            del parts[-1]
        must_be_in_order(parts, at)
        last = {"status": "finished"} if ending == "finished" else {"error": "failed", "message": SENTENCES[RunEnding.FAILED]}
        assert (parts[-1].event, parts[-1].data) == ("end" if ending == "finished" else "error", last)
        assert plan.passed.count(b"\n\n") == cut.events
        must_have_come_back_once(plan.asked)


def must_have_come_back_once(asked: list[Asked]) -> None:
    assert [(one.method, one.status) for one in asked] == [("POST", 200), ("GET", 200)], asked


def test_a_run_that_it_cancels_ends(site: Site, at_once: Callable[..., Future[list[Part]]]) -> None:
    from langgraph_sdk.errors import ConflictError

    about = {"topic": "threads.cancelled", "server": site.server, "headers": {}, "at": 5, "then": "waits"}
    id = site.begin("threads/cancelled/runs/stream", events=5, **about)
    with client_of(site.server.url) as runs:
        joined = at_once(list, runs.join_stream("cancelled", id))
        assert runs.get("cancelled", id, headers=JSON)["status"] == "running"
        with pytest.raises(ConflictError):
            stream(site.server.url, "cancelled")
        runs.cancel("cancelled", id)
        parts = joined.result()
        assert runs.get("cancelled", id, headers=JSON)["status"] == "interrupted"
    must_be_in_order(parts, 5)
    assert (parts[-1].event, parts[-1].data) == ("end", {"status": "stopped"})


@pytest.mark.parametrize("ending", ["interrupted", "lost"])
def test_whose_process_ends_comes_back_at_another_one_and_is_told(
    site: Site, at_once: Callable[..., Future[list[Part]]], ending: str
) -> None:
    thread = f"{'brief-' if ending == 'lost' else ''}gone"
    plan = site.proxy.plan(thread, first=site.mortal().url)
    with client_of(site.proxy.url) as runs:
        seen = runs.stream(thread, "agent", input={}, params={"at": 5, "then": "waits"})
        parts = [next(seen) for _ in range(5)]
        rest = at_once(list, seen)
        site.end_mortal(ending)
        parts += rest.result()
    must_be_in_order(parts, 5)
    assert (parts[-1].event, parts[-1].data) == ("error", {"error": ending, "message": SENTENCES[RunEnding(ending)]})
    assert len(plan.asked) == (1 if ending == "interrupted" else 2)
