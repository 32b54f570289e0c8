"""The page that says what went wrong in a build: the stream word by word, who may ask, and the page in Chromium."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.chromium import launched

from .server import BY_KEY, Server

PATIENCE_MS = 120_000
FAILING = "test_cart.py::test_removing_what_is_not_there_changes_nothing"
WIDTHS = (1280, 375)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def shop(server: Server) -> int:
    """A build that really fails."""
    return server.finish("shop")


def address(server: Server, build: int) -> str:
    return f"{server.url}/builds/{build}/triage/stream/"


def told(url: str) -> tuple[list[str], float, dict[str, object]]:
    """The tokens, how long they took, and what ``complete`` said."""
    words, name = [], ""
    with httpx.stream("GET", url, headers=BY_KEY, timeout=PATIENCE_MS / 1000) as answer:
        assert answer.status_code == 200
        began, data = time.monotonic(), []
        for line in answer.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif line.startswith("data:"):
                data.append(value)
            elif not line and data:
                if name == "complete":
                    return words, time.monotonic() - began, json.loads(data[0])
                words.append("\n".join(data))
                data = []
    raise AssertionError("it did not come to its end")


def test_it_is_told_word_by_word_and_kept_for_the_next_visitor(server: Server) -> None:
    build = server.finish("shop")
    words, took, end = told(address(server, build))
    text = "".join(words)
    assert FAILING in text
    assert "3 of 9 tests failed" in text
    assert len(words) > 50
    assert took > 0.5, "it came while it was written"
    assert end == {"kept": False}
    again, _, end = told(address(server, build))
    assert (again, end) == ([text], {"kept": True})


def test_who_leaves_stops_it_and_nothing_half_said_is_kept(server: Server) -> None:
    build = server.finish("shop")
    with httpx.stream("GET", address(server, build), headers=BY_KEY, timeout=120) as answer:
        for line in answer.iter_lines():
            if line == "data: ##":
                break
    _, _, end = told(address(server, build))
    assert end == {"kept": False}


def test_it_is_refused_while_the_build_runs_and_to_those_who_may_not_see_it(server: Server, shop: int) -> None:
    running = server.start("waits")
    answer = server.get(f"/builds/{running}/triage/stream/")
    assert (answer.status_code, answer.json()) == (409, {"error": f"build {running} is running: come back when it is over"})
    server.post(f"/builds/{running}/cancel/")
    stream = f"/builds/{shop}/triage/stream/"
    assert {who: server.get(stream, who).status_code for who in (None, "stranger")} == {None: 401, "stranger": 403}
    assert server.get("/builds/999999/triage/stream/").status_code == 404
    assert server.get("/builds/999999/triage/").status_code == 404


def test_a_build_is_started_fails_and_is_explained(browser: Browser, server: Server) -> None:
    with browser.new_context() as context:
        server.sign_in(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(server.url)
        page.get_by_role("button", name="Run Test a shop").click()
        expect(page.locator(".sl-status")).to_have_text("Failed", timeout=PATIENCE_MS)
        page.get_by_role("link", name="What went wrong?").click()
        expect(page.get_by_role("heading", name="What failed")).to_be_visible()
        expect(page.locator("#said")).to_have_attribute("aria-busy", "true")
        expect(page.locator("#connection")).to_have_text("done", timeout=PATIENCE_MS)
        expect(page.locator("#said code", has_text=FAILING)).to_be_visible()
        expect(page.locator("#said")).to_contain_text("3 of 9 tests failed")
        assert page.locator("#said h2").all_text_contents() == ["What failed", "Where", "Likely cause"]
        page.locator("#said a").first.click()
        target = page.locator(".sl-target")
        expect(target).to_contain_text("test_removing_what_is_not_there_changes_nothing ____")
        expect(target).to_be_in_viewport()


def test_it_can_be_stopped_and_asked_again(browser: Browser, server: Server) -> None:
    build = server.finish("shop")
    with browser.new_context() as context:
        server.sign_in(context)
        page = context.new_page()
        page.goto(f"{server.url}/builds/{build}/triage/")
        expect(page.get_by_role("heading", name="What failed")).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        expect(page.locator("#connection")).to_have_text("stopped")
        page.get_by_role("button", name="Go on").click()
        expect(page.locator("#connection")).to_have_text("done", timeout=PATIENCE_MS)
        assert page.locator("#said h2").all_text_contents() == ["What failed", "Where", "Likely cause"]


def test_a_page_says_why_it_cannot_answer(browser: Browser, server: Server) -> None:
    running = server.start("waits")
    with browser.new_context() as context:
        server.sign_in(context)
        page = context.new_page()
        page.goto(f"{server.url}/builds/{running}/triage/")
        expect(page.locator("#connection")).to_have_text("The build is not over yet; reload when it is.")
    server.post(f"/builds/{running}/cancel/")


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_the_window(browser: Browser, server: Server, shop: int, width: int) -> None:
    with browser.new_context(viewport={"width": width, "height": 800}) as context:
        server.sign_in(context)
        page = context.new_page()
        page.goto(f"{server.url}/builds/{shop}/triage/")
        expect(page.locator("#connection")).to_have_text("done", timeout=PATIENCE_MS)
        assert page.evaluate("document.documentElement.scrollWidth") == width
