"""All of Django's middleware that touches responses, WhiteNoise and a sync one, at once: events arrive one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .servers import AT_ONCE, Server

SITE = {"middleware": "everything"}
HEADERS = {
    "plain": {},
    "gzip": {"Accept-Encoding": "gzip, deflate, br"},
    "conditional": {"If-None-Match": '"x"', "Accept-Language": "de"},
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_events_arrive_one_by_one_through_all_middleware(server: Server, key: str, headers: dict[str, str]) -> None:
    with server.open("life/stepwise/", key=key, headers=headers) as client:
        status, answered = client.head()
        assert (status, answered["content-type"]) == (200, "text/event-stream")
        assert answered["content-encoding"] == "identity"
        assert answered["x-stamp"] == "stamped"
        for number in range(1, 5):
            assert client.next().data == str(number)
            assert client.events[-1] is client.events[number - 1]
            server.open_gate(f"{key}-{number}")
        client.rest()
        assert client.complete


def test_middleware_may_put_a_generator_around_the_content(start: Callable[..., Server], key: str) -> None:
    server = start("uvicorn", middleware="wrapping")
    with server.open("life/stepwise/", key=key) as client:
        for number in range(1, 4):
            assert client.next().data == str(number)
            server.open_gate(f"{key}-{number}")
        client.next()
    assert server.recorded(key, "on_end", within=AT_ONCE)["ending"] == "client_disconnect"
    assert server.steps(key) == ["started", "on_abort", "cancelled", "finally", "on_end"]


def test_a_slim_stream_lets_go_of_its_request_and_ends_like_any_other(server: Server, key: str) -> None:
    with server.open("life/slim/", key=key) as client:
        assert client.next().data == "hello"
        server.open_gate(key)
        assert client.next().data == "let go"
    assert server.recorded(key, "on_end", within=AT_ONCE)["ending"] == "client_disconnect"
    assert server.steps(key) == ["started", "on_abort", "cancelled", "finally", "on_end"]
    assert "Traceback" not in server.log()


def test_the_response_tells_caches_and_proxies_to_keep_away(server: Server, key: str) -> None:
    with server.open("life/idle/", key=key) as client:
        _, headers = client.head()
    assert headers["cache-control"] == "no-cache, no-store, no-transform"
    assert headers["x-accel-buffering"] == "no"
    assert headers["incremental"] == "?1"
    assert "content-length" not in headers
    assert "etag" not in headers
