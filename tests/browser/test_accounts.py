"""A shared connection belongs to one session: what happens to it when somebody else signs in, in the same browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.live.servers import Server, poll

from .listening import events, listen, state, until
from .test_share import Tabs, assert_has_everything, goes_on, leader, tabs, talk

__all__ = ["tabs"]

SITE = {"middleware": "default"}
SHARED = {"share": True, "watchdog": 5000}
ONE, TWO = "user-000", "user-001"
CHANGED = ["session_changed", None]


def go(page: Page, path: str) -> None:
    """Send a request from the page, with the browser's cookies."""
    assert page.evaluate("(path) => fetch(path).then((answer) => answer.status)", path) == 200


def sign_in(page: Page, name: str) -> None:
    go(page, f"/client/in/{name}/")


def told(page: Page) -> set[str]:
    """The texts of all events so far."""
    return {data for type, data, _ in events(page) if type == "message"}


@pytest.fixture
def both(tabs: Tabs, uvicorn: Server) -> Callable[[str], list[Page]]:
    """Two tabs of the first user that share a stream and have had events."""

    def opened(path: str) -> list[Page]:
        pages = tabs(2)
        sign_in(pages[0], ONE)
        for page in pages:
            listen(page, path, SHARED)
            state(page, "open")
        first = leader(pages)
        go(pages[0], f"/client/tell/{ONE}/")
        for page in pages:
            until(page, "log.events.length > 0")
            assert told(page) == {f"for {ONE}"}
        return [first, *(page for page in pages if page is not first)]

    return opened


def tell_both(page: Page) -> None:
    for name in (ONE, TWO, "nobody"):
        go(page, f"/client/tell/{name}/")


PATHS = ["/client/inbox/", "/client/mine/"]
IDS = ["with ids", "without ids"]


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_who_signs_in_next_gets_his_own_and_the_pages_of_the_first_are_told(
    both: Callable[[str], list[Page]], tabs: Tabs, path: str
) -> None:
    pages = both(path)
    (third,) = tabs(1)
    go(third, "/client/out/")
    sign_in(third, TWO)
    go(third, f"/client/tell/{TWO}/")
    listen(third, path, SHARED)
    until(third, "stream.leads && log.events.length > 0")
    for page in pages:
        assert state(page, "error") == CHANGED
    tell_both(third)
    (fourth,) = tabs(1)
    listen(fourth, path, SHARED)
    for page in (third, fourth):
        until(page, "log.events.length > 1")
    assert fourth.evaluate("log.stream.leads") is False
    assert [told(page) for page in (third, fourth)] == [{f"for {TWO}"}] * 2
    assert [told(page) for page in pages] == [{f"for {ONE}"}] * 2
    pages[0].evaluate("log.events.length = 0; log.stream.reopen()")
    until(pages[0], "log.events.length > 1")
    assert told(pages[0]) == {f"for {TWO}"}


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_a_signed_out_page_gets_nothing_of_who_was_signed_in(both: Callable[[str], list[Page]], tabs: Tabs, path: str) -> None:
    pages = both(path)
    (third,) = tabs(1)
    go(third, "/client/out/")
    listen(third, path, SHARED)
    for page in pages:
        assert state(page, "error") == CHANGED
    tell_both(third)
    until(third, "log.events.length > 0")
    assert told(third) == {"for nobody"}


def test_who_is_refused_makes_the_others_ask_for_themselves(both: Callable[[str], list[Page]], tabs: Tabs) -> None:
    pages = both("/client/members/")
    (third,) = tabs(1)
    go(third, "/client/out/")
    listen(third, "/client/members/", SHARED)
    for page in (third, *pages):
        assert state(page, "error") == ["unauthorized", 401]
    assert events(third) == []


@pytest.mark.parametrize("path", PATHS, ids=IDS)
def test_who_takes_over_as_somebody_else_takes_nothing(both: Callable[[str], list[Page]], tabs: Tabs, path: str) -> None:
    first, second = both(path)
    (third,) = tabs(1)
    sign_in(third, TWO)
    tell_both(third)
    first.close()
    assert state(second, "error") == CHANGED
    assert told(second) == {f"for {ONE}"}


