"""A stream of another origin: it goes on after a cut without a preflight, as an EventSource does."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page

from tests.live.servers import Server
from tests.testproject.cutter import Cutter

from .listening import events, listen, state, until

SITE = {"middleware": "cors"}
PATH = "/client/numbers/?to=30"


@pytest.mark.parametrize("path", [PATH, f"{PATH}&last_event_id=2"], ids=["from the beginning", "after an id in the address"])
def test_a_stream_of_another_origin_loses_and_doubles_nothing(page: Page, uvicorn: Server, path: str) -> None:
    with Cutter(uvicorn.port, b"id: 7\n", path) as cutter:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.method))
        listen(page, f"{cutter.url}{path}")
        assert state(page, "ended")[0] == "completed"
        first = 3 if "last_event_id" in path else 1
        assert [json.loads(data)["number"] for type, data, _ in events(page) if type == "number"] == [*range(first, 31)]
        heads = [head.lower() for head in cutter.requests]
        assert [head.split()[0] for head in heads] == ["get", "get"]
        # What came in one piece with the cut, a browser may not have seen, and that may be all of it: then it starts over.
        went_on_after = re.findall(r"last_event_id=(\d+) ", heads[1])
        assert [first - 1 <= int(number) <= 6 for number in went_on_after or ["0"]] == [True]
        assert heads[1].count("last_event_id") == len(went_on_after)
        assert not any("\r\nlast-event-id" in head for head in heads)
        assert page.evaluate("log.errors") == [["network", None]]
        page.goto("about:blank")


def test_tabs_share_a_stream_of_another_origin(page: Page, uvicorn: Server, key: str) -> None:
    other = page.context.new_page()
    other.goto(page.url)
    address = f"http://localhost:{uvicorn.port}/life/ticks/?key={key}"
    for one in (page, other):
        listen(one, address, {"share": True})
        until(one, "log.events.length > 3")
    assert [one.evaluate("log.stream.leads") for one in (page, other)] == [True, False]


def test_an_address_that_no_header_allows_is_refused_by_the_browser(page: Page, uvicorn: Server) -> None:
    listen(page, f"http://localhost:{uvicorn.port}/client/headers/", {"headers": {"X-Token": "t"}})
    until(page, "log.errors.length > 0")
    assert page.evaluate("log.errors[0]") == ["network", None]
    assert events(page) == []
