"""The address that a client's limits are counted by: what a client writes is believed only where the project says so."""

from __future__ import annotations

from typing import Any

import pytest

from django_agent_sse.streams.addresses import UNREADABLE, client_address


def scope(peer: str | None, **headers: str) -> dict[str, Any]:
    """A request from ``peer``; ``x_real_ip=`` is the header ``X-Real-IP``."""
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"client": None if peer is None else (peer, 40_000), "headers": sent}


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("8.8.8.8", "8.8.8.8"),
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:8.8.8.8", "8.8.8.8"),
        ("2001:4860:4860:1:2:3:4:5", "2001:4860:4860:1::/64"),
        ("2001:4860:4860:1:ffff::1", "2001:4860:4860:1::/64"),
        ("64:ff9b::808:808", "8.8.8.8"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", None),
        ("/run/app.sock", None),
        (None, None),
    ],
)
def test_the_servers_word_is_taken(peer: str | None, counted: str | None) -> None:
    assert client_address(scope(peer), None) == counted
    assert client_address(scope(peer), 0) == counted


@pytest.mark.parametrize("proxies", [None, 0])
def test_a_header_that_nobody_asked_for_is_never_believed(proxies: int | None) -> None:
    said = scope("8.8.8.8", x_forwarded_for="1.1.1.1", x_real_ip="1.1.1.1", forwarded="for=1.1.1.1")
    assert client_address(said, proxies) == "8.8.8.8"


@pytest.mark.parametrize("header", ["x_forwarded_for", "x_forwarded_proto", "x_forwarded_host", "forwarded", "via", "x_real_ip"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "10.0.0.3", "172.18.0.1", "fe80::1"])
def test_a_machine_near_by_that_comes_as_a_proxy_does_is_not_taken_for_all_its_clients(peer: str, header: str) -> None:
    assert client_address(scope(peer, **{header: "1.1.1.1"}), None) is None
    assert client_address(scope(peer, **{header: "1.1.1.1"}), 0) is not None, "who says that there is no proxy is believed"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "counted"),
    [
        (1, "8.8.8.8", "8.8.8.8"),
        (1, "1.1.1.1, 8.8.8.8", "8.8.8.8"),
        (2, "1.1.1.1, 8.8.8.8, 10.0.0.2", "8.8.8.8"),
        (1, "1.1.1.1,  [2001:4860::1]:443 ", "2001:4860::/64"),
        (1, "8.8.8.8:5123", "8.8.8.8"),
        (3, "1.1.1.1, 8.8.8.8", "10.0.0.9"),
        (1, "nonsense", "10.0.0.9"),
        (1, "1.1.1.1,", "10.0.0.9"),
        (1, "", "10.0.0.9"),
        (1, "1.1.1.1, unix:", "10.0.0.9"),
        (1, "1.1.1.1, 8.8.8.8%\x00", "10.0.0.9"),
        (1, "9" * 100_000, "10.0.0.9"),
    ],
)
def test_as_many_entries_are_believed_as_there_are_proxies(proxies: int, forwarded: str, counted: str) -> None:
    assert client_address(scope("10.0.0.9", x_forwarded_for=forwarded), proxies) == counted


def test_the_header_that_the_projects_proxy_sets_is_believed_and_the_last_one_where_there_are_two() -> None:
    said = scope("10.0.0.9", x_real_ip="8.8.8.8", x_forwarded_for="1.1.1.1")
    said["headers"].insert(0, (b"X-Real-IP", b"9.9.9.9"))
    assert client_address(said, "X-Real-IP") == "8.8.8.8"
    assert client_address(scope("10.0.0.9"), "X-Real-IP") == "10.0.0.9"


def test_several_lines_of_the_header_are_one_and_the_proxys_entry_is_the_last() -> None:
    said = {"client": ("10.0.0.9", 1), "headers": [(b"x-forwarded-for", b"1.1.1.1"), (b"X-Forwarded-For", b"2.2.2.2, 8.8.8.8")]}
    assert client_address(said, 1) == "8.8.8.8"
    assert client_address(said, 2) == "2.2.2.2"


def test_behind_a_unix_socket_the_header_is_all_there_is() -> None:
    assert client_address(scope(None, x_forwarded_for="1.1.1.1, 8.8.8.8"), 1) == "8.8.8.8"
    assert client_address(scope("", x_real_ip="8.8.8.8"), "X-Real-IP") == "8.8.8.8"
    assert client_address(scope(None, x_forwarded_for="8.8.8.8"), None) is None, "nobody has said that a proxy writes it"


@pytest.mark.parametrize("said", ["nonsense", "another", "8.8.8.8.8", "1.1.1.1%\x00", "9" * 100_000, "[", "<script>"])
@pytest.mark.parametrize("proxies", [None, 0, 1, "X-Real-IP"])
def test_what_a_server_has_read_from_a_header_and_is_no_address_is_counted_together(said: str, proxies: int | str | None) -> None:
    """uvicorn, where it trusts the peer: the peer's address is gone by then."""
    assert client_address(scope(said, x_forwarded_for=said), proxies) == UNREADABLE


@pytest.mark.parametrize("peer", ["testclient", "/run/app.sock", "unix:", "unix:/run/app.sock", "", None])
def test_a_client_without_an_address_is_nobody(peer: str | None) -> None:
    headers = {} if peer == "testclient" else {"x_forwarded_for": "unix:"}
    assert client_address(scope(peer, **headers), None) is None
