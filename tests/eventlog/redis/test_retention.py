"""What a topic keeps when nobody publishes to it any more: no events, but its numbers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django_agent_sse.eventlog.redis import RedisEventLog
from django_agent_sse.eventlog.redis.log import POSITIONS
from django_agent_sse.wire.event import Event

TOPIC = "builds.42"


def test_a_silent_topic_expires_as_a_whole_and_its_positions_outlive_it(new_log: Callable[..., RedisEventLog]) -> None:
    log = new_log(MAX_AGE=0.2)
    log.append(TOPIC, [Event("1"), Event("2")])
    client, (meta, stream) = log.servers[0].client, log.keys.topic(TOPIC)
    deadline = time.monotonic() + 60
    while client.exists(stream):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert client.ttl(meta) > POSITIONS - 60
    page = log.read_after(TOPIC)
    assert (page.floor, page.top, page.records) == (2, 2, ()), "trimmed, and not: never there"
    assert log.append(TOPIC, Event("3")).last == 3


def test_a_topic_whose_hash_was_evicted_begins_anew(log: RedisEventLog) -> None:
    before = log.append(TOPIC, [Event("1"), Event("2")])
    log.servers[0].client.delete(log.keys.topic(TOPIC)[0])
    page = log.read_after(TOPIC)
    assert page.lost, "nobody deleted it"
    after = log.append(TOPIC, Event("new"))
    assert (after.first, after.last) == (1, 1)
    assert after.epoch != before.epoch


def test_a_topic_whose_stream_was_evicted_tells_that_it_was_trimmed(log: RedisEventLog) -> None:
    before = log.append(TOPIC, [Event("1"), Event("2")])
    log.servers[0].client.delete(log.keys.topic(TOPIC)[1])
    page = log.read_after(TOPIC)
    assert (page.epoch, page.floor, page.top) == (before.epoch, 2, 2)
    assert log.append(TOPIC, Event("3")).last == 3


def test_every_key_expires(log: RedisEventLog) -> None:
    log.append(TOPIC, Event("1"), key="k")
    client = log.servers[0].client
    lists = {log.keys.names, log.keys.recent, log.keys.closed}
    kept: set[Any] = {key.decode() for key in client.scan_iter(log.keys.everything)} - lists
    assert len(kept) == 3
    assert all(client.ttl(key) > 0 for key in kept)
