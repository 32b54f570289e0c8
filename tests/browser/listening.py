"""Listening in a page: what tests do with the client there."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

CLIENT = "/static/django_agent_sse/client.js"

LISTEN = """async ([client, url, options, name]) => {
    const { EventStream } = await import(client);
    const log = (window[name] = { events: [], states: [], errors: [] });
    const stream = (log.stream = new EventStream(url, options));
    stream.addEventListener("*", ({ type, data, lastEventId }) => log.events.push([type, data, lastEventId]));
    stream.addEventListener("statechange", ({ state, reason }) => log.states.push(`${state}: ${reason}`));
    stream.addEventListener("error", ({ error }) => log.errors.push(error && [error.reason, error.status]));
}"""


def listen(page: Page, url: str, options: dict[str, Any] | None = None, *, name: str = "log") -> None:
    """Open a stream in a page and keep what it says in ``window.log``."""
    page.evaluate(LISTEN, [CLIENT, url, options or {}, name])


def until(page: Page, condition: str, *, name: str = "log") -> None:
    """Wait until an expression over ``log`` and ``stream`` holds."""
    test = f"(name) => {{ const log = window[name]; const stream = log.stream; return {condition}; }}"
    try:
        page.wait_for_function(test, arg=name, polling=50)
    except Exception as error:
        told = page.evaluate("(name) => [window[name].states.slice(-9), window[name].events.slice(-3)]", name)
        raise AssertionError(f"{condition}: not so, last seen {told}") from error


def state(page: Page, wanted: str, *, name: str = "log") -> list[Any]:
    """Wait for a state; return the reason and the status."""
    until(page, f"stream.state === '{wanted}'", name=name)
    return list(page.evaluate("(name) => [window[name].stream.reason, window[name].stream.status]", name))


def events(page: Page, *, name: str = "log") -> list[list[str]]:
    """Every event so far: type, data, last id."""
    return list(page.evaluate("(name) => window[name].events", name))
