"""What was written comes back equal, under any cutting, through our decoder and through httpx-sse; or it was refused.

Equal means: every field is what it was, except that CR LF and CR in ``data`` come back as LF. Nothing else changes.
"""

from __future__ import annotations

import dataclasses

import httpx
import httpx_sse
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from django_agent_sse.exceptions import InvalidEvent
from django_agent_sse.wire import MAX_RETRY, Decoder, Event, comment, encode, split_lines
from tests.timing import LONG
from tests.wire.standard import read_by_the_decoder, read_by_the_standard

settings.register_profile("wire", deadline=None, max_examples=300 if LONG else 60, suppress_health_check=[HealthCheck.too_slow])
wire = settings.get_profile("wire")

awkward = st.sampled_from(
    ["\r", "\n", "\r\n", "\0", ":", " ", "\ufeff", "\u2028", "\x85", "\x0b", "é", "😀", "data: ", "\n\n", "\ud800", "\udfff"]
)
anything = st.text(st.characters(), max_size=20)  # surrogates too
text = st.lists(st.one_of(awkward, anything), max_size=8).map("".join)
retries = st.one_of(st.none(), st.integers(-1, MAX_RETRY + 1))


@st.composite
def attempts(draw):
    """What a careless caller might try to send."""
    name, id = draw(st.one_of(st.none(), text)), draw(st.one_of(st.none(), text))
    return {"data": draw(text), "event": name, "id": id, "retry": draw(retries)}


def made(attempt):
    try:
        return Event(**attempt)
    except InvalidEvent:
        return None


def is_ours(name):
    return name.strip().lower().startswith("sse.")


def is_refused_rightly(attempt):
    lines = [value for value in (attempt["event"], attempt["id"]) if value is not None]
    texts = [attempt["data"], *lines]
    return (
        any(character in line for line in lines for character in "\r\n\0")
        or any(map(is_ours, lines))
        or any(0xD800 <= ord(character) <= 0xDFFF for value in texts for character in value)
        or not 0 <= (attempt["retry"] or 0) <= MAX_RETRY
    )


valid_text = st.lists(
    st.one_of(awkward.filter(lambda part: not "\ud800" <= part <= "\udfff"), st.text(max_size=20)),
    max_size=8,
).map("".join)
one_line = valid_text.map(lambda value: value.replace("\r", "").replace("\n", "").replace("\0", ""))
names = one_line.filter(lambda value: not is_ours(value))
events = st.builds(
    Event,
    valid_text,
    event=st.one_of(st.none(), names),
    id=st.one_of(st.none(), names),
    retry=st.one_of(st.none(), st.integers(0, MAX_RETRY)),
)
blocks = st.one_of(events, st.builds(comment, one_line))


@st.composite
def cut(draw, stream: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    return [stream[start:end] for start, end in zip([0, *places], [*places, len(stream)], strict=True)]


def as_read(event: Event) -> Event:
    return dataclasses.replace(event, data="\n".join(split_lines(event.data)))


def written(parts) -> bytes:
    return b"".join(part if isinstance(part, bytes) else encode(part) for part in parts)


@settings(wire)
@given(attempts())
@example({"data": "", "event": "", "id": "", "retry": 0})
@example({"data": "", "event": " SSE.", "id": None, "retry": None})
@example({"data": "", "event": None, "id": "sse.end", "retry": None})
def test_what_was_made_comes_back_equal_and_the_rest_was_refused(attempt):
    event = made(attempt)
    if event is None:
        assert is_refused_rightly(attempt)
    else:
        assert not is_refused_rightly(attempt)
        assert Decoder().feed(encode(event)) == [as_read(event)]


@settings(wire)
@given(st.data(), st.lists(blocks, max_size=6))
def test_events_and_comments_come_back_under_any_cutting(data, parts):
    chunks = data.draw(cut(written(parts)))
    assert read_by_the_decoder(chunks).events == [as_read(part) for part in parts if isinstance(part, Event)]


@settings(wire)
@given(events)
def test_data_without_cr_comes_back_as_it_was(event):
    event = dataclasses.replace(event, data=event.data.replace("\r", ""))
    (read,) = Decoder().feed(encode(event))
    assert read == event
    assert encode(read) == encode(event)


@settings(wire)
@given(st.data(), st.lists(blocks, max_size=6))
def test_httpx_sse_reads_the_same(data, parts):
    """Only shown otherwise: the last id stands on every later event, and an unnamed one is a ``message``."""
    chunks = data.draw(cut(written(parts)))
    expected, last_id = [], ""
    for event in (as_read(part) for part in parts if isinstance(part, Event)):
        last_id = last_id if event.id is None else event.id
        expected.append((event.event or "message", event.data, last_id, event.retry))
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=iter(chunks))
    read = [(sse.event, sse.data, sse.id, sse.retry) for sse in httpx_sse.EventSource(response).iter_sse()]
    assert read == expected


fields = [b"data", b"event", b"id", b"retry", b":", b": ", b" ", b"data: x\n", b"id: 1\n", b"event: e\r\n"]
ends = [b"\r", b"\n", b"\r\n", b"\n\n"]
values = [
    b"x",
    b"12",
    b"99999999999",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xef",
    b"\xbb",
    b"\xff",
    b"\xe2\x80\xa8",
    b"\xe2\x80",
    b"\xf0\x9f\x98\x80",
]
soup = st.lists(st.sampled_from(fields + ends + values), max_size=40).map(b"".join)


@settings(wire, max_examples=600 if LONG else 120)
@given(st.data(), soup)
def test_any_bytes_mean_what_the_standard_says_under_any_cutting(data, stream):
    assert read_by_the_decoder(data.draw(cut(stream))) == read_by_the_standard(stream)


@settings(wire)
@given(st.binary(max_size=300))
def test_what_was_decoded_can_be_encoded_again(stream):
    read = Decoder().feed(b"data: " + stream + b"\n\n")
    assert Decoder().feed(b"".join(encode(event) for event in read)) == read
    assert [Event(e.data, event=e.event, id=e.id, retry=e.retry) for e in read] == read
