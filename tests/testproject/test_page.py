"""The pages in Chromium: a log as it arrives, its end, and what the page says of both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.chromium import launched

from .recipe import HALF, MANY
from .server import Server, wait_until_gone

PATIENCE_MS = 120_000
SEVERAL_RETRIES_MS = 800
COMMAND_SECONDS = 60.0
"""The two seconds before SIGKILL, and a busy machine's."""
CSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'"
WHERE_IT_RESTS = """view => new Promise((done) => {
  let last = NaN;
  const look = () => {
    if (view.scrollTop === last && view.scrollHeight - last - view.clientHeight > 100) return done(last);
    last = view.scrollTop;
    setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(look)), 100); // nothing scrolls without a frame
  };
  look();
})"""
AT_END = """() => {
  const view = document.querySelector(".sl-view");
  return view.scrollHeight - view.scrollTop - view.clientHeight < 3;
}"""
WIDTHS = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 375, "height": 720}}

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server, complaints: list[str]) -> Iterator[Page]:
    """A new page, signed in, in which nothing may go wrong that a browser's console would tell."""
    with browser.new_context(viewport=WIDTHS["desk"]) as context:  # type: ignore[arg-type]
        server.sign_in(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        yield page
    assert complaints == []


@pytest.fixture
def complaints() -> list[str]:
    return []


def press(page: Page, server: Server, recipe: str) -> int:
    """Start a recipe with its button; return the build's id."""
    page.goto(server.url)
    page.locator(f"button[value={recipe}]").click()
    page.wait_for_url("**/builds/*/")
    return int(page.url.rstrip("/").rpartition("/")[2])


def streams(page: Page) -> list[str]:
    """The requests for logs that the page makes from now on."""
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url) if request.url.endswith("/logs/") else None)
    return seen


def assert_numbered(page: Page, count: int) -> None:
    """The page has each line once, in order, and shows those near the end."""
    # How many there are may be said before they are drawn.
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    text = str(page.locator("sse-log").evaluate("log => log.text"))
    assert text.splitlines() == [f"line {number}" for number in range(1, count + 1)]
    shown = page.locator(".sl-n[data-n]").evaluate_all("all => all.map((one) => Number(one.dataset.n))")
    assert shown == [*range(count + 1 - len(shown), count + 1)]
    assert page.locator(".sl-line > .sl-t").all_text_contents() == [f"line {number}" for number in shown]


def test_lines_are_seen_before_the_build_ends_and_then_its_end(page: Page, server: Server) -> None:
    requests = streams(page)
    build = press(page, server, "gated")
    expect(page.locator(".sl-count")).to_have_text(f"{HALF} lines")
    expect(page.locator(".sl-status")).to_have_text("Running")
    expect(page.locator(".sl-connection")).to_have_text("Live")
    assert_numbered(page, HALF)
    server.open_gate(build, "half")
    expect(page.locator(".sl-count")).to_have_text(f"{2 * HALF} lines")
    expect(page.locator(".sl-status")).to_have_text("Running")
    server.open_gate(build, "end")
    expect(page.locator(".sl-status")).to_have_text("Passed")
    expect(page.locator(".sl-exit")).to_have_text("exit code 0")
    expect(page.locator(".sl-connection")).to_have_text("Ended")
    expect(page).to_have_title(f"✓ Course: gated #{build}")
    assert_numbered(page, 2 * HALF)
    page.wait_for_timeout(SEVERAL_RETRIES_MS)
    assert len(requests) == 1


def test_a_reload_in_the_middle_shows_everything(page: Page, server: Server) -> None:
    build = press(page, server, "gated")
    expect(page.locator(".sl-count")).to_have_text(f"{HALF} lines")
    page.reload()
    expect(page.locator(".sl-count")).to_have_text(f"{HALF} lines")
    server.open_gate(build, "half")
    server.open_gate(build, "end")
    expect(page.locator(".sl-status")).to_have_text("Passed")
    assert_numbered(page, 2 * HALF)


def test_a_failure_is_shown_and_stderr_told_apart(page: Page, server: Server) -> None:
    press(page, server, "fails")
    expect(page.locator(".sl-status")).to_have_text("Failed")
    expect(page.locator(".sl-exit")).to_have_text("exit code 3")
    expect(page.locator(".sl-errors")).to_have_text("1 error")
    assert page.locator(".sl-stderr > .sl-t").all_text_contents() == ["E   assert 1 == 2"]
    assert page.locator(".sl-line:not(.sl-stderr) > .sl-t").all_text_contents() == ["collected 1 item"]


