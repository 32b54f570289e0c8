"""Builds in the admin, in Chromium and over HTTP: who may do what, and what the pages show while a build runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.chromium import launched

from .recipe import HALF
from .server import PASSWORD, Server, outcome

PATIENCE_MS = 120_000
LIST = "/admin/builds/build/"
WIDTHS = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 375, "height": 720}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@contextlib.contextmanager
def visit(browser: Browser, server: Server, name: str = "admin", width: str = "desk") -> Iterator[Page]:
    """A browser of somebody's own, signed in through the page that the admin leads to; nothing may go wrong in its console."""
    complaints: list[str] = []
    with browser.new_context(viewport=WIDTHS[width]) as context:  # type: ignore[arg-type]
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{server.url}{LIST}")
        page.locator("#id_username").fill(name)
        page.locator("#id_password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"**{LIST}")
        yield page
    assert complaints == []


def start(page: Page, server: Server, recipe: str) -> int:
    """Start a recipe from the list with the button; return the build's id."""
    page.goto(f"{server.url}{LIST}")
    page.get_by_role("link", name="Start a build").click()
    page.locator(f"button[value={recipe}]").click()
    page.wait_for_url("**/change/")
    return int(page.url.split("/")[-3])


def lines(page: Page) -> list[str]:
    return str(page.locator("sse-log").evaluate("log => log.text")).splitlines()


def counted(last: int) -> list[str]:
    return [f"line {number}" for number in range(1, last + 1)]


def test_a_build_is_started_watched_and_reloaded_in_the_middle(browser: Browser, server: Server) -> None:
    with visit(browser, server) as page:
        build = start(page, server, "gated")
        expect(page.locator(".sl-count")).to_have_text(f"{HALF} lines", timeout=PATIENCE_MS)
        expect(page.locator(".sl-status")).to_have_text("Running")
        page.reload()
        expect(page.locator(".sl-count")).to_have_text(f"{HALF} lines", timeout=PATIENCE_MS)
        assert lines(page) == counted(HALF)
        server.open_gate(build, "half")
        expect(page.locator(".sl-count")).to_have_text(f"{2 * HALF} lines", timeout=PATIENCE_MS)
        server.open_gate(build, "end")
        expect(page.locator(".sl-status")).to_have_text("Passed", timeout=PATIENCE_MS)
        assert lines(page) == counted(2 * HALF)
        page.goto(f"{server.url}{LIST}")
        row = page.locator("#result_list tbody tr").first
        expect(row.locator(".build-status")).to_have_text("passed")
        expect(row).to_contain_text(f"#{build}")
        expect(row).to_contain_text("admin")


def test_a_build_is_cancelled_and_run_again(browser: Browser, server: Server) -> None:
    with visit(browser, server) as page:
        build = start(page, server, "waits")
        expect(page.locator(".sl-count")).to_have_text("1 line", timeout=PATIENCE_MS)
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator(".messagelist")).to_contain_text("is being cancelled")
        expect(page.locator(".sl-status")).to_have_text("Cancelled", timeout=PATIENCE_MS)
        page.get_by_role("button", name="Run again").click()
        page.wait_for_url(f"**/{build + 1}/change/")
        expect(page.locator(".sl-count")).to_have_text("1 line", timeout=PATIENCE_MS)
        page.goto(f"{server.url}{LIST}")
        page.locator(f"input[name=_selected_action][value='{build + 1}']").check()
        page.locator("select[name=action]").select_option("cancel_selected")
        page.locator("button[name=index]").click()
        expect(page.locator(".messagelist")).to_contain_text("1 cancelled, 0 already over.")
        page.goto(f"{server.url}{LIST}{build}/history/")
        expect(page.locator("#change-history")).to_contain_text("Cancelled.")
        expect(page.locator("#change-history")).to_contain_text("Started.")


