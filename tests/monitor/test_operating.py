"""The monitor as it is used in Chromium: rows hold still, columns sort, only news is read out, who is signed out is told."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.asleep import stop
from tests.live.servers import poll

from .serving import PATIENCE, STAFF, MonitorSite, running_site
from .test_browser import chromium, live, nobody_stays, page, rows, signed_in, site
from .test_page import audit, complete, seen

__all__ = ["chromium", "nobody_stays", "page", "site"]  # fixtures

VIEWS = ("streams", "routes", "problems", "runs", "processes")
OWN = ["/admin/django_agent_sse/logtopic/", "/admin/django_agent_sse/keyvaluestore/?ns=builds&key=42"]
TELLS = """() => {
  window.told = [];
  for (const region of document.querySelectorAll("[aria-live], [role=status], [role=alert]"))
    new MutationObserver(() => told.push([region.hasAttribute("data-said") ? "warning" : "state", region.textContent]))
      .observe(region, { childList: true, characterData: true, subtree: true });
}"""
OUTSIDE = """() => [...document.querySelectorAll(".sse-mon *")].filter((one) => {
  const box = one.getBoundingClientRect();
  const cut = one.parentElement.closest(".mon-main, .mon-sub"); // which shows what has room in it
  return box.width && !one.closest(".mon-hide, option") && !cut && (box.left < -1 || box.right > innerWidth + 1);
}).map((one) => one.outerHTML.slice(0, 80))"""
SCROLLS = "() => [...document.querySelectorAll('.mon-scroll')].filter((one) => one.scrollWidth > one.clientWidth + 1).length"

CLIPPED = """() => [...document.querySelectorAll('.mon-card h2, .mon-value, .mon-table th, .mon-views a, .mon-state')]
  .filter((one) => one.offsetWidth && one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)"""


@pytest.fixture(scope="module")
def axe(node: Any) -> str:
    """The script of axe-core."""
    return str((node.modules / "axe-core/axe.min.js").read_text())


def ids(page: Page) -> list[str]:
    """The rows in their order."""
    return page.evaluate("[...document.querySelectorAll('[data-rows] tr')].map((row) => row.dataset.id)")  # type: ignore[no-any-return]


def settled(page: Page) -> None:
    """Wait until the page is live and all processes have answered: from then on rows may be held."""
    live(page)
    expect(page.locator("[data-summary]")).not_to_contain_text("not answered")


def events_pass(page: Page, count: int) -> None:
    """Wait until the page has been told so often."""
    clock = page.locator("[data-clock]")
    for _ in range(count):
        before = clock.text_content() or ""
        expect(clock).not_to_have_text(before)


# Calm


def test_rows_hold_still_under_the_pointer_and_come_when_it_leaves(page: Page, site: MonitorSite) -> None:
    (first, *_) = site.open("answers/", 2)
    page.goto(f"{site.url}{STAFF}?route=answers/")
    settled(page)
    expect(page.locator("[data-rows] tr")).to_have_count(2)
    page.locator("[data-rows] tr").first.hover()
    before, place = ids(page), page.locator("[data-rows] tr").last.bounding_box()
    site.open("answers/", 3)
    expect(page.locator("[data-new]")).to_have_text("3 new")
    first.close()
    site.clients.remove(first)
    over = page.locator("[data-rows] tr.mon-over")
    expect(over).to_have_count(1)
    expect(over.locator('[data-cell="state_label"]')).to_have_text("no longer listed")
    assert (ids(page), page.locator("[data-rows] tr").last.bounding_box()) == (before, place)
    expect(page.locator("[data-summary]")).to_have_text(re.compile(r"^4 of \d+ streams$"))
    page.locator(".mon-views").hover()
    expect(page.locator("[data-rows] tr")).to_have_count(4)
    expect(page.locator("[data-new]")).to_be_hidden()
    assert ids(page)[-1] in before, "the newest first"


def test_a_connection_that_says_nothing_is_not_called_live(page: Page, site: MonitorSite) -> None:
    page.clock.install()
    page.goto(f"{site.url}{STAFF}")
    settled(page)
    workers = [worker.pid for worker in psutil.Process(site.process.pid).children(recursive=True)]
    assert workers
    processes = [site.process.pid, *workers]  # the first one would end those that do not answer it
    try:
        for process in processes:
            stop(process)
        page.wait_for_timeout(500)  # what it had sent is read
        page.clock.fast_forward(31_000)
        expect(page.locator("[data-status]")).to_have_text("Disconnected. Trying again…")
    finally:
        for process in reversed(processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
    for _ in range(60):
        page.clock.fast_forward(2_000)
        if page.locator("[data-status]").text_content() == "Live":
            break
        page.wait_for_timeout(500)
    live(page)


def test_rows_of_what_was_asked_for_before_are_not_held(page: Page, site: MonitorSite) -> None:
    site.open("answers/", 2)
    site.open("prices/", 1)
    page.goto(f"{site.url}{STAFF}?route=answers/")
    settled(page)
    expect(page.locator("[data-rows] tr")).to_have_count(2)
    page.locator("[data-rows] tr").first.hover()
    held: list[Route] = []
    page.route(re.compile(r"route=prices"), lambda route: held.append(route))
    page.locator("select[name=route]").select_option("prices/")
    expect(page.locator("[data-status]")).to_have_text("Connecting…")
    for _ in range(600):
        if held:
            break
        page.wait_for_timeout(50)
    assert held
    page.evaluate("dispatchEvent(new Event('scroll'))")
    for route in held:
        route.continue_()
    expect(page.locator("[data-rows] tr")).to_have_count(1)
    expect(page.locator("[data-rows] tr.mon-over")).to_have_count(0)


def test_rows_hold_still_while_the_focus_is_in_them_and_come_at_a_click(page: Page, site: MonitorSite) -> None:
    mine = {"User_Agent": "Focus/1.0"}  # a question of its own: what another test has asked for is answered for some seconds yet
    site.open("prices/", 1, **mine)
    page.goto(f"{site.url}{STAFF}?route=prices/&text=focus/1.0")
    settled(page)
    expect(page.locator("[data-rows] tr")).to_have_count(1)
    page.locator("[data-close]").first.focus()
    site.open("prices/", 1, **mine)
    expect(page.locator("[data-new]")).to_have_text("1 new")
    page.locator("[data-new]").focus()
    expect(page.locator("[data-rows] tr")).to_have_count(2)  # the focus has left the rows
    page.locator("[data-close]").first.focus()
    site.open("prices/", 1, **mine)
    expect(page.locator("[data-new]")).to_have_text("1 new")
    page.evaluate("document.querySelector('[data-new]').click()")
    expect(page.locator("[data-rows] tr")).to_have_count(3)
    assert page.evaluate("document.activeElement.matches('[data-close]')"), "and stays where it was"


def test_rows_hold_still_where_somebody_has_scrolled_into_them(page: Page, site: MonitorSite) -> None:
    site.open("answers/", 30)
    page.set_viewport_size({"width": 375, "height": 700})
    page.goto(f"{site.url}{STAFF}?route=answers/")
    settled(page)
    expect(page.locator("[data-rows] tr")).to_have_count(30)
    page.locator("[data-rows] tr").nth(15).scroll_into_view_if_needed()
    before = ids(page)
    site.open("answers/", 2)
    expect(page.locator("[data-new]")).to_have_text("2 new")
    expect(page.locator("[data-new]")).to_be_in_viewport()
    assert ids(page) == before
    page.evaluate("scrollTo(0, 0)")
    expect(page.locator("[data-rows] tr")).to_have_count(32)


def test_only_changes_of_state_and_new_warnings_are_read_out(page: Page, site: MonitorSite) -> None:
    site.open("prices/", 2)
    page.evaluate(TELLS)
    events_pass(page, 4)
    late = [text for kind, text in page.evaluate("told") if kind == "warning" and "stopped reporting" in text]
    assert len(page.evaluate("told")) == len(late), "numbers and a clock have changed"
    assert len(late) <= 2, "on a busy machine each of the two processes may be late, once"
    page.evaluate("told.length = 0")
    page.evaluate("dispatchEvent(new Event('pagehide')); dispatchEvent(new Event('pageshow'))")
    events_pass(page, 2)
    told = page.evaluate("told")
    states, warnings = ([text for kind, text in told if kind == of] for of in ("state", "warning"))
    assert states[-1] == "Live", "its state is"
    assert len(states) <= 3
    assert all("stopped reporting" in text for text in warnings), "as above"
    assert len(warnings) <= 2


def test_why_the_stream_of_the_page_is_refused_is_said(page: Page) -> None:
    refused = 'retry: 60000\nevent: sse.overloaded\ndata: {"reason": "you have too many streams open"}\n\n'
    events = re.compile("/events/")
    page.route(events, lambda route: route.fulfill(content_type="text/event-stream", body=refused))
    page.reload()
    expect(page.locator("[data-status]")).to_have_text("Refused: you have too many streams open. Trying again…")
    page.unroute(events)
    page.reload()
    live(page)


# What is asked for


HINT = """() => {
  const field = document.querySelector(".mon-filters input[type=search]"), style = getComputedStyle(field);
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = style.font;
  const room = field.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  return { hint: field.placeholder, spare: room - pen.measureText(field.placeholder).width };
}"""


@pytest.mark.parametrize("language", ["en", "de", "ar"])
def test_what_can_be_searched_for_is_said_whole(chromium: Browser, site: MonitorSite, language: str) -> None:
    context = signed_in(chromium, site, viewport={"width": 1280, "height": 800}, locale=language)
    page = context.new_page()
    page.goto(f"{site.url}{STAFF}")
    live(page)
    seen = page.evaluate(HINT)
    context.close()
    assert seen["hint"]
    assert seen["spare"] > 0, seen


def test_columns_sort_by_their_headers(page: Page, site: MonitorSite) -> None:
    site.open("answers/", 2)
    site.open("publish/3/", 1)
    page.goto(f"{site.url}{STAFF}")
    live(page)
    header = page.locator("th", has_text="Route and topics")
    header.get_by_role("link").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    poll("they are sorted", lambda: routes(page) == sorted(routes(page)) and len(routes(page)) >= 4, within=PATIENCE)
    header.get_by_role("link").click()
    expect(header).to_have_attribute("aria-sort", "descending")
    poll("the other way round", lambda: routes(page) == sorted(routes(page), reverse=True), within=PATIENCE)
    assert "sort=-route" in page.url
    page.reload()
    expect(header).to_have_attribute("aria-sort", "descending")
    assert page.locator("th[aria-sort]").count() == 1


def routes(page: Page) -> list[str]:
    return page.locator('[data-rows] [data-cell="route"]').all_text_contents()


def test_anonymous_is_a_filter_and_filters_are_kept_through_closing_and_views(page: Page, site: MonitorSite) -> None:
    site.open("answers/?id=nobody", 2)
    site.open("answers/?id=alice", 1, Cookie=site.cookie_of("alice"))
    page.goto(f"{site.url}{STAFF}?route=answers/")
    live(page)
    expect(page.locator("[data-rows] tr")).to_have_count(3)
    page.get_by_role("link", name="anonymous", exact=True).first.click()
    expect(page.locator("[data-rows] tr")).to_have_count(2)
    expect(page.get_by_role("checkbox", name="Anonymous only")).to_be_checked()
    page.locator("[data-close]").first.click()
    page.get_by_role("link", name="Cancel").click()
    live(page)
    assert {"route=answers%2F", "anonymous=1"} == set(page.url.partition("?")[2].split("&"))
    expect(page.locator("[data-rows] tr")).to_have_count(2)
    page.locator("[data-close]").first.click()
    crumbs = page.locator(".breadcrumbs")
    expect(crumbs).to_have_text(re.compile(r"Home\W+Server-Sent Events: monitor\W+Live streams\W+Close streams"))
    page.get_by_role("button", name="Close streams").click()
    expect(page.locator(".messagelist")).to_contain_text("Closed one stream of answers/.")
    assert {"route=answers%2F", "anonymous=1"} == set(page.url.partition("?")[2].split("&"))
    expect(page.locator("[data-rows] tr")).to_have_count(1)
    page.get_by_role("link", name="Routes").click()
    live(page)
    page.get_by_role("link", name="Streams", exact=True).click()
    live(page)
    expect(page.locator("[data-rows] tr")).to_have_count(1)
    page.get_by_role("searchbox", name="Search", exact=True).fill("no such stream")
    expect(page.locator("[data-empty]")).to_have_text(re.compile(r"No open stream is like that; \d+ others? (is|are) open\."))
    page.get_by_role("link", name="Clear").click()
    expect(page.locator("[data-clear]")).to_be_hidden()
    poll("all are there", lambda: rows(page, "answers/") == 2, within=PATIENCE)
    expect(page.get_by_role("searchbox", name="Search", exact=True)).to_have_value("")


# The end of a session


def test_who_is_signed_out_is_told_and_what_is_old_is_dimmed(chromium: Browser, site: MonitorSite) -> None:
    context = signed_in(chromium, site, "looks")
    page = context.new_page()
    page.goto(f"{site.url}{STAFF}?route=answers/")
    live(page)
    other = context.new_page()
    other.goto(f"{site.url}/admin/")
    other.get_by_role("button", name="Log out").click()
    page.evaluate("dispatchEvent(new Event('pagehide')); dispatchEvent(new Event('pageshow'))")
    expect(page.locator("[data-status]")).to_have_text("Signed out.")
    expect(page.locator("[data-content]")).to_have_attribute("inert", "")
    assert float(page.evaluate("getComputedStyle(document.querySelector('[data-content]')).opacity")) < 1
    link = page.get_by_role("link", name="Sign in again")
    assert link.get_attribute("href") == "/admin/login/?next=%2Fadmin%2Fagent_sse_monitor%2Flivestreams%2F%3Froute%3Danswers%2F"
    context.close()


# How it looks


def test_axe_finds_nothing_and_everything_fits(chromium: Browser, site: MonitorSite, axe: str) -> None:
    site.open("prices/?pause=0&size=60000")  # takes nothing
    site.open("publish/5/")
    site.open("fails/")
    found: dict[str, Any] = {}
    for scheme in ("light", "dark"):
        context = signed_in(chromium, site, color_scheme=scheme)
        page = context.new_page()
        for where in [*(f"{STAFF}?view={view}&range=hour" for view in VIEWS), *OWN, f"{STAFF}close/?route=publish/<int:build>/"]:
            page.goto(f"{site.url}{where}")
            if where.startswith(f"{STAFF}?"):
                live(page)
            page.evaluate(axe)
            for width in (1280, 375):
                page.set_viewport_size({"width": width, "height": 900})
                wrong = page.evaluate("axe.run('.sse-mon')")["violations"]
                what = [(one["id"], [node["html"][:150] + node["failureSummary"] for node in one["nodes"]][:3]) for one in wrong]
                fits = [
                    page.evaluate("document.documentElement.scrollWidth") <= width,
                    page.evaluate(OUTSIDE),
                    page.evaluate(SCROLLS),
                    page.evaluate(CLIPPED),
                ]
                if what or fits != [True, [], 0, []]:
                    found[f"{where} {scheme} {width}"] = [what, fits]
        context.close()
    assert found == {}


if sys.version_info >= (3, 12):  # Unfold wants it

    def test_in_unfold_fields_look_like_fields_and_it_fits(chromium: Browser, tmp_path: Path, axe: str) -> None:
        with running_site(tmp_path, workers=1, MONITOR_UNFOLD="1") as site:
            context = signed_in(chromium, site, viewport={"width": 1280, "height": 900})
            page = context.new_page()
            page.goto(f"{site.url}{OWN[1]}")
            field = page.locator('input[name="key"]')
            style = field.evaluate("(one) => { const s = getComputedStyle(one); return [s.borderTopWidth, s.borderTopStyle]; }")
            button = page.get_by_role("button", name="Look up")
            assert style == ["1px", "solid"]
            assert button.evaluate("(one) => getComputedStyle(one).backgroundColor") != "rgba(0, 0, 0, 0)"
            for where in (f"{STAFF}?view=routes", OWN[1]):
                page.goto(f"{site.url}{where}")
                page.evaluate(axe)
                wrong = page.evaluate("axe.run('.sse-mon')")["violations"]
                assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in wrong] == []
                for width in (1280, 375):
                    page.set_viewport_size({"width": width, "height": 900})
                    assert (page.evaluate(OUTSIDE), page.evaluate(SCROLLS)) == ([], 0)
            context.close()


# Views and files


def test_routes_errors_runs_and_processes_are_told(site: MonitorSite) -> None:
    site.open("answers/", 2)
    site.open("fails/", 2)
    with site.signed_in("looks") as looks:

        def told() -> bool:
            by_route = {row["route"]: row for row in seen(looks, view="routes")["rows"]}
            return (
                "answers/" in by_route
                and by_route["answers/"]["start"] != "–"
                and int(by_route.get("fails/", {}).get("errors", "0")) >= 2
            )

        poll("routes are told", told, within=PATIENCE, every=0.5)
        problems = {(row["route"], row["what"]): row for row in seen(looks, view="problems")["rows"]}
        failed = problems["fails/", "A handler failed after its stream had begun"]
        assert failed["cause"] == "RuntimeError"
        states = lambda: {row["state"] for row in seen(looks, view="processes")["processes"]}  # noqa: E731
        poll("all of them report", lambda: states() <= {"reporting", "idle"}, within=PATIENCE)


def test_an_export_needs_its_permission_and_is_written_down(site: MonitorSite) -> None:
    site.open("answers/?id=secret-1", 1, User_Agent="Exported/1.0")
    this = {"route": "answers/", "text": "exported/1.0"}  # not what others have left a moment ago
    with site.signed_in("closes") as closes:
        assert closes.get(f"{STAFF}export/").status_code == 403
        assert "export/" not in closes.get(STAFF).text
    with site.signed_in("exports") as exports:
        assert "export/?format=csv&amp;table=streams" in exports.get(STAFF).text
        seen(exports, 1, **this)  # the process has reported
        whole = complete(lambda: exports.get(f"{STAFF}export/", params=this))
        assert whole.headers["Content-Disposition"].startswith('attachment; filename="monitor-')
        told = whole.json()
        assert [row["route"] for row in told["streams"]] == ["answers/"]
        assert told["streams"][0]["last_id"] == "hidden", "without the permission to see what handlers write"
        assert {"streams", "routes", "problems", "refused", "runs", "processes", "history", "matched"} <= told.keys()
        query = {"format": "csv", "table": "streams", **this}
        table = complete(lambda: exports.get(f"{STAFF}export/", params=query))
        head, row, *rest = table.text.splitlines()
        assert (head.split(",")[:3], rest) == (["id", "route", "topics"], [])
        assert row.split(",")[1] == "answers/"
        for query in ({"format": "xml"}, {"format": "csv", "table": "users"}):
            assert exports.get(f"{STAFF}export/", params=query).status_code == 400
    assert {said for who, said in audit(site) if who == "exports"} == {
        "Exported the live streams as JSON.",
        "Exported the live streams as CSV (streams).",
    }


def test_without_the_permission_to_see_the_page_nothing_is_exported(site: MonitorSite) -> None:
    with site.signed_in("nothing") as nothing:
        assert nothing.get(f"{STAFF}export/").status_code == 403
