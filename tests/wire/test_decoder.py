"""The decoder against the standard's examples, the browsers' shared tests, and chunks of every size."""

from __future__ import annotations

import time

import pytest

from django_agent_sse.exceptions import InvalidEvent
from django_agent_sse.wire import MAX_EVENT_BYTES, MAX_RETRY, Decoder, Event, frame
from tests.wire.standard import cuttings, read_by_the_decoder, read_by_the_standard

LONG = b"x" * 2048

# WHATWG HTML, 9.2 "Server-sent events": the streams that its text shows, with what it says they mean.
STANDARD = {
    "three messages": (
        b"data: This is the first message.\n\ndata: This is the second message, it\ndata: has two lines.\n\n"
        b"data: This is the third message.\n\n",
        [
            Event("This is the first message."),
            Event("This is the second message, it\nhas two lines."),
            Event("This is the third message."),
        ],
    ),
    "named events": (
        b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n",
        [Event("73857293", event="add"), Event("2153", event="remove"), Event("113411", event="add")],
    ),
    "stock ticker": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [Event("YHOO\n+2\n10")]),
    "four blocks": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event",
        [Event("first event", id="1"), Event("second event", id="")],
    ),
    "fields without a value": (b"data\n\ndata\ndata\n\ndata:", [Event(""), Event("\n")]),
    "the space after the colon": (b"data:test\n\ndata: test\n\n", [Event("test"), Event("test")]),
}

# web-platform-tests, eventsource/format-*: the streams that browsers are held to.
BROWSERS = {
    "bom": (b"\xef\xbb\xbfdata:1\n\n\xef\xbb\xbfdata:2\n\ndata:3\n\n", [Event("1"), Event("3")]),
    "bom twice": (b"\xef\xbb\xbf\xef\xbb\xbfdata:1\n\ndata:2\n\ndata:3\n\n", [Event("2"), Event("3")]),
    "comments": (
        b"data:1\r:\0\n:\r\ndata:2\n:" + LONG + b"\rdata:3\n:data:fail\r:" + LONG + b"\ndata:4\n\n",
        [Event("1\n2\n3\n4")],
    ),
    "no final blank line": (b"retry:1000\ndata:test1\n\nid:test\ndata:test2", [Event("test1", retry=1000)]),
    "data": (b"data:\n\ndata\ndata\n\ndata:test\n\n", [Event(""), Event("\n"), Event("test")]),
    "empty event": (b"event: \ndata:data\n\n", [Event("data", event="")]),
    "event": (b"event:test\ndata:x\n\ndata:x\n\n", [Event("x", event="test"), Event("x")]),
    "id": (b"id: \xe2\x80\xa6\ndata: \ndata:hello\n\n", [Event("\nhello", id="…")]),
    "id with a nul": (b"id:test\ndata:1\n\nid: a\0b\ndata:2\n\n", [Event("1", id="test"), Event("2")]),
    "parsing": (
        b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
        [Event("\0\n 2\n1\n3\n\n4")],
    ),
    "retry": (b"retry:03000\ndata:x\n\n", [Event("x", retry=3000)]),
    "bogus retry": (b"retry:3000\nretry:1000x\ndata:x\n\n", [Event("x", retry=3000)]),
    "empty retry": (b"retry\ndata:test\n\n", [Event("test")]),
    "unknown fields": (
        b"data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
        [Event("test\n\ntest")],
    ),
    "leading space": (b"data:\ttest\rdata: \ndata:test\n\n", [Event("\ttest\n\ntest")]),
    "newlines": (b"data:test\r\ndata\ndata:test\r\n\r", [Event("test\n\ntest")]),
    "nul": (b"data:\0\n\n\n\n", [Event("\0")]),
    "utf-8": ("data:ok…\n\n".encode(), [Event("ok…")]),
}

