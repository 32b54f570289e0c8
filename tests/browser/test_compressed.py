"""Compressed streams in Chromium, with the client of this package and the browser's own: at once, and cut and resumed."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Response

from tests.live.cuts import count_bytes, cutting
from tests.live.servers import Server
from tests.npm import Node

from .listening import CLIENT, events, listen, state, until

SITE = {"middleware": "everything", "agent_sse": {"COMPRESS": True}}
TO = 2
WANTED = [*range(1, TO + 1)]
AT_ONCE = 24
SOURCES = ("EventSource", "EventStream")

READ = """async ([client, name, urls, atOnce]) => {
    const Source = name === "EventStream" ? (await import(client)).EventStream : EventSource;
    const options = name === "EventStream" ? { reconnect: { baseDelay: 20, jitter: 0 } } : undefined;
    const got = {};
    const waiting = Object.entries(urls);
    const readNext = async () => {
        const [id, url] = waiting.shift();
        got[id] = await new Promise((resolve) => {
            const numbers = [];
            setTimeout(resolve, 120_000, "late");
            const source = new Source(url, options);
            source.addEventListener("number", ({ data }) => numbers.push(JSON.parse(data).number));
            source.addEventListener("sse.end", () => { source.close(); resolve(numbers); });
        });
        if (waiting.length) await readNext();
    };
    await Promise.all(Array.from({ length: Math.min(atOnce, waiting.length) }, readNext));
    return got;
}"""


def codings(page: Page) -> list[str | None]:
    """The codings of the streams that a page gets, as they come."""
    found: list[str | None] = []

    def note(response: Response) -> None:
        if "/life/" in response.url:
            found.append(response.headers.get("content-encoding"))

    page.on("response", note)
    return found


def test_a_page_has_each_event_before_the_next_one_is_written(page: Page, uvicorn: Server, key: str) -> None:
    coding = codings(page)
    listen(page, f"/life/stepwise/?key={key}")
    for number in range(1, 5):
        until(page, f"log.events.length === {number}")
        uvicorn.open_gate(f"{key}-{number}")
    assert state(page, "ended")[0] == "completed"
    assert [data for type, data, _ in events(page) if type == "message"] == ["1", "2", "3", "4"]
    assert coding == ["gzip"]


def test_a_topic_is_compressed_for_visitors_without_cookies_and_not_for_others(
    context: BrowserContext, start: Any, key: str
) -> None:
    """By default. A browser sends cookies by itself: what it may read then may be its visitor's alone."""
    server: Server = start("uvicorn", middleware="everything")
    found: list[str | None] = []
    for cookies in ([], [{"name": "theme", "value": "dark", "url": server.url}]):
        context.add_cookies(cookies)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{server.url}/_page/")
        topic = f"{key}-{len(cookies)}"
        with page.expect_response("**/topics/follow/**") as response:
            listen(page, f"/topics/follow/{topic}/")
        found.append(response.value.headers["content-encoding"])
        server.get(f"topics/produce/{topic}/", rate=500, seconds=0.5)
        assert state(page, "ended")[0] == "topic_closed"
        assert [int(data.split()[0]) for type, data, _ in events(page) if type == "message"] == [*range(250)]
    assert found == ["gzip", "identity"]


@pytest.mark.parametrize("source", SOURCES)
def test_a_page_has_each_event_once_wherever_a_compressed_stream_is_cut(
    context: BrowserContext, uvicorn: Server, node: Node, source: str
) -> None:
    count = count_bytes(uvicorn, to=TO, compressed=True)
    with cutting(uvicorn, node, to=TO) as cuts:
        page = context.new_page()  # not the fixture: a cut network is an error in the console
        page.route("**/empty/", lambda route: route.fulfill(body="<!doctype html><title>x</title>", content_type="text/html"))
        page.route(f"**{CLIENT}", lambda route: route.fulfill(response=route.fetch(url=f"{uvicorn.url}{CLIENT}")))
        page.goto(f"{cuts.base}/empty/")
        urls = {str(k): f"/{source}/{k}/" for k in range(count)}
        got = page.evaluate(READ, [CLIENT, source, urls, AT_ONCE])
        page.close()
    cuts.must_cover(source, count, compressed=True)
    assert {k: numbers for k, numbers in got.items() if numbers != WANTED} == {}
