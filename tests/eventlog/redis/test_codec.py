"""Events as they stand in Redis and in notifications: what the script writes, is read back as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_agent_sse.eventlog.records import Page, Record
from django_agent_sse.eventlog.redis import RedisEventLog
from django_agent_sse.eventlog.redis.codec import INLINE, NONCES, letters, notification
from django_agent_sse.exceptions import EventUnreadable
from django_agent_sse.wire.event import Event

TOPIC = "builds.42"
ODD = [
    Event(""),
    Event("one\ntwo\r\n\r\n3 3 \n"),
    Event("ä€😀 \u2028\x85", event="näme with blanks"),
    Event("x", event=""),
    Event("x", event=":"),
    Event("x", retry=0),
    Event("{}", event="tick", retry=3000),
]


def heard(log: RedisEventLog, events: list[Event]) -> tuple[list[bytes], Page]:
    """What the notification said of an append, and what the log gives."""
    client = log.servers[0].client
    listening = client.pubsub()
    listening.subscribe(log.keys.channel(TOPIC))
    assert listening.get_message(timeout=60) is not None
    log.append(TOPIC, events)
    message = listening.get_message(timeout=60, ignore_subscribe_messages=True)
    listening.close()
    assert message is not None
    return [message["data"]], log.read_after(TOPIC)


def test_a_notification_brings_what_the_log_has(log: RedisEventLog) -> None:
    (message,), page = heard(log, ODD)
    told = notification(message)
    assert [record.event for record in page.records] == ODD
    assert told is not None
    assert told.records == page.records
    assert (told.epoch, told.top, told.nonce) == (page.epoch, page.top, page.nonce)


def test_a_notification_says_which_event_it_follows(log: RedisEventLog) -> None:
    before = log.append(TOPIC, Event("1"))
    (message,), _ = heard(log, [Event("2")])
    page = notification(message)
    assert page is not None
    assert page.before == before.nonce


def test_a_large_event_does_not_travel_with_a_notification(log: RedisEventLog) -> None:
    (message,), page = heard(log, [Event("x" * (INLINE + 1))])
    assert len(message) < 200
    told = notification(message)
    assert told is not None
    assert (told.records, told.top) == ((), page.top)


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"1 abcdefgh 1 1 5 - 0 1 1\n" + tail))
def test_a_notification_of_somebody_else_only_says_look(message: bytes) -> None:
    found = notification(message)
    assert found is None or found.epoch == "abcdefgh" or not found.records


def test_nonces_are_six_letters_each_its_own() -> None:
    assert letters(0) == "AAAAAA"
    assert letters(NONCES - 1) == "ZZZZZZ"
    assert len({letters(number) for number in range(0, NONCES, 9_973)}) == len(range(0, NONCES, 9_973))


@pytest.mark.parametrize("some", [ODD, ODD[:5], [*ODD[:5], Event('/\x7f\0\\"')], [Event("x" * 40_000), *ODD[:5]]])
def test_many_that_are_read_at_once_are_the_same_as_each_by_itself(log: RedisEventLog, some: list[Event]) -> None:
    for _ in range(40):
        log.append(TOPIC, some)
    count = 40 * len(some)
    alone = [log.read_after(TOPIC, offset, 1).records[0] for offset in range(count)]
    assert [record.event for record in alone] == some * 40
    together: list[Record] = []
    while len(together) < count:
        together += log.read_after(TOPIC, len(together), 150).records
    assert together == alone


def test_of_many_that_are_read_at_once_those_before_one_that_cannot_be_read_are(log: RedisEventLog) -> None:
    log.append(TOPIC, [Event(str(number)) for number in range(5)])
    client, (meta, stream) = log.servers[0].client, log.keys.topic(TOPIC)
    client.xadd(stream, {"e": b"", "d": b"\xff", "t": b"1"}, id="6-1")
    client.hset(meta, "s", 6)
    assert [record.event.data for record in log.read_after(TOPIC).records] == list("01234")
    with pytest.raises(EventUnreadable, match="the entry '6-1' of a topic in Redis was written by something else"):
        log.read_after(TOPIC, 5)


def test_an_entry_of_somebody_else_is_told(new_log: Callable[..., RedisEventLog]) -> None:
    log = new_log()
    log.append(TOPIC, Event("1"))
    client = log.servers[0].client
    meta, stream = log.keys.topic(TOPIC)
    client.xadd(stream, {"e": "", "d": "2", "t": "yesterday"}, id="2-1")
    client.hset(meta, "s", "2")
    with pytest.raises(EventUnreadable, match="was written by something else") as found:
        log.read_after(TOPIC, 1)
    assert found.value.offset == 2
    assert [record.event.data for record in log.read_after(TOPIC).records] == ["1"], "what comes before it can be read"
