"""Two origins in a real browser: what the one may read of the other, and where cookies go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trustme
from playwright.sync_api import Browser, BrowserContext, Page

from tests.chromium import FLAGS
from tests.live.servers import Server
from tests.npm import Node
from tests.testproject.cutter import Cutter
from tests.tls import tls_before

from .conftest import PATIENCE_MS
from .listening import events, listen, state, until

SITE = {"middleware": "default"}

NATIVE = """([url, withCredentials]) => new Promise((resolve) => {
    const source = new EventSource(url, { withCredentials });
    const done = (about) => { source.close(); resolve(about); };
    source.onmessage = ({ data }) => done(JSON.parse(data));
    source.onerror = () => source.readyState === EventSource.CLOSED && done("closed");
})"""
RUN = """async (url) => {
    const headers = { "Content-Type": "application/json", "Idempotency-Key": "k", "Last-Event-ID": "", Prefer: "respond-async" };
    const begun = await fetch(url, { method: "POST", body: JSON.stringify({ ask: 1 }), headers, credentials: "include" });
    const run = new URL(begun.headers.get("Location"), url);
    const after = { Accept: "text/event-stream", "Last-Event-ID": "0.0" };
    const resumed = await fetch(run, { headers: after, credentials: "include" });
    const { value } = await resumed.body.getReader().read();
    const stopped = await fetch(run, { method: "DELETE", credentials: "include" });
    return [begun.status, begun.headers.get("X-Run-Id") !== null, resumed.status, stopped.status];
}"""


@pytest.fixture(scope="module")
def streams(start: Callable[..., Server], uvicorn: Server) -> Server:
    """Another server, which lists the origin of the first one's pages."""
    return start("uvicorn", agent_sse={"ORIGINS": [uvicorn.url], "ALLOW_CREDENTIALS": True})


@pytest.fixture
def signed_in(page: Page, uvicorn: Server, streams: Server) -> Page:
    """A page of the first server, in a browser that is signed in at the second one, and has a cookie of it for every page."""
    for path in ("client/in/user-000/", "origins/cookie/"):
        page.goto(f"{streams.url}/{path}")
    page.goto(f"{uvicorn.url}/_page/")
    return page


@pytest.fixture
def profile(chromium: Browser, tmp_path: Path) -> Iterator[BrowserContext]:
    """A profile that sends the cookies of other sites, as browsers did for thirty years: those without a folder do not."""
    preferences = tmp_path / "Default" / "Preferences"
    preferences.parent.mkdir()
    preferences.write_text(json.dumps({"profile": {"cookie_controls_mode": 0}}))
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    context = chromium.browser_type.launch_persistent_context(
        tmp_path, executable_path=path, args=FLAGS, ignore_https_errors=True
    )
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


Elsewhere: TypeAlias = tuple[str, Page, str]


@pytest.fixture(params=["same-site", "cross-site"])
def elsewhere(request: pytest.FixtureRequest, profile: BrowserContext, uvicorn: Server, streams: Server) -> Iterator[Elsewhere]:
    """What a page that nobody lists is to the streams, the page, and where these are: another port, or another name.

    Cookies of another site come by TLS only.
    """
    site: str = request.param
    certificate = trustme.CA().issue_cert("127.0.0.1")
    with Cutter(uvicorn.port, b"never", "never") as another_port, tls_before(streams.port, certificate) as tls:
        url = streams.url if site == "same-site" else f"https://127.0.0.1:{tls}"
        page = profile.new_page()
        page.goto(f"{url}/origins/cookie/")
        page.goto(f"{another_port.url if site == 'same-site' else f'http://localhost:{uvicorn.port}'}/_page/")
        yield site, page, url
        page.close()


def native(page: Page, url: str, *, credentials: bool) -> Any:
    return page.evaluate(NATIVE, [url, credentials])


def test_a_listed_page_reads_with_cookies_and_without(signed_in: Page, streams: Server, key: str) -> None:
    url = f"{streams.url}/origins/who/?key={key}"
    listen(signed_in, url, {"withCredentials": True})
    until(signed_in, "log.events.length > 0")
    (_, data, id), *_ = events(signed_in)
    about = {"user": "user-000", "third": "1"}
    assert (json.loads(data), id) == (about, "1")
    assert native(signed_in, url, credentials=True) == about
    assert native(signed_in, url, credentials=False) == {"user": "", "third": None}


def test_a_listed_page_begins_a_run_goes_on_with_it_and_stops_it(signed_in: Page, streams: Server, key: str) -> None:
    assert signed_in.evaluate(RUN, f"{streams.url}/origins/work/{key}/") == [202, True, 200, 202]


def test_another_page_reads_nothing_and_no_handler_runs_as_its_visitor(elsewhere: Elsewhere, streams: Server, key: str) -> None:
    site, other, base = elsewhere
    url = f"{base}/origins/who/?key={key}"
    assert native(other, url, credentials=True) == "closed"
    assert streams.steps(key) == []
    assert native(other, f"{base}/origins/anybody/?key={key}-sent", credentials=True) == "closed"
    sent = streams.recorded(f"{key}-sent", "ran")
    assert (sent["site"], sent["third"]) == (site, "1"), "what the browser has sent with both"
    assert native(other, url, credentials=False) == "closed"
    assert streams.steps(key) == ["ran"], "as it does for anybody, and the page cannot read it"
    assert other.evaluate("(url) => fetch(url, { method: 'DELETE' }).then(() => 'sent', () => 'refused')", url) == "refused"


def test_a_signed_address_needs_no_cookie_and_is_renewed(signed_in: Page, uvicorn: Server, streams: Server) -> None:
    page = signed_in
    page.goto(f"{uvicorn.url}/client/in/user-001/")
    page.goto(f"{uvicorn.url}/_page/")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    first = page.evaluate("fetch('/origins/address/?to=30').then((answer) => answer.json())")["url"]
    listen(page, f"{streams.url}{first}", {"renew": "/origins/address/?to=30"})
    until(page, "log.events.length >= 30")
    assert [data for _, data, _ in events(page)] == [f"user-001 {number}" for number in range(1, 31)]
    to_streams = [url for url in asked if url.startswith(streams.url)]
    assert [f"last_event_id={id}" in url for url, id in zip(to_streams, ("", 10, 20), strict=False)] == [False, True, True]
    assert len({url.partition("sse_signature=")[2] for url in to_streams[:3]}) == 3
    assert sum("/origins/address/" in url for url in asked) >= 3
    page.evaluate("log.stream.close()")
    assert "sse_signature" not in uvicorn.log() + streams.log()


def test_an_address_that_nobody_signed_is_refused_for_good(page: Page, streams: Server) -> None:
    listen(page, f"{streams.url}/origins/signed/?to=3&sse_signature=guessed")
    assert state(page, "error") == ["unauthorized", 401]


def test_it_is_the_same_in_firefox(node: Node, firefox: str, uvicorn: Server, streams: Server, key: str) -> None:
    """A program of Node.js drives it over WebDriver BiDi, ``tests/node/firefox_origins.mjs``."""
    with Cutter(uvicorn.port, b"never", "never") as other:
        about = {"SITE": uvicorn.url, "OTHER": other.url, "STREAMS": streams.url, "KEY": key, "FIREFOX": firefox}
        told = node.run("--test", "firefox_origins.mjs", environment=about)
    assert "# pass 4\n" in told, told
    assert streams.steps(key) == ["ran", "ran"]
    assert streams.steps(f"{key}-other") == []
