"""Streams over Redis while notifications are lost, doubled and delayed, connections cut and stalled, and servers restarted.

Each client checks that its numbers follow one another; ``-s`` prints what was done to the connection, and the time to heal.
``tox run -e redis`` has 200 clients, 20,000 events, and pauses of 20 s.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from django_agent_sse.eventlog.redis import RedisEventLog
from django_agent_sse.eventlog.redis.server import TIMEOUT
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.wire.event import Event

from ..faults import Proxy, proxy
from ..services import free_port
from ..valkeys import Valkey, valkey
from .servers import Server

LONG = "LONG_PROOFS" in os.environ
CLIENTS, EVENTS, RATE = (200, 20_000, 1_000) if LONG else (30, 1_500, 500)
STALL = OUTAGE = 20.0 if LONG else 2.0
PATIENCE = 120.0
HEALING = 90.0
"""Seconds to wait; a position check takes 30 of them at most, on a machine that is not busy."""
TOPICS = 10


_LINE = re.compile(rb"^(event|id|data): ?(.*)$", re.MULTILINE)


@dataclass
class Reader:
    """One client: what it got, and whether its connection was ever closed."""

    sock: socket.socket
    topic: int
    numbers: list[int] = field(default_factory=list)
    others: list[dict[bytes, bytes]] = field(default_factory=list)
    comments: int = 0
    closed: bool = False
    id: str | None = None
    rest: bytes = b""

    def read(self) -> None:
        data = self.sock.recv(262_144)
        if not data:
            self.closed = True
            return
        self.comments += data.count(b"\n:\n")
        whole, cut, self.rest = (self.rest + data).rpartition(b"\n\n")
        for frame in (whole + cut).split(b"\n\n")[:-1]:
            fields = dict(_LINE.findall(frame))
            if b"id" in fields:
                self.id = fields[b"id"].decode()
            if b"event" in fields:
                self.others.append(fields)
            else:
                self.numbers.append(int(fields[b"data"]))

    @property
    def reasons(self) -> list[str]:
        """Of the gaps that it was told."""
        return [json.loads(fields[b"data"])["reason"] for fields in self.others if fields[b"event"] == b"sse.gap"]


class Clients:
    """All readers, read by one thread."""

    def __init__(self, server: Server, prefix: str) -> None:
        self.server, self.prefix = server, prefix
        self.readers: list[Reader] = []
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, topic: int, last: str | None = None) -> Reader:
        where = urlsplit(self.server.url)
        sock = socket.create_connection((where.hostname, where.port), PATIENCE)
        sent = f"Last-Event-ID: {last}\r\n" if last else ""
        path = f"/topics/follow/{self.prefix}{topic}/"
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{sent}\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        assert b" 200 " in head.partition(b"\r\n")[0], head
        reader = Reader(sock, topic)
        with self._lock:
            self.readers.append(reader)
            self._selector.register(sock, selectors.EVENT_READ, reader)
        return reader

    def _run(self) -> None:
        while not self._over:
            with self._lock:
                ready = self._selector.select(0)
                for key, _ in ready:
                    key.data.read()
                    if key.data.closed:
                        self._selector.unregister(key.fileobj)
            if not ready:
                time.sleep(0.002)

    def wait(self, what: str, probe: Callable[[Reader], Any], within: float = PATIENCE) -> float:
        """Wait until it holds for every reader; return how long that took."""
        began = time.monotonic()
        while not all(probe(reader) for reader in self.readers):
            assert time.monotonic() - began < within, (what, [(len(r.numbers), r.others[-1:], r.closed) for r in self.readers])
            time.sleep(0.01)
        return time.monotonic() - began

    def close(self) -> None:
        self._over = True
        self._thread.join(10)
        for reader in self.readers:
            reader.sock.close()

    def drop(self, reader: Reader) -> None:
        """Close a client's connection from its side."""
        with self._lock:
            self._selector.unregister(reader.sock)
            reader.sock.close()
            self.readers.remove(reader)

    def told(self, published: Publisher) -> str:
        """What became of the events, counted over all clients, in one line."""
        wanted = [published.acknowledged[reader.topic] for reader in self.readers]
        got = [len({*reader.numbers}) for reader in self.readers]
        return (
            f"{len(self.readers)} clients, {sum(published.acknowledged.values()):,} events, {sum(got):,} deliveries: "
            f"lost {sum(wanted) - sum(got)}, doubled {sum(len(r.numbers) for r in self.readers) - sum(got)}, "
            f"disconnected {sum(reader.closed for reader in self.readers)}"
        )

    def whole(self) -> list[str]:
        """What is wrong with what the clients got."""
        return [
            f"client {place} of topic {reader.topic}: {len(reader.numbers)} events, {reader.others}, closed: {reader.closed}"
            for place, reader in enumerate(self.readers)
            if reader.numbers != [*range(len(reader.numbers))] or reader.others or reader.closed
        ]


