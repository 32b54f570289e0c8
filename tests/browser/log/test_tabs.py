"""A log in a tab that nobody looks at, in pages that libraries and browsers keep, and what is said when it is over."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from .cutting import Cutting
from .serving import LogSite
from .viewing import connection, text_of, wait_for_lines

HIDE = """() => {
  window.isHidden = true;
  Object.defineProperty(document, "hidden", { get: () => window.isHidden, configurable: true });
  Object.defineProperty(document, "visibilityState", { get: () => (window.isHidden ? "hidden" : "visible"), configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
SHOW = "() => { window.isHidden = false; document.dispatchEvent(new Event('visibilitychange')); }"


def test_a_hidden_tab_gives_its_connection_back_and_catches_up(page: Page, site: LogSite) -> None:
    site.publish("hidden", "one")
    with Cutting(site.port) as network:
        page.clock.install()
        page.goto(f"{network.url}/logs/hidden/")
        connection(page, "Live")
        page.evaluate(HIDE)
        page.clock.run_for(6_000)
        connection(page, "Paused in the background")
        streams = [head for head in network.heads if "/log/ " in head.partition("\n")[0]]
        site.publish("hidden", "two", "three")
        page.clock.run_for(20_000)
        assert [head for head in network.heads if "/log/ " in head.partition("\n")[0]] == streams, "it has no stream meanwhile"
        page.evaluate(SHOW)
        page.clock.run_for(1_000)
        wait_for_lines(page, 3)
        connection(page, "Live")
        assert text_of(page) == ["one", "two", "three"]


def test_a_hidden_tab_with_steps_gives_its_connection_back_and_catches_up(page: Page, site: LogSite) -> None:
    site.publish("f-test", "one")
    with Cutting(site.port) as network:
        page.clock.install()
        with page.expect_response("**/steps/f/all/"):  # its script is there
            page.goto(f"{network.url}/several/f/")
        status = page.locator("a[data-step=test] .sse-logs-status")
        expect(status).to_have_text("Running")
        page.evaluate(HIDE)
        page.clock.run_for(6_000)
        site.publish("f-test", close="failed")
        site.publish("f-lint", "clean", close="completed")
        page.clock.run_for(6_000)
        expect(status).to_have_text("Running")
        page.evaluate(SHOW)
        page.clock.run_for(1_000)
        expect(status).to_have_text("Failed")
        expect(page.locator("a[data-step=lint] .sse-logs-status")).to_have_text("Completed")
        streams = [head for head in network.heads if "/all/ " in head.partition("\n")[0]]
        assert len(streams) == 2, "it was given back, and opened again"


def test_a_hidden_tab_says_when_its_log_is_over_once(page: Page, site: LogSite) -> None:
    page.context.grant_permissions(["notifications"], origin=site.url)
    page.add_init_script("""window.told = [];
      window.Notification = class extends EventTarget {
        static permission = "granted";
        static requestPermission = async () => "granted";
        constructor(title, { body }) { super(); window.told.push([title, body]); }
      };""")
    site.publish("told", "one")
    page.clock.install()
    page.goto(f"{site.url}/logs/told/")
    connection(page, "Live")
    page.get_by_role("button", name="Notify me when it is done").click()
    expect(page.get_by_role("button", name="Notify me when it is done")).to_have_attribute("aria-pressed", "true")
    page.evaluate(HIDE)
    page.clock.run_for(6_000)
    site.publish("told", "two", ("exit", '{"code": 2}'), close="failed")
    for _ in range(40):
        page.clock.run_for(1_000)
        if page.title().startswith("✗"):
            break
        page.wait_for_timeout(50)
    expect(page).to_have_title("✗ Log told")
    assert page.evaluate("window.told") == [["✗ Log told", "Failed, exit code 2, 2 lines"]]
    assert "failed" in (page.locator("link[rel=icon]").get_attribute("href") or "")
    page.evaluate(SHOW)
    page.clock.run_for(1_000)
    assert text_of(page) == ["one", "two"]
    assert page.evaluate("window.told.length") == 1


def test_seven_tabs_of_a_site_are_no_more_than_its_connections(page: Page, site: LogSite) -> None:
    site.publish("seven", "one")
    tabs = [page.context.new_page() for _ in range(7)]
    for tab in tabs:
        tab.clock.install()
        tab.goto(f"{site.url}/logs/seven/")
        connection(tab, "Live")
        wait_for_lines(tab, 1)
        tab.evaluate(HIDE)
        tab.clock.run_for(6_000)
        connection(tab, "Paused in the background")
    for tab in tabs:
        tab.close()


@pytest.mark.parametrize("way", ["its text", "a copy"])
def test_a_page_that_a_library_kept_has_one_toolbar_that_works(page: Page, site: LogSite, way: str) -> None:
    """htmx keeps the text of a page in its history, Turbo a copy of its body."""
    name = f"kept-{way.split()[1]}"
    orange = "\x1b[38;2;255;135;0m"
    site.publish(name, "::group::Step", *(f"{orange}line {n}\x1b[0m" for n in range(2, 51)), close="failed")
    page.goto(f"{site.url}/logs/{name}/")
    connection(page, "Ended")
    colour = "getComputedStyle(document.querySelector('#L50 .sl-t > span')).color"
    before = page.evaluate(colour)
    page.evaluate(
        """(text) => {
      const main = document.querySelector("main");
      const kept = text ? main.innerHTML : main.cloneNode(true);
      main.replaceChildren(document.createElement("p"));
      if (text) main.innerHTML = kept;
      else main.replaceWith(kept);
    }""",
        way == "its text",
    )
    expect(page.locator(".sl-connection")).to_have_count(1)
    connection(page, "Ended")
    for part in ("bar", "tools", "main", "view", "said", "keys-sheet"):
        expect(page.locator(f".sl-{part}")).to_have_count(1)
    assert text_of(page) == ["::group::Step", *(f"line {n}" for n in range(2, 51))]
    assert page.evaluate(colour) == before != page.evaluate("getComputedStyle(document.querySelector('#L50')).color")
    assert page.locator("[id='L1']").count() == 1
    page.get_by_role("searchbox").fill("line 4")
    expect(page.locator(".sl-found")).to_have_text(re.compile("of 11$"))


def test_back_and_forward_show_the_log_as_it_goes_on(page: Page, site: LogSite) -> None:
    site.publish("back", "one")
    page.goto(f"{site.url}/logs/back/")
    connection(page, "Live")
    page.goto(f"{site.url}/logs/elsewhere/")
    site.publish("back", "two", close="completed")
    page.go_back()
    connection(page, "Ended")
    assert text_of(page) == ["one", "two"]


@pytest.mark.parametrize(
    ("status", "words"),
    [(410, "This log is gone."), (404, "There is no such log."), (418, "The server refused (418). Reload to try again.")],
)
def test_a_refusal_has_its_words_in_the_header_and_in_the_view(page: Page, site: LogSite, status: int, words: str) -> None:
    page.route("**/log/", lambda route: route.fulfill(status=status, body="{}", content_type="application/json"))
    page.route("**/log/range/**", lambda route: route.fulfill(status=status, body="{}", content_type="application/json"))
    page.goto(f"{site.url}/logs/refused{status}/?lines=0")
    connection(page, words)
    expect(page.locator(".sl-view .sl-empty")).to_have_text(words)
    expect(page.locator(".sl-view .sl-empty")).to_be_visible()


@pytest.mark.parametrize(("status", "words"), [(429, "Too many requests."), (503, "The server has a problem (503).")])
def test_a_server_in_trouble_is_said_while_it_is_tried_again(page: Page, site: LogSite, status: int, words: str) -> None:
    page.route("**/log/", lambda route: route.fulfill(status=status, body="{}", content_type="application/json"))
    page.goto(f"{site.url}/logs/trouble{status}/?lines=0")
    connection(page, re.compile(f"^{re.escape(words)} Reconnecting"))


def test_an_empty_log_says_that_nothing_was_printed(page: Page, site: LogSite) -> None:
    site.publish("empty", ("status", '{"status": "running"}'))
    page.goto(f"{site.url}/logs/empty/?lines=0")
    connection(page, "Live")
    expect(page.locator(".sl-empty")).to_have_text("Nothing has been printed yet.")
    expect(page.locator(".sl-empty")).to_be_visible()
    site.publish("empty", close="completed")
    connection(page, "Ended")
    expect(page.locator(".sl-empty")).to_have_text("Nothing was printed.")
    expect(page.locator(".sl-empty")).to_be_visible()
    expect(page.locator(".sl-status")).to_have_attribute("data-tone", "good")
    expect(page.locator(".sl-status")).to_have_text("Completed")
