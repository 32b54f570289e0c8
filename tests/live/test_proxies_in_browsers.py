"""Chromium behind nginx, Caddy and HAProxy, over HTTP/2: nothing is lost when the proxy, or a server behind it, is restarted."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests import warm
from tests.chromium import launched
from tests.timing import LONG

from .conftest import _running
from .proxies import KINDS, NAME, Proxy, in_front
from .servers import AT_ONCE, EXIT_WITHIN, ROOT, Server, environment_of, poll

PATIENCE_MS = 90_000
NUMBERS = 60
"""Of which a stream has time for a few, one in 10 ms."""
SOURCES = ("EventSource", "EventStream")
TABS = 8
"""More than the six connections that a browser has with one host over HTTP/1.1."""
FIRST_MS = 200
TIMES = 30 if LONG else 3
CLIENT = "/static/django_agent_sse/client.js"
AGENT_SSE = {
    "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"},
    "RETRY": 400,
    "DRAIN_SECONDS": 1,
    "PROXIES": 1,
}
LISTEN = """async ([client, url]) => {
    const { EventStream } = await import(client);
    window.got = { EventSource: [], EventStream: [] };
    window.sources = [];
    for (const [name, Source] of Object.entries({ EventSource, EventStream })) {
        const source = new Source(url);
        sources.push(source);
        source.addEventListener("message", ({ data }) => got[name].push(data));
    }
}"""
PUBLISHER = """
import os, sys, time, django
django.setup()
from django_agent_sse import publish
topic, stop = sys.argv[1:]
number = 0
while not os.path.exists(stop):
    publish(topic, str(number))
    number += 1
    time.sleep(0.05)
publish(topic, f"last {number}")
"""
FIRST = """(url) => new Promise((resolve) => {
    const began = performance.now();
    const source = new EventSource(url);
    source.onmessage = () => { source.close(); resolve(performance.now() - began); };
})"""


@dataclass
class Site:
    """Two servers that share a database, a proxy in front of them, and a browser before it."""

    servers: list[Server]
    proxy: Proxy
    browser: Browser

    def steps(self, key: str) -> list[str]:
        """What handlers of either server have recorded."""
        return [step for server in self.servers for step in server.steps(key)]

    def serving(self) -> list[Server]:
        """Those that have streams."""
        return [server for server in self.servers if server.process.poll() is None and server.state()["open_streams"]]


@pytest.fixture(scope="module")
def servers(terminable: None, sqlite: tuple[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    database = shutil.copy(sqlite[0], tmp_path_factory.mktemp("shared") / "site.sqlite3")
    made: list[Server] = []
    try:
        for name in ("one", "two"):
            environment = environment_of({"agent_sse": AGENT_SSE, "middleware": "everything"}, str(database))
            made.append(Server("uvicorn", tmp_path_factory.mktemp(name), environment))
            _running.append(made[-1])
        yield made
    finally:
        for server in made:
            _running.remove(server)
            server.stop()


@pytest.fixture(scope="module", params=KINDS)
def site(request: pytest.FixtureRequest, servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        proxy = stack.enter_context(in_front(request.param, directory, [server.port for server in servers]))
        browser = stack.enter_context(launched(f"--host-resolver-rules=MAP {NAME}:443 127.0.0.1:{proxy.port}"))
        yield Site(servers, proxy, browser)


@pytest.fixture
def context(site: Site) -> Iterator[BrowserContext]:
    context = site.browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return blank(context)


def blank(context: BrowserContext) -> Page:
    page = context.new_page()
    page.goto(f"https://{NAME}/_page/")
    assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    return page


def listen(page: Page, url: str) -> None:
    """Follow it with the browser's own ``EventSource``, and with ours."""
    page.evaluate(LISTEN, [CLIENT, url])
    further(page)


def further(page: Page, more: int = 5) -> None:
    """Wait for so many further events of both."""
    counts = page.evaluate("Object.values(got).map((events) => events.length)")
    wanted = [count + more for count in counts]
    page.wait_for_function("(wanted) => Object.values(got).every((events, n) => events.length >= wanted[n])", arg=wanted)


def assert_nothing_is_lost(page: Page) -> None:
    """Each event once and in order, up to the last."""
    page.wait_for_function("Object.values(got).every((events) => events.at(-1)?.startsWith('last'))")
    for name, events in page.evaluate("got").items():
        count = int(events[-1].removeprefix("last "))
        assert events == [*map(str, range(count)), f"last {count}"], name


