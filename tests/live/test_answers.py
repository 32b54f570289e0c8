"""Requests that get another answer than a stream: refusals, methods, the end, errors, WSGI."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .servers import Server

SITE = {"middleware": "default"}


def test_a_guards_refusal_has_its_real_status(server: Server, key: str) -> None:
    answer = server.get("answers/guarded/", key=key, headers={"Accept": "text/event-stream"})
    assert answer.status == 401
    assert answer.json() == {"error": "API key required"}
    assert server.steps(key) == ["guard"]


def test_a_guard_lets_in_who_has_the_key(uvicorn: Server, key: str) -> None:
    with uvicorn.open("answers/guarded/", key=key, headers={"X-API-Key": "any"}) as client:
        assert client.next().data == "let in"


def test_options_tells_the_methods(server: Server) -> None:
    answer = server.get("life/idle/", method="OPTIONS")
    assert answer.status == 200
    assert {method.strip() for method in answer.headers["allow"].split(",")} == {"GET", "HEAD", "OPTIONS"}


def test_another_method_is_405(server: Server) -> None:
    answer = server.get("answers/posts/")
    assert answer.status == 405
    assert "POST" in answer.headers["allow"]


def test_a_post_stream_answers_its_body(server: Server) -> None:
    with server.open("answers/posts/", method="POST", body=b'{"a": 1}') as client:
        assert client.next().data == '{"a":1}'


def test_a_body_that_is_not_json_is_400(uvicorn: Server) -> None:
    with uvicorn.open("answers/posts/", method="POST", body=b"{") as client:
        answer = client.answer()
    assert answer.status == 400
    assert "error" in answer.json()


def test_an_error_before_the_first_write_is_an_ordinary_500(server: Server) -> None:
    answer = server.get("answers/fails-early/")
    assert answer.status == 500
    assert b"deliberate" not in answer.body
    assert server.get("_ping/").status == 200


def test_a_finished_stream_stays_finished(server: Server, key: str) -> None:
    with server.open("answers/ends/", key=key) as client:
        only, end = client.rest()
        assert (only.data, only.id) == ("only", "1")
        assert (end.name, end.data, end.id) == ("sse.end", '{"reason":"completed"}', "sse.end~1")
    answer = server.get("answers/ends/", key=key, headers={"Last-Event-ID": end.id, "Accept": "text/event-stream"})
    assert (answer.status, answer.body) == (204, b"")
    assert server.steps(key).count("started") == 1


def test_the_end_id_in_the_query_counts_too(uvicorn: Server, key: str) -> None:
    assert uvicorn.get("answers/ends/", key=key, last_event_id="sse.end~1").status == 204
    assert uvicorn.steps(key) == []


def test_guards_are_asked_before_a_finished_stream_says_204(uvicorn: Server, key: str) -> None:
    headers = {"Last-Event-ID": "sse.end~1"}
    assert uvicorn.get("answers/guarded/", key=key, headers=dict(headers)).status == 401
    assert uvicorn.get("answers/guarded/", key=key, headers={**headers, "X-API-Key": "any"}).status == 204
    assert uvicorn.steps(key) == ["guard", "guard"]


@pytest.mark.parametrize("accept", ["*/*", None], ids=["any", "no header"])
def test_control_events_are_absent_where_accept_does_not_name_the_type(uvicorn: Server, key: str, accept: str | None) -> None:
    with uvicorn.open("answers/ends/", key=key, headers={"Accept": accept}) as client:
        assert [event.name for event in client.rest()] == ["message"]
        assert b"sse." not in client.parser.raw
    with uvicorn.open("parity/fails/", key=key, headers={"Accept": accept}) as client:
        assert [event.name for event in client.rest()] == ["start"]
        assert not client.complete, "it is broken off"


def test_wsgi_gets_a_500_that_names_a_command_that_runs_asgi(start: Callable[..., Server]) -> None:
    server = start("runserver", middleware="default")
    answer = server.get("life/idle/", headers={"Accept": "text/event-stream"})
    assert answer.status == 500
    text = answer.body.decode()
    assert "ASGI" in text
    assert "uvicorn" in text or "daphne" in text
