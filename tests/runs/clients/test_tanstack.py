"""``ChatClient`` of npm's ``@tanstack/ai-client`` over ``fetchServerSentEvents()``: it resumes runs by its own names for them."""

from __future__ import annotations

from itertools import groupby

import pytest

from tests.site.routes.agents import ARGUMENTS, TEXT

from .cutting import Asked, cuts
from .program import Program
from .site import Site
from .test_ag_ui import TYPES, error, text_of

BROKEN = {"failed": 11, "finished": len(TYPES)}
"""How many events of the script are said before an ending."""
UNREAD = "StreamReadError: Stream response body read failed"


def in_turn(types: list[str]) -> list[str]:
    """Types of events as they follow one another, however many pieces a text comes in."""
    return [kind for kind, _ in groupby(types)]


def sentence(ending: str) -> str:
    return f"Error: {error(ending)['message']}"


def had(passed: bytes) -> int:
    """How many events the client has had: it takes them by their lines."""
    return sum(line.startswith(b"data: ") for line in passed.split(b"\n")[:-1])


def must_have_come_back_once(asked: list[Asked]) -> None:
    assert [one.status for one in asked] == [200, 200], asked
    assert [one.last_event_id is not None for one in asked] == [False, True], asked


def test_a_run_is_complete_once_and_in_order(site: Site, clients: Program) -> None:
    for query in ("", "?pause=0.01"):
        got = clients.ask("tanstack", f"{site.server.url}/agents/agui/whole/{query}").outcome()
        assert (got["text"], got["error"], got["status"]) == (TEXT, None, "ready")
        assert got["types"] == TYPES
        calls = [part for message in got["messages"] for part in message["parts"] if part["type"] == "tool-call"]
        assert [(call["name"], call["arguments"]) for call in calls] == [("weather", "".join(ARGUMENTS))]
        joined = clients.ask("tanstack", f"{site.server.url}/agents/agui/whole/", join=got["runId"]).outcome()
        assert (joined["text"], joined["error"], in_turn(joined["types"])) == (TEXT, None, in_turn(TYPES))


@pytest.mark.parametrize("ending", sorted(BROKEN))
def test_wherever_it_is_cut_it_comes_back_once_and_has_all(site: Site, clients: Program, ending: str) -> None:
    at = BROKEN[ending]
    total = len(site.server.get("agents/agui/measured/", method="POST", at=at, then=ending).body.split(b"\n\n")) - 1
    asked = [
        (cut, site.proxy.plan(name, cut=cut), clients.ask("tanstack", url))
        for cut in cuts(total)
        for name in [f"{ending}{cut.events}-{cut.place}"]
        for url in [f"{site.proxy.url}/agents/agui/{name}/?at={at}&then={ending}"]
    ]
    for cut, plan, one in asked:
        got = one.outcome()
        assert plan.passed.count(b"\n\n") == cut.events
        if not had(plan.passed):  # it has no id that it could come back with, and says so
            assert (got["text"], got["types"], got["error"], len(plan.asked)) == ("", [], UNREAD, 1), cut
            continue
        assert got["error"] == (None if ending == "finished" else sentence(ending)), cut
        assert got["text"] == text_of(at), cut
        if ending == "finished" or had(plan.passed) < total:  # else it has the error, and needs no more
            must_have_come_back_once(plan.asked)
            assert in_turn(got["types"])[: len(in_turn(TYPES[:at]))] == in_turn(TYPES[:at]), cut
        else:
            assert len(plan.asked) <= 2, plan


def test_who_joins_a_run_comes_back_too(site: Site, clients: Program) -> None:
    name = {"X-Run-Id": "run-joined"}
    site.begin("agents/agui/joined/", topic="runs.agui", events=len(TYPES), server=site.server, headers=name)
    total = site.server.get("agents/agui/joined/", runId="run-joined", offset=-1).body.count(b"\n\n")
    for cut in cuts(total):
        plan = site.proxy.plan("joined", cut=cut)
        got = clients.ask("tanstack", f"{site.proxy.url}/agents/agui/joined/", join="run-joined").outcome()
        if had(plan.passed):
            assert (got["text"], got["error"]) == (TEXT, None), cut
            must_have_come_back_once(plan.asked)
            assert in_turn(got["types"]) == in_turn(TYPES), cut
        else:
            assert (got["text"], got["error"], len(plan.asked)) == ("", UNREAD, 1), cut


def test_a_run_that_is_stopped_by_the_name_of_its_client_ends_without_an_error(site: Site, clients: Program) -> None:
    asked = clients.ask("tanstack", f"{site.server.url}/agents/agui/stopped/?at=11&then=waits")
    answer = site.server.get("agents/agui/stopped/", method="DELETE", runId=asked.begun())
    assert answer.status in (200, 202)
    got = asked.outcome()
    assert (got["error"], got["status"], got["types"][-1]) == (None, "ready", "RUN_FINISHED")
    assert TEXT.startswith(got["text"])


@pytest.mark.parametrize("ending", ["interrupted", "lost"])
def test_whose_process_ends_comes_back_at_another_one_and_is_told(site: Site, clients: Program, ending: str) -> None:
    route, name = "brief-agui" if ending == "lost" else "agui", f"gone-{ending}"
    plan = site.proxy.plan(name, first=site.mortal().url)
    asked = clients.ask("tanstack", f"{site.proxy.url}/agents/{route}/{name}/?at=11&then=waits")
    asked.begun()
    site.end_mortal(ending)
    got = asked.outcome()
    assert (got["error"], got["types"][-1]) == (sentence(ending), "RUN_ERROR")
    assert TEXT.startswith(got["text"])
    assert len(plan.asked) == (1 if ending == "interrupted" else 2)
