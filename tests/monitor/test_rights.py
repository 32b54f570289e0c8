"""Who sees what on the monitor's page, and for how long; no name that anybody chooses harms it, and it fits in languages."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.live.servers import poll
from tests.timing import bound

from .serving import PATIENCE, STAFF, MonitorSite, running_site
from .site.seed import HOSTILE, LONG_NAME
from .test_browser import chromium, live, nobody_stays, signed_in
from .test_operating import CLIPPED, OUTSIDE, SCROLLS, VIEWS
from .test_page import complete, seen

__all__ = ["chromium", "nobody_stays", "site"]  # fixtures

WITHIN = bound(5.0, 40.0)
"""Seconds in which the page is gone of who may no longer see it; its own look comes after 60."""
MOST = 3
"""Streams of one user in one process; who has one more than both processes allow is refused."""
SETTINGS = {
    "LIMITS": {"ADDRESS": None, "ADDRESS_CONNECTS": None, "USER": MOST},
    "MONITOR": {"USER_AGENT": "full", "ADDRESS": "full"},
}
AGENTS = (HOSTILE.encode().decode("latin-1"), "=HYPERLINK(1)", "x" * 4_000)
MARKUP = ":is([data-content] td, [data-content] select) :is(img, script, b, iframe)"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitorSite]:
    with running_site(tmp_path_factory.mktemp("rights"), workers=2, SITE_AGENT_SSE=json.dumps(SETTINGS)) as one:
        yield one


# For how long


def test_who_loses_the_permission_loses_the_page(chromium: Browser, site: MonitorSite) -> None:
    context = signed_in(chromium, site, "leaves")
    page = context.new_page()
    page.goto(f"{site.url}{STAFF}")
    live(page)
    began = time.monotonic()
    assert httpx.get(f"{site.url}/demote/", params={"name": "leaves"}, timeout=PATIENCE).status_code == 200
    expect(page.locator("[data-status]")).to_have_text("You may no longer see this page.")
    took = time.monotonic() - began
    assert took < WITHIN
    expect(page.locator("[data-content]")).to_have_attribute("inert", "")
    assert page.reload().status in (200, 403)  # type: ignore[union-attr]
    expect(page.locator("[data-rows]")).to_have_count(0)
    context.close()


# What


def test_the_names_of_runs_are_for_who_may_see_topics(site: MonitorSite) -> None:
    """Whoever has such a name may read the run, and stop it."""
    begun = httpx.post(f"{site.url}/chats/7/", headers={"Prefer": "respond-async"}, timeout=PATIENCE).json()
    run, topic = begun["run"], f"chats.7.{begun['run']}"
    site.open(begun["url"].lstrip("/"), 1)
    with site.signed_in("looks") as looks, site.signed_in("closes") as closes, site.signed_in("exports") as exports:

        def runs(browser: httpx.Client) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = seen(browser, view="runs")["rows"]
            return found

        def mine(browser: httpx.Client) -> list[dict[str, Any]]:
            """Once the worker that answers has heard of it, which may be another one each time."""
            told = lambda: [row for row in runs(browser) if row["topic"].startswith("chats.7.")]  # noqa: E731
            found: list[dict[str, Any]] = poll("the run is told", told, within=PATIENCE)
            return found

        (row,) = mine(looks)
        assert (row["topic"], row["run"]) == (topic, run)
        assert row["href"]
        (row,) = mine(closes)
        assert (row["topic"], row["run"], row["href"]) == (f"chats.7.{run[:10]}…", f"{run[:10]}…", "")
        (row,) = seen(looks, 1, text=topic)["rows"]
        assert row["topics"] == topic
        (row,) = seen(closes, 1, text="chats.7.run_")["rows"]
        assert row["topics"] == f"chats.7.{run[:10]}…"
        assert seen(closes, 0, text=topic[:-1]), "nor is it found out letter by letter"
        whole = complete(lambda: exports.get(f"{STAFF}export/")).text
        assert "chats.7.run_" in whole
        for told in (whole, closes.get(f"{STAFF}?view=runs").text, closes.get(STAFF).text):
            assert run not in told
    assert httpx.post(f"{site.url}{begun['stop']}", timeout=PATIENCE).status_code == 202


# Whatever anybody is called


def test_users_are_found_by_their_names(site: MonitorSite) -> None:
    for name, count in (("alice", 2), ("bob", 1)):
        site.open("answers/", count, Cookie=site.cookie_of(name))
    with site.signed_in("looks") as looks:
        assert {row["user"] for row in seen(looks, 2, text="ALICE")["rows"]} == {"alice"}
        assert {row["user"] for row in seen(looks, 1, text="bob")["rows"]} == {"bob"}


@pytest.mark.parametrize("language", ["de-DE", "ar"])
def test_hostile_names_harm_nothing_and_all_of_it_fits(chromium: Browser, site: MonitorSite, language: str) -> None:
    for name in (HOSTILE, LONG_NAME):
        site.open("answers/?id=" + "i" * 500, 2 * MOST + 1, wait=False, Cookie=site.cookie_of(name), User_Agent=AGENTS[0])
    for agent in AGENTS[1:]:
        site.open("answers/", 1, User_Agent=agent)
    site.open("fails/")
    site.open("prices/?pause=0&size=60000")
    context = signed_in(chromium, site, locale=language, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    wrong: dict[str, Any] = {}
    for view in VIEWS:
        page.goto(f"{site.url}{STAFF}?view={view}&range=hour")
        live(page)
        told(page, view)
        for width in (1280, 375):
            page.set_viewport_size({"width": width, "height": 900})
            found = [page.evaluate(OUTSIDE), page.evaluate(SCROLLS), page.evaluate(CLIPPED), page.locator(MARKUP).count()]
            if found != [[], 0, [], 0]:
                wrong[f"{view} {width}"] = [found[0][:3], *found[1:]]
        assert page.evaluate("window.hit") is None
        assert page.evaluate("/[\\u202a-\\u202e]/.test(document.querySelector('[data-content]').textContent)") is False
    assert json.dumps(wrong, indent=1) == "{}"
    context.close()


def told(page: Page, view: str) -> None:
    """Wait until the page has told of who is called so."""
    if view == "streams":
        expect(page.locator("[data-cell=user]", has_text="<img src=x").first).to_contain_text("\\u202e")
        expect(page.locator("[data-cell=user]", has_text=re.compile("^w{199}…$")).first).to_be_visible()
        expect(page.locator("[data-cell=agent]", has_text="=HYPERLINK(1)").first).to_be_visible()
    if view == "problems":
        for part in ("limits", "refused"):
            cells = page.locator(f'[data-list="{part}"] td', has_text="<img src=x")
            expect(cells.first).to_be_visible()
            expect(page.locator(f'[data-list="{part}"] td', has_text=re.compile("w{199}…")).first).to_be_visible()
