"""``ChatClient`` of npm's ``@tanstack/ai-client`` over ``fetchServerSentEvents()``: it resumes runs by its own names for them."""

from __future__ import annotations

import signal
from itertools import groupby
from typing import Any

import pytest

from tests.site.routes.agents import ARGUMENTS, TEXT
from tests.timing import LONG

from .clients import Clients, Outcome, Site, asking, places, serving
from .cutting import Asked
from .test_ag_ui import TYPES, error, text_of

INSIDE = 5 if LONG else 2
BROKEN = {"failed": 11, "finished": len(TYPES)}
"""How many events of the script are said before an ending."""
UNREAD = "StreamReadError: Stream response body read failed"
UNLUCKY = 2
"""Cuts of a hundred before which a busy client has read nothing yet of what was sent, and had no id to come back with."""
site, clients = serving, asking


def in_turn(types: list[str]) -> list[str]:
    """Types of events as they follow one another, however many pieces a text comes in."""
    return [kind for kind, _ in groupby(types)]


def sentence(ending: str) -> str:
    return f"Error: {error(ending)['message']}"


def had(body: bytes, cut: int) -> int:
    """How many events the client had before the cut: it takes them by their lines."""
    return sum(line.startswith(b"data: ") for line in body[:cut].split(b"\n")[:-1])


def must_have_come_back_once(asked: list[Asked]) -> None:
    assert [one.status for one in asked] == [200, 200], asked
    assert [one.last_event_id is not None for one in asked] == [False, True], asked


def test_a_run_is_complete_once_and_in_order(site: Site, clients: Clients) -> None:
    for query in ("", "?pause=0.01"):
        got = clients.ask("tanstack", f"{site.other.url}/agents/agui/whole/{query}").outcome()
        assert (got["text"], got["error"], got["status"]) == (TEXT, None, "ready")
        assert got["types"] == TYPES
        calls = [part for message in got["messages"] for part in message["parts"] if part["type"] == "tool-call"]
        assert [(call["name"], call["arguments"]) for call in calls] == [("weather", "".join(ARGUMENTS))]
        joined = clients.ask("tanstack", f"{site.other.url}/agents/agui/whole/", join=got["runId"]).outcome()
        assert (joined["text"], joined["error"], in_turn(joined["types"])) == (TEXT, None, in_turn(TYPES))


@pytest.mark.parametrize("ending", sorted(BROKEN))
def test_wherever_it_is_cut_it_comes_back_once_and_has_all(site: Site, clients: Clients, ending: str) -> None:
    at = BROKEN[ending]
    query = f"?at={at}&then={ending}"
    body = site.other.get("agents/agui/measured/", method="POST", at=at, then=ending).body
    total = body.count(b"\n\n")
    asked: dict[int, Any] = {}
    for cut in places(body, INSIDE):
        name = f"{ending}{cut}"
        site.proxy.plan(name, cut=cut)
        asked[cut] = clients.ask("tanstack", f"{site.proxy.url}/agents/agui/{name}/{query}")
    unread = 0
    for cut, one in asked.items():
        got: Outcome = one.outcome()
        seen = site.proxy.asked[f"{ending}{cut}"]
        if not got["types"]:  # it has no id that it could come back with, and says so
            assert (got["text"], got["error"], len(seen)) == ("", UNREAD, 1), cut
            unread += 1
            continue
        assert got["error"] == (None if ending == "finished" else sentence(ending)), cut
        assert got["text"] == text_of(at), cut
        if ending == "finished" or had(body, cut) < total:  # else it has the error, and needs no more
            must_have_come_back_once(seen)
            assert in_turn(got["types"])[: len(in_turn(TYPES[:at]))] == in_turn(TYPES[:at]), cut
        else:
            assert len(seen) <= 2, seen
    assert unread <= sum(had(body, cut) == 0 for cut in asked) + UNLUCKY


def test_who_joins_a_run_comes_back_too(site: Site, clients: Clients) -> None:
    name = {"X-Run-Id": "run-joined"}
    site.begin("agents/agui/joined/", topic="runs.agui", events=len(TYPES), server=site.other, headers=name)
    body = site.other.get("agents/agui/joined/", runId="run-joined", offset=-1).body
    for cut in places(body, INSIDE):
        site.proxy.plan("joined", cut=cut)
        got = clients.ask("tanstack", f"{site.proxy.url}/agents/agui/joined/", join="run-joined").outcome()
        if got["types"]:
            assert (got["text"], got["error"]) == (TEXT, None), cut
            must_have_come_back_once(site.proxy.asked["joined"])
            assert in_turn(got["types"]) == in_turn(TYPES), cut
        else:
            assert (got["text"], got["error"], len(site.proxy.asked["joined"])) == ("", UNREAD, 1), cut
            assert had(body, cut) == 0, cut


def test_a_run_that_is_stopped_by_the_name_of_its_client_ends_without_an_error(site: Site, clients: Clients) -> None:
    asked = clients.ask("tanstack", f"{site.other.url}/agents/agui/stopped/?at=11&then=waits")
    answer = site.other.get("agents/agui/stopped/", method="DELETE", runId=asked.begun())
    assert answer.status in (200, 202)
    got = asked.outcome()
    assert (got["error"], got["status"], got["types"][-1]) == (None, "ready", "RUN_FINISHED")
    assert TEXT.startswith(got["text"])


@pytest.mark.parametrize("ending", ["interrupted", "lost"])
def test_whose_process_ends_comes_back_at_another_one_and_is_told(site: Site, clients: Clients, ending: str) -> None:
    route, name = "brief-agui" if ending == "lost" else "agui", f"gone-{ending}"
    site.proxy.plan(name, first=site.maker.url)
    asked = clients.ask("tanstack", f"{site.proxy.url}/agents/{route}/{name}/?at=11&then=waits")
    asked.begun()
    if ending == "interrupted":
        site.maker.signal(signal.SIGTERM)
    else:
        site.maker.kill()
    got = asked.outcome()
    assert (got["error"], got["types"][-1]) == (sentence(ending), "RUN_ERROR")
    assert TEXT.startswith(got["text"])
    assert len(site.proxy.asked[name]) == (1 if ending == "interrupted" else 2)
    site.maker.restart()
