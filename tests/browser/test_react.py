"""``useEventStream`` with the real React, in StrictMode, in Chromium."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.live.servers import Server
from tests.npm import Node

SITE = {"middleware": "everything"}

RENDER = """async ([url, options, strict]) => {
    const { React, createRoot } = await import("/bundle/react.js");
    const { EventStream } = await import("/static/django_agent_sse/client.js");
    const { createUseEventStream } = await import("/static/django_agent_sse/react.js");
    const useEventStream = createUseEventStream(React, { EventStream });
    window.renders = [];
    window.heard = [];
    const root = createRoot(document.body.appendChild(document.createElement("div")));
    const Shown = (props) => {
        const all = {...props.options};
        if (all.collect) all.reduce = (before = [], value) => [...before, value];
        if (all.listen) all.onEvent = (value, event) => heard.push([value, event.type]);
        if (all.token) all.headers = async () => ({ "X-Token": props.options.token });
        if (all.through) {
            all.fetch = (address, init) => {
                init.headers.set("X-Token", props.options.through);
                return fetch(address, init);
            };
        }
        for (const own of ["collect", "listen", "through", "token"]) delete all[own];
        const result = useEventStream(props.url, all);
        React.useEffect(() => { window.now = result; });
        renders.push(result);
        return React.createElement("p", null, `${result.state} ${JSON.stringify(result.data) ?? "nothing"}`);
    };
    window.show = (url, options) => {
        const shown = React.createElement(Shown, { url, options });
        root.render(strict ? React.createElement(React.StrictMode, null, shown) : shown);
    };
    window.leave = () => root.render(null);
    show(url, options);
}"""


@pytest.fixture(scope="session")
def bundle(node: Node) -> str:
    """React and what renders it, as one ES module of the development build."""
    return node.bundle("react.mjs", "--format=esm", '--define:process.env.NODE_ENV="development"')


@pytest.fixture
def app(page: Page, bundle: str) -> Page:
    """A page that can import React."""
    page.route("**/bundle/react.js", lambda route: route.fulfill(body=bundle, content_type="text/javascript"))
    return page


def render(page: Page, url: str | None, options: dict[str, Any] | None = None, *, strict: bool = True) -> None:
    page.evaluate(RENDER, [url, options or {}, strict])


def now(page: Page, *names: str) -> list[Any]:
    return list(page.evaluate("(names) => names.map((name) => now[name])", list(names)))


def test_the_shape_before_and_after(app: Page) -> None:
    render(app, "/client/numbers/?to=3", {"reconnect": {"jitter": 0}})
    app.wait_for_selector("text=ended")
    first = app.evaluate("(({ close, reset, reopen, ...rest }) => rest)(renders[0])")
    assert first == {
        "isConnected": False,
        "error": None,
        "isError": False,
        "readyState": 2,
        "event": None,
        "lastEventId": "",
        "state": "idle",
        "reason": "new",
        "attempt": 0,
        "delay": None,
    } | ({"data": None} if "data" in first else {})
    names = ("isConnected", "data", "error", "isError", "readyState", "state", "reason", "lastEventId")
    assert now(app, *names) == [False, {"number": 3}, None, False, 2, "ended", "completed", "3"]
    assert app.evaluate("now.event.type") == "number"


def test_strict_mode_makes_one_connection(app: Page, uvicorn: Server, key: str) -> None:
    render(app, f"/life/idle/?key={key}")
    app.wait_for_selector('text=open "hello"')
    assert now(app, "isConnected", "readyState", "data") == [True, 1, "hello"]
    assert uvicorn.settled_steps(key) == ["started"]
    app.evaluate("leave()")
    assert uvicorn.recorded(key, "on_end")["ending"] == "client_disconnect"


def test_every_event_is_heard_and_collected_though_few_are_rendered(app: Page, uvicorn: Server) -> None:
    """They come in one piece, however busy the server is: it does not wait between them."""
    render(app, "/parity/burst/", {"collect": True, "listen": True, "events": ["message"]})
    app.wait_for_selector("text=ended")
    app.wait_for_function("now.data.length === 200")
    assert app.evaluate("now.data.map(Number)") == [*range(200)]
    assert app.evaluate("heard.map(([value]) => Number(value))") == [*range(200)]
    assert app.evaluate("renders.length") < 200


def test_without_the_last_event_nothing_is_rendered_for_one(app: Page) -> None:
    render(app, "/parity/count/?count=50&delay=0.005", {"lastEvent": False, "listen": True}, strict=False)
    app.wait_for_selector("text=ended nothing")
    assert app.evaluate("heard.length") == 50
    assert app.evaluate("renders.map(({ state }) => state)") == ["idle", "connecting", "open", "ended"]


def test_a_refusal_is_an_error_until_reset(app: Page) -> None:
    render(app, "/client/forbidden/")
    app.wait_for_selector("text=error nothing")
    assert now(app, "isError", "readyState", "reason") == [True, 2, "forbidden"]
    assert app.evaluate("[now.error.reason, now.error.status]") == ["forbidden", 403]
    app.evaluate("now.reset()")
    app.wait_for_function("!now.isError && now.error === null && now.state === 'error'")


NATIVE = """async (url) => {
    window.takers = [1, 2, 3].map(() => new AbortController());
    await Promise.all(takers.map(({ signal }) => fetch(url, { signal })));
    window.native = [];
    const source = new EventSource(url);
    source.onopen = () => native.push("open");
    source.addEventListener("sse.overloaded", () => native.push("overloaded"));
    source.onerror = () => native.push(source.readyState === EventSource.CLOSED ? "closed" : "waits");
}"""


def test_whom_a_limit_refuses_sees_why_and_for_how_long_and_comes_back(app: Page, start: Callable[..., Server], key: str) -> None:
    """The hook, and a browser's own ``EventSource``, which gives up for ever where it cannot read the refusal."""
    server, url = start("uvicorn", agent_sse={"LIMITS": {"ROUTE": 3}}), f"/life/idle/?key={key}"
    app.goto(f"{server.url}/_page/")
    app.evaluate(NATIVE, url)
    render(app, url)
    app.wait_for_function("native.includes('waits') && renders.some(({ isError }) => isError)")
    assert app.evaluate("native.slice(0, 3)") == ["open", "overloaded", "waits"]
    *shown, delay = app.evaluate(
        """(({ state, reason, isConnected, data, delay }) => [state, reason, isConnected, data, delay])(
            renders.find(({ isError }) => isError))"""
    )
    assert shown == ["reconnecting", "overloaded", False, None]
    assert 5_000 <= delay <= 15_500
    app.evaluate("for (const taker of takers) taker.abort()")
    server.recorded(key, "started", count=5)
    app.wait_for_function("now.state === 'open' && !now.isError")
    assert "closed" not in app.evaluate("native")
    app.goto("about:blank")


