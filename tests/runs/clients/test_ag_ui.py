"""``HttpAgent`` of npm's ``@ag-ui/client``: what it makes of each ending of a run, and of connections that are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.live.servers import Server
from tests.site.routes.agents import ARGUMENTS, TEXT, ag_ui_events

from .cutting import cuts
from .program import Asked, Outcome, Program
from .site import Site

EVENTS = [json.loads(event.model_dump_json(by_alias=True, exclude_none=True)) for event in ag_ui_events()]
TYPES = [event["type"] for event in EVENTS]
BODY = (
    b'{"threadId":"t","runId":"r","protocolVersion":"1.0","state":{},"messages":[],"tools":[],"context":[],"forwardedProps":{}}'
)
"""What it sends, to the byte: with the same key, another body would be another request, and refused."""


def text_of(at: int) -> str:
    """The text that the first events of the script say."""
    return "".join(event["delta"] for event in EVENTS[:at] if event["type"] == "TEXT_MESSAGE_CONTENT")


def ends_of(at: int) -> list[str]:
    """The types of the events that end what is open after so many events, the newest first."""
    open_parts: list[str] = []
    for kind in TYPES[1:at]:
        begun, _, verb = kind.rpartition("_")
        if verb in ("START", "STARTED"):
            open_parts.append(f"{begun}_{'END' if verb == 'START' else 'FINISHED'}")
        elif kind in open_parts:
            open_parts.reverse()
            open_parts.remove(kind)
            open_parts.reverse()
    return open_parts[::-1]


def must_have(at: int, got: Outcome, *terminal: str) -> None:
    """It has the first events of the script, each once and in order, the ends of what was open, and then the end of the run.

    Its verifier has found nothing wrong with them.
    """
    assert got["error"] is None, (at, got)
    assert got["text"] == text_of(at), at
    assert got["types"] == [*TYPES[:at], *ends_of(at), *terminal], at


def error(ending: str) -> dict[str, Any]:
    sentences = {
        "failed": "The run has failed.",
        "stopped": "The run was stopped.",
        "interrupted": "The run was interrupted: its server was told to end.",
        "lost": "The run was lost: its process has died, or could not be reached.",
    }
    return {"type": "RUN_ERROR", "message": sentences[ending], "code": ending}


def test_a_run_is_complete_once_and_in_order(site: Site, clients: Program) -> None:
    for query in ("", "?pause=0.01"):
        got = clients.ask("ag-ui", f"{site.server.url}/agents/agui/whole/{query}").outcome()
        must_have(len(EVENTS), got)
        assert got["text"] == TEXT
        reasoning, message = got["messages"]
        assert reasoning["content"] == "hm …"
        assert (message["role"], message["content"]) == ("assistant", TEXT)
        assert message["toolCalls"][0]["function"] == {"name": "weather", "arguments": "".join(ARGUMENTS)}


def test_a_run_that_fails_after_any_event_is_told_as_its_protocol_tells_it(site: Site, clients: Program) -> None:
    ways = range(len(EVENTS))
    asked = [clients.ask("ag-ui", f"{site.server.url}/agents/agui/failed{at}/?at={at}&then=failed") for at in ways]
    for at, one in enumerate(asked):
        got = one.outcome()
        must_have(at, got, "RUN_ERROR")
        assert got["runError"] == error("failed")


def begun_at(site: Site, clients: Program, server: Server, name: str, *, route: str = "agui") -> tuple[list[str], list[Asked]]:
    """Start runs that wait after each of the events, and have them read; return their addresses and the readers."""
    ids, readers = [], []
    for at in range(len(EVENTS)):
        key, path = f"{name}-{at}", f"agents/{route}/{name}{at}/"
        headers = {"Idempotency-Key": key}
        id = site.begin(path, topic=f"runs.{route}", events=at, server=server, headers=headers, body=BODY, at=at, then="waits")
        ids.append(f"{path}{id}/")
        readers.append(clients.ask("ag-ui", f"{site.server.url}/{path}?at={at}&then=waits", headers=headers))
    for at, reader in enumerate(readers):
        if at:
            reader.begun()
    return ids, readers


def test_a_run_that_is_stopped_after_any_event_is_finished_and_cancelled(site: Site, clients: Program) -> None:
    addresses, readers = begun_at(site, clients, site.server, "stopped")
    for address in addresses:
        site.stop(address)
    for at, reader in enumerate(readers):
        got = reader.outcome()
        must_have(at, got, "RUN_FINISHED" if at else "RUN_ERROR")
        if at:
            assert got["outcome"] == {"type": "cancelled"}
        else:  # it has no ids yet that a run could be finished with
            assert got["runError"] == error("stopped")


@pytest.mark.parametrize("ending", ["interrupted", "lost"])
def test_a_run_whose_process_ends_after_any_event_is_an_error(site: Site, clients: Program, ending: str) -> None:
    route = "brief-agui" if ending == "lost" else "agui"
    _, readers = begun_at(site, clients, site.mortal(), ending, route=route)
    site.end_mortal(ending)
    for at, reader in enumerate(readers):
        got = reader.outcome()
        assert got["runError"] == error(ending), at
        must_have(at, got, "RUN_ERROR")


def test_an_answer_that_is_cut_anywhere_is_never_taken_for_a_whole_one(site: Site, clients: Program) -> None:
    asked = [
        (cut, site.proxy.plan(name, cut=cut), clients.ask("ag-ui", f"{site.proxy.url}/agents/agui/{name}/"))
        for cut in cuts(len(EVENTS))
        for name in [f"cut{cut.events}-{cut.place}"]
    ]
    for cut, plan, one in asked:
        got = one.outcome()
        assert got["error"] == "TypeError: terminated", (cut, got)
        assert plan.passed.count(b"\n\n") == cut.events
        assert got["types"] == TYPES[: cut.events], cut
        assert got["text"] == text_of(cut.events), cut
    assert b"RUN_FINISHED" in plan.passed, "the last one was cut between the last event and the end of the body"


def test_a_response_that_the_server_ends_before_the_run_is_an_error(site: Site, clients: Program) -> None:
    got = clients.ask("ag-ui", f"{site.server.url}/agents/short-agui/late/?at=9&then=waits").outcome()
    assert (got["error"], got["types"]) == ("TypeError: terminated", TYPES[:9])
