"""Parity rows A22–A40: what is written, and what arrives."""

from __future__ import annotations

import json
import time

import pytest

from .client import Client
from .parser import Received
from .servers import AT_ONCE, Server

SITE = {"middleware": "whitenoise"}
"""Seconds on a busy machine; a heartbeat, which would find it too, comes after fifteen."""


@pytest.fixture(scope="module")
def values(uvicorn: Server) -> list[Received]:
    with uvicorn.open("parity/values/") as client:
        return client.own_events()


def test_a22_a_str_is_written_as_it_is(values: list[Received]) -> None:
    assert values[0].data == "hello"


def test_a23_an_int_is_json(values: list[Received]) -> None:
    assert values[1].data == "42"


def test_a24_true_and_none_are_json(values: list[Received]) -> None:
    assert [event.data for event in values[2:4]] == ["true", "null"]


def test_a24_a_dict_and_a_list_are_json_and_bytes_are_text(values: list[Received]) -> None:
    assert [event.data for event in values[4:7]] == ['{"a":[1,"ü"]}', '["x",2.5]', "bytes"]


def test_a25_an_event_is_written_with_its_name_and_id(values: list[Received]) -> None:
    assert [(event.name, event.data, event.id) for event in values[7:]] == [
        ("typed", "from an Event", "e1"),
        ("label", "named", "e2"),
    ]


def test_a26_write_sse_puts_all_lines_in_their_order(uvicorn: Server) -> None:
    with uvicorn.open("parity/lines/", headers={"Accept": "*/*"}) as client:
        client.rest()
        assert client.parser.raw.lstrip(b":\n") == b"event: update\nretry: 5000\ndata: one\ndata: two\nid: 7\n\n"


def test_a27_a_value_that_middleware_set_is_visible(uvicorn: Server) -> None:
    with uvicorn.open("parity/variables/") as client:
        assert client.next().data == "stamped"


def test_a29_a_basic_connection_gets_three_messages_and_the_end(server: Server) -> None:
    with server.open("parity/count/", count=3) as client:
        assert len(client.own_events()) == 3
        assert client.complete


def test_a30_several_messages_are_received_together(uvicorn: Server) -> None:
    with uvicorn.open("parity/count/", count=4) as client:
        assert [json.loads(event.data)["n"] for event in client.take(4)] == [1, 2, 3, 4]


def test_a31_named_events_arrive_once_each_with_json_data(uvicorn: Server) -> None:
    with uvicorn.open("parity/named/") as client:
        assert [(event.name, json.loads(event.data)) for event in client.own_events()] == [
            ("start", {"step": 0}),
            ("update", {"step": 1}),
            ("complete", {"step": 2}),
        ]


def test_a32_a_specific_event_can_be_told_from_the_others(uvicorn: Server) -> None:
    with uvicorn.open("parity/named/") as client:
        assert [json.loads(event.data)["step"] for event in client.own_events() if event.name == "update"] == [1]


def test_a33_query_parameters_reach_the_handler(uvicorn: Server) -> None:
    asked = time.monotonic()
    with uvicorn.open("parity/count/", count=2, delay=0.05) as client:
        _, second = client.own_events()
        assert second.at - asked > 0.03


def test_a34_json_data_comes_back_as_it_was(uvicorn: Server) -> None:
    with uvicorn.open("parity/count/", count=1) as client:
        assert json.loads(client.next().data) == {"n": 1}


def test_a35_a_long_stream_delivers_over_its_whole_time(server: Server) -> None:
    asked = time.monotonic()
    with server.open("parity/count/", count=4, delay=0.2) as client:
        events = client.own_events()
        assert len(events) == 4
        assert events[-1].at - asked > 0.5


def test_a36_a_stream_survives_300_ms_of_silence(uvicorn: Server) -> None:
    asked = time.monotonic()
    with uvicorn.open("parity/count/", count=2, delay=0.35) as client:
        _, second = client.own_events()
        assert second.at - asked > 0.3


def test_a37_ten_events_keep_their_order(server: Server) -> None:
    with server.open("parity/count/", count=10) as client:
        assert [json.loads(event.data)["n"] for event in client.own_events()] == list(range(1, 11))


def test_a38_no_event_is_left_behind_at_the_end(server: Server) -> None:
    with server.open("parity/burst/") as client:
        assert [event.data for event in client.own_events()] == [str(number) for number in range(200)]


def test_a39_a_client_that_leaves_ends_the_handler(server: Server, key: str) -> None:
    with server.open("life/idle/", key=key) as client:
        client.next()
        left = time.monotonic()
    over = server.recorded(key, "finally")
    assert over["at"] - left < AT_ONCE
    assert server.steps(key)[:3] == ["started", "on_abort", "cancelled"]


def test_a40_three_connections_one_after_another_each_start_at_the_first_message(uvicorn: Server) -> None:
    def messages(client: Client) -> list[int]:
        with client:
            return [json.loads(event.data)["n"] for event in client.own_events()]

    assert [messages(uvicorn.open("parity/count/", count=3)) for _ in range(3)] == [[1, 2, 3]] * 3