def test_query_subpath_and_headers_reach_the_server(app: Page) -> None:
    render(app, "/client/", {"subpath": "/headers/", "query": {"a": "1"}, "token": "mine"})
    app.wait_for_selector("text=ended")
    assert now(app, "data")[0]["token"] == "mine"


def test_another_url_is_another_stream_and_the_same_options_are_the_same(app: Page, uvicorn: Server, key: str) -> None:
    render(app, f"/life/idle/?key={key}-1", {"query": {"x": 1}, "token": "one"})
    app.wait_for_selector("text=open")
    app.evaluate("(url) => show(url, { query: { x: 1 }, token: 'two' })", f"/life/idle/?key={key}-1")
    app.evaluate("(url) => show(url, { query: { x: 1 }, token: 'two', listen: true })", f"/life/idle/?key={key}-1")
    assert uvicorn.settled_steps(f"{key}-1") == ["started"]
    app.evaluate("(url) => show(url, {})", f"/life/idle/?key={key}-2")
    uvicorn.recorded(f"{key}-2", "started")
    assert uvicorn.recorded(f"{key}-1", "on_end")["ending"] == "client_disconnect"
    app.evaluate("show(null, {})")
    assert uvicorn.recorded(f"{key}-2", "on_end")["ending"] == "client_disconnect"
    app.wait_for_selector("text=idle")


