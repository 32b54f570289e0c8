"""Chromium's own ``EventSource``: names, ids, reconnects, and staying closed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Request

from tests.chromium import launched

from .servers import AT_ONCE, Server

SITE = {"middleware": "everything"}
PATIENCE_MS = 60_000
RETRY_SECONDS = 0.1
CLOSED = 2

LISTEN = """([url, names]) => {
    window.got = [];
    window.source = new EventSource(url);
    const keep = (event) => got.push([event.type, event.data, event.lastEventId]);
    for (const name of names) source.addEventListener(name, keep);
}"""


@pytest.fixture(scope="module")
def browser_page(uvicorn: Server) -> Iterator[Page]:
    with launched() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        yield page


@pytest.fixture
def page(browser_page: Page, uvicorn: Server) -> Page:
    """A blank page of the site; leaving the last one closed its streams."""
    browser_page.goto(f"{uvicorn.url}/_page/")
    return browser_page


@pytest.fixture
def requests(page: Page) -> Iterator[list[Request]]:
    """The requests that the page makes, its streams' reconnects among them."""
    seen: list[Request] = []

    def keep(request: Request) -> None:
        seen.append(request)

    page.on("request", keep)
    yield seen
    page.remove_listener("request", keep)


def listen(page: Page, path: str, *names: str) -> None:
    page.evaluate(LISTEN, [path, ["message", *names]])


def got(page: Page, count: int) -> list[list[Any]]:
    """The first ``count`` events, once they are there."""
    page.wait_for_function("(count) => got.length >= count", arg=count)
    return list(page.evaluate("got"))


def wait_until_closed(page: Page) -> None:
    page.wait_for_function(f"source.readyState === {CLOSED}")


def assert_stays_closed(page: Page, requests: list[Request]) -> None:
    """Watch for several times of the retry that the server asked for."""
    before = len(requests)
    page.wait_for_timeout(8 * RETRY_SECONDS * 1000)
    assert page.evaluate("source.readyState") == CLOSED
    assert len(requests) == before


def test_named_events_reach_their_listeners(page: Page) -> None:
    listen(page, "/parity/named/", "start", "update", "complete")
    assert [event[:2] for event in got(page, 3)] == [
        ["start", '{"step": 0}'],
        ["update", '{"step": 1}'],
        ["complete", '{"step": 2}'],
    ]


def test_events_arrive_one_by_one(page: Page, uvicorn: Server, key: str) -> None:
    listen(page, f"/life/stepwise/?key={key}")
    for number in range(1, 5):
        assert [event[1] for event in got(page, number)] == [str(n) for n in range(1, number + 1)]
        uvicorn.open_gate(f"{key}-{number}")


def test_the_browser_comes_back_with_the_last_id_when_the_server_cuts(page: Page, uvicorn: Server, key: str) -> None:
    listen(page, f"/answers/resumes/?key={key}", "first", "again")
    first, again = got(page, 2)[:2]
    assert first == ["first", "begin", "seven ü 7"]
    assert again == ["again", "seven ü 7", "seven ü 7"]
    assert uvicorn.recorded(key, "on_end")["ending"] == "max_duration"


def test_the_browser_stays_closed_after_the_end(page: Page, uvicorn: Server, key: str, requests: list[Request]) -> None:
    listen(page, f"/answers/ends/?key={key}", "sse.end")
    assert got(page, 2) == [["message", "only", "1"], ["sse.end", '{"reason":"completed"}', "sse.end~1"]]
    wait_until_closed(page)
    assert_stays_closed(page, requests)
    assert len(requests) == 2
    assert uvicorn.steps(key).count("started") == 1


def test_no_listener_is_needed_for_the_end_to_count(page: Page, requests: list[Request], key: str) -> None:
    listen(page, f"/answers/ends/?key={key}")
    wait_until_closed(page)
    assert_stays_closed(page, requests)


def test_the_browser_stays_closed_after_204(page: Page, uvicorn: Server, key: str, requests: list[Request]) -> None:
    listen(page, f"/answers/gone/?key={key}")
    wait_until_closed(page)
    assert_stays_closed(page, requests)
    assert uvicorn.steps(key) == ["guard"]
    assert len(requests) == 1


def test_leaving_the_page_is_a_disconnect(page: Page, uvicorn: Server, key: str) -> None:
    listen(page, f"/life/idle/?key={key}")
    got(page, 1)
    left = time.monotonic()
    page.goto("about:blank")
    end = uvicorn.recorded(key, "on_end")
    assert end["ending"] == "client_disconnect"
    assert end["at"] - left < AT_ONCE