# Corners that neither covers.
CORNERS = {
    "nothing": (b"", []),
    "only line ends": (b"\r\n\r\r\n\n", []),
    "an id alone is no event": (b"id: 1\n\ndata: x\n\n", [Event("x")]),
    "a name alone is no event and is forgotten": (b"event: gone\n\ndata: x\n\n", [Event("x")]),
    "the last of a repeated field": (
        b"event: a\nevent: b\nid: 1\nid: 2\nretry: 1\nretry: 2\ndata: x\n\n",
        [Event("x", event="b", id="2", retry=2)],
    ),
    "a nul id leaves the block's id": (b"id: 1\nid: \0\ndata: x\n\n", [Event("x", id="1")]),
    "a nul in the name": (b"event: a\0b\ndata: x\n\n", [Event("x", event="a\ufffdb")]),
    "cr line ends": (b"event: a\rdata: x\rdata: y\r\r", [Event("x\ny", event="a")]),
    "crlf line ends": (b"event: a\r\ndata: x\r\ndata: y\r\n\r\n", [Event("x\ny", event="a")]),
    "crlf then lf": (b"data: x\r\n\n\ndata: y\n\r\n", [Event("x"), Event("y")]),
    "lf cr": (b"data: x\n\rdata: y\n\r", [Event("x"), Event("y")]),
    "separators are data": ("data: a\u2028b\x85c\x0bd\x0ce\n\n".encode(), [Event("a\u2028b\x85c\x0bd\x0ce")]),
    "colons in a value": (b"data::a: b:\n\n", [Event(":a: b:")]),
    "undecodable bytes": (b"data: a\xffb\xe2\x80\nid: \xc3\nevent: \xed\xa0\x80\ndata: \x80\n\n", None),
    "a byte order mark inside": (b"data: \xef\xbb\xbfx\n\n", [Event("\ufeffx")]),
    "a byte order mark cut short": (b"\xef\xbbdata: x\n\n", []),
    "a byte order mark before a comment": (b"\xef\xbb\xbf:hi\n\xef\xbb\xbfdata: x\n\n", []),
    "a byte order mark before nothing": (b"\xef\xbb\xbf\ndata: x\n\n", [Event("x")]),
    "digits of other scripts": ("retry: ٣٠٠\ndata: x\n\n".encode(), [Event("x")]),
    "signs are no digits": (b"retry: +1\nretry: -1\nretry: 1.5\nretry: 1_0\nretry:  5\ndata: x\n\n", [Event("x")]),
    "retry zero": (b"retry: 0\ndata: x\n\n", [Event("x", retry=0)]),
    "an enormous retry": (b"retry: " + b"9" * 600 + b"\ndata: x\n\n", [Event("x", retry=MAX_RETRY)]),
    "a padded retry": (b"retry: " + b"0" * 600 + b"7\ndata: x\n\n", [Event("x", retry=7)]),
}

TABLE = STANDARD | BROWSERS | CORNERS


def feed_all(decoder, chunks):
    return [event for chunk in chunks for event in decoder.feed(chunk)]


@pytest.mark.parametrize("name", TABLE)
def test_a_stream_means_the_same_however_it_is_cut(name):
    stream, expected = TABLE[name]
    standard = read_by_the_standard(stream)
    assert expected is None or standard.events == expected
    for chunks in cuttings(stream):
        assert read_by_the_decoder(chunks) == standard, chunks


def test_undecodable_bytes_become_replacement_characters_as_utf_8_decode_says():
    stream, _ = TABLE["undecodable bytes"]
    assert Decoder().feed(stream) == [Event("a\ufffdb\ufffd\n\ufffd", event="\ufffd" * 3, id="\ufffd")]


def test_a_retry_of_more_digits_than_int_takes_is_no_error():
    assert Decoder().feed(b"retry: " + b"9" * 100_000 + b"\ndata: x\n\n") == [Event("x", retry=MAX_RETRY)]


@pytest.mark.parametrize("end", [b"\n\n", b"\r\r", b"\r\n\r", b"\n\r"])
def test_an_event_is_dispatched_with_the_last_byte_that_it_needs(end):
    decoder = Decoder()
    assert decoder.feed(b"data: x" + end[:-1]) == []
    assert decoder.feed(end[-1:]) == [Event("x")]


def test_the_lf_after_a_cr_that_ended_a_chunk_is_no_second_line():
    decoder = Decoder()
    assert decoder.feed(b"data: a\r") == []
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: b\r") == []
    assert decoder.feed(b"\n\r") == [Event("a\nb")]
    assert decoder.feed(b"\ndata: c\n") == []
    assert decoder.feed(b"\n") == [Event("c")]


