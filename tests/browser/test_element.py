"""``<event-stream>`` in Chromium, under a strict Content-Security-Policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.template import Context, Template
from django.templatetags.static import static
from playwright.sync_api import BrowserContext, Page, Route

from tests.live.servers import Server, poll

from .conftest import PATIENCE_MS

SITE = {"middleware": "everything"}
STATIC = "/static/django_agent_sse"
TAG = f'<script type="module" src="{STATIC}/element.js" data-agent-sse data-client="{STATIC}/client.js?hashed"></script>'
POLICY = "default-src 'self'"
LISTEN = """<script type="module" src="/listen.js"></script>"""
LISTENER = """
window.got = [];
for (const name of ["sse:number", "sse:message", "sse.end", "sse.statechange"]) {
  document.addEventListener(name, ({ type, detail, target }) => {
    got.push([type, detail.data ?? `${detail.state}: ${detail.reason}`, target.id]);
  });
}
"""


@pytest.fixture
def violations(context: BrowserContext, uvicorn: Server) -> Iterator[Page]:
    """A tab in which nothing may be logged as an error: violations of the policy are."""
    errors: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []


def show(page: Page, uvicorn: Server, body: str, tag: str = TAG, *, policy: str = POLICY, before: str = "") -> None:
    """Load a page with this body."""
    html = f"<!doctype html><title>t</title>{before}{LISTEN}{tag}{body}"

    def page_of_the_test(route: Route) -> None:
        route.fulfill(body=html, content_type="text/html", headers={"Content-Security-Policy": policy})

    page.route("**/_page/", page_of_the_test)
    page.route("**/listen.js", lambda route: route.fulfill(body=LISTENER, content_type="text/javascript"))
    page.route("**/favicon.ico", lambda route: route.fulfill(body="", content_type="image/x-icon"))
    page.goto(f"{uvicorn.url}/_page/")


def got(page: Page) -> list[list[Any]]:
    return list(page.evaluate("got"))


def until(page: Page, condition: str) -> None:
    """Playwright's own waiting evaluates a string in the page, which the policy forbids."""
    poll(condition, lambda: page.evaluate(condition), within=PATIENCE_MS / 1000)


def test_events_of_the_stream_are_dom_events(violations: Page, uvicorn: Server) -> None:
    page = violations
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    show(page, uvicorn, '<main><event-stream id="a" src="/client/numbers/?to=2"></event-stream></main>')
    page.wait_for_selector("event-stream[data-state=ended][data-reason=completed]", state="attached")
    assert got(page) == [
        ["sse.statechange", "connecting: started", "a"],
        ["sse.statechange", "open: connected", "a"],
        ["sse:number", '{"number":1}', "a"],
        ["sse:number", '{"number":2}', "a"],
        ["sse.end", '{"reason":"completed"}', "a"],
        ["sse.statechange", "ended: completed", "a"],
    ]
    assert page.evaluate("document.querySelector('event-stream').stream.lastEventId") == "sse.end~2"
    assert [url for url in asked if "client.js" in url] == [f"{uvicorn.url}{STATIC}/client.js?hashed"]


def test_without_the_tag_the_client_beside_it_is_used(violations: Page, uvicorn: Server) -> None:
    tag = f'<script type="module" src="{STATIC}/element.js"></script>'
    show(violations, uvicorn, '<event-stream src="/client/numbers/?to=1"></event-stream>', tag)
    violations.wait_for_selector("event-stream[data-state=ended]", state="attached")


@pytest.fixture
def hashed(settings: Any, tmp_path: Path) -> Path:
    """The static files as ``ManifestStaticFilesStorage`` collects them, under their hashed names only."""
    settings.STATIC_ROOT = str(tmp_path)
    settings.STATIC_URL = "/static/"
    settings.STORAGES = {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}}
    call_command("collectstatic", interactive=False, verbosity=0)
    for file in (tmp_path / "django_agent_sse").iterdir():
        if file.name.count(".") == 1:
            file.unlink()
    return tmp_path


def test_hashed_file_names_are_enough(hashed: Path, violations: Page, uvicorn: Server) -> None:
    def collected(route: Route) -> None:
        file = hashed / route.request.url.partition("/static/")[2]
        route.fulfill(path=file, content_type="text/javascript") if file.exists() else route.fulfill(status=404)

    violations.route("**/static/**", collected)
    element, client = (static(f"django_agent_sse/{name}.js") for name in ("element", "client"))
    assert (element.count("."), client.count(".")) == (2, 2)
    tag = f'<script type="module" src="{element}" data-agent-sse data-client="{client}"></script>'
    show(violations, uvicorn, '<event-stream src="/client/numbers/?to=1"></event-stream>', tag)
    violations.wait_for_selector("event-stream[data-state=ended]", state="attached")


