"""The client in Chromium against a real server: coming back, refusals, watchdog, POST, abort, back-pressure."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.live.servers import Server, poll
from tests.testproject.cutter import Cutter

from .listening import CLIENT, events, listen, state, until

SITE = {"middleware": "everything"}
END = ["sse.end", '{"reason":"completed"}']


def numbers(page: Page) -> list[int]:
    return [json.loads(data)["number"] for type, data, _ in events(page) if type == "number"]


def test_named_events_ids_and_the_end(page: Page) -> None:
    listen(page, "/client/numbers/?to=3")
    assert state(page, "ended") == ["completed", None]
    assert events(page) == [*(["number", f'{{"number":{n}}}', str(n)] for n in (1, 2, 3)), [*END, "sse.end~3"]]
    assert page.evaluate("log.states") == ["open: connected", "ended: completed"]
    assert page.evaluate("log.errors") == []


def test_a_connection_that_is_cut_loses_and_doubles_nothing(page: Page, uvicorn: Server) -> None:
    path = "/client/numbers/?to=30"
    with Cutter(uvicorn.port, b"id: 7\n", path) as cutter:
        page.goto(f"{cutter.url}/_page/")
        listen(page, path)
        assert state(page, "ended")[0] == "completed"
        assert numbers(page) == [*range(1, 31)]
        first, second = [head.lower() for head in cutter.requests if path in head]
        assert "last-event-id" not in first
        # What came in one piece with the cut a browser may not have seen, and that may be all of it.
        assert [int(id) <= 6 for id in re.findall(r"last-event-id: (\d+)\r\n", second) or ["0"]] == [True]
        page.goto("about:blank")


def test_a_server_that_is_killed_and_started_again_loses_and_doubles_nothing(page: Page, start: Any) -> None:
    server: Server = start("uvicorn", **SITE)
    page.goto(f"{server.url}/_page/")
    listen(page, "/client/numbers/?to=700")
    until(page, "log.events.length > 20")
    server.restart()
    assert state(page, "ended")[0] == "completed"
    assert numbers(page) == [*range(1, 701)]
    assert page.evaluate("log.errors.length") >= 1


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/answers/guarded/", ["error", "unauthorized", 401]),
        ("/client/forbidden/", ["error", "forbidden", 403]),
        ("/nothing/here/", ["error", "not_found", 404]),
        ("/_page/", ["error", "content_type", 200]),
        ("/answers/gone/", ["ended", "no_content", 204]),
    ],
)
def test_a_refusal_is_final_and_says_why(page: Page, path: str, told: list[Any]) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    listen(page, path, {"reconnect": {"baseDelay": 1, "jitter": 0}})
    assert [told[0], *state(page, told[0])] == told
    page.wait_for_timeout(300)
    assert len([url for url in asked if url.endswith(path)]) == 1
    assert page.evaluate("log.errors") == ([told[1:]] if told[0] == "error" else [])


def test_headers_from_a_function_and_cookies_are_sent(page: Page, uvicorn: Server) -> None:
    page.context.add_cookies([{"name": "taste", "value": "x", "url": uvicorn.url}])
    got = page.evaluate(
        """async (client) => {
            const { EventStream } = await import(client);
            const stream = new EventStream("/client/headers/", { headers: async () => ({ "X-Token": "t" }) });
            for await (const event of stream) return JSON.parse(event.data);
        }""",
        CLIENT,
    )
    assert got == {"accept": "text/event-stream", "token": "t", "cookies": True}


def test_the_watchdog_comes_back_after_silence(page: Page, uvicorn: Server, key: str) -> None:
    listen(page, f"/life/idle/?key={key}", {"watchdog": 500, "reconnect": {"baseDelay": 10}})
    uvicorn.recorded(key, "started", count=2, within=30)
    until(page, "log.states.includes('reconnecting: silence')")
    assert uvicorn.recorded(key, "on_end")["ending"] == "client_disconnect"


def test_heartbeats_keep_the_watchdog_quiet(page: Page, uvicorn: Server, key: str) -> None:
    listen(page, f"/life/beats/?key={key}", {"watchdog": 10_000})
    state(page, "open")
    page.wait_for_timeout(2500)
    assert page.evaluate("log.states") == ["open: connected"]


def test_a_post_stream_ends_with_its_response(page: Page) -> None:
    listen(page, "/answers/posts/", {"method": "POST", "body": {"prompt": "hé"}})
    assert state(page, "ended") == ["finished", None]
    assert events(page) == [["message", '{"prompt":"hé"}', ""]]


def test_an_aborted_signal_disconnects(page: Page, uvicorn: Server, key: str) -> None:
    page.evaluate(
        """async ([client, url]) => {
            const { EventStream } = await import(client);
            window.abort = new AbortController();
            window.stream = new EventStream(url, { signal: abort.signal });
        }""",
        [CLIENT, f"/life/idle/?key={key}"],
    )
    uvicorn.recorded(key, "started")
    page.wait_for_function("stream.state === 'open'")
    page.evaluate("abort.abort()")
    assert page.evaluate("[stream.state, stream.reason]") == ["idle", "aborted"]
    assert uvicorn.recorded(key, "on_end")["ending"] == "client_disconnect"


def test_leaving_the_page_is_a_disconnect_and_coming_back_goes_on(page: Page, uvicorn: Server, key: str) -> None:
    listen(page, f"/life/idle/?key={key}")
    state(page, "open")
    page.goto("about:blank")
    assert uvicorn.recorded(key, "on_end")["ending"] == "client_disconnect"


def test_a_page_that_is_put_to_sleep_lets_go_and_goes_on_when_it_wakes(page: Page, uvicorn: Server, key: str) -> None:
    listen(page, f"/life/idle/?key={key}")
    state(page, "open")
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    assert uvicorn.recorded(key, "on_end")["ending"] == "client_disconnect"
    assert page.evaluate("[stream = log.stream, stream.state, stream.reason].slice(1)") == ["reconnecting", "suspended"]
    page.evaluate("window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    uvicorn.recorded(key, "started", count=2)
    state(page, "open")


def test_a_network_that_is_back_ends_the_wait(page: Page) -> None:
    listen(page, "/client/numbers/?to=5", {"reconnect": {"baseDelay": 3_600_000, "jitter": 0}})
    page.context.set_offline(True)
    page.wait_for_function("fetch('/_page/').then(() => false, () => true)")  # it is not at once
    listen(page, "/client/numbers/?to=5", {"reconnect": {"baseDelay": 3_600_000, "jitter": 0}}, name="off")
    until(page, "stream.delay === 3600000", name="off")
    page.context.set_offline(False)
    page.wait_for_function("fetch('/_page/').then(() => true, () => false)")
    page.evaluate("window.dispatchEvent(new Event('online'))")  # the browser's own may have come before the network
    assert state(page, "ended", name="off")[0] == "completed"


def test_a_slow_for_await_makes_the_server_wait(page: Page, uvicorn: Server, key: str) -> None:
    megabytes = 24
    page.evaluate(
        """async ([client, url]) => {
            const { EventStream } = await import(client);
            const stream = new EventStream(url, { autoConnect: false, buffer: 16 });
            window.got = 0;
            window.inOrder = true;
            const gate = new Promise((resolve) => (window.go = resolve));
            window.done = (async () => {
                for await (const { type, data } of stream) {
                    if (type !== "message") continue;
                    inOrder &&= Number(data.slice(0, 8)) === got;
                    got += 1;
                    if (got === 5) await gate;
                }
                return "done";
            })();
        }""",
        [CLIENT, f"/life/flood/?megabytes={megabytes}&key={key}"],
    )
    page.wait_for_function("got === 5")
    uvicorn.recorded(key, "progress")
    steps = uvicorn.settled_steps(key, quiet=1)
    assert "finished" not in steps, "the server waits for the page"
    page.evaluate("go()")
    assert page.evaluate("done") == "done"
    assert page.evaluate("[got, inOrder]") == [megabytes * 1024, True]
    poll("the handler finishes", lambda: "finished" in uvicorn.steps(key))
