"""Clients of pages, cut after any byte, inside of an event as well as between two: each event is in the page once and in order.

The others are in ``tests/live/test_cuts.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

import pytest
from playwright.sync_api import BrowserContext, Page

from tests.live.cuts import count_bytes, cutting
from tests.live.servers import Server
from tests.npm import Node

SITE = {"middleware": "none"}
TO = 2
WANTED = [*range(1, TO + 1)]
AT_ONCE = 24
"""Chromium has six connections with one address; most of these wait before they come back."""

READ = """async ([urls, markup, type, isOver, atOnce]) => {
    const matches = Function("id", "event", `return ${isOver}`);
    const over = (id) => new Promise((resolve) => {
        const late = setTimeout(resolve, 120_000, "late");
        document.addEventListener(type, function heard(event) {
            if (!matches(id, event)) return;
            document.removeEventListener(type, heard, true);
            clearTimeout(late);
            resolve();
        }, true);
    });
    const got = {};
    const waiting = Object.entries(urls);
    const readNext = async () => {
        const [id, url] = waiting.shift();
        const frame = document.createElement("div");
        frame.innerHTML = markup.replaceAll("URL", url.replaceAll("ID", id).replaceAll("&", "&amp;")).replaceAll("ID", id);
        const end = over(id);
        document.body.append(frame);
        window.htmx?.process(frame);
        got[id] = await end ?? [...frame.querySelectorAll("li")].map((item) => Number(item.textContent));
        frame.remove();
        if (waiting.length) await readNext();
    };
    await Promise.all(Array.from({ length: Math.min(atOnce, waiting.length) }, readNext));
    return got;
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How a page has it, and what it takes.

    Attributes:
        scripts: Files of npm packages; ``modules`` where they are modules that import others.
        markup: What puts the items of the stream at ``URL`` into the element ``ID``.
        over: The type of the event, and an expression over it, by which it says that it is through with a stream.
        event: The name of each event.
        data: The data of each, around its number.
        by_line: It takes an id at the end of its line, and so loses an event that is cut between that line and the blank one.
    """

    scripts: tuple[str, ...]
    markup: str
    over: tuple[str, str]
    event: str
    data: str
    modules: bool = False
    by_line: bool = False


CLIENTS = {
    "Datastar": Client(
        scripts=("@starfederation/datastar/dist/bundles/datastar.js",),
        modules=True,
        markup="""<ul id="ID" data-on-load="@get('URL', {retryInterval: 20, retryMaxWaitMs: 20, retryMaxCount: 1000})"></ul>""",
        over=("datastar-sse", 'event.detail.type === "finished" && event.detail.elId === id'),
        event="datastar-merge-fragments",
        data="selector #ID\nmergeMode append\nfragments <li>{}</li>",
        by_line=True,
    ),
    "htmx 4": Client(
        scripts=("htmx.org/dist/htmx.js", "htmx.org/dist/ext/hx-sse.js"),
        markup="""<ul id="ID" hx-sse:connect="URL" hx-sse:close="sse.end" hx-swap="beforeend"
                   hx-config='{"sse.reconnect": true, "sse.reconnectDelay": 20}'></ul>""",
        over=("htmx:sse:close", "event.target.id === id"),
        event="",
        data="<li>{}</li>",
    ),
    "htmx 2": Client(  # the browser's EventSource
        scripts=("htmx2/dist/htmx.js", "htmx-ext-sse/dist/sse.js"),
        markup="""<div id="ID" hx-ext="sse" sse-connect="URL" sse-close="sse.end">
                    <ul sse-swap="item" hx-swap="beforeend"></ul></div>""",
        over=("htmx:sseClose", "event.target.id === id"),
        event="item",
        data="<li>{}</li>",
    ),
}


def opened(context: BrowserContext, node: Node, client: Client, origin: str) -> Page:
    """An empty page of this origin with the client's scripts."""
    page = context.new_page()  # not the fixture: these libraries write a cut network to the console as an error
    page.route("**/empty/", lambda route: route.fulfill(body="<!doctype html><title>x</title>", content_type="text/html"))
    page.goto(f"{origin}/empty/")
    for path in client.scripts:
        page.add_script_tag(content=node.bundle(path) if client.modules else (node.modules / path).read_text())
    return page


@pytest.mark.parametrize("name", CLIENTS)
def test_a_page_has_each_event_once_wherever_the_connection_is_cut(
    context: BrowserContext, uvicorn: Server, node: Node, name: str
) -> None:
    client = CLIENTS[name]
    form = {"event": client.event, "data": client.data.replace("ID", "c000")}
    count = count_bytes(uvicorn, to=TO, **form)
    path, query = name.replace(" ", ""), urlencode({**form, "data": client.data})
    with cutting(uvicorn, node, to=TO) as cuts:
        page = opened(context, node, client, cuts.base)
        urls = {f"c{k:03}": f"/{path}/{k}/?{query}" for k in range(count)}
        got = page.evaluate(READ, [urls, client.markup, *client.over, AT_ONCE])
        page.close()
    cuts.must_cover(path, count)
    wrong = {k: got[f"c{k:03}"] for k in range(count) if got[f"c{k:03}"] != WANTED}
    if client.by_line:
        wrong = {k: numbers for k, numbers in wrong.items() if not cuts.is_past_help(path, k, numbers, WANTED)}
    assert wrong == {}


def test_datastar_comes_back_after_a_response_that_is_broken_off_and_takes_a_whole_one_for_the_end(
    context: BrowserContext, uvicorn: Server, node: Node
) -> None:
    """What the page about it says: without control events each end that is not the stream's own is broken off."""
    client = CLIENTS["Datastar"]
    page = opened(context, node, client, uvicorn.url)
    query = urlencode({"to": 50, "event": client.event, "data": client.data})
    urls = {"broken": f"/client/short-and-broken/?{query}", "whole": f"/client/short/?{query}"}
    got = page.evaluate(READ, [urls, client.markup, *client.over, AT_ONCE])
    page.close()
    assert got["broken"] == [*range(1, 51)]
    assert 0 < len(got["whole"]) < 50
    assert got["whole"] == got["broken"][: len(got["whole"])]