def test_a_server_that_is_killed_and_comes_back_is_no_end_of_a_build(browser: Browser, tmp_path: Path) -> None:
    doomed = Server("uvicorn", tmp_path)
    with browser.new_context() as context:
        doomed.sign_in(context)
        page = context.new_page()
        build = press(page, doomed, "gated")
        expect(page.locator(".sl-count")).to_have_text(f"{HALF} lines")
        doomed.kill()
        doomed.open_gate(build, "half")  # half of its lines are printed while there is no server
        expect(page.locator(".sl-connection")).to_contain_text("Reconnecting")
        heir = Server("uvicorn", tmp_path, doomed.port)
        try:
            expect(page.locator(".sl-count")).to_have_text(f"{2 * HALF} lines")
            heir.open_gate(build, "end")
            expect(page.locator(".sl-status")).to_have_text("Passed")
            assert_numbered(page, 2 * HALF)
        finally:
            heir.stop()


def test_a_build_whose_process_is_killed_is_lost(page: Page, server: Server) -> None:
    press(page, server, "gated")
    expect(page.locator(".sl-count")).to_have_text(f"{HALF} lines")
    (runner,), commands = server.runners(), server.commands()
    assert len(commands) == 1
    runner.kill()
    expect(page.locator(".sl-status")).to_have_text("Lost")
    expect(page.locator(".sl-connection")).to_have_text("Ended")
    assert_numbered(page, HALF)
    wait_until_gone([command.pid for command in commands], within=COMMAND_SECONDS)


def test_the_end_is_followed_until_the_reader_scrolls_up(page: Page, server: Server) -> None:
    build = press(page, server, "gated")
    expect(page.locator(".sl-count")).to_have_text(f"{HALF} lines")
    page.wait_for_function(AT_END)
    page.locator(".sl-view").hover()
    page.mouse.wheel(0, -600)
    expect(page.locator(".sl-follow")).to_have_attribute("aria-pressed", "false")
    before = page.locator(".sl-view").evaluate(WHERE_IT_RESTS)  # a wheel scrolls for a while
    server.open_gate(build, "half")
    expect(page.locator(".sl-news")).to_have_text(f"↓ {HALF} new lines")
    assert page.locator(".sl-view").evaluate("view => view.scrollTop") == before
    page.locator(".sl-news").click()
    page.wait_for_function(AT_END)
    server.open_gate(build, "end")
    expect(page.locator(".sl-status")).to_have_text("Passed")
    page.wait_for_function(AT_END)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_log_ends_at_its_end_and_no_page_is_wider_than_the_window(page: Page, server: Server, width: str) -> None:
    page.set_viewport_size(WIDTHS[width])  # type: ignore[arg-type]
    build = server.finish("many")
    odd = server.finish("odd")
    for path in ("/", f"/builds/{odd}/", f"/builds/{build}/"):
        page.goto(server.url + path)
        if path != "/":
            expect(page.locator(".sl-connection")).to_have_text("Ended")
            assert page.evaluate("document.documentElement.scrollHeight") == WIDTHS[width]["height"]
        assert page.evaluate("document.documentElement.scrollWidth") == WIDTHS[width]["width"]
    expect(page.locator(".sl-count")).to_have_text(f"{MANY:,} lines")
    page.wait_for_function(AT_END)
    expect(page.locator(f"#L{MANY}")).to_be_in_viewport()


def test_light_and_dark(page: Page, server: Server) -> None:
    grounds: dict[str, Any] = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(server.url)
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds["light"] != grounds["dark"]


def test_a_strict_content_security_policy_is_no_obstacle(page: Page, server: Server) -> None:
    def with_policy(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": CSP})

    build = server.finish("fails")
    page.route(f"{server.url}/", with_policy)
    page.route(f"{server.url}/builds/{build}/", with_policy)
    page.goto(server.url)
    expect(page.locator(".builds .row").first).to_be_visible()
    page.goto(f"{server.url}/builds/{build}/")
    expect(page.locator(".sl-status")).to_have_text("Failed")
    expect(page.locator(".sl-count")).to_have_text("2 lines")


def test_the_first_page_lists_builds_with_their_status(page: Page, server: Server) -> None:
    build = press(page, server, "fails")
    expect(page.locator(".sl-status")).to_have_text("Failed")
    page.goto(server.url)
    first = page.locator(".builds .row").first
    expect(first).to_contain_text(f"Course: fails #{build}")
    expect(first.locator(".pill")).to_have_text("failed")
    first.click()
    expect(page.locator(".sl-exit")).to_have_text("exit code 3")


def test_a_build_that_does_not_exist_has_no_page(server: Server, browser: Browser) -> None:
    with browser.new_context() as context:
        server.sign_in(context)
        answer = context.new_page().goto(f"{server.url}/builds/999999/")
        assert answer is not None
        assert answer.status == 404
