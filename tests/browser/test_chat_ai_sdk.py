"""``useChat`` and assistant-ui in Chromium over a run: a reload in the middle, a second tab, a stop, and a failure."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from django_agent_sse.contrib.wires.messages import SENTENCES
from django_agent_sse.runs.endings import RunEnding
from tests.live.servers import Server
from tests.npm import Node
from tests.site.routes.ai_sdk import REASONING, TEXT, WAY

MOUNT = "async ([name, ...about]) => (await import('/bundle/ai_sdk.js'))[name](...about)"
HALF = "".join(TEXT[: WAY - 8]).encode("utf-16", "surrogatepass").decode("utf-16")
WHOLE = "".join(TEXT).encode("utf-16", "surrogatepass").decode("utf-16")
API = "/ai/kept"


@pytest.fixture(scope="session")
def bundle(node: Node) -> str:
    return node.bundle("ai_sdk_page.mjs", "--format=esm", "--minify", '--define:process.env.NODE_ENV="production"')


@pytest.fixture
def pages(context: BrowserContext, page: Page, bundle: str) -> BrowserContext:
    """Where pages can import the bundle."""
    context.route("**/bundle/ai_sdk.js", lambda route: route.fulfill(body=bundle, content_type="text/javascript"))
    return context


def mount(page: Page, script: str, chat: str) -> None:
    """Open a chat, and wait for the answer to its question whether a run goes on."""
    with page.expect_response(lambda response: response.url.endswith("/stream")):
        page.evaluate(MOUNT, ["chat", f"{API}/{script}", chat])


def texts(page: Page) -> list[list[str]]:
    """The text of each part of each answer that a page shows."""
    look = "messages.map(({ parts }) => parts.flatMap(({ type, text }) => type === 'text' || type === 'reasoning' ? [text] : []))"
    found: Any = page.evaluate(look)
    return list(found)


def must_show_half(page: Page) -> None:
    page.wait_for_function("(half) => window.messages?.[0]?.parts.some(({ text }) => text === half)", arg=HALF)
    assert texts(page) == [["".join(REASONING), HALF]]


def must_be_over(page: Page, expected: list[str]) -> None:
    page.wait_for_selector("output:text-is('ready')")
    assert texts(page) == [expected]
    assert page.inner_text("em") == ""


def must_be_an_error(page: Page) -> None:
    page.wait_for_selector(f"em:text-is('{SENTENCES[RunEnding.FAILED]}')")
    assert page.inner_text("output") == "error"
    assert texts(page) == [["".join(REASONING), HALF]]


def test_a_chat_goes_on_after_a_reload_and_in_a_second_tab(pages: BrowserContext, page: Page, uvicorn: Server, key: str) -> None:
    mount(page, "waiting", key)
    page.click("text=Send")
    must_show_half(page)
    page.reload()
    mount(page, "waiting", key)
    must_show_half(page)
    tab = pages.new_page()
    tab.goto(page.url)
    mount(tab, "waiting", key)
    must_show_half(tab)
    uvicorn.open_gate(key)
    for one in (page, tab):
        must_be_over(one, ["".join(REASONING), WHOLE, "Schön."])
    page.reload()
    mount(page, "waiting", key)
    page.wait_for_function("window.messages?.length")
    must_be_over(page, ["".join(REASONING), WHOLE, "Schön."])


def test_a_stop_in_one_tab_ends_the_run_for_both(pages: BrowserContext, page: Page, uvicorn: Server, key: str) -> None:
    mount(page, "waiting", key)
    page.click("text=Send")
    must_show_half(page)
    tab = pages.new_page()
    tab.goto(page.url)
    mount(tab, "waiting", key)
    must_show_half(tab)
    tab.click("text=Stop")
    for one in (page, tab):
        must_be_over(one, ["".join(REASONING), HALF])
        assert one.evaluate("messages[0].parts.at(-1).state") == "done"
    assert uvicorn.get(f"{API[1:]}/waiting/{key}/stream").body.count(b'"abort"') == 1


def test_a_run_that_fails_is_an_error_now_and_after_a_reload(pages: BrowserContext, page: Page, key: str) -> None:
    mount(page, "failing", key)
    page.click("text=Send")
    must_be_an_error(page)
    page.reload()
    mount(page, "failing", key)
    must_be_an_error(page)


def test_assistant_ui_goes_on_after_a_reload(pages: BrowserContext, page: Page, uvicorn: Server) -> None:
    about = ["assistant", f"{API}/waiting"]
    page.evaluate(MOUNT, about)
    page.fill("textarea", "?")
    with page.expect_request(lambda request: request.method == "POST") as asked:
        page.click("text=Send")
    expect(page.locator("main")).to_contain_text(HALF)
    page.reload()
    page.evaluate(MOUNT, about)
    expect(page.locator("main")).to_contain_text(HALF)
    uvicorn.open_gate(asked.value.post_data_json["id"])
    for part in (WHOLE.splitlines()[0], "Schön."):  # it is typed out, part by part
        expect(page.locator("main")).to_contain_text(part)
        assert page.inner_text("main").count(part) == 1
    page.wait_for_function("sessionStorage.getItem('aui-resumable-stream-id') === null")