def test_another_url_begins_with_its_own_data(app: Page) -> None:
    render(app, "/client/numbers/?to=1", {"initialData": ["one"], "enabled": False})
    app.wait_for_selector('text=idle ["one"]')
    app.evaluate("renders.length = 0")
    app.evaluate("show('/client/numbers/?to=2', { initialData: ['two'], lastEventId: 'a.2', enabled: false })")
    app.wait_for_selector('text=idle ["two"]')
    assert app.evaluate("renders.every(({ data, lastEventId }) => data[0] === 'two' && lastEventId === 'a.2')")


def test_the_latest_fetch_is_used(app: Page) -> None:
    render(app, "/client/headers/", {"through": "one"})
    app.wait_for_selector("text=ended")
    assert now(app, "data")[0]["token"] == "one"
    app.evaluate("show('/client/headers/', { through: 'two' })")
    app.evaluate("now.reopen()")
    app.wait_for_function("now.data.token === 'two' && now.state === 'ended'")


def test_a_tab_without_frames_renders_what_comes(app: Page) -> None:
    app.evaluate("window.requestAnimationFrame = () => 1")  # as in a tab that is hidden
    render(app, "/client/numbers/?to=100000", {"collect": True})
    app.wait_for_function("now.data?.length > 0", polling=100)
    app.wait_for_function("(count) => now.data.length > count", arg=app.evaluate("now.data.length"), polling=100)


def test_what_nobody_uses_any_more_is_not_opened_again(app: Page, uvicorn: Server, key: str) -> None:
    render(app, f"/life/idle/?key={key}")
    app.wait_for_selector("text=open")
    app.evaluate("leave()")
    uvicorn.recorded(key, "on_end")
    app.evaluate("now.reopen()")
    app.wait_for_timeout(500)
    assert uvicorn.settled_steps(key).count("started") == 1


def test_another_signature_of_the_same_address_is_the_same_stream_where_it_is_renewed(
    app: Page, uvicorn: Server, key: str
) -> None:
    url = f"/life/idle/?key={key}&sse_signature="
    render(app, f"{url}1", {"renew": "/origins/address/"})
    app.wait_for_selector("text=open")
    app.evaluate("(url) => show(url, { renew: '/origins/address/', listen: true })", f"{url}2")
    app.wait_for_function("renders.length > 2 && now.state === 'open'")
    assert uvicorn.settled_steps(key) == ["started"]
    app.evaluate("(url) => show(url, {})", f"{url}3")
    uvicorn.recorded(key, "started", count=2)


def test_disabled_it_waits_and_enabled_again_it_goes_on(app: Page, uvicorn: Server, key: str) -> None:
    url = f"/client/numbers/?to=100000&key={key}"
    render(app, url, {"collect": True, "enabled": False})
    app.wait_for_selector("text=idle")
    assert uvicorn.steps(key) == []
    app.evaluate("(url) => show(url, { collect: true })", url)
    app.wait_for_function("now.data?.length > 5")
    app.evaluate("(url) => show(url, { collect: true, enabled: false })", url)
    app.wait_for_function("now.state === 'idle' && now.isConnected === false")
    assert uvicorn.recorded(key, "on_end")["ending"] == "client_disconnect"
    count = app.evaluate("now.data.length")
    app.evaluate("(url) => show(url, { collect: true })", url)
    app.wait_for_function("(count) => now.data.length > count + 5", arg=count)
    numbers = app.evaluate("now.data.map(({ number }) => number)")
    assert numbers == [*range(1, len(numbers) + 1)]


def test_close_and_reopen(app: Page, uvicorn: Server, key: str) -> None:
    render(app, f"/life/idle/?key={key}")
    app.wait_for_selector("text=open")
    app.evaluate("now.close()")
    app.wait_for_function("now.state === 'idle' && now.reason === 'closed' && now.readyState === 2")
    app.evaluate("now.reopen()")
    app.wait_for_selector("text=open")
    uvicorn.recorded(key, "started", count=2)