class Publisher:
    """Publishes numbers to all topics in turn, in a thread, until it has published so many; counts what was acknowledged."""

    def __init__(self, log: RedisEventLog, prefix: str, events: int = EVENTS, rate: float = RATE) -> None:
        self.log, self.prefix, self.events, self.rate = log, prefix, events, rate
        self.acknowledged = dict.fromkeys(range(TOPICS), 0)
        self.failures: list[float] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        for number in range(self.events):
            topic, place = number % TOPICS, number // TOPICS
            while self.acknowledged[topic] == place:
                asked = time.monotonic()
                try:
                    self.log.append(f"{self.prefix}{topic}", Event(str(place)), key=f"{place}")
                except EventLogUnavailable:
                    self.failures.append(time.monotonic() - asked)
                    time.sleep(0.05)
                else:
                    self.acknowledged[topic] = place + 1
            time.sleep(max(0.0, began + number / self.rate - time.monotonic()))

    def so_far(self) -> Mapping[int, int]:
        """What was acknowledged until now."""
        return dict(self.acknowledged)

    def done(self) -> None:
        while self.thread.is_alive():
            before = self.so_far()
            self.thread.join(PATIENCE)
            assert not self.thread.is_alive() or self.so_far() != before, "nothing is acknowledged any more"


def everything(published: Publisher | Mapping[int, int]) -> Callable[[Reader], bool]:
    counts = published.acknowledged if isinstance(published, Publisher) else published
    return lambda reader: len(reader.numbers) >= counts[reader.topic]


@pytest.fixture
def redis_server() -> Iterator[Valkey]:
    with valkey(appendonly="yes", appendfsync="always") as made:
        yield made


@pytest.fixture
def through(redis_server: Valkey) -> Iterator[Proxy]:
    with proxy(free_port(), redis_server.port) as made:
        yield made


