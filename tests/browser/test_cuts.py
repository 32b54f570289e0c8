"""Clients of pages, cut after any byte, inside of an event as well as between two: each event is in the page once and in order.

The others are in ``tests/live/test_cuts.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import BrowserContext, Page, Route

from tests.live.cuts import count_bytes, cutting
from tests.live.servers import Server
from tests.npm import Node

SITE = {"middleware": "none"}
TO = 2
WANTED = [*range(1, TO + 1)]
AT_ONCE = 24
"""Chromium has six connections with one address; most of these wait before they come back."""

CUT = """async ({ name, cuts, query, markup, over, atOnce }) => {
    const through = (id) => new Promise((resolve) => {
        const late = setTimeout(resolve, 5_000, "late");
        const heard = (event) => {
            if (!Function("id", "event", `return ${over[1]}`)(id, event)) return;
            document.removeEventListener(over[0], heard, true);
            clearTimeout(late);
            resolve("over");
        };
        document.addEventListener(over[0], heard, true);
    });
    const got = {};
    await Promise.all(Array.from({ length: atOnce }, async () => {
        for (let k = cuts.shift(); k !== undefined; k = cuts.shift()) {
            const id = `c${String(k).padStart(3, "0")}`;
            const frame = document.createElement("div");
            const url = `/${name}/${k}/?${query.replaceAll("ID", id)}`;
            frame.innerHTML = markup.replaceAll("ID", id).replaceAll("URL", url.replaceAll("&", "&amp;"));
            const ended = through(id);
            document.body.append(frame);
            window.htmx?.process(frame);
            window.begin?.(frame.firstElementChild);
            const outcome = await ended;
            got[k] = outcome === "over" ? [...frame.querySelectorAll("li")].map((item) => Number(item.textContent)) : outcome;
            frame.remove();
        }
    }));
    return got;
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How a page has it, and what it takes.

    Attributes:
        scripts: Files of npm packages; ``modules`` where they are modules that import others, to be bundled.
        markup: One client: it puts the items into the element ``ID`` and asks for ``URL``.
        over: The event of the document, and an expression over it, by which it is through with a stream.
        event: The name of each event, and ``data`` the data with the number.
    """

    scripts: tuple[str, ...]
    markup: str
    over: tuple[str, str]
    event: str
    data: str
    modules: bool = False


CLIENTS = {
    "Datastar": Client(
        scripts=("@starfederation/datastar/dist/bundles/datastar.js",),
        markup="""<ul id="ID" data-on-load="@get('URL', {retryInterval: 20, retryMaxWaitMs: 20})"></ul>""",
        over=("datastar-sse", 'event.detail.type === "finished" && event.detail.elId === id'),
        event="datastar-merge-fragments",
        data="selector #ID\nmergeMode append\nfragments <li>{}</li>",
        modules=True,
    ),
    "htmx 4": Client(
        scripts=("htmx.org/dist/htmx.js", "htmx.org/dist/ext/hx-sse.js"),
        markup="""<ul id="ID" hx-sse:connect="URL" hx-sse:close="sse.end" hx-swap="beforeend"
                   hx-config='{"sse.reconnect": true, "sse.reconnectDelay": 20}'></ul>""",
        over=("htmx:sse:close", "event.target.id === id"),
        event="",
        data="<li>{}</li>",
    ),
    "htmx 2": Client(
        scripts=("htmx2/dist/htmx.js", "htmx-ext-sse/dist/sse.js"),
        markup="""<div id="ID" hx-ext="sse" sse-connect="URL" sse-close="sse.end">
                    <ul sse-swap="item" hx-swap="beforeend"></ul></div>""",
        over=("htmx:sseClose", "event.target.id === id"),
        event="item",
        data="<li>{}</li>",
    ),
}


def bundled(node: Node, path: str, folder: Path) -> Path:
    """A package of modules as one script."""
    file = folder / "script.js"
    flags = ["--bundle", "--format=iife", f"--outfile={file}", "--log-level=warning"]
    node.run(str(node.modules / "esbuild/bin/esbuild"), str(node.modules / path), *flags)
    return file


@pytest.mark.parametrize("name", CLIENTS)
def test_a_page_has_each_event_once_wherever_the_connection_is_cut(
    context: BrowserContext, uvicorn: Server, node: Node, tmp_path: Path, name: str
) -> None:
    client = CLIENTS[name]
    form = {"event": client.event, "data": client.data}
    count = count_bytes(uvicorn, to=TO, **form) + 2 * TO
    page = context.new_page()  # these libraries write a cut network to the console as an error
    path = name.replace(" ", "")
    with cutting(uvicorn, node, to=TO) as cuts:
        page.route("**/page/", lambda route: route.fulfill(body="<!doctype html><title>x</title><body></body>", content_type="text/html"))
        page.goto(f"{cuts.base}/page/")
        for script in client.scripts:
            page.add_script_tag(path=bundled(node, script, tmp_path) if client.modules else node.modules / script)
        got = page.evaluate(
            CUT,
            {
                "name": path,
                "cuts": [*range(count)],
                "query": urlencode(form),
                "markup": client.markup,
                "over": client.over,
                "atOnce": AT_ONCE,
            },
        )
        page.close()
    assert len(got) == count
    cuts.must_cover(path, count)
    wrong = {int(k): numbers for k, numbers in got.items() if numbers != WANTED}
    assert {k: numbers for k, numbers in wrong.items() if not cuts.is_past_help(path, k, numbers, WANTED)} == {}
