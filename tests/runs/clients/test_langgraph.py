"""``langgraph-sdk`` against two routes of runs at the paths of LangGraph's server: it comes back to ``Location`` after a cut."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from django_agent_sse.contrib.wires.messages import SENTENCES
from django_agent_sse.runs.endings import RunEnding
from tests.site.routes.agents import TEXT, WORDS
from tests.timing import LONG

from .clients import Site, places, serving
from .cutting import Asked

INSIDE = 5 if LONG else 2
EVENTS = len(WORDS) + 1
PARTS = ["metadata", *["messages"] * len(WORDS)]
JSON = {"Accept": "application/json"}
Part = Any
site = serving
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
    with client_of(site.other.url) as runs:
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
    about = {"at": at, "then": ending}
    body = site.other.get(f"threads/measured-{ending}/runs/stream", method="POST", **about).body
    asked: dict[int, Future[list[Part]]] = {}
    for cut in places(body, INSIDE):
        site.proxy.plan(f"{ending}{cut}", cut=cut)
        asked[cut] = at_once(stream, site.proxy.url, f"{ending}{cut}", **about)
    assert len(asked) == (at + 1) * (INSIDE + 1) + 1
    for cut, one in asked.items():
        parts, seen = one.result(), site.proxy.asked[f"{ending}{cut}"]
        if cut == len(body):  # it comes back for the end, which it has
            assert parts[-1] == parts[-2]
            del parts[-1]
        must_be_in_order(parts, at)
        last = {"status": "finished"} if ending == "finished" else {"error": "failed", "message": SENTENCES[RunEnding.FAILED]}
        assert (parts[-1].event, parts[-1].data) == ("end" if ending == "finished" else "error", last)
        must_have_come_back_once(seen)


def must_have_come_back_once(asked: list[Asked]) -> None:
    assert [(one.line.split(" ")[0], one.status) for one in asked] == [("POST", 200), ("GET", 200)], asked


def test_a_run_that_it_cancels_ends(site: Site, at_once: Callable[..., Future[list[Part]]]) -> None:
    from langgraph_sdk.errors import ConflictError

    about = {"topic": "threads.cancelled", "server": site.other, "headers": {}, "at": 5, "then": "waits"}
    id = site.begin("threads/cancelled/runs/stream", events=5, **about)
    with client_of(site.other.url) as runs:
        joined = at_once(list, runs.join_stream("cancelled", id))
        assert runs.get("cancelled", id, headers=JSON)["status"] == "running"
        with pytest.raises(ConflictError):
            stream(site.other.url, "cancelled")
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
    site.proxy.plan(thread, first=site.maker.url)
    with client_of(site.proxy.url) as runs:
        seen = runs.stream(thread, "agent", input={}, params={"at": 5, "then": "waits"})
        parts = [next(seen) for _ in range(5)]
        rest = at_once(list, seen)
        if ending == "interrupted":
            site.maker.signal(signal.SIGTERM)
        else:
            site.maker.kill()
        parts += rest.result()
    must_be_in_order(parts, 5)
    assert (parts[-1].event, parts[-1].data) == ("error", {"error": ending, "message": SENTENCES[RunEnding(ending)]})
    assert len(site.proxy.asked[thread]) == (1 if ending == "interrupted" else 2)
    site.maker.restart()
