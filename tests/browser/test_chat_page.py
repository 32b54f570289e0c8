"""The test project's chat in Chromium, on two workers: reloads, windows, stops, a worker that is killed, the keyboard."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.live.servers import poll
from tests.testproject.recipe import RUN_LEASE
from tests.testproject.server import DATABASE, Server
from tests.timing import bound

SOON = bound(2.0, 20.0)
"""Seconds. What is stopped would think for a minute, and a lease of which nothing is said is half a minute."""
FREE = "the model is free again"
LOST = "The process that was answering has died."
STATUS = """async ([run, method]) => {
  const headers = { "X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value };
  return (await fetch(`/chat/run/${run}/`, { method, headers })).status;
}"""
CHANGES = """() => {
  window.said = [];
  const observer = new MutationObserver(() => window.said.push(announced.textContent));
  observer.observe(announced, { childList: true, characterData: true, subtree: true });
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers, so that a reload may reach another one than that in which the agent works."""
    server = Server("two workers", tmp_path_factory.mktemp("chat"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def session(chromium: Browser, site: Server) -> Any:
    """Cookies of the superuser, who is signed in."""
    with chromium.new_context() as context:
        site.sign_in(context)
        return context.storage_state()


@pytest.fixture
def browsing(chromium: Browser, site: Server, session: Any) -> Iterator[BrowserContext]:
    """A browser of the superuser, with an empty chat; nothing may go wrong in its pages."""
    errors: list[str] = []
    site.post("/chat/clear/")
    with chromium.new_context(storage_state=session) as context:
        context.on("weberror", lambda error: errors.append(str(error.error)))
        yield context
    assert errors == []


@pytest.fixture
def page(browsing: BrowserContext, site: Server) -> Page:
    return opened(browsing, site)


def opened(context: BrowserContext, site: Server) -> Page:
    page = context.new_page()
    page.goto(f"{site.url}/chat/")
    expect(page.locator("#connection")).to_have_text("live")
    return page


def ask(page: Page, question: str) -> Any:
    """Ask with the keyboard; return the place of the answer."""
    page.locator("#question").fill(question)
    page.keyboard.press("Enter")
    return page.locator(".exchange").last


def numbers(exchange: Any) -> list[int]:
    """What the agent has counted so far."""
    text = " ".join(exchange.locator("p").all_text_contents())
    return [int(number) for number in re.findall(r"(?<!\w)(\d+),", text)]


def counted(exchange: Any, least: int) -> None:
    """Wait until the agent has counted so far."""
    poll(f"{least} numbers", lambda: len(numbers(exchange)) >= least, within=60)


def over(page: Page) -> None:
    expect(page.locator("#send")).to_be_visible()


def test_an_answer_goes_on_through_a_reload_without_loss_or_repetition_and_is_kept(page: Page) -> None:
    exchange = ask(page, "Count to 900")
    counted(exchange, 10)
    expect(exchange.locator(".answer")).to_have_attribute("aria-busy", "true")
    page.reload()
    before = len(numbers(exchange))
    assert before < 899, "it is not over yet"
    expect(page.locator("#send")).to_be_visible(timeout=180_000)
    expect(exchange).to_contain_text("That is all ✓")
    assert numbers(exchange) == [*range(1, 900)], "the last one has no comma"
    said = exchange.inner_text()
    page.reload()
    expect(exchange).to_contain_text("That is all ✓")
    assert page.locator(".exchange").count() == 1
    assert exchange.inner_text() == said


def test_what_is_asked_and_said_is_text_in_any_script_and_what_tools_do_stands_between(page: Page) -> None:
    question = "Grüße <b>世界</b> 👋🏽\nHow are *the* builds?"
    exchange = ask(page, question)
    over(page)
    expect(exchange.locator(".asked")).to_have_text(question)
    expect(exchange.locator("blockquote")).to_contain_text("Grüße <b>世界</b> 👋🏽\nHow are the builds?")
    expect(exchange.locator("blockquote em")).to_have_text("the")
    expect(exchange.locator("b")).to_have_count(0)
    expect(exchange.locator(".step")).to_have_text(["Looking at the builds: 0 builds"])
    expect(exchange.locator("a")).to_have_attribute("href", "/")
    whole = exchange.locator(".answer").evaluate("answer => [...answer.children].map((part) => part.textContent).filter(Boolean)")
    assert [part[:16] for part in whole] == ["Grüße <b>世界</b> ", "Looking at the b", "Nothing has been"]
    page.reload()
    expect(exchange.locator(".step")).to_have_attribute("data-state", "done")
    again = exchange.locator(".answer").evaluate("answer => [...answer.children].map((part) => part.textContent).filter(Boolean)")
    assert again == whole


def test_two_windows_show_the_same_run_and_nobody_else_sees_it(
    page: Page, browsing: BrowserContext, chromium: Browser, site: Server
) -> None:
    other = opened(browsing, site)
    first = ask(page, "Think for 60 seconds")
    second = other.locator(".exchange").last
    for exchange in (first, second):
        expect(exchange.locator(".step")).to_have_text("Thinking…")
    expect(second.locator(".asked")).to_have_text("Think for 60 seconds")
    with chromium.new_context() as strange:
        site.sign_in(strange, "viewer")
        stranger = opened(strange, site)
        expect(stranger.locator("#hello")).to_be_visible()
        run = re.search(r"run (\S+),", str(first.get_attribute("title")))[1]  # type: ignore[index]
        for method in ("GET", "DELETE"):
            assert stranger.evaluate(STATUS, [run, method]) == 403
    other.locator("#stop").click()
    for window, exchange in ((page, first), (other, second)):
        expect(exchange.locator(".foot")).to_contain_text("Stopped.")
        over(window)
    page.locator("#clear button").click()
    for window in (page, other):
        expect(window.locator("#hello")).to_be_visible()


def test_escape_stops_the_agent_while_it_thinks_and_its_finally_has_run(page: Page, site: Server) -> None:
    free = site.log().count(FREE)
    exchange = ask(page, "Think for 60 seconds")
    expect(exchange.locator(".step")).to_have_attribute("data-state", "running")
    began = time.monotonic()
    page.keyboard.press("Escape")
    expect(exchange.locator(".foot")).to_contain_text("Stopped.")
    assert time.monotonic() - began < SOON
    poll("the agent's finally", lambda: site.log().count(FREE) == free + 1, within=60)
    expect(exchange.locator(".step")).to_have_attribute("data-state", "broken")
    expect(page.locator("#question")).to_be_focused()
    page.reload()
    expect(exchange.locator(".foot")).to_have_text("Stopped. Try again")


def test_a_failure_is_told_without_its_words_and_try_again_begins_a_new_run(page: Page) -> None:
    ask(page, "Please fail")
    over(page)
    exchanges = page.locator(".exchange")
    expect(exchanges.locator(".foot")).to_have_text(["The agent has failed. Try again"])
    exchanges.locator(".foot button").click()
    expect(exchanges).to_have_count(2)
    expect(exchanges.locator(".foot")).to_have_text(["The agent has failed. Try again"] * 2)
    assert len({exchange.get_attribute("title") for exchange in exchanges.all()}) == 2
    assert "looked back" not in page.content()


def deadline(site: Server) -> float:
    """When the lease of the one run that goes on runs out, in seconds since 1970."""
    with closing(sqlite3.connect(site.state / DATABASE, timeout=60)) as connection:
        return float(connection.execute("SELECT max(deadline) FROM django_agent_sse_topiclease").fetchone()[0])


def test_a_worker_that_is_killed_is_told_within_the_lease_and_what_it_had_said_is_kept(page: Page, site: Server) -> None:
    exchange = ask(page, "Count to 900")
    counted(exchange, 20)
    process = int(re.search(r"process (\d+)", str(exchange.get_attribute("title")))[1])  # type: ignore[index]
    os.kill(process, signal.SIGKILL)
    due, killed = deadline(site), time.time()
    assert killed < due <= killed + RUN_LEASE
    expect(exchange.locator(".foot")).to_contain_text(LOST)
    assert due - 0.3 < time.time() < due + SOON, "not before its lease was over, and soon after"
    said = numbers(exchange)
    assert said == [*range(1, len(said) + 1)]
    page.reload()
    expect(exchange.locator(".foot")).to_contain_text(LOST)
    assert numbers(exchange) == said
    exchange.locator(".foot button").click()
    expect(page.locator(".exchange")).to_have_count(2)
    counted(page.locator(".exchange").last, 5)
    page.keyboard.press("Escape")
    expect(page.locator(".foot")).to_have_text([f"{LOST} Try again", "Stopped. Try again"])


def test_the_keyboard_and_what_a_screen_reader_hears(page: Page) -> None:
    field = page.locator("#question")
    expect(field).to_be_focused()
    page.keyboard.press("Enter")
    assert page.locator(".exchange").count() == 0, "nothing was asked"
    page.keyboard.type("Count to 300")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("please")
    assert field.input_value() == "Count to 300\nplease"
    field.evaluate(
        "field => field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true }))"
    )
    assert page.locator(".exchange").count() == 0, "an input method was composing"
    page.evaluate(CHANGES)
    page.keyboard.press("Enter")
    assert field.input_value() == ""
    expect(page.locator("#stop")).to_be_visible()
    over(page)
    expect(field).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.locator("#talk")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.locator("#clear button")).to_be_focused()
    (said,) = page.evaluate("said")
    assert "That is all ✓" in said, "once, and whole"
    assert page.locator("[aria-live], [role=log]").count() == 0, "no other place speaks"


def test_a_long_conversation_is_scrolled_with_the_keyboard_and_follows_what_is_written_at_its_end(page: Page) -> None:
    talk = page.locator("#talk")
    page.set_viewport_size({"width": 375, "height": 500})
    exchange = ask(page, "Count to 900" + "\nplease" * 60)
    counted(exchange, 1)
    assert talk.evaluate("talk => talk.scrollHeight > 2 * talk.clientHeight"), "more than the window holds"
    assert talk.evaluate("talk => talk.scrollHeight - talk.scrollTop - talk.clientHeight") < 60
    talk.focus()
    page.keyboard.press("Home")
    expect(page.locator("#newest")).to_be_visible()
    page.wait_for_function("document.getElementById('talk').scrollTop === 0")  # browsers scroll there smoothly
    counted(exchange, len(numbers(exchange)) + 5)
    assert talk.evaluate("talk => talk.scrollTop") == 0, "nobody is torn away from what they read"
    page.locator("#newest").press("Enter")
    expect(page.locator("#newest")).to_be_hidden()
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.press("Escape")
    over(page)


def test_a_stop_that_does_not_reach_the_server_is_told_and_can_be_repeated(page: Page) -> None:
    exchange = ask(page, "Think for 60 seconds")
    expect(exchange.locator(".step")).to_have_text("Thinking…")
    page.context.set_offline(True)
    page.wait_for_function("fetch('/login/').then(() => false, () => true)")  # it is not at once
    page.keyboard.press("Escape")
    expect(exchange.locator(".foot")).to_have_text("It could not be stopped: the server cannot be reached. Try again")
    expect(page.locator("#announced")).to_contain_text("could not be stopped")
    expect(page.locator("#stop")).to_be_enabled()
    page.context.set_offline(False)
    page.wait_for_function("fetch('/login/').then(() => true, () => false)")
    exchange.locator(".foot button").click()
    expect(exchange.locator(".foot")).to_have_text("Stopped. Try again")
    expect(exchange.locator(".step")).to_have_text("Thinking: broken off")


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[Server]:
    """A sign-out is told to the streams of its own process."""
    server = Server("uvicorn", tmp_path, AGENT_PACE="0.3")  # it counts until it is stopped
    yield server
    server.stop()


def test_who_signs_out_in_another_window_reads_no_further_and_is_told(chromium: Browser, one_process: Server) -> None:
    site = one_process
    with chromium.new_context() as context:
        site.sign_in(context, "viewer")
        page, other = opened(context, site), context.new_page()
        exchange = ask(page, "Count to 900")
        counted(exchange, 5)
        other.goto(site.url)
        other.get_by_role("button", name="Sign out").click()
        expect(other.get_by_label("Password")).to_be_visible()
        expect(exchange.locator(".foot")).to_have_text("You are signed out. Sign in again")
        expect(page.locator("#connection")).to_have_text("You are signed out. Sign in again")
        expect(exchange.locator(".answer")).to_have_attribute("aria-busy", "false")
        over(page)
        site.sign_in(context, "viewer")
        page.reload()
        expect(page.locator("#stop")).to_be_visible()
        page.keyboard.press("Escape")
        expect(exchange.locator(".foot")).to_have_text("Stopped. Try again")


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1280, "light")])
def test_axe_finds_nothing_and_nothing_moves_for_who_wants_no_motion(page: Page, axe: str, width: int, scheme: Any) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.evaluate(axe)
    found = "async () => (await axe.run()).violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)])"
    assert page.evaluate(found) == [], "an empty chat"
    ask(page, "שלום **עולם**")
    over(page)
    assert page.locator("blockquote").evaluate("quoted => getComputedStyle(quoted).direction") == "rtl"
    ask(page, "Please fail")
    over(page)
    exchange = ask(page, "Think for 60 seconds")
    expect(exchange.locator(".step")).to_have_text("Thinking…")
    assert page.evaluate("document.getAnimations().length") == 0
    assert page.evaluate(found) == [], "tools, a failure, and one that is at work"
    page.keyboard.press("Escape")
    expect(exchange.locator(".foot")).to_be_visible()
    assert page.evaluate(found) == [], "one that was stopped"


@pytest.mark.parametrize(("width", "scheme"), [(375, "dark"), (1920, "light")])
def test_no_page_is_wider_than_its_window_and_the_field_stays_in_sight(page: Page, width: int, scheme: Any) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    page.emulate_media(color_scheme=scheme)
    for _ in range(2):
        ask(page, "Remember " + "averylongword" * 30)
        over(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.documentElement.scrollHeight") == 700
    expect(page.locator("#question")).to_be_in_viewport()
    expect(page.locator(".answer").last).to_be_in_viewport()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (light == "rgb(246, 247, 245)") == (scheme == "light")
