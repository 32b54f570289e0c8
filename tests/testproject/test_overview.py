"""The list of builds as it goes: the stream, the first page and the admin's list."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.chromium import launched
from tests.live.client import Client

from .paced import PACES
from .server import BY_KEY, Server

PATIENCE_MS = 120_000
LIST = "/admin/builds/build/"
EVENT_TIMEOUT = 120.0
"""Seconds between two events at most: a build of real tests starts slowly on a busy machine."""
MOST = 500
"""Events that a test reads at most."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@contextlib.contextmanager
def pages(browser: Browser, server: Server, who: str = "admin") -> Iterator[Callable[[str], Page]]:
    """Open pages in a browser of somebody's; nothing may go wrong in their consoles."""
    complaints: list[str] = []
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        # A notice goes after eight seconds, for which a test may stand still.
        context.add_init_script(
            "const later = setTimeout; window.setTimeout = (act, ms, ...more) => later(act, ms === 8000 ? 600000 : ms, ...more)"
        )
        server.sign_in(context, who)

        def visit(address: str) -> Page:
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(server.url + address)
            expect(page.locator("#connection, .sl-connection")).to_have_text(
                re.compile("live", re.IGNORECASE), timeout=PATIENCE_MS
            )
            return page

        yield visit
    assert complaints == []


class Overview:
    """The stream, read as pages read it."""

    def __init__(self, server: Server, last: str | None = None) -> None:
        headers = BY_KEY | ({"Last-Event-ID": last} if last else {})
        self.client = Client(f"{server.url}/overview/", headers=headers)

    def until(self, found: Callable[[str, dict[str, Any]], bool]) -> list[tuple[str, dict[str, Any]]]:
        """The events up to the one that is asked for."""
        told = []
        for _ in range(MOST):
            event = self.client.next(EVENT_TIMEOUT)
            told.append((event.name, json.loads(event.data)))
            if found(*told[-1]):
                return told
        raise AssertionError(f"not among {MOST} events")


@pytest.fixture
def overview(server: Server) -> Iterator[Overview]:
    one = Overview(server)
    with one.client:
        yield one


def end(server: Server, build: int) -> None:
    for gate in ("half", "end"):
        server.open_gate(build, gate)
    server.whole_log(build)


def test_first_comes_everything_then_what_changes(server: Server, overview: Overview) -> None:
    ((name, everything),) = overview.until(lambda name, _: True)
    assert name == "builds"
    build = server.start("gated")
    told = overview.until(lambda name, data: name == "build" and data["id"] == build and data["status"] == "running")
    assert not any(name == "notice" for name, _ in told), "nothing has ended"
    row = told[-1][1]
    assert (row["label"], row["by"], row["over"], row["duration"]) == ("Course: gated", "admin", False, None)
    end(server, build)
    told = overview.until(lambda name, _: name == "notice")
    rows = [data for name, data in told if name == "build"]
    assert (rows[-1]["status"], rows[-1]["over"], rows[-1]["exit_code"]) == ("passed", True, 0)
    counts = [data for name, data in told if name == "counts"][-1]
    assert counts["passed"] == everything["counts"]["passed"] + 1
    assert counts["running"] == everything["counts"]["running"]
    assert told[-1][1]["level"] == "success"
    assert told[-1][1]["text"].startswith(f"Course: gated #{build} passed after ")


def test_a_failure_is_an_error_and_a_cancelled_build_a_warning(server: Server, overview: Overview) -> None:
    failed = server.start("fails")
    notice = overview.until(lambda name, _: name == "notice")[-1][1]
    assert (notice["id"], notice["level"]) == (failed, "error")
    cancelled = server.start("waits")
    overview.until(lambda name, data: name == "build" and data["status"] == "running")
    server.post(f"/builds/{cancelled}/cancel/")
    notice = overview.until(lambda name, _: name == "notice")[-1][1]
    assert (notice["id"], notice["level"]) == (cancelled, "warning")
    assert f"#{cancelled} was cancelled after " in notice["text"]


def test_the_progress_of_real_tests_is_told(server: Server, overview: Overview) -> None:
    build = server.start("paced")
    told = []
    for number in range(1, PACES):
        server.open_gate(build, str(number))
        told += overview.until(lambda name, data, share=number / PACES: name == "build" and fraction(build, data) == share)
    server.open_gate(build, str(PACES))
    told += overview.until(lambda name, data: name == "notice" and data["id"] == build)
    known = [share for name, data in told if name == "build" and (share := fraction(build, data)) is not None]
    assert known == sorted(known)
    usual = {data["usual"] for name, data in told if name == "build" and data["id"] == build}
    assert usual == {None}, "it never passed before"
    again = server.start("paced")
    row = overview.until(lambda name, data: name == "build" and data["id"] == again and data["status"] == "running")[-1][1]
    assert row["usual"] > 0
    server.post(f"/builds/{again}/cancel/")


def fraction(build: int, row: dict[str, Any]) -> float | None:
    """How much of this build is done, where a row is of it and says so."""
    progress = row["progress"] if row["id"] == build else None
    return progress["fraction"] if progress else None


