"""htmx 2 and 4, Turbo and Datastar, from npm, on streams of a real server: named events, coming back, the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.docs.blocks import DOCS, blocks_of
from tests.npm import Node

from .cutting import Cutting
from .serving import LogSite

SCRIPTS = {
    "htmx 2": ["htmx2/dist/htmx.min.js", "htmx-ext-sse/dist/sse.min.js"],
    "htmx 4": ["htmx.org/dist/htmx.min.js", "htmx.org/dist/ext/hx-sse.min.js"],
    "Turbo": ["@hotwired/turbo/dist/turbo.es2017-umd.js"],
    "Datastar": ["@starfederation/datastar/dist/bundles/datastar.js"],
}
PATIENCE_MS = 180_000
MODULES = SCRIPTS["Datastar"]
"""These are modules that import others."""
ITEM = {
    "htmx 2": ("item", "<li>{}</li>"),
    "htmx 4": ("", "<li>{}</li>"),
    "Turbo": ("", '<turbo-stream action="append" target="items"><template><li>{}</li></template></turbo-stream>'),
    "Datastar": ("datastar-merge-fragments", "selector #items\nmergeMode append\nfragments <li>{}</li>"),
}
MARKUP = {block.file: block.text for block in blocks_of(DOCS / "howto/htmx.rst") if block.language == "html"}


@pytest.fixture(params=SCRIPTS)
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(site: LogSite) -> Iterator[Cutting]:
    with Cutting(site.port) as cutting:
        yield cutting


@cache
def script(node: Node, path: str) -> str:
    """A file of a package; minified where the package has it so."""
    if path in MODULES:
        return node.bundle(path)
    found = node.modules / path
    return (found if found.exists() else node.modules / path.replace(".min.js", ".js")).read_text()


def sends(text: str) -> Callable[[Route], None]:
    """Answers with a script."""
    return lambda route: route.fulfill(body=text, content_type="text/javascript; charset=utf-8")


def opened(page: Page, network: Cutting, node: Node, library: str, name: str, *, without: str = "") -> list[str]:
    """A page with the markup of the documentation, on the log of this name; the requests for its stream."""
    requests: list[str] = []
    assert without in MARKUP[library]

    def answer(route: Route) -> None:
        defer = "" if library == "htmx 4" else " defer"  # as the page says: its extension may come too late
        tags = "".join(f'<script src="/npm/{number}.js"{defer}></script>' for number, _ in enumerate(SCRIPTS[library]))
        markup = MARKUP[library].replace("/orders/log/", f"/logs/{name}/log/").replace(without, "")
        route.fulfill(body=f"<!doctype html><title>x</title>{tags}<body>{markup}</body>", content_type="text/html; charset=utf-8")

    page.on("request", lambda request: requests.append(request.url) if "/log/" in request.url else None)
    page.route("**/library/", answer)
    for number, path in enumerate(SCRIPTS[library]):
        page.route(f"**/npm/{number}.js", sends(script(node, path)))
    page.goto(f"{network.url}/library/")
    return requests


def test_events_arrive_once_over_a_cut_network_and_the_end_is_the_end(
    context: BrowserContext, site: LogSite, network: Cutting, node: Node, library: str
) -> None:
    name = library.replace(" ", "").lower()
    event, form = ITEM[library]
    page = context.new_page()  # these libraries write a cut network to the console as an error
    site.publish(name, (event, form.format("1")), (event, form.format("2 ü")))
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status) if "/log/" in answer.url else None)
    requests = opened(page, network, node, library, name)
    items = page.locator("#items li")
    expect(items).to_have_text(["1", "2 ü"], timeout=PATIENCE_MS)
    network.cut()
    site.publish(name, (event, form.format("3")))
    expect(items).to_have_text(["1", "2 ü", "3"], timeout=PATIENCE_MS)
    assert len(requests) >= 2
    site.publish(name, (event, form.format("4")), close="completed")
    expect(items).to_have_text(["1", "2 ü", "3", "4"], timeout=PATIENCE_MS)
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while library == "Turbo" and 204 not in answers:  # the browser's EventSource asks once more
        assert time.monotonic() < deadline, answers
        page.wait_for_timeout(50)
    page.wait_for_timeout(2_500)  # several times of the retry
    seen = len(requests)
    page.wait_for_timeout(2_500)
    assert len(requests) == seen, "it stays away"
    expect(items).to_have_count(4)


def test_htmx_2_swaps_the_whole_topic_in_again_without_its_close(
    context: BrowserContext, site: LogSite, network: Cutting, node: Node
) -> None:
    """What the page warns of: a new ``EventSource`` has no last id."""
    event, form = ITEM["htmx 2"]
    page = context.new_page()
    site.publish("unclosed2", (event, form.format("1")), (event, form.format("2")), close="completed")
    requests = opened(page, network, node, "htmx 2", "unclosed2", without=' sse-close="sse.end"')
    page.wait_for_function("() => document.querySelectorAll('#items li').length >= 4", timeout=PATIENCE_MS)
    texts = page.locator("#items li").all_text_contents()[:4]
    assert texts == ["1", "2", "1", "2"]
    assert len(requests) >= 3


def test_htmx_4_asks_again_and_again_without_its_close(
    context: BrowserContext, site: LogSite, network: Cutting, node: Node
) -> None:
    _, form = ITEM["htmx 4"]
    page = context.new_page()
    site.publish("unclosed4", ("", form.format("1")), ("", form.format("2")), close="completed")
    statuses: list[int] = []
    page.on("response", lambda response: statuses.append(response.status) if response.url.endswith("/log/") else None)
    opened(page, network, node, "htmx 4", "unclosed4", without=' hx-sse:close="sse.end"')
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while len(statuses) < 3:
        assert time.monotonic() < deadline, statuses
        page.wait_for_timeout(50)
    assert (statuses[0], {*statuses[1:]}) == (200, {204})
    assert page.locator("#items li").all_text_contents() == ["1", "2"]