@contextmanager
def publishing(server: Server, topic: str) -> Iterator[Callable[[], None]]:
    """A process that publishes until it is told to say a last word."""
    stop = server.directory / topic
    command = [sys.executable, "-m", "tests.program", PUBLISHER, topic, str(stop)]
    with warm.Popen(command, cwd=ROOT, env=server.environment) as publisher:
        try:
            yield stop.touch
            assert publisher.wait(60) == 0
        finally:
            publisher.kill()


def test_the_first_event_is_there_before_the_second_is_written(site: Site, page: Page, key: str) -> None:
    page.evaluate(
        "(url) => { window.got = []; new EventSource(url).onmessage = ({ data }) => got.push(data) }",
        f"/life/stepwise/?key={key}",
    )
    for number in range(1, 5):
        page.wait_for_function("(number) => got.at(-1) === String(number)", arg=number)
        for server in site.servers:  # whichever has the stream
            server.open_gate(f"{key}-{number}")


def test_the_first_event_comes_early(site: Site, page: Page, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    took = [page.evaluate(FIRST, f"/life/idle/?key={key}") for _ in range(TIMES)]
    if LONG:
        with capsys.disabled():
            figures = f"{statistics.median(took):.1f} ms, worst of {TIMES} {max(took):.1f} ms"
            print(f"\n{site.proxy.kind}: first event after {figures}, load {os.getloadavg()[0]:.1f}")
        assert statistics.median(took) < FIRST_MS


def test_more_tabs_than_http_1_1_has_connections(site: Site, context: BrowserContext, key: str) -> None:
    pages = [blank(context) for _ in range(TABS)]
    for page in pages:
        page.evaluate(
            "(url) => new Promise((resolve) => { window.source = new EventSource(url); source.onmessage = resolve })",
            f"/life/idle/?key={key}",
        )
    assert sum(server.state()["open_streams"] for server in site.servers) >= TABS
    assert [page.evaluate("fetch('/_ping/').then((answer) => answer.status)") for page in pages] == [200] * TABS


def test_leaving_the_page_is_seen_behind_the_proxy(site: Site, page: Page, key: str) -> None:
    page.evaluate(FIRST.replace("source.close(); ", ""), f"/life/idle/?key={key}")
    (server,) = [server for server in site.servers if server.steps(key)]
    left = time.monotonic()
    page.goto("about:blank")
    end = server.recorded(key, "on_end")
    assert end["ending"] == "client_disconnect"
    assert end["at"] - left < AT_ONCE


def test_a_stream_without_control_events_goes_on_after_each_of_its_ends(site: Site, page: Page) -> None:
    """It is broken off when it has lasted long enough, which some proxies take for its end."""
    page.evaluate(LISTEN, [CLIENT, f"/client/short-and-broken/?to={NUMBERS}&event="])
    page.wait_for_function("(count) => Object.values(got).every((events) => events.length >= count)", arg=NUMBERS)
    numbers = [f'{{"number":{number + 1}}}' for number in range(NUMBERS)]
    assert page.evaluate("got") == dict.fromkeys(SOURCES, numbers)


def test_a_proxy_that_is_killed_and_starts_again_costs_nobody_an_event(site: Site, page: Page, key: str) -> None:
    with publishing(site.servers[0], key) as last_word:
        listen(page, f"/topics/follow/{key}/")
        site.proxy.kill()
        poll("the servers have lost them", lambda: not site.serving(), every=0.1)
        site.proxy.start()
        further(page)
        last_word()
        assert_nothing_is_lost(page)


def test_servers_are_restarted_one_after_the_other_and_nobody_misses_an_event(site: Site, page: Page, key: str) -> None:
    with publishing(site.servers[0], key) as last_word:
        listen(page, f"/topics/follow/{key}/")
        for server in site.servers:
            server.signal(signal.SIGTERM)
            server.wait(EXIT_WITHIN)
            others = [other for other in site.servers if other is not server]
            poll("the other one has them", lambda others=others: site.serving() == others, every=0.1)
            further(page)
            server.restart()
            poll(f"{site.proxy.kind} takes it for alive", lambda: _both_answer(page), every=0.2)
        last_word()
        assert_nothing_is_lost(page)


def _both_answer(page: Page) -> bool:
    """Whether each of the two has answered through the proxy."""
    pids = {page.evaluate("fetch('/_ping/', { cache: 'no-store' }).then((answer) => answer.json())")["pid"] for _ in range(8)}
    return len(pids) == 2