@pytest.fixture
def clients(start: Callable[..., Server], through: Proxy) -> Iterator[Clients]:
    """Followers on a server that reaches Redis through the proxy."""
    log = {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": {"url": through.url}}
    server = start("uvicorn", agent_sse={"EVENT_LOG": log, "HEARTBEAT": 1}, middleware="none")
    made = Clients(server, "t")
    for number in range(CLIENTS):
        made.add(number % TOPICS)
    yield made
    made.close()
    server.stop()


def test_lost_doubled_and_late_notifications_lose_and_double_nothing(
    clients: Clients, through: Proxy, redis_server: Valkey
) -> None:
    through.faults.lose = through.faults.double = through.faults.delay = 0.01
    publisher = Publisher(RedisEventLog(url=redis_server.url), "t")
    publisher.done()
    through.faults.lose = 1.0 if LONG else 0.0  # the last notification of all: only the position check finds that out
    if LONG:
        for topic in range(TOPICS):
            publisher.log.append(f"t{topic}", Event(str(publisher.acknowledged[topic])))
            publisher.acknowledged[topic] += 1
    healed = clients.wait("everybody has everything", everything(publisher), within=HEALING)
    faults = through.faults
    print(
        f"\nnotifications: {faults.lost} lost, {faults.doubled} doubled, {faults.delayed} late: healed {healed:.2f} s after the "
        "last "
        f"event. {clients.told(publisher)}"
    )
    assert min(through.faults.lost, through.faults.doubled, through.faults.delayed) > 0
    assert clients.whole() == []


def test_a_notification_connection_that_is_cut_each_second_loses_nothing(
    clients: Clients, through: Proxy, redis_server: Valkey
) -> None:
    # A server that stands still for some seconds has no connection to be cut meanwhile.
    publisher = Publisher(RedisEventLog(url=redis_server.url), "t", rate=min(RATE, EVENTS / 8))
    while publisher.thread.is_alive():
        through.cut()
        publisher.thread.join(1.0)
    healed = clients.wait("everybody has everything", everything(publisher), within=HEALING)
    print(f"\n{through.faults.cuts} cuts: healed {healed:.2f} s after the last event. {clients.told(publisher)}")
    assert through.faults.cuts >= 2
    assert clients.whole() == []


def test_a_notification_connection_that_stalls_loses_nothing(clients: Clients, through: Proxy, redis_server: Valkey) -> None:
    publisher = Publisher(RedisEventLog(url=redis_server.url), "t", rate=EVENTS / (STALL + 2))
    time.sleep(1)
    through.stall(STALL)
    time.sleep(STALL)
    healed = clients.wait("everybody has what there was", everything(publisher.so_far()), within=HEALING)
    publisher.done()
    clients.wait("everybody has everything", everything(publisher), within=HEALING)
    print(f"\na stall of {STALL} s: healed {healed:.2f} s after its end. {clients.told(publisher)}")
    assert clients.whole() == []


def test_a_server_that_is_away_for_a_while_costs_streams_nothing_but_time(clients: Clients, redis_server: Valkey) -> None:
    publisher = Publisher(RedisEventLog(url=redis_server.url), "t", rate=EVENTS / (OUTAGE + 2))
    time.sleep(0.5)
    redis_server.end()
    comments = {reader.sock: reader.comments for reader in clients.readers}
    time.sleep(OUTAGE)
    clients.wait("heartbeats go on", lambda reader: reader.closed or reader.comments > comments[reader.sock])
    assert not any(reader.closed for reader in clients.readers)
    beats = [reader.comments - comments[reader.sock] for reader in clients.readers]
    redis_server.start()
    healed = clients.wait("everybody has what there was", everything(publisher.so_far()), within=HEALING)
    publisher.done()
    clients.wait("everybody has everything", everything(publisher), within=HEALING)
    print(
        f"\nan outage of {OUTAGE} s: {len(publisher.failures)} refusals, the slowest in {max(publisher.failures):.3f} s, "
        f"{min(beats)} heartbeats each at least, healed {healed:.2f} s after its end. {clients.told(publisher)}"
    )
    assert max(publisher.failures) < TIMEOUT, "none waits for a server that is known to be away"
    assert clients.whole() == []


def test_a_server_that_comes_back_empty_is_one_gap_for_everybody(clients: Clients, redis_server: Valkey) -> None:
    publisher = Publisher(RedisEventLog(url=redis_server.url), "t", events=10 * TOPICS)
    publisher.done()
    clients.wait("everybody has everything", everything(publisher))
    redis_server.kill()
    redis_server.empty()
    redis_server.start()
    clients.wait("everybody is told", lambda reader: reader.reasons)
    again = Publisher(RedisEventLog(url=redis_server.url), "t", events=10 * TOPICS)
    again.done()
    clients.wait("everybody goes on", lambda reader: len(reader.numbers) >= 20)
    assert {tuple(reader.reasons) for reader in clients.readers} == {("epoch",)}
    assert all(reader.numbers == [*range(10), *range(10)] and not reader.closed for reader in clients.readers)
    before = clients.readers[0]
    returned = clients.add(before.topic, before.id)
    RedisEventLog(url=redis_server.url).append(f"t{before.topic}", Event("10"))
    clients.wait("it goes on", lambda reader: reader.topic != before.topic or reader.numbers[-1:] == [10])
    assert (returned.numbers, returned.reasons) == ([10], []), "the gap's position and what came after are honoured"


def test_a_replica_that_missed_writes_and_is_promoted_is_a_fork_for_everybody(
    clients: Clients, redis_server: Valkey, through: Proxy
) -> None:
    log = RedisEventLog(url=redis_server.url)
    Publisher(log, "t", events=10 * TOPICS).done()
    with valkey() as replica:
        replica.client().replicaof("127.0.0.1", redis_server.port)
        deadline = time.monotonic() + 60
        while replica.client().info("replication").get("master_link_status") != "up" or not replica.client().dbsize():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        replica.client().replicaof("127.0.0.1", 1)  # replication pauses
        for topic in range(TOPICS):
            log.append(f"t{topic}", [Event(str(number)) for number in range(10, 15)])
        clients.wait("everybody has what will be lost", lambda reader: len(reader.numbers) == 15)
        leaving = clients.readers[0]
        topic, last = leaving.topic, leaving.id
        clients.drop(leaving)
        redis_server.kill()
        replica.client().replicaof("NO", "ONE")
        through.target = replica.port
        promoted = RedisEventLog(url=replica.url)
        for number in range(TOPICS):
            if number % 2:  # some go beyond where the lost ones ended, some get nothing new
                promoted.append(f"t{number}", [Event(str(1000 + place)) for place in range(8)])
        through.cut(everything=True)
        began = time.monotonic()
        clients.wait("everybody is told", lambda reader: reader.reasons)
        print(f"\neverybody was told of the fork within {time.monotonic() - began:.2f} s")
        returned = clients.add(topic, last)
        clients.wait("who returns is told too", lambda reader: reader.reasons)
        assert {tuple(reader.reasons) for reader in clients.readers} == {("fork",)}
        kept = {topic: [*range(10), *([*range(1000, 1008)] if topic % 2 else [])] for topic in range(TOPICS)}
        clients.wait("everybody goes on", lambda reader: len(reader.numbers) >= _seen(reader, returned) + len(kept[reader.topic]))
        for reader in clients.readers:
            assert reader.numbers == [*range(_seen(reader, returned)), *kept[reader.topic]]
            assert not reader.closed


def _seen(reader: Reader, returned: Reader) -> int:
    """How many events it had before the fork, lost ones too."""
    return 0 if reader is returned else 15