def test_a_leader_that_comes_back_as_somebody_else_gives_nothing_to_the_others(
    both: Callable[[str], list[Page]], tabs: Tabs, uvicorn: Server
) -> None:
    pages = both("/client/mine/")
    (third,) = tabs(1)
    sign_in(third, TWO)
    uvicorn.restart()
    for page in pages:
        assert state(page, "error") == CHANGED
        assert told(page) == {f"for {ONE}"}


def test_a_guard_that_refuses_one_tab_leaves_the_others_alone(tabs: Tabs, uvicorn: Server) -> None:
    first, second, third, fourth = tabs(4)
    right = {"share": "first", "watchdog": 5000, "headers": {"X-Token": "right"}}
    listen(first, "/client/first/", right)
    until(first, "stream.leads")
    listen(second, "/client/first/", right)
    until(second, "stream.leads === false && log.events.length > 3")
    listen(third, "/client/first/", {"share": "first", "headers": {"X-Token": "wrong"}})
    assert state(third, "error") == ["forbidden", 403]
    sign_in(fourth, TWO)
    listen(fourth, "/client/first/", {"share": "first"})
    assert state(fourth, "error") == ["forbidden", 403]
    assert [events(page) for page in (third, fourth)] == [[], []]
    for page in (first, second):  # nobody they were, and another they are by now
        assert state(page, "error") == CHANGED
        assert told(page) == {"for nobody"}


def test_a_refusal_for_a_header_of_the_page_does_not_end_the_others(tabs: Tabs) -> None:
    first, second = tabs(2)
    listen(first, "/client/first/", {"share": "first", "headers": {"X-Token": "right"}})
    until(first, "stream.leads")
    listen(second, "/client/first/", {"share": "first", "headers": {"X-Token": "wrong"}})
    assert state(second, "error") == ["forbidden", 403]
    goes_on(first)
    assert events(second) == []
    assert first.evaluate("[log.stream.leads, log.states]") == [True, ["open: connected"]]


def test_tabs_whose_headers_are_others_each_time_share_nothing(context: BrowserContext, tabs: Tabs) -> None:
    pages = tabs(2)
    for page in pages:
        page.evaluate(
            """async () => {
                const { EventStream } = await import("/static/django_agent_sse/client.js");
                let turn = 0;
                const headers = () => ({ "X-Token": "right", "X-Turn": String((turn += 1)) });
                const log = (window.log = { events: [], states: [], errors: [] });
                log.stream = new EventStream("/client/first/", { share: true, headers });
                log.stream.addEventListener("*", ({ type, data, lastEventId }) => log.events.push([type, data, lastEventId]));
            }"""
        )
    for page in pages:
        until(page, "log.events.length > 3")
        assert page.evaluate("log.stream.leads") is None


def test_another_session_of_the_same_account_goes_on_without_a_loss(tabs: Tabs, uvicorn: Server, key: str) -> None:
    poll("streams of other tests are over", lambda: not uvicorn.state()["open_streams"])
    pages = tabs(3)
    sign_in(pages[0], ONE)
    path = f"/topics/follow/{key}/"
    for page in pages[:2]:
        listen(page, path, SHARED)
    talk(uvicorn, key)
    for page in pages[:2]:
        goes_on(page)
    go(pages[2], "/client/rekey/")
    listen(pages[2], path, SHARED)
    for page in pages:
        goes_on(page)
    poll("one stream is open", lambda: uvicorn.state()["open_streams"] == 1)
    uvicorn.open_gate(key)
    for page in pages:
        # The session of the first stream is no more: it ended, and came back as the new one.
        page.evaluate("log.events = log.events.filter(([type, data]) => type !== 'sse.end' || !data.includes('revoked'))")
        assert_has_everything(page)
