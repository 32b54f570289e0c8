"""Parity rows A01–A15: a stream's start, end and errors."""

from __future__ import annotations

from collections.abc import Callable

from .servers import Server

SITE = {"middleware": "whitenoise"}


def test_a01_async_work_that_consumes_another_stream_arrives_with_the_exact_content_type(server: Server) -> None:
    with server.open("parity/async-work/") as client:
        status, headers = client.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert [event.data for event in client.own_events()] == ["async work done"]


def test_a04_the_first_event_arrives_before_the_handler_finishes(server: Server, key: str) -> None:
    with server.open("parity/order/", key=key) as client:
        assert client.next().data == "first"
        server.recorded(key, "write")  # noted when the write has returned: its event may be here before
        assert server.steps(key) == ["start", "work", "write"]
        server.open_gate(key)
        assert client.next().data == "last"
        client.rest()
        assert client.complete
    assert server.steps(key) == ["start", "work", "write", "close"]


def test_a05_an_error_after_the_first_write_keeps_the_event_and_the_server(server: Server, key: str) -> None:
    with server.open("parity/fails/", key=key) as client:
        assert client.head()[0] == 200
        started, error = client.rest()
        assert (started.name, started.data) == ("start", "started")
        assert error.name == "sse.error"
        assert client.complete
        assert b"secret" not in client.parser.raw
    assert server.recorded(key, "on_end")["ending"] == "handler_error"
    assert "a secret of the server" in server.log()
    assert server.get("_ping/").status == 200


def test_a05_a_reconnect_after_an_error_is_delayed_by_a_retry(uvicorn: Server, key: str) -> None:
    with uvicorn.open("parity/fails/", key=key) as client:
        client.rest()
        assert b"event: sse.error\n" in client.parser.raw
        last = client.parser.raw.split(b"event: sse.error\n")[1]
        assert b"retry: " in last


def test_a05_with_debug_the_client_is_told_the_error(start: Callable[..., Server], key: str) -> None:
    with start("uvicorn", debug=1).open("parity/fails/", key=key) as client:
        assert "a secret of the server" in client.rest()[-1].data


def test_a06_returning_ends_the_stream_without_close(server: Server, key: str) -> None:
    with server.open("parity/returns/", key=key) as client:
        assert [event.data for event in client.own_events()] == ["only"]
        assert client.complete
    assert server.recorded(key, "on_end")["ending"] == "completed"


def test_a07_code_after_close_still_runs(server: Server, key: str) -> None:
    with server.open("parity/closes/", key=key) as client:
        assert [event.data for event in client.own_events()] == ["only"]
    server.recorded(key, "on_end")
    steps = server.steps(key)
    assert [step for step in steps if "-" in step] == ["before-write", "after-write", "after-close"]
    assert "cancelled" not in steps


def test_a07_a_handler_that_waits_for_ever_after_close_is_cancelled(uvicorn: Server, key: str) -> None:
    with uvicorn.open("parity/closes-and-stays/", key=key) as client:
        client.own_events()
        assert client.complete
    uvicorn.recorded(key, "on_end")
    steps = uvicorn.steps(key)
    assert steps[-3:] == ["cancelled", "finally", "on_end"]
    assert "on_abort" not in steps


def test_a08_five_messages_arrive_in_order_and_exactly_five(uvicorn: Server) -> None:
    with uvicorn.open("parity/count/", count=5) as client:
        assert [event.data for event in client.own_events()] == [f'{{"n":{number}}}' for number in range(1, 6)]


def test_a09_on_end_runs_on_a_normal_end(uvicorn: Server, key: str) -> None:
    with uvicorn.open("parity/returns/", key=key) as client:
        client.rest()
    end = uvicorn.recorded(key, "on_end")
    assert (end["ending"], end["error"]) == ("completed", "None")


def test_a10_on_end_carries_the_handlers_error(uvicorn: Server, key: str) -> None:
    with uvicorn.open("parity/fails/", key=key) as client:
        client.rest()
    assert uvicorn.recorded(key, "on_end")["error"] == "ValueError('a secret of the server')"


def test_a11_on_end_runs_once_however_often_close_is_called(uvicorn: Server, key: str) -> None:
    with uvicorn.open("parity/closes/", key=key, times=3) as client:
        client.rest()
    uvicorn.recorded(key, "on_end")
    assert uvicorn.steps(key).count("on_end") == 1


def test_a12_on_end_comes_after_the_handlers_last_line(uvicorn: Server, key: str) -> None:
    with uvicorn.open("parity/returns/", key=key) as client:
        client.rest()
    uvicorn.recorded(key, "on_end")
    assert uvicorn.steps(key) == ["started", "finally", "on_end"]


def test_a13_a_close_and_a_return_are_one_end(uvicorn: Server, key: str) -> None:
    with uvicorn.open("parity/closes/", key=key) as client:
        events = client.rest()
    assert [event.name for event in events] == ["message", "sse.end"]
    uvicorn.recorded(key, "on_end")
    assert uvicorn.steps(key)[-2:] == ["finally", "on_end"]


def test_a14_what_is_deferred_to_the_end_runs_after_the_finally_blocks(uvicorn: Server, key: str) -> None:
    with uvicorn.open("parity/deferred/", key=key) as client:
        client.rest()
    uvicorn.recorded(key, "on_end")
    assert uvicorn.steps(key) == ["started", "finally", "saved", "on_end"]


def test_a15_what_is_deferred_to_the_end_also_runs_after_an_error(uvicorn: Server, key: str) -> None:
    with uvicorn.open("parity/deferred/", key=key, **{"raise": "1"}) as client:
        client.rest()
    assert uvicorn.recorded(key, "saved")["error"] == "RuntimeError('deliberate')"
    uvicorn.recorded(key, "on_end")
    assert uvicorn.steps(key) == ["started", "finally", "saved", "on_end"]