def test_a_deleted_build_is_told_to_be_gone(server: Server, overview: Overview) -> None:
    build = server.finish("passes")
    overview.until(lambda name, data: name == "notice" and data["id"] == build)
    server.post(f"{LIST}{build}/delete/", post="yes")
    assert overview.until(lambda name, _: name == "gone")[-1][1] == {"id": build}


def test_who_comes_back_is_told_what_ended_meanwhile(server: Server) -> None:
    first = Overview(server)
    with first.client:
        first.until(lambda name, _: name == "builds")
        build = server.start("passes")
        for _ in range(MOST):
            event = first.client.next()
            if event.name == "build":
                break
    server.whole_log(build)
    again = Overview(server, event.id)
    with again.client:
        told = again.until(lambda name, data: name == "notice" and data["id"] == build)
    assert told[0][0] == "builds"
    assert [name for name, data in told if name == "notice" and data["id"] == build] == ["notice"]


def test_the_stream_is_for_those_who_may_see_builds(server: Server) -> None:
    assert {who: server.get("/overview/", who).status_code for who in (None, "stranger")} == {None: 401, "stranger": 403}
    path = f"{LIST}overview/"
    assert {who: server.get(path, who).status_code for who in (None, "stranger")} == {None: 401, "stranger": 403}


def test_the_first_page_updates_itself(browser: Browser, server: Server) -> None:
    with pages(browser, server) as visit:
        page = visit("/")
        before = page.locator("#rows li").count()
        running = page.locator('[data-count="running"] b')
        build = server.start("gated")
        row = page.locator(f'li[data-build="{build}"]')
        expect(row.locator(".pill")).to_have_text("running")
        expect(page.locator("#rows li").first).to_have_attribute("data-build", str(build))
        assert page.locator("#rows li").count() == before + 1
        expect(running).to_have_text("1")
        expect(row.locator("progress")).to_be_visible()
        expect(row.locator(".facts")).to_have_text(re.compile("^started (just now|.* ago) by admin$"))
        end(server, build)
        expect(row.locator(".pill")).to_have_text("passed")
        expect(row.locator("progress")).to_be_hidden()
        expect(row.locator(".facts")).to_contain_text("600 lines in ")
        expect(page.locator('[data-count="running"]')).to_be_hidden()
        notice = page.locator("#notices .notice", has_text=f"#{build} ")  # another build may have ended meanwhile
        expect(notice).to_contain_text(f"Course: gated #{build} passed")
        notice.get_by_role("link").click()
        page.wait_for_url(f"**/builds/{build}/")
        expect(page.locator(".sl-status")).to_have_text("Passed")


def test_a_progress_bar_shows_what_a_build_says_of_itself(browser: Browser, server: Server) -> None:
    with pages(browser, server) as visit:
        page = visit("/")
        build = server.start("steps")
        going = page.locator(f'li[data-build="{build}"] .going')
        expect(going.locator(".step")).to_have_text("2/4 Second")
        expect(going.locator("progress")).to_have_attribute("title", "38 %")
        watching = visit(f"/builds/{build}/")
        expect(watching.locator(".sl-step")).to_have_text("2/4 Second")
        expect(watching.locator(".sl-progress progress")).to_have_attribute("title", "38 %")
        server.open_gate(build, "half")
        expect(watching.locator(".sl-progress progress")).to_have_attribute("title", "75 %")
        expect(going.locator("progress")).to_have_attribute("title", "75 %")
        server.open_gate(build, "end")
        expect(watching.locator(".sl-progress")).to_be_hidden()


def test_a_build_that_says_nothing_is_estimated_by_earlier_ones(browser: Browser, server: Server) -> None:
    for _ in range(3):  # most of the five that count, however long those of other tests took
        end(server, server.start("gated"))
    with pages(browser, server) as visit:
        page = visit("/")
        build = server.start("gated")
        bar = page.locator(f'li[data-build="{build}"] progress')
        expect(bar).to_have_attribute("title", "about 95 %")
        server.post(f"/builds/{build}/cancel/")
        expect(bar).to_be_hidden()


def test_the_list_of_the_admin_updates_itself(browser: Browser, server: Server) -> None:
    build = server.start("gated")
    with pages(browser, server, "viewer") as visit:
        page = visit(LIST)
        state = page.locator(f'[data-build="{build}"] [data-slot="status"]')
        expect(state).to_have_text("running")
        expect(page.locator(f'[data-build="{build}"] progress')).to_be_visible()
        expect(page.locator("#fresh")).to_be_hidden()
        end(server, build)
        expect(state).to_have_text("passed")
        expect(page.locator(f'[data-build="{build}"][data-slot="lines"]')).to_have_text("600")
        expect(page.locator(f'[data-build="{build}"][data-slot="exit"]')).to_have_text("0")
        expect(page.locator("#notices .notice")).to_contain_text(f"#{build} passed")
        other = server.finish("fails")
        expect(page.locator("#fresh")).to_have_text("1 new build. Show")
        page.locator("#fresh").click()
        expect(page.locator(f'[data-build="{other}"] [data-slot="status"]')).to_have_text("failed")


def test_signing_out_is_told_on_the_first_page(browser: Browser, server: Server) -> None:
    with pages(browser, server) as visit:
        page, leaving = visit("/"), visit("/")
        leaving.get_by_role("button", name="Sign out").click()
        expect(page.locator("#connection")).to_have_text("You are signed out. Sign in again")
