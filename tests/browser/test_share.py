"""One connection for the tabs of an origin: seven tabs, a leader that closes, crashes, freezes or hangs, tabs that come late."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page
from playwright.sync_api import Error as PlaywrightError

from tests.live.servers import Server, poll

from .conftest import INSECURE
from .listening import events, listen, state, until

SITE = {"middleware": "everything"}
SHARED = {"share": True}
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


def talk(uvicorn: Server, topic: str) -> None:
    """Have the server publish numbers until it is hushed."""
    assert uvicorn.get(f"client/talk/{topic}/").status == 200


def assert_has_everything(page: Page) -> None:
    """Each number once and in order, and nothing else, up to the end that tells how many there were."""
    assert state(page, "ended") == ["topic_closed", None]
    *got, (last, told, _) = events(page)
    assert last == "sse.end"
    assert [(type, data) for type, data, _ in got] == [("message", str(n)) for n in range(int(json.loads(told)["closed"]))]


def goes_on(page: Page, more: int = 10) -> None:
    """Wait for further events."""
    until(page, f"log.events.length > {len(events(page)) + more}")


def leader(pages: list[Page]) -> Page:
    """The tab that has the connection."""

    def leading() -> list[Page]:
        return [page for page in pages if page.evaluate("log.stream.leads")]

    return poll("a tab leads", leading)[0]


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
    poll("streams of other tests are over", lambda: not uvicorn.state()["open_streams"])
    pages = tabs(7)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    talk(uvicorn, key)
    for page in pages:
        state(page, "open")
    assert pages[6].evaluate(FETCH) == 200
    for page in pages:
        goes_on(page)
    poll("one stream is open", lambda: uvicorn.state()["open_streams"] == 1)
    uvicorn.open_gate(key)
    for page in pages:
        assert_has_everything(page)


def test_tabs_whose_addresses_are_too_old_get_new_ones_and_share(tabs: Tabs, uvicorn: Server, key: str) -> None:
    """As those of a window that the browser has restored: the page comes from its cache, with the signature of yesterday."""
    poll("streams of other tests are over", lambda: not uvicorn.state()["open_streams"])
    pages = tabs(3)
    pages[0].goto(f"{uvicorn.url}/client/in/user-001/")
    pages[0].goto(f"{uvicorn.url}/_page/")
    renew = f"/origins/address/?key={key}"
    for page in pages:
        listen(page, f"/origins/held/?key={key}&sse_signature=old", {"share": True, "renew": renew})
    for page in pages:
        until(page, "log.events.length > 0")
        assert [data for _, data, _ in events(page)] == ["user-001"]
    first = leader(pages)
    poll("one stream is open", lambda: uvicorn.state()["open_streams"] == 1)
    pages.remove(first)
    first.close()
    state(leader(pages), "open")
    poll("one stream is open", lambda: uvicorn.state()["open_streams"] == 1)


def test_when_the_leader_is_closed_the_others_go_on(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(4)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    talk(uvicorn, key)
    for _ in range(2):
        first = leader(pages)
        goes_on(first)
        pages.remove(first)
        first.close()
    for page in pages:
        goes_on(page)
    uvicorn.open_gate(key)
    for page in pages:
        assert_has_everything(page)


def test_a_leader_that_closes_its_stream_hands_over(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(3)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    talk(uvicorn, key)
    first = leader(pages)
    goes_on(first)
    first.evaluate("log.stream.close()")
    leader([page for page in pages if page is not first])
    first.evaluate("log.stream.reopen()")
    goes_on(first)
    uvicorn.open_gate(key)
    for page in pages:
        assert_has_everything(page)


def test_what_is_posted_twice_is_taken_once(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(3)
    pages[0].evaluate("""() => {
        const post = BroadcastChannel.prototype.postMessage;
        BroadcastChannel.prototype.postMessage = function (message) { post.call(this, message), post.call(this, message); };
    }""")
    listen(pages[0], f"/topics/follow/{key}/", SHARED)
    assert leader(pages[:1]) is pages[0]
    talk(uvicorn, key)
    for page in pages[1:]:  # they come while it goes on, and so hold what is posted until they have what was before
        goes_on(pages[0])
        listen(page, f"/topics/follow/{key}/", SHARED)
    for page in pages:
        goes_on(page)
    uvicorn.open_gate(key)
    for page in pages:
        assert_has_everything(page)


def test_when_the_leader_crashes_the_others_go_on(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(3)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    talk(uvicorn, key)
    first = leader(pages)
    goes_on(first)
    with first.expect_event("crash"), contextlib.suppress(PlaywrightError):
        first.goto("chrome://crash")
    pages.remove(first)
    for page in pages:
        goes_on(page)
    uvicorn.open_gate(key)
    for page in pages:
        assert_has_everything(page)


def test_a_leader_that_is_frozen_hands_over_and_goes_on_when_it_thaws(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(3)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    talk(uvicorn, key)
    first = leader(pages)
    goes_on(first)
    # Headless Chromium freezes no page, so this one is only told that it will be; one that hangs is below.
    first.evaluate("document.dispatchEvent(new Event('freeze'))")
    others = [page for page in pages if page is not first]
    leader(others)
    for page in others:
        goes_on(page)
    first.evaluate("document.dispatchEvent(new Event('resume'))")
    goes_on(first)
    uvicorn.open_gate(key)
    for page in pages:
        assert_has_everything(page)


def test_a_leader_that_hangs_is_replaced(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(3)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", {**SHARED, "watchdog": 5000})
    first = leader(pages)
    others = [page for page in pages if page is not first]
    for page in others:
        state(page, "open")
    devtools = first.context.new_cdp_session(first)
    devtools.send("Debugger.enable")
    devtools.send("Debugger.pause")
    talk(uvicorn, key)
    leader(others)
    for page in others:
        goes_on(page)
    devtools.send("Debugger.resume")
    devtools.send("Debugger.disable")
    until(first, "stream.leads === false")
    goes_on(first)
    uvicorn.open_gate(key)
    for page in pages:
        assert_has_everything(page)


def test_tabs_that_come_late_get_everything_too(tabs: Tabs, uvicorn: Server, key: str) -> None:
    pages = tabs(2)
    for page in pages:
        listen(page, f"/topics/follow/{key}/", SHARED)
    talk(uvicorn, key)
    goes_on(pages[0], 30)
    (late,) = tabs(1)
    listen(late, f"/topics/follow/{key}/", SHARED)
    goes_on(pages[1], 50)
    (later,) = tabs(1)
    listen(later, f"/topics/follow/{key}/", SHARED)
    goes_on(late)
    goes_on(later)
    uvicorn.open_gate(key)
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


def test_tabs_whose_ids_never_agree_each_get_their_own(tabs: Tabs) -> None:
    pages = tabs(4)
    for page in pages:
        listen(page, "/client/private/", SHARED)
        if page is pages[0]:
            goes_on(page)
    for page in pages:
        goes_on(page)
        numbers = [int(data) for _, data, _ in events(page)]
        assert numbers == [*range(1, len(numbers) + 1)]
        assert len({id.partition(".")[0] for _, _, id in events(page)}) == 1


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
    talk(uvicorn, key)
    goes_on(others[1], 200)
    for page in slow:
        page.wait_for_function("got.length >= 10")
    assert [page.evaluate("got.length") for page in slow] == [10, 10]
    uvicorn.open_gate(key)
    assert_has_everything(others[1])
    for page in slow:
        page.evaluate("go()")
        page.evaluate("done")
        assert page.evaluate("got") == [*range(len(events(others[1])) - 1)]


def test_where_the_browser_cannot_share_each_tab_has_its_own(context: BrowserContext, uvicorn: Server, key: str) -> None:
    page = context.new_page()
    page.goto(f"http://{INSECURE}:{uvicorn.port}/_page/")
    assert page.evaluate("[isSecureContext, navigator.locks === undefined]") == [False, True]
    listen(page, f"/topics/follow/{key}/", SHARED)
    talk(uvicorn, key)
    goes_on(page)
    assert page.evaluate("log.stream.leads") is None
    uvicorn.open_gate(key)
    assert_has_everything(page)