def test_an_import_map_is_enough_under_a_policy_with_a_nonce(hashed: Path, violations: Page, uvicorn: Server) -> None:
    def collected(route: Route) -> None:
        file = hashed / route.request.url.partition("/static/")[2]
        route.fulfill(path=file, content_type="text/javascript") if file.exists() else route.fulfill(status=404)

    program = """
        import { EventStream } from "django-agent-sse";
        import { EventStream as plain } from "/static/django_agent_sse/client.js";
        import { EventStreamElement, client } from "django-agent-sse/element";
        import { createUseEventStream } from "django-agent-sse/react";
        const same = [plain, (await client).EventStream].every((one) => one === EventStream);
        document.body.dataset.same = same && typeof createUseEventStream === "function";
    """
    violations.route("**/static/**", collected)
    violations.route("**/program.js", lambda route: route.fulfill(body=program, content_type="text/javascript"))
    html = Template("{% load agent_sse %}{% sse_importmap %}").render(Context({"csp_nonce": "n1"}))
    tag = '<script type="module" src="/program.js"></script>'
    body = '<event-stream src="/client/numbers/?to=1"></event-stream>'
    show(violations, uvicorn, body, tag, policy="default-src 'self'; script-src 'self' 'nonce-n1'", before=html)
    violations.wait_for_selector("body[data-same=true]", state="attached")
    violations.wait_for_selector("event-stream[data-state=ended]", state="attached")


def test_only_the_events_that_are_named_are_told_and_control_events(violations: Page, uvicorn: Server) -> None:
    show(violations, uvicorn, '<event-stream src="/client/numbers/?to=2" events="other message"></event-stream>')
    violations.wait_for_selector("event-stream[data-state=ended]", state="attached")
    assert {event[0] for event in got(violations)} == {"sse.statechange", "sse.end"}


def test_it_begins_after_the_id_that_the_page_was_rendered_with(violations: Page, uvicorn: Server) -> None:
    show(violations, uvicorn, '<event-stream src="/client/numbers/?to=3" last-event-id="2"></event-stream>')
    violations.wait_for_selector("event-stream[data-state=ended]", state="attached")
    assert [event[1] for event in got(violations) if event[0] == "sse:number"] == ['{"number":3}']


def test_another_address_is_another_stream(violations: Page, uvicorn: Server, key: str) -> None:
    page = violations
    show(page, uvicorn, f'<event-stream src="/life/idle/?key={key}"></event-stream>')
    page.wait_for_selector("event-stream[data-state=open]", state="attached")
    page.evaluate("document.querySelector('event-stream').src = '/client/numbers/?to=2'")
    page.wait_for_selector("event-stream[data-state=ended]", state="attached")
    assert uvicorn.recorded(key, "on_end")["ending"] == "client_disconnect"
    assert [event[1] for event in got(page) if event[0] == "sse:number"] == ['{"number":1}', '{"number":2}']


def test_another_signature_of_the_same_address_is_the_same_stream_where_it_is_renewed(
    violations: Page, uvicorn: Server, key: str
) -> None:
    page, url = violations, f"/life/idle/?key={key}&sse_signature="
    show(page, uvicorn, f'<event-stream src="{url.replace("&", "&amp;")}1" renew="/origins/address/"></event-stream>')
    page.wait_for_selector("event-stream[data-state=open]", state="attached")
    page.evaluate("(url) => { document.querySelector('event-stream').src = url; }", f"{url}2")
    assert uvicorn.settled_steps(key) == ["started"]
    page.evaluate("document.querySelector('event-stream').removeAttribute('renew')")
    page.evaluate("(url) => { document.querySelector('event-stream').src = url; }", f"{url}3")
    uvicorn.recorded(key, "started", count=2)


def test_taken_out_it_closes_and_put_back_it_goes_on(violations: Page, uvicorn: Server, key: str) -> None:
    page = violations
    show(page, uvicorn, f'<event-stream src="/client/numbers/?to=100000&key={key}"></event-stream>')
    until(page, "got.length > 10")
    page.evaluate("window.element = document.querySelector('event-stream'), element.remove()")
    assert uvicorn.recorded(key, "on_end")["ending"] == "client_disconnect"
    assert page.evaluate("element.state") == "idle"
    page.evaluate("document.body.append(element)")
    uvicorn.recorded(key, "started", count=2)
    count = page.evaluate("got.length")
    until(page, f"got.length > {count} + 5")
    numbers = [int(event[1][10:-1]) for event in got(page) if event[0] == "sse:number"]
    assert numbers == [*range(1, len(numbers) + 1)]


def test_close_reopen_options_and_sharing(violations: Page, uvicorn: Server, key: str) -> None:
    page = violations
    show(page, uvicorn, "<event-stream></event-stream>")
    page.wait_for_selector("event-stream[data-state=idle]", state="attached")
    page.evaluate("""() => {
        window.element = document.createElement("event-stream");
        element.src = "/client/headers/";
        element.options = { headers: { "X-Token": "mine" } };
        element.setAttribute("share", "");
        document.body.append(element);
    }""")
    until(page, "got.some(([type]) => type === 'sse.end')")
    assert ["sse:message", '{"accept":"text/event-stream","token":"mine","cookies":false}', ""] in got(page)
    page.evaluate("element.reopen()")
    until(page, "got.filter(([type]) => type === 'sse.end').length === 2")
    page.evaluate("element.src = '/life/idle/', element.src")
    until(page, "element.state === 'open' && element.stream.leads === true")
    page.evaluate("element.close()")
    assert page.evaluate("[element.dataset.state, element.dataset.reason]") == ["idle", "closed"]
