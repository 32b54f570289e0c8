"""``useChat`` and assistant-ui in Chromium over a run: a reload in the middle, a second tab, and every ending."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from django_agent_sse.contrib.wires.messages import SENTENCES
from django_agent_sse.runs.endings import RunEnding
from tests.live.servers import STOP_SECONDS, Server
from tests.npm import Node
from tests.site.routes.ai_sdk import REASONING, TEXT, WAY

MOUNT = "async ([name, ...about]) => (await import('/bundle/ai_sdk.js'))[name](...about)"
HALF = "".join(TEXT[: WAY - 8]).encode("utf-16", "surrogatepass").decode("utf-16")
WHOLE = "".join(TEXT).encode("utf-16", "surrogatepass").decode("utf-16")
API = "/ai/kept"


@pytest.fixture(scope="module")
def about(redis_url: str) -> dict[str, Any]:
    """The settings of servers that share a log."""
    options = {"url": redis_url, "prefix": f"t{secrets.token_hex(6)}"}
    return {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}}


@pytest.fixture(scope="module")
def uvicorn(start: Callable[..., Server], about: dict[str, Any]) -> Server:
    """The server of the pages."""
    return start("uvicorn", agent_sse=about)


@pytest.fixture(scope="module")
def mortal(start: Callable[..., Server], about: dict[str, Any]) -> Server:
    """Another one, which ends."""
    return start("uvicorn", agent_sse=about)


@pytest.fixture(scope="session")
def bundle(node: Node) -> str:
    return node.bundle("ai_sdk_page.mjs", "--format=esm", "--minify", '--define:process.env.NODE_ENV="production"')


@pytest.fixture
def pages(context: BrowserContext, page: Page, bundle: str) -> BrowserContext:
    """Where pages can import the bundle."""
    context.route("**/bundle/ai_sdk.js", lambda route: route.fulfill(body=bundle, content_type="text/javascript"))
    return context


def mount(page: Page, script: str, chat: str, api: str = API) -> None:
    """Open a chat, and wait for the answer to its question whether a run goes on."""
    with page.expect_response(lambda response: response.url.endswith("/stream")):
        page.evaluate(MOUNT, ["chat", f"{api}/{script}", chat])


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


def must_be_an_error(page: Page, sentence: str) -> None:
    page.wait_for_selector(f"em:text-is('{sentence}')")
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
    must_be_an_error(page, SENTENCES[RunEnding.FAILED])
    page.reload()
    mount(page, "failing", key)
    must_be_an_error(page, SENTENCES[RunEnding.FAILED])


@pytest.mark.parametrize("ending", [RunEnding.INTERRUPTED, RunEnding.LOST])
def test_a_run_whose_process_ends_is_an_error_of_each_page_and_after_a_reload(
    pages: BrowserContext, page: Page, uvicorn: Server, mortal: Server, key: str, ending: RunEnding
) -> None:
    """One page reads at the process that ends, the other one elsewhere; then the first one is opened elsewhere too."""
    if mortal.process.poll() is not None:
        mortal.restart()
    lost = ending == RunEnding.LOST
    api = "/ai/short" if lost else API
    page.goto(f"{mortal.url}/_page/")
    mount(page, "waiting", key, api)
    page.click("text=Send")
    must_show_half(page)
    tab = pages.new_page()
    tab.goto(f"{uvicorn.url}/_page/")
    mount(tab, "waiting", key, api)
    must_show_half(tab)
    if lost:
        mortal.kill()
    else:
        mortal.signal(signal.SIGTERM)
    must_be_an_error(page, "network error" if lost else SENTENCES[ending])
    must_be_an_error(tab, SENTENCES[ending])
    page.goto(f"{uvicorn.url}/_page/")
    mount(page, "waiting", key, api)
    must_be_an_error(page, SENTENCES[ending])
    mortal.wait(STOP_SECONDS)


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
