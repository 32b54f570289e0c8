"""``LastEventId`` reads a client's position strictly, and never raises."""

from __future__ import annotations

import pytest
from django.http import HttpRequest
from django.test import AsyncRequestFactory, RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from django_agent_sse.streams.last_event_id import END_PREFIX, MAX_BYTES, LastEventId, end_id

MALFORMED = LastEventId(malformed=True)


def request_with(header: bytes | None = None, query: str = "") -> HttpRequest:
    """A request as a server makes it: header bytes arrive read as latin-1."""
    request = AsyncRequestFactory().get("/", QUERY_STRING=query)
    if header is not None:
        request.META["HTTP_LAST_EVENT_ID"] = header.decode("latin-1")
    return request


def test_the_header_is_the_id() -> None:
    assert LastEventId.of(request_with(b"e1.17")) == LastEventId(value="e1.17")


def test_the_query_parameter_is_read_where_there_is_no_header() -> None:
    assert LastEventId.of(request_with(query="last_event_id=e1.17")).value == "e1.17"


def test_the_header_goes_before_the_query_parameter() -> None:
    assert LastEventId.of(request_with(b"new", "last_event_id=old")).value == "new"


def test_an_empty_header_is_as_good_as_none() -> None:
    assert LastEventId.of(request_with(b"", "last_event_id=old")).value == "old"
    assert LastEventId.of(request_with(b"")) == LastEventId()


def test_a_client_without_an_id_has_none() -> None:
    assert LastEventId.of(request_with()) == LastEventId(value=None, ended=False, malformed=False)


def test_a_wsgi_request_is_read_the_same_way() -> None:
    assert LastEventId.of(RequestFactory().get("/", headers={"Last-Event-ID": "7"})).value == "7"


def test_the_header_is_utf8_as_the_standard_says() -> None:
    assert LastEventId.of(request_with("größe-✓".encode())).value == "größe-✓"


@pytest.mark.parametrize("header", [b"\xff", b"caf\xe9", b"a\x00b", b"a\tb", b"a\x1fb", b"a\x7fb", "a\x85b".encode()])
def test_an_id_that_is_no_clean_utf8_is_malformed(header: bytes) -> None:
    assert LastEventId.of(request_with(header)) == MALFORMED


@pytest.mark.parametrize("query", ["last_event_id=%FF", "last_event_id=a%00b", "last_event_id=a%0Ab"])
def test_a_query_parameter_that_is_no_clean_utf8_is_malformed(query: str) -> None:
    assert LastEventId.of(request_with(query=query)) == MALFORMED


def test_a_header_that_no_server_could_have_sent_is_malformed() -> None:
    request = request_with()
    request.META["HTTP_LAST_EVENT_ID"] = "✓"
    assert LastEventId.of(request) == MALFORMED
    request.META["HTTP_LAST_EVENT_ID"] = "\ud800"
    assert LastEventId.of(request) == MALFORMED


def test_the_longest_id_is_512_bytes() -> None:
    assert LastEventId.of(request_with(b"x" * MAX_BYTES)).value == "x" * 512
    assert LastEventId.of(request_with(b"x" * (MAX_BYTES + 1))) == MALFORMED
    assert LastEventId.of(request_with("é".encode() * 257)) == MALFORMED


def test_the_id_of_an_end_is_known_and_shown_without_its_prefix() -> None:
    assert LastEventId.of(request_with(b"sse.end~e1.17")) == LastEventId(value="e1.17", ended=True)
    assert LastEventId.of(request_with(query="last_event_id=sse.end~e1.17")) == LastEventId(value="e1.17", ended=True)


def test_an_end_before_any_id_is_an_end() -> None:
    assert LastEventId.of(request_with(END_PREFIX.encode())) == LastEventId(value=None, ended=True)


def test_a_malformed_end_is_no_end() -> None:
    assert LastEventId.of(request_with(b"sse.end~\x01")) == MALFORMED


@pytest.mark.parametrize(("last_id", "expected"), [(None, "sse.end~"), ("", "sse.end~"), ("e1.17", "sse.end~e1.17")])
def test_the_end_id_carries_the_last_id(last_id: str | None, expected: str) -> None:
    assert end_id(last_id) == expected


def test_an_end_id_that_would_be_too_long_is_the_prefix_alone() -> None:
    assert len(end_id("x" * 504)) == MAX_BYTES
    assert end_id("x" * 505) == END_PREFIX


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=120))
def test_what_an_end_id_carries_comes_back(last_id: str) -> None:
    assert LastEventId.of(request_with(end_id(last_id).encode())) == LastEventId(value=last_id, ended=True)


@given(st.binary(max_size=600))
def test_no_header_raises(header: bytes) -> None:
    found = LastEventId.of(request_with(header))
    assert found.value is None or len(found.value.encode()) <= MAX_BYTES