def test_three_browsers_watch_one_build(browser: Browser, server: Server) -> None:
    with visit(browser, server) as one, visit(browser, server) as two, visit(browser, server, "viewer") as three:
        build = start(one, server, "gated")
        for page in (two, three):
            page.goto(f"{server.url}{LIST}{build}/change/")
        for page in (one, two, three):
            expect(page.locator(".sl-count")).to_have_text(f"{HALF} lines", timeout=PATIENCE_MS)
        server.open_gate(build, "half")
        server.open_gate(build, "end")
        for page in (one, two, three):
            expect(page.locator(".sl-status")).to_have_text("Passed", timeout=PATIENCE_MS)
            assert lines(page) == counted(2 * HALF)
        expect(three.get_by_role("button", name="Cancel")).to_have_count(0)
        expect(three.get_by_role("button", name="Run again")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_its_window(browser: Browser, server: Server, width: str, scheme: str) -> None:
    build = server.finish("odd")
    with visit(browser, server, width=width) as page:
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for address in (f"{LIST}add/", f"{LIST}{build}/change/"):
            page.goto(server.url + address)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address


def test_a_stream_tells_who_may_not_see_it_and_a_page_sends_to_the_log_in(server: Server) -> None:
    build = server.finish("passes")
    stream = f"{LIST}{build}/log/"
    assert server.get(stream, None).status_code == 401
    assert server.get(f"{LIST}{build}/change/", None).headers["Location"].startswith("/login/?next=")
    assert {name: server.get(stream, name).status_code for name in ("admin", "viewer", "stranger")} == {
        "admin": 200,
        "viewer": 200,
        "stranger": 403,
    }


def test_only_those_with_the_permission_start_and_cancel(server: Server) -> None:
    build = server.start("waits")
    for verb in ("cancel", "again"):
        assert server.post(f"{LIST}{build}/log/do/{verb}/", "viewer").status_code == 403
        assert server.post(f"{LIST}{build}/log/do/{verb}/").status_code == 302, "to the log-in page"
        assert server.get(f"{LIST}{build}/log/do/{verb}/", "admin").status_code == 405
    assert server.post(f"{LIST}add/", "viewer", recipe="waits").status_code == 403
    assert server.post(f"{LIST}{build}/log/do/cancel/", "admin").status_code == 302
    assert outcome(server.whole_log(build))["status"] == "cancelled"


def test_a_deleted_build_takes_its_log_with_it(server: Server) -> None:
    build = server.finish("many")
    waiting = server.start("waits")
    run = f"/builds/{build}/triage/run/"
    assert "event: run.end" in server.post(run).text
    assert "event: run.end" in server.get(run).text
    assert server.post(f"{LIST}{waiting}/delete/", "admin", post="yes").status_code == 403
    assert server.post(f"{LIST}{build}/delete/", "admin", post="yes").status_code == 302
    assert server.get(f"/builds/{build}/logs/").status_code == 404
    assert server.get(run).status_code == 204, "nor is there what an agent has said of it"
    assert server.post(f"/builds/{waiting}/cancel/").status_code == 302


@pytest.mark.parametrize("width", WIDTHS)
def test_what_an_agent_remembers_is_found_in_the_key_value_store(browser: Browser, server: Server, width: str) -> None:
    with server.client() as client:
        headers = {"X-CSRFToken": client.cookies["csrftoken"]}
        said = client.post("/chat/run/", json={"question": "Remember that it is late"}, headers=headers)
    assert '{"reason":"finished"}' in said.text
    with visit(browser, server, width=width) as page:
        page.goto(f"{server.url}/admin/")
        page.get_by_role("link", name="Key-value store", exact=True).first.click()
        page.get_by_role("link", name="chat", exact=True).click()
        page.locator(".kv-lists section li a").click()
        expect(page.locator(".kv-value pre")).to_contain_text("it is late")
        assert page.evaluate("document.documentElement.scrollWidth") == WIDTHS[width]["width"]