def test_the_last_event_id_changes_with_the_blank_line_and_stays():
    decoder = Decoder()
    decoder.feed(b"id: 1\n")
    assert decoder.last_event_id == ""
    decoder.feed(b"\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"data: x\n\n: hi\n\nid: a\0b\n\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"id\n\n")
    assert decoder.last_event_id == ""


def test_retry_counts_at_once_also_without_an_event():
    decoder = Decoder()
    assert decoder.retry is None
    decoder.feed(b"retry: 1500\n")
    assert decoder.retry == 1500
    assert decoder.feed(b"\ndata: x\n\n") == [Event("x")]


@pytest.mark.parametrize("rest", [b"data: x", b"data: x\n", b"event: a\n", b"id: 1\n", b"dat", b": hi"])
def test_the_end_of_the_stream_discards_what_has_no_blank_line_and_says_so(rest):
    decoder = Decoder()
    assert decoder.feed(b"id: 0\ndata: whole\n\n" + rest) == [Event("whole", id="0")]
    assert decoder.finish() is True
    assert decoder.feed(b"\n\n") == []
    assert decoder.last_event_id == "0"


@pytest.mark.parametrize("stream", [b"", b"data: x\n\n", b"data: x\r\r", b"data: x\n\n:\n"])
def test_an_end_between_events_discards_nothing(stream):
    decoder = Decoder()
    decoder.feed(stream)
    assert decoder.finish() is False


def test_after_its_end_a_decoder_reads_the_next_connection_and_remembers_id_and_retry():
    decoder = Decoder()
    decoder.feed(b"\xef\xbb\xbfid: 7\nretry: 9\ndata: x\n\ndata: lost\r")
    decoder.finish()
    assert (decoder.last_event_id, decoder.retry) == ("7", 9)
    assert decoder.feed(b"\n\xef\xbb\xbfdata: y\n\n") == []
    decoder.finish()
    assert decoder.feed(b"\xef\xbb\xbfdata: y\n\n") == [Event("y")]


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    "flood", [b"data: " + b"x" * 2000, b"data: xxxxxx\n" * 300, b"data\n" * 2000, b":" + b"x" * 2000, b"x" * 2000]
)
def test_an_event_over_the_limit_is_refused_however_it_is_cut(flood, size):
    decoder = Decoder(max_event_bytes=1000)
    assert decoder.feed(b"data: fine\n\n") == [Event("fine")]
    chunks = [flood[start : start + size] for start in range(0, len(flood), size)]
    with pytest.raises(InvalidEvent, match=r"more than 1000 bytes.*max_event_bytes"):
        feed_all(decoder, chunks)
    with pytest.raises(InvalidEvent):
        decoder.feed(b"\n\ndata: more\n\n")
    with pytest.raises(InvalidEvent):
        decoder.finish()
    assert decoder.feed(b"data: next connection\n\n") == [Event("next connection")]


def test_events_before_the_one_over_the_limit_are_not_lost():
    decoder = Decoder(max_event_bytes=100)
    assert decoder.feed(b"data: a\n\ndata: b\n\ndata: " + b"x" * 101 + b"\n\ndata: c\n\n") == [Event("a"), Event("b")]
    with pytest.raises(InvalidEvent):
        decoder.feed(b"")


def test_an_event_up_to_the_limit_passes_and_days_of_keep_alives_do_not_count():
    decoder = Decoder(max_event_bytes=100)
    data = "x" * 46 + "\n" + "y" * 40
    stream = b"event: a\n" + b":\n" * 1000 + frame(data) + frame(data)
    assert decoder.feed(stream) == [Event(data, event="a"), Event(data)]
    assert MAX_EVENT_BYTES >= 10 * 1024 * 1024


@pytest.mark.parametrize("data", ["x" * 2**20, "\n".join(["x" * 7] * 2**17)], ids=["one line", "many lines"])
def test_a_mebibyte_byte_by_byte_takes_linear_time(data):
    stream = frame(data)
    decoder = Decoder()
    started = time.process_time()
    events = feed_all(decoder, [stream[start : start + 1] for start in range(len(stream))])
    assert events == [Event(data)]
    assert time.process_time() - started < 20, "about 1 s where the work is linear, minutes where each byte copies the buffer"
