"""The page that says what went wrong in a build: its run over HTTP, and in Chromium on two workers, one of which is killed."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.chromium import launched
from tests.timing import bound

from .recipe import RUN_LEASE
from .server import BY_KEY, Server

PATIENCE_MS = 120_000
SOON = bound(3.0, 20.0)
"""Seconds; the lease would be half a minute where the project did not say how long it is."""
FAILING = "test_cart.py::test_removing_what_is_not_there_changes_nothing"
HEADINGS = ["What failed", "Where", "Likely cause"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers: who comes later may reach another one than that in which the agent works."""
    server = Server("two workers", tmp_path_factory.mktemp("triage"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers with an agent that is not done before a test has met it."""
    server = Server("two workers", tmp_path_factory.mktemp("slow"), AGENT_PACE="1")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def said(server: Server) -> int:
    """A build that really failed, and what the agent says of it while other tests go on."""
    build = server.finish("shop")
    assert run(server, build).status_code == 202
    return build


@pytest.fixture
def context(browser: Browser, server: Server) -> Iterator[BrowserContext]:
    """A browser of the superuser."""
    with browser.new_context() as context:
        context.set_default_timeout(PATIENCE_MS)
        server.sign_in(context)
        yield context


def run(server: Server, build: int, who: str = "admin") -> httpx.Response:
    """Have the agent say it, without waiting for that."""
    with server.client(who) as client:
        headers = {"X-CSRFToken": client.cookies["csrftoken"], "Prefer": "respond-async"}
        return client.post(f"/builds/{build}/triage/run/", headers=headers)


def told(server: Server, build: int) -> str:
    """Everything that a program with a key gets, to its end."""
    answer = httpx.get(f"{server.url}/builds/{build}/triage/run/", headers=BY_KEY, timeout=PATIENCE_MS / 1000)
    assert answer.status_code == 200
    return answer.text


def visit(context: BrowserContext, server: Server, build: int) -> Page:
    """Open the page; the agent has begun then."""
    page = context.new_page()
    page.goto(f"{server.url}/builds/{build}/triage/")
    expect(page.get_by_role("heading", name="What failed")).to_be_visible()
    return page


def process_of(page: Page) -> int:
    """The process in which the agent works."""
    return int(re.search(r"in process (\d+)", page.locator("#about").inner_text())[1])  # type: ignore[index]


def test_it_is_refused_while_the_build_runs_and_to_those_who_may_not_see_it(server: Server, said: int) -> None:
    running = server.start("waits")
    answer = run(server, running)
    assert (answer.status_code, answer.json()) == (409, {"error": f"build {running} is running: come back when it is over"})
    server.post(f"/builds/{running}/cancel/")
    address = f"/builds/{said}/triage/run/"
    assert {who: server.get(address, who).status_code for who in (None, "stranger")} == {None: 401, "stranger": 403}
    assert run(server, said, "stranger").status_code == 403
    assert run(server, 999_999).status_code == 404
    assert server.get("/builds/999999/triage/").status_code == 404


def test_a_build_is_started_fails_and_is_explained_through_a_reload_and_in_two_windows(
    context: BrowserContext, server: Server
) -> None:
    page = context.new_page()
    page.goto(server.url)
    page.get_by_role("button", name="Run Test a shop").click()
    expect(page.locator(".sl-status")).to_have_text("Failed", timeout=PATIENCE_MS)
    page.get_by_role("link", name="What went wrong?").click()
    expect(page.locator("#about")).to_contain_text("asked by admin, in process")
    process = process_of(page)
    page.reload()
    other = visit(context, server, int(page.url.split("/")[-3]))
    for window in (page, other):
        expect(window.locator("#about")).to_have_text(f"asked by admin, in process {process}")
        expect(window.locator("#connection")).to_have_text("done")
        expect(window.locator("#said")).to_have_attribute("aria-busy", "false")
        assert window.locator("#said h2").all_text_contents() == HEADINGS
        expect(window.locator("#said code", has_text=FAILING)).to_be_visible()
    assert page.locator("#said").inner_html() == other.locator("#said").inner_html()
    page.locator("#said a").first.click()
    target = page.locator(".sl-target")
    expect(target).to_contain_text("test_removing_what_is_not_there_changes_nothing ____")
    expect(target).to_be_in_viewport()


def test_whoever_asked_stops_it_in_every_window_and_nobody_else_does(browser: Browser, slow: Server) -> None:
    build = slow.finish("shop")
    with browser.new_context() as context, browser.new_context() as strange, slow.client("viewer") as client:
        slow.sign_in(context)
        slow.sign_in(strange, "viewer")
        page = visit(context, slow, build)
        viewer = visit(strange, slow, build)
        expect(viewer.locator("#about")).to_contain_text("asked by admin")
        assert not viewer.locator("#stop").is_visible()
        with client.stream("GET", f"/builds/{build}/triage/run/") as reading:
            headers = {"X-CSRFToken": client.cookies["csrftoken"]}
            assert client.delete(reading.headers["Location"], headers=headers).status_code == 403
        page.get_by_role("button", name="Stop").click()
        for window in (page, viewer):
            expect(window.locator("#connection")).to_have_text("stopped")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#connection")).to_have_text("the agent is writing")
        expect(page.get_by_role("heading", name="What failed")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#connection")).to_have_text("stopped")


def test_a_worker_that_is_killed_is_told_within_the_lease_and_another_run_begins_with_the_first_word(
    browser: Browser, slow: Server
) -> None:
    with browser.new_context() as context:
        slow.sign_in(context)
        page = visit(context, slow, slow.finish("shop"))
        os.kill(process_of(page), signal.SIGKILL)
        killed = time.monotonic()
        expect(page.locator("#connection")).to_have_text("lost: the process in which the agent worked was killed")
        assert time.monotonic() - killed < RUN_LEASE + SOON
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#connection")).to_have_text("the agent is writing")
        expect(page.locator("#said")).to_have_text(re.compile("^What failed3 of 9"))


def test_a_page_says_why_it_cannot_answer(context: BrowserContext, server: Server) -> None:
    running = server.start("waits")
    page = context.new_page()
    page.goto(f"{server.url}/builds/{running}/triage/")
    expect(page.locator("#connection")).to_have_text(f"build {running} is running: come back when it is over")
    server.post(f"/builds/{running}/cancel/")


def test_it_is_told_word_by_word_and_the_same_to_every_later_visitor(server: Server, said: int) -> None:
    first, again = told(server, said), told(server, said)
    words = re.findall(r"^event: token\n(?:id: .*\n)?((?:data:.*\n)+)", first, re.MULTILINE)
    assert len(words) > 50
    text = "".join(re.sub(r"^data: ?", "", word, flags=re.MULTILINE)[:-1] for word in words)
    assert FAILING in text
    assert "3 of 9 tests failed" in text
    assert "event: run.end" in first
    assert again == first, "also its ids"


@pytest.mark.parametrize("width", [1280, 375])
def test_no_page_is_wider_than_the_window(browser: Browser, server: Server, said: int, width: int) -> None:
    with browser.new_context(viewport={"width": width, "height": 800}) as context:
        server.sign_in(context)
        page = visit(context, server, said)
        expect(page.locator("#connection")).to_have_text("done")
        assert page.evaluate("document.documentElement.scrollWidth") == width
