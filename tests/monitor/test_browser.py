"""The page of live streams in Chromium, under a strict policy: live, asleep while hidden, filtered, on a phone, smooth."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.chromium import launched
from tests.live.servers import poll
from tests.timing import LONG

from .serving import PATIENCE, STAFF, MonitorSite, running_site

STREAMS = 5_000 if LONG else 120
BUSY = 200 if LONG else 100
LONGEST_TASK = 500
"""Milliseconds for which the page may be deaf to whoever uses it, on a machine that also serves all streams and their clients."""
WATCHED_SECONDS = 30 if LONG else 1
ROWS_LIFE = 12 if LONG else 1
"""Seconds after which nobody is told rows any more."""
expect.set_options(timeout=PATIENCE * 1000)
LISTEN = """document.addEventListener("securitypolicyviolation",
  (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
window.longest = 0; window.blocked = 0;
new PerformanceObserver((list) => { for (const task of list.getEntries()) {
  window.longest = Math.max(window.longest, task.duration); window.blocked += task.duration;
} }).observe({ type: "longtask" });"""
LISTENS = """(id) => {
  window.opened = 0;
  window.source = new EventSource(`/answers/?id=${id}`);
  source.onopen = () => opened++;
}"""
STOPPED = "() => source.readyState === 2"
CAME_BACK = "() => source.readyState === 1 && opened === 2"
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitorSite]:
    with running_site(tmp_path_factory.mktemp("browser"), workers=2) as one:
        yield one


@pytest.fixture(autouse=True)
def nobody_stays(site: MonitorSite) -> Iterator[None]:
    yield
    for client in site.clients:
        client.close()
    site.clients.clear()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def page(chromium: Browser, site: MonitorSite) -> Iterator[Page]:
    """The page of live streams; what is wrong in its console fails the test."""
    wrong: list[str] = []
    context = signed_in(chromium, site)
    page = context.new_page()
    page.add_init_script(LISTEN)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(f"{site.url}{STAFF}")
    live(page)
    yield page
    context.close()
    assert [text for text in wrong if "404" not in text] == []  # the site has no favicon


def signed_in(chromium: Browser, site: MonitorSite, who: str = "admin", **about: Any) -> BrowserContext:
    name, value = site.cookie_of(who).split("=", 1)
    context = chromium.new_context(**{"viewport": {"width": 1360, "height": 900}, **about})
    context.set_default_timeout(PATIENCE * 1000)
    context.add_cookies([{"name": name, "value": value, "url": site.url}])
    return context


def live(page: Page) -> None:
    page.locator('[data-dot][data-state="live"]').wait_for()


def test_of_http_1_1_it_says_nothing_over_http_2(chromium: Browser, tmp_path: Path) -> None:
    with running_site(tmp_path, server="hypercorn") as site:
        context = signed_in(chromium, site, ignore_https_errors=True)
        page = context.new_page()
        page.goto(f"{site.url}{STAFF}")
        live(page)
        assert page.evaluate("() => performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        expect(page.get_by_text("This page came over HTTP/1.1.")).to_be_hidden()
        context.close()


def rows(page: Page, route: str) -> int:
    return page.locator(f'[data-rows] tr:has([data-cell="route"]:text-is("{route}"))').count()


def test_streams_come_and_go_on_the_page_by_themselves(page: Page, site: MonitorSite) -> None:
    before = time.monotonic()
    (one, *_) = site.open("answers/", 3)
    poll("they are there", lambda: rows(page, "answers/") == 3, within=PATIENCE, every=0.05)
    expect(page.get_by_text("This page came over HTTP/1.1.")).to_be_visible()
    print(f"\nthree streams were on the page after {time.monotonic() - before:.1f} s")
    one.close()
    site.clients.remove(one)
    poll("one has left", lambda: rows(page, "answers/") == 2, within=PATIENCE, every=0.05)
    expect(page.locator('[data-card="open"] .mon-value')).not_to_have_text("0")

    def both_workers_report() -> bool:
        site.open("answers/", 4)  # the system says which of the workers gets them
        return page.locator('[data-card="processes"] .mon-value').text_content() == "2"

    poll("both processes report", both_workers_report, within=PATIENCE, every=1.0)
    assert page.locator(".mon-card svg path").first.get_attribute("d")


@pytest.mark.parametrize("back", ["never", "later"])
def test_a_browser_that_is_sent_away_stays_away_and_one_that_may_comes_back(page: Page, site: MonitorSite, back: str) -> None:
    page.evaluate(LISTENS, back)
    row = page.locator(f'[data-rows] tr:has([data-cell="last_id"]:text-is("{back}"))')
    row.wait_for()
    address = row.locator("[data-close]").get_attribute("href")
    with page.context.expect_page() as other:
        row.locator("[data-close]").click(modifiers=["Control"])
    asks = other.value

    def closed() -> bool:
        """Ask again where a process was too busy to answer: nothing was done then."""
        asks.wait_for_load_state()
        if not asks.locator('input[name="scope"][value="stream"]').count():
            asks.goto(f"{site.url}{STAFF}{address}")
            return False
        asks.locator('input[name="scope"][value="stream"]').check()
        asks.locator(f'input[name="back"][value="{back}"]').check()
        asks.locator('input[name="retry"]').fill("1")
        with asks.expect_navigation():
            asks.locator("form.mon-confirm button, .mon-confirm button").click()
        return asks.get_by_text("Closed one stream of answers/.").count() > 0

    poll("it is closed", closed, within=PATIENCE)
    page.wait_for_function(STOPPED if back == "never" else CAME_BACK)
    assert page.evaluate("() => opened") == (1 if back == "never" else 2)


def test_filters_hold_while_it_is_live_and_stand_in_its_address(page: Page, site: MonitorSite) -> None:
    site.open("answers/", 2)
    site.open("prices/", 2)
    poll("all are there", lambda: rows(page, "answers/") == rows(page, "prices/") == 2, within=PATIENCE)
    page.locator('input[name="text"]').fill("answers")
    poll("only these", lambda: (rows(page, "answers/"), rows(page, "prices/")) == (2, 0), within=PATIENCE)
    expect(page).to_have_url(re.compile("[?&]text=answers"))
    page.reload()
    live(page)
    poll("only these again", lambda: rows(page, "answers/") == 2, within=PATIENCE)
    assert rows(page, "prices/") == 0


def test_it_sleeps_while_it_is_hidden(page: Page, site: MonitorSite) -> None:
    own = "admin/agent_sse_monitor/livestreams/events/"
    with site.signed_in("looks") as looks:

        def open_pages() -> int:
            answer = looks.get(STAFF, params={"route": own}).text
            return answer.count('data-cell="route">')  # its template has one more

        poll("its stream is open", lambda: open_pages() == 2, within=PATIENCE)
        page.evaluate(HIDE, True)
        expect(page.locator("[data-status]")).to_have_text("Paused while hidden")
        poll("its stream is closed", lambda: open_pages() == 1, within=PATIENCE)
    page.evaluate(HIDE, False)
    live(page)


def test_without_javascript_it_is_a_snapshot(chromium: Browser, site: MonitorSite) -> None:
    site.open("answers/", 2)
    context = signed_in(chromium, site, java_script_enabled=False)
    page = context.new_page()

    def shown() -> bool:
        page.goto(f"{site.url}{STAFF}?route=answers/")
        return rows(page, "answers/") == 2

    poll("both are there", shown, within=PATIENCE)
    expect(page.locator("[data-status]")).to_have_text("Snapshot")
    expect(page.get_by_role("link", name="Reload")).to_be_visible()
    context.close()


@pytest.mark.parametrize(
    "where", [STAFF, "/admin/django_agent_sse/logtopic/", "/admin/django_agent_sse/logtopic/builds.5/change/"]
)
def test_it_fits_a_phone(page: Page, site: MonitorSite, where: str) -> None:
    site.open("publish/5/")
    site.open("answers/", 3)
    page.set_viewport_size({"width": 375, "height": 812})
    page.goto(f"{site.url}{where}")
    page.wait_for_timeout(1500)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 375


def cpu(site: MonitorSite, page: Page, seconds: int) -> float:
    """Of a core: what all processes of the site take meanwhile, together."""
    these = [*psutil.Process(site.process.pid).children(recursive=True)]

    def used() -> float:
        return sum(sum(one.cpu_times()[:2]) for one in these)

    before = used()
    page.wait_for_timeout(seconds * 1000)
    return (used() - before) / seconds


@(pytest.mark.alone if LONG else pytest.mark.slow)
def test_it_stays_smooth_with_all_the_rows_that_it_shows(page: Page, site: MonitorSite) -> None:
    page.goto("about:blank")
    site.open("prices/?pause=600", STREAMS - BUSY)
    site.open("prices/", BUSY)
    page.wait_for_timeout(ROWS_LIFE * 1000)
    alone = cpu(site, page, WATCHED_SECONDS)
    page.goto(f"{site.url}{STAFF}")
    live(page)
    poll("they are there", lambda: page.locator("[data-rows] tr").count() >= 100, within=PATIENCE)
    page.evaluate("() => { window.longest = 0; window.blocked = 0; }")
    before = page.locator("[data-clock]").text_content()
    watched = cpu(site, page, WATCHED_SECONDS)
    longest, blocked = page.evaluate("() => [window.longest, window.blocked]")
    poll("it goes on", lambda: page.locator("[data-clock]").text_content() != before, within=PATIENCE)
    count = page.locator("[data-rows] tr").count()
    print(
        f"\n{STREAMS:,} streams, {BUSY} of them busy, {count} rows that change each second: the longest task in the page took "
        f"{longest:.0f} ms, tasks over 50 ms {blocked / WATCHED_SECONDS / 10:.1f} % of the time; two workers took {alone:.1%} "
        f"of a core without a page and {watched:.1%} with one, heartbeats and events of all streams included"
    )
    if LONG:
        assert blocked / WATCHED_SECONDS / 1000 < 0.5
        assert longest < LONGEST_TASK


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (375, "dark")])
def test_a_run_is_stopped_on_its_page_by_those_who_may(chromium: Browser, site: MonitorSite, width: int, scheme: str) -> None:
    chat = f"{width}{40 * '8'}"  # no name is too long for the page
    told = httpx.post(f"{site.url}/chats/{chat}/", headers={"Prefer": "respond-async"}, timeout=PATIENCE).json()
    name = f"chats.{chat}.{told['run']}"
    pages: dict[str, Page] = {}
    for who in ("looks", "stops"):
        context = signed_in(chromium, site, who, viewport={"width": width, "height": 800}, color_scheme=scheme)
        pages[who] = page = context.new_page()
        page.goto(f"{site.url}/admin/django_agent_sse/logtopic/?q=chats.{chat}.")
        page.locator(f'tr:has-text("{told["run"]}") td[data-col="topic"] a').last.click()
        expect(page.locator(".mon-run")).to_contain_text(re.compile(rf"{told['run']}\s*Lease\s*\d+ s left"))
        assert page.evaluate("document.documentElement.scrollWidth") == width
    stop = [page.get_by_role("button", name="Stop the run…") for page in pages.values()]
    assert [button.count() for button in stop] == [0, 1]
    stop[1].click()
    page = pages["stops"]
    expect(page.locator(".mon-confirm")).to_contain_text(told["run"])
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.get_by_role("button", name="Stop the run", exact=True).click()
    expect(page.locator(".messagelist")).to_have_text(f"Topic {name}: Asked the run {told['run']} to stop.")
    httpx.get(f"{site.url}{told['url']}", timeout=PATIENCE)  # to its end
    for page in pages.values():
        page.reload()
        expect(page.locator(".mon-run")).to_contain_text(re.compile(r"Ending\s*stopped"))
        expect(page.get_by_role("button", name="Stop the run…")).to_have_count(0)
    pages["stops"].goto(f"{site.url}/admin/")
    expect(pages["stops"].locator("#recent-actions-module")).to_contain_text(name)
    for page in pages.values():
        page.context.close()
