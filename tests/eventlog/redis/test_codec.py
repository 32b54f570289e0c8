"""Events as they stand in Redis and in notifications: what the script writes, is read back as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_agent_sse.eventlog.records import Page
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
