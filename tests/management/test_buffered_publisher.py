"""Events on their way to a log that is there, slow, away, or closed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.management.commands.sse_run import BATCH_SECONDS, LinePublisher
from django_agent_sse.topics import buffered_publisher as module
from django_agent_sse.topics.buffered_publisher import BATCH_EVENTS
from django_agent_sse.wire.event import Event

PATIENCE = 60.0


class Log(MemoryEventLog):
    """A log in memory that can be away: before an append, or between it and its answer."""

    def __init__(self, **options: Any) -> None:
        super().__init__(MAX_EVENTS=1_000_000, **options)
        self.away = threading.Event()
        self.lose_answers = 0
        self.tried = threading.Semaphore(0)
        self.appends: list[tuple[float, int]] = []

    def _append(self, topic: str, events: Any, *about: Any) -> Any:
        away = self.away.is_set()  # before the test hears of the try, and has the log come back
        self.tried.release()
        if away:
            raise EventLogUnavailable("the log is away")
        self.appends.append((time.monotonic(), len(events)))
        appended = super()._append(topic, events, *about)
        if self.lose_answers:
            self.lose_answers -= 1
            raise EventLogUnavailable("the answer was lost")
        return appended

    def data(self) -> list[str]:
        """What the topic has."""
        data: list[str] = []
        while records := self.read_after("t", len(data)).records:
            data += [record.event.data for record in records]
        return data


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    monkeypatch.setattr(module, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(module, "LAST_RETRY", 0.05)
    return Log()


def never() -> bool:
    """Whether to hurry."""
    return False


def events(*numbers: int) -> list[Event]:
    """Events that tell their numbers."""
    return [Event(str(number)) for number in numbers]


def test_everything_arrives_in_order_and_then_the_topic_is_closed(log: Log) -> None:
    publisher = LinePublisher(log, "t", tell=print)
    for number in range(5000):
        publisher.put(events(number))
    publisher.finish(never, last=partial(log.close, "t", "completed"))
    assert log.data() == [str(number) for number in range(5000)]
    assert log.state("t").closed == "completed"
    assert publisher.lost == 0
    assert max(size for _, size in log.appends) <= BATCH_EVENTS


def test_lines_that_trickle_are_appended_in_batches_that_wait_no_longer_than_they_may(log: Log) -> None:
    publisher = LinePublisher(log, "t", tell=print)
    given = []
    for number in range(200):
        given.append(time.monotonic())
        publisher.put(events(number))
        time.sleep(0.005)
    publisher.finish(never)
    begun = [at for at, _ in log.appends]
    assert len(begun) <= (begun[-1] - given[0]) / BATCH_SECONDS + 3, "no more appends than that"
    appended_at = [at for at, size in log.appends for _ in range(size)]
    waits = sorted(at - put for at, put in zip(appended_at, given, strict=True))
    print(f"a line waited {waits[len(waits) // 2] * 1000:.1f} ms at the median, {waits[-1] * 1000:.1f} ms at most")
    assert waits[len(waits) // 2] < BATCH_SECONDS * 2
    assert BATCH_SECONDS <= 0.05, "which the documentation promises"
    assert begun[0] < given[-1], "the first one does not wait for the others"


def test_what_waits_while_the_log_is_away_is_published_when_it_is_back(log: Log) -> None:
    said: list[str] = []
    log.away.set()
    publisher = LinePublisher(log, "t", tell=said.append)
    publisher.put(events(1, 2))
    assert log.tried.acquire(timeout=PATIENCE)
    publisher.put(events(3))
    log.away.clear()
    publisher.finish(never, last=partial(log.close, "t", "completed"))
    assert log.data() == ["1", "2", "3"]
    assert publisher.lost == 0
    assert [text.partition(":")[0] for text in said] == ["cannot publish", "the event log is back"]


def test_an_append_whose_answer_was_lost_is_not_doubled(log: Log) -> None:
    log.lose_answers = 3
    publisher = LinePublisher(log, "t", tell=lambda text: None)
    publisher.put(events(1, 2))
    publisher.finish(never, last=partial(log.close, "t", "completed"))
    assert log.data() == ["1", "2"]


def test_what_does_not_fit_is_told_where_it_is_missing(log: Log) -> None:
    log.away.set()
    publisher = LinePublisher(log, "t", tell=lambda text: None, capacity=10)
    publisher.put(events(0))
    assert log.tried.acquire(timeout=PATIENCE)
    assert log.tried.acquire(timeout=PATIENCE)
    publisher.put(events(*range(1, 31)))
    log.away.clear()
    publisher.finish(never, last=partial(log.close, "t", "completed"))
    assert log.data() == ["0", '{"events":20}', *map(str, range(21, 31))]
    assert publisher.lost == 20
    assert [record.event.event for record in log.read_after("t", 1, 1).records] == ["dropped"]


def test_a_log_that_stays_away_is_given_up_after_a_while(log: Log) -> None:
    log.away.set()
    publisher = LinePublisher(log, "t", tell=lambda text: None)
    publisher.put(events(1, 2, 3))
    begun = time.monotonic()
    publisher.finish(never, last=partial(log.close, "t", "completed"), timeout=0.1)
    assert time.monotonic() - begun < PATIENCE
    assert publisher.lost == 3
    log.away.clear()  # its thread goes on, and ends


def test_who_is_in_a_hurry_does_not_wait(log: Log) -> None:
    log.away.set()
    publisher = LinePublisher(log, "t", tell=lambda text: None)
    publisher.put(events(1))
    publisher.finish(lambda: True, last=partial(log.close, "t", "completed"))
    assert publisher.lost == 1
    log.away.clear()


def test_a_topic_that_was_closed_takes_no_more_and_holds_nobody_up(log: Log) -> None:
    said: list[str] = []
    log.close("t", "enough")
    publisher = LinePublisher(log, "t", tell=said.append)
    publisher.put(events(*range(20_000)))
    publisher.finish(never, last=partial(log.close, "t", "completed"))
    assert publisher.lost == 20_000
    assert len(said) == 1
    assert "closed (enough)" in said[0]


def test_anew_it_forgets_what_was_there(log: Log) -> None:
    log.append("t", events(1))
    log.close("t")
    publisher = LinePublisher(log, "t", tell=print)
    publisher.submit(partial(log.delete, "t"))
    publisher.put(events(2))
    publisher.finish(never, last=partial(log.close, "t", "completed"))
    assert log.data() == ["2"]
