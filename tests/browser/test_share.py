"""One connection for the tabs of an origin: seven tabs, a leader that closes, crashes, freezes or hangs, tabs that come late."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page
from playwright.sync_api import Error as PlaywrightError

from tests.live.servers import Server, poll

from .conftest import INSECURE
from .listening import events, listen, state, until

SITE = {"middleware": "everything"}
RATE = 50
SECONDS = 6
SHARED = {"share": True, "watchdog": 2000}
FETCH = "fetch('/_ping/').then((answer) => answer.status)"

Tabs = Callable[[int], list[Page]]


@pytest.fixture
def tabs(context: BrowserContext, uvicorn: Server) -> Tabs:
    """Open so many more tabs of the site."""

    def opened(count: int) -> list[Page]:
        pages = [context.new_page() for _ in range(count)]
        for page in pages:
            page.goto(f"{uvicorn.url}/_page/")
        return pages

    return opened


def produce(uvicorn: Server, topic: str) -> None:
    """Have the server publish numbered events and close the topic."""
    assert uvicorn.get(f"topics/produce/{topic}/", rate=RATE, seconds=SECONDS).status == 200


def assert_has_everything(page: Page) -> None:
    assert state(page, "ended") == ["topic_closed", None]
    got = [int(data.split()[0]) for type, data, _ in events(page) if type == "message"]
    assert got == [*range(RATE * SECONDS)]
    assert [type for type, _, _ in events(page) if type not in ("message", "sse.position")] == ["sse.end"]


def leader(pages: list[Page]) -> Page:
    """The tab that has the connection."""

    def leading() -> list[Page]:
        return [page for page in pages if page.evaluate("log.stream.leads")]

    return poll("a tab leads", leading, within=30)[0]


def test_without_sharing_six_tabs_keep_everything_else_waiting(tabs: Tabs, key: str) -> None:
    pages = tabs(7)
    for page in pages[:6]:
        listen(page, f"/life/idle/?key={key}")
        state(page, "open")
    pages[6].evaluate(f"void (window.answer = null, {FETCH}.then((status) => (window.answer = status)))")
    pages[6].wait_for_timeout(1000)
    assert pages[6].evaluate("answer") is None
    pages[0].evaluate("log.stream.close()")
    pages[6].wait_for_function("answer === 200")


def test_seven_tabs_share_one_connection_and_the_site_still_answers(tabs: Tabs, uvicorn: Server, key: str) -> None:
    before = uvicorn.state()["open_streams"]
    pages = tabs(7)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    produce(uvicorn, key)
    for page in pages:
        state(page, "open")
    assert pages[6].evaluate(FETCH) == 200
    poll("one stream is open", lambda: uvicorn.state()["open_streams"] == before + 1, within=30)
    for page in pages:
        assert_has_everything(page)


def test_when_the_leader_is_closed_the_others_go_on(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(4)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    produce(uvicorn, key)
    for count in (20, 60):
        first = leader(pages)
        until(first, f"log.events.length > {count}")
        pages.remove(first)
        first.close()
    for page in pages:
        assert_has_everything(page)


def test_a_leader_that_closes_its_stream_hands_over(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(3)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    produce(uvicorn, key)
    first = leader(pages)
    until(first, "log.events.length > 20")
    first.evaluate("log.stream.close()")
    leader([page for page in pages if page is not first])
    first.evaluate("log.stream.reopen()")
    for page in pages:
        assert_has_everything(page)


def test_when_the_leader_crashes_the_others_go_on(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(3)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    produce(uvicorn, key)
    first = leader(pages)
    until(first, "log.events.length > 20")
    with first.expect_event("crash"), contextlib.suppress(PlaywrightError):
        first.goto("chrome://crash")
    pages.remove(first)
    for page in pages:
        assert_has_everything(page)


def test_a_leader_that_is_frozen_hands_over_and_goes_on_when_it_thaws(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(3)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    produce(uvicorn, key)
    first = leader(pages)
    until(first, "log.events.length > 20")
    # Headless Chromium freezes no page, so this one is only told that it will be; one that hangs is below.
    first.evaluate("document.dispatchEvent(new Event('freeze'))")
    others = [page for page in pages if page is not first]
    leader(others)
    for page in others:
        assert_has_everything(page)
    first.evaluate("document.dispatchEvent(new Event('resume'))")
    assert_has_everything(first)


def test_a_leader_that_hangs_is_replaced(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(3)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    first = leader(pages)
    others = [page for page in pages if page is not first]
    for page in others:
        state(page, "open")
    devtools = first.context.new_cdp_session(first)
    devtools.send("Debugger.enable")
    devtools.send("Debugger.pause")
    produce(uvicorn, key)
    leader(others)
    for page in others:
        assert_has_everything(page)
    devtools.send("Debugger.resume")
    devtools.send("Debugger.disable")
    assert_has_everything(first)


def test_tabs_that_come_late_get_everything_too(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(2)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    produce(uvicorn, key)
    until(pages[0], "log.events.length > 30")
    (late,) = tabs(1)
    listen(late, f"/topics/follow/{key}/", SHARED)
    until(pages[1], "log.events.length > 100")
    (later,) = tabs(1)
    listen(later, f"/topics/follow/{key}/", SHARED)
    for page in [*pages, late, later]:
        assert_has_everything(page)
    (after,) = tabs(1)
    listen(after, f"/topics/follow/{key}/", SHARED)
    assert_has_everything(after)


def test_a_tab_that_comes_late_to_a_stream_without_ids_is_told(tabs: Tabs, key: str) -> None:
    first, second = tabs(2)
    url = f"/life/ticks/?key={key}"
    listen(first, url, SHARED)
    until(first, "log.events.length > 5")
    listen(second, url, SHARED)
    until(second, "log.events.length > 5")
    gap, following = events(second)[:2]
    assert gap[:2] == ["sse.gap", '{"reason":"shared","asked":null,"missed":null}']
    assert following[0] == "message"


def test_a_refusal_reaches_every_tab(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(3)
    for page in pages:
        listen(page, f"/client/forbidden/?key={key}", {"share": "mine"})
    for page in pages:
        assert state(page, "error") == ["forbidden", 403]


def test_a_slow_for_await_does_not_hold_up_the_other_tabs(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(3)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", {**SHARED, "buffer": 4})
        page.evaluate(
            """() => {
                window.gate = new Promise((resolve) => (window.go = resolve));
                window.read = async () => {
                    window.got = [];
                    for await (const event of log.stream) {
                        if (event.type === "message") got.push(parseInt(event.data));
                        if (got.length === 10) await gate;
                    }
                };
            }"""
        )
    first = leader(pages)
    others = [page for page in pages if page is not first]
    slow = [first, others[0]]
    for page in slow:
        page.evaluate("void (window.done = read())")
    produce(uvicorn, key)
    assert_has_everything(others[1])
    for page in slow:
        page.evaluate("go()")
        page.evaluate("done")
        assert page.evaluate("got") == [*range(RATE * SECONDS)]


def test_where_the_browser_cannot_share_each_tab_has_its_own(context: BrowserContext, uvicorn: Server, key: str) -> None:
    page = context.new_page()
    page.goto(f"http://{INSECURE}:{uvicorn.port}/_page/")
    assert page.evaluate("[isSecureContext, navigator.locks === undefined]") == [False, True]
    listen(page, f"/topics/follow/{key}/", SHARED)
    produce(uvicorn, key)
    assert_has_everything(page)
    assert page.evaluate("log.stream.leads") is None
