"""Runs without a protocol: EventSource as browsers have it, the package's own client, and httpx-sse with ``Last-Event-ID``."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import httpx_sse
import pytest

from tests.site.routes.agents import WORDS

from .cutting import cuts
from .program import Asked, Outcome, Program
from .site import Site

ALL = len(WORDS)
NPM: dict[str, tuple[str, dict[str, Any]]] = {
    "EventSource, closed by the page": ("eventsource", {"closes": True}),
    "EventSource, closed by a 204": ("eventsource", {}),
    "EventStream": ("EventStream", {}),
}


def with_httpx_sse(url: str, method: str = "GET") -> Outcome:
    """Read, and come back with the last id, to where the response has said, until there is no more."""
    got: Outcome = {"text": "", "ids": [], "ending": None}
    last = None
    with httpx.Client(timeout=60, verify=False) as client:
        for _ in range(5):
            try:
                headers = {"Last-Event-ID": last} if last else {}
                with httpx_sse.connect_sse(client, method, url, headers=headers) as source:
                    if source.response.status_code == 204:
                        return got
                    if "location" in source.response.headers:
                        method, url = "GET", str(source.response.url.join(source.response.headers["location"]))
                    for event in source.iter_sse():
                        last = event.id or last
                        if event.event == "message":
                            got["text"] += json.loads(event.data)["word"]
                            got["ids"].append(event.id)
                        if event.event == "run.end":
                            got["ending"] = json.loads(event.data)["reason"]
                        if event.event == "sse.end":
                            got["said"] = json.loads(event.data)
            except httpx.TransportError:
                continue
    raise AssertionError(f"no end after five connections: {got}")


def must_have(got: Outcome, ending: str, at: int = ALL) -> None:
    assert (got["text"], got["ending"]) == ("".join(WORDS[:at]), ending)
    assert len({*got["ids"]}) == len(got["ids"]) == at


def begin(site: Site, name: str, *, at: int = ALL, then: str = "finished", route: str = "plain", maker: bool = False) -> str:
    """Start a run; return its path."""
    path, server = f"agents/{route}/{name}/", site.mortal() if maker else site.server
    id = site.begin(path, topic=f"runs.{route}", events=at, server=server, headers={}, at=at, then=then)
    return f"{path}{id}/"


@pytest.mark.parametrize("kind", NPM)
@pytest.mark.parametrize("ending", ["finished", "failed"])
def test_wherever_it_is_cut_it_comes_back_and_has_all(site: Site, clients: Program, ending: str, kind: str) -> None:
    at = ALL if ending == "finished" else 5
    client, about = NPM[kind]
    path = begin(site, f"{client}-{ending}", at=at, then=ending)
    asked = [
        (cut, site.proxy.plan(name, cut=cut), clients.ask(client, f"{site.proxy.url}/{path}?as={name}", **about))
        for cut in cuts(at + 2)  # the words, run.end and sse.end
        for name in [f"{len(about)}{client}{ending}{cut.events}-{cut.place}"]
    ]
    for cut, plan, one in asked:
        must_have(one.outcome(), ending, at)
        statuses = [seen.status for seen in plan.asked]
        assert statuses in ([200], [200, 200], [200, 204], [200, 200, 204]), (cut, statuses)
        assert plan.passed.count(b"\n\n") == cut.events
    assert b"sse.end" in plan.passed


@pytest.mark.parametrize("ending", ["finished", "failed"])
def test_httpx_sse_starts_one_and_comes_back_to_its_location(site: Site, ending: str) -> None:
    at = ALL if ending == "finished" else 5
    where = cuts(at + 1)  # the words and run.end
    with ThreadPoolExecutor(len(where)) as pool:
        asked = [
            (cut, site.proxy.plan(name, cut=cut), pool.submit(with_httpx_sse, url, "POST"))
            for cut in where
            for name in [f"httpx-{ending}{cut.events}-{cut.place}"]
            for url in [f"{site.proxy.url}/agents/plain/{name}/?at={at}&then={ending}"]
        ]
    for cut, plan, one in asked:
        must_have(one.result(), ending, at)
        assert [request.method for request in plan.asked] == ["POST", *["GET"] * (len(plan.asked) - 1)]
        assert 2 <= len(plan.asked) <= 3, (cut, plan)
        assert plan.passed.count(b"\n\n") == cut.events


def test_each_is_told_how_a_run_ended(site: Site, clients: Program) -> None:
    """Stopped, its process told to end, and killed."""
    stopped = begin(site, "stopped", at=3, then="waits")
    paths = {
        "stopped": stopped,
        "interrupted": begin(site, "interrupted", at=3, then="waits", maker=True),
    }
    readers = asking_all(site, clients, paths)
    site.stop(stopped)
    site.end_mortal("interrupted")
    must_be_told(readers)
    readers = asking_all(site, clients, {"lost": begin(site, "lost", at=3, then="waits", route="brief-plain", maker=True)})
    site.end_mortal("lost")
    must_be_told(readers)


Readers = dict[tuple[str, str], Asked]


def asking_all(site: Site, clients: Program, paths: dict[str, str]) -> Readers:
    """Have each client of npm read these runs, and wait until all of them do."""
    readers = {
        (ending, kind): clients.ask(client, f"{site.server.url}/{path}", **about)
        for ending, path in paths.items()
        for kind, (client, about) in NPM.items()
    }
    for reader in readers.values():
        reader.begun()
    return readers


def must_be_told(readers: Readers) -> None:
    for (ending, kind), reader in readers.items():
        got = reader.outcome()
        must_have(got, ending, 3)
        if kind == "EventStream":
            assert got["state"] == "ended: topic_closed", "run.end has said why"
