"""Group commit: appends that wait for each other in one process are committed together, and each caller has its own outcome."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connections, router, transaction

from django_agent_sse.eventlog.database import DatabaseEventLog, grouping
from django_agent_sse.eventlog.records import Appended, Page
from django_agent_sse.exceptions import EventLogUnavailable, LeaseLost, PositionConflict, TopicClosed
from django_agent_sse.wire.event import Event
from tests.databases import extra_database
from tests.log_databases import database

TOPIC = "builds.42"
WAIT = 60


class Callers:
    """Threads that append while the first of them is held in the middle of its append.

    Attributes:
        commits: Each append that reached the database: a list of topics with what was appended to each.
    """

    def __init__(self, log: DatabaseEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = log
        self.commits: list[dict[str, list[str]]] = []
        self._hold, self._held = threading.Event(), threading.Event()
        self._hold.set()
        self._pool = ThreadPoolExecutor(40)
        self._append, self._each = log._append, log._append_each
        monkeypatch.setattr(log, "_append", self._append_seen)
        monkeypatch.setattr(log, "_append_each", self._each_seen)

    def _append_seen(self, topic: str, events: Any, *about: Any) -> Appended:
        self.commits.append({topic: [event.data for event, _ in events]})
        self._held.set()
        assert self._hold.wait(WAIT)
        return self._append(topic, events, *about)

    def _each_seen(self, alias: str, prepared: Any) -> Any:
        self.commits.append({topic: [event.data for event, _ in about[2]] for topic, about in prepared.items()})
        return self._each(alias, prepared)

    def start(self, call: Callable[..., Any], *args: Any, **about: Any) -> Future[Any]:
        """Call in a thread."""
        return self._pool.submit(call, *args, **about)

    @contextmanager
    def held(self) -> Iterator[Future[Any]]:
        """While the first caller appends ``first``, and no further."""
        self._hold.clear()
        self._held.clear()
        try:
            first = self.start(self.log.append, TOPIC, Event("first"))
            assert self._held.wait(WAIT)
            yield first
        finally:
            self._hold.set()

    def waiting(self, call: Callable[..., Any], *args: Any, **about: Any) -> Future[Any]:
        """Call in a thread, and return when it waits for its turn."""
        before = self.in_line()
        future = self.start(call, *args, **about)
        until = time.monotonic() + WAIT
        while self.in_line() == before:
            assert time.monotonic() < until
            assert not future.done(), future.result()
            time.sleep(0.001)
        return future

    def in_line(self) -> int:
        return sum(len(queue.waiting) for queue in [*self.log._group._queues.values()])

    def close(self) -> None:
        """End the threads; nobody waits any more."""
        self._hold.set()
        everywhere = threading.Barrier(40)

        def end() -> None:
            everywhere.wait(WAIT)
            connections.close_all()

        for future in [self._pool.submit(end) for _ in range(40)]:
            future.result(WAIT)
        self._pool.shutdown()
        assert self.log._group._queues == {}


@pytest.fixture
def callers(alias: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callers]:
    log = DatabaseEventLog(ALIAS=alias)
    log.append(TOPIC, Event("begins"))
    made = Callers(log, monkeypatch)
    yield made
    made.close()


def texts(log: DatabaseEventLog, topic: str = TOPIC) -> list[str]:
    return [record.event.data for record in log.read_after(topic, limit=10_000).records]


only_sqlite = pytest.mark.parametrize("alias", ["sqlite"], indirect=True)
only_postgres = pytest.mark.parametrize("alias", ["postgres"], indirect=True)


# Together


def test_those_who_wait_for_each_other_are_committed_together(callers: Callers) -> None:
    with callers.held() as first:
        others = [callers.waiting(callers.log.append, TOPIC, Event(f"{number}")) for number in range(5)]
        two = callers.waiting(callers.log.append, TOPIC, [Event("a"), Event("b")])
    assert first.result(WAIT).first == 2
    assert [other.result(WAIT).first for other in others] == [3, 4, 5, 6, 7], "in the order in which they came"
    assert [position.offset for position in two.result(WAIT)] == [8, 9]
    assert callers.commits == [{TOPIC: ["first"]}, {TOPIC: ["0", "1", "2", "3", "4", "a", "b"]}]
    assert texts(callers.log) == ["begins", "first", "0", "1", "2", "3", "4", "a", "b"]


def test_followers_are_told_of_them_once_and_in_order(callers: Callers) -> None:
    told: list[list[str]] = []

    def on_change(topic: str, page: Page | None = None) -> None:
        told.append([] if page is None else [record.event.data for record in page.records])

    callers.log.on_change = on_change
    with callers.held():
        others = [callers.waiting(callers.log.append, TOPIC, Event(f"{number}")) for number in range(3)]
    for other in others:
        other.result(WAIT)
    assert told == [["first"], ["0", "1", "2"]]


@only_sqlite
def test_on_sqlite_which_has_one_writer_those_of_all_topics_are(callers: Callers) -> None:
    with callers.held():
        others = [callers.waiting(callers.log.append, f"t{number % 2}", Event(f"{number}")) for number in range(4)]
    assert [other.result(WAIT).first for other in others] == [1, 1, 2, 2]
    assert callers.commits == [{TOPIC: ["first"]}, {"t0": ["0", "2"], "t1": ["1", "3"]}]
    assert (texts(callers.log, "t0"), texts(callers.log, "t1")) == (["0", "2"], ["1", "3"])


@pytest.mark.parametrize("alias", ["postgres", "mariadb"], indirect=True)
def test_elsewhere_nobody_waits_for_another_topic(callers: Callers) -> None:
    with callers.held() as first:
        callers._hold.set()  # of the others
        assert callers.start(callers.log.append, "other", Event("1")).result(WAIT).first == 1
    first.result(WAIT)


def test_who_is_alone_has_the_statements_of_one_who_is_alone(callers: Callers) -> None:
    callers.log.append(TOPIC, Event("1"))
    callers.log.append("other", Event("1"))
    assert callers.commits == [{TOPIC: ["1"]}, {"other": ["1"]}]


def test_a_group_is_no_larger_than_a_row(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "MOST_EVENTS", 3)
    monkeypatch.setattr(grouping, "MOST_BYTES", 99)
    with callers.held():
        others = [callers.waiting(callers.log.append, TOPIC, Event(text)) for text in ["1", "2", "3", "4", "x" * 99, "5"]]
    assert [other.result(WAIT).first for other in others] == [3, 4, 5, 6, 7, 8]
    assert [[*commit.values()] for commit in callers.commits[1:]] == [[["1", "2", "3"]], [["4"]], [["x" * 99]], [["5"]]]


# Each by itself


def test_what_depends_on_more_than_an_open_topic_is_committed_alone(callers: Callers) -> None:
    callers.log.acquire(TOPIC, "r1", 30)
    with callers.held():
        plain = [callers.waiting(callers.log.append, TOPIC, Event("2"))]
        about: list[dict[str, Any]] = [
            {"expect": 2},
            {"expect": 3},
            {"key": "k"},
            {"key": "k"},
            {"holder": "r1"},
            {"holder": "r2"},
        ]
        others = [callers.waiting(callers.log.append, TOPIC, Event(f"{one}"), **one) for one in about]
        plain.append(callers.waiting(callers.log.append, TOPIC, Event("3")))
    assert plain[0].result(WAIT).first == 3
    with pytest.raises(PositionConflict):
        others[0].result(WAIT)
    assert others[1].result(WAIT).first == 4
    assert others[2].result(WAIT).first == others[3].result(WAIT).first
    assert len(others[4].result(WAIT)) == 1
    with pytest.raises(LeaseLost):
        others[5].result(WAIT)
    assert len(plain[1].result(WAIT)) == 1
    assert sorted(texts(callers.log)) == sorted(["begins", "first", "2", "3", *(f"{about[number]}" for number in (1, 2, 4))])


def test_who_has_a_transaction_open_waits_for_nobody_here(callers: Callers) -> None:
    """It would keep the locks that it has, and the one before it may need them."""

    def joined() -> int:
        with transaction.atomic(using=callers.log.alias):
            appended = callers._append("other", [(Event("1"), 1)], None, None, None)
            assert callers.log._append_notified("other", [(Event("2"), 1)], None, None, None).first == appended.last + 1
            return callers.in_line()

    with callers.held() as first:
        callers._hold.set()
        assert callers.start(joined).result(WAIT) == 0
    first.result(WAIT)
    assert texts(callers.log, "other") == ["1", "2"]


def test_a_closed_topic_is_every_callers_own_error(callers: Callers) -> None:
    with callers.held() as first:
        others = [callers.waiting(callers.log.append, TOPIC, Event(f"{number}")) for number in range(3)]
        callers.start(callers.log.close, TOPIC).result(WAIT)
    errors = {future.exception(WAIT) for future in [first, *others]}
    assert {type(error) for error in errors} == {TopicClosed}
    assert len(errors) == 4, "an exception of its own for each"
    assert texts(callers.log) == ["begins"]


@only_sqlite
def test_a_topic_that_takes_no_more_harms_no_other_one(callers: Callers) -> None:
    callers.log.append("closed", Event("1"))
    callers.log.close("closed")
    with callers.held():
        others = [callers.waiting(callers.log.append, topic, Event("2")) for topic in [TOPIC, "closed", "new", TOPIC]]
    assert isinstance(others[1].exception(WAIT), TopicClosed)
    assert [others[number].result(WAIT).first for number in (0, 2, 3)] == [3, 1, 4]
    assert (texts(callers.log), texts(callers.log, "closed"), texts(callers.log, "new")) == (
        ["begins", "first", "2", "2"],
        ["1"],
        ["2"],
    )


@only_sqlite
def test_nobody_waits_for_those_of_another_database(callers: Callers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router may name one for each tenant."""
    first, here = callers.log.alias, threading.local()
    callers.log._named = None
    monkeypatch.setattr(router, "db_for_write", lambda model: getattr(here, "alias", first))

    def append_there() -> Appended:
        here.alias = "tenant"
        try:
            return callers.log.append(TOPIC, Event("there"))
        finally:
            connections["tenant"].close()
            del here.alias

    with database("tenant", {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db")}):
        with callers.held():
            there = callers.start(append_there)
            here_too = callers.waiting(callers.log.append, TOPIC, Event("here"))
        assert (there.result(WAIT).first, here_too.result(WAIT).first) == (1, 3)
        assert texts(DatabaseEventLog(ALIAS="tenant")) == ["there"]
    assert texts(callers.log) == ["begins", "first", "here"]


@only_postgres
def test_nobody_who_waits_in_line_has_the_connection_that_another_one_waits_for(alias: str) -> None:
    entry = {**connections.settings[alias], "OPTIONS": {"pool": {"min_size": 1, "max_size": 1, "timeout": WAIT}}}
    with extra_database("pooled", entry):
        log = DatabaseEventLog(ALIAS="pooled")
        begins = log.append(TOPIC, Event("begins"))  # and keeps the pool's one connection
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(append_and_close, log)
            until = time.monotonic() + WAIT
            while not connections["pooled"].pool.get_stats().get("requests_waiting"):
                assert time.monotonic() < until
                time.sleep(0.001)
            assert log.append(TOPIC, Event("first")).first == begins.last + 1
            connections["pooled"].close()
            assert other.result(WAIT).first == begins.last + 2


def append_and_close(log: DatabaseEventLog) -> Appended:
    try:
        return log.append(TOPIC, Event("second"))
    finally:
        connections[log.alias].close()


# The database fails


def failing(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("alias", ["sqlite", "postgres"], indirect=True)
def test_a_database_that_fails_is_told_to_each_of_a_group(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    with callers.held() as first:
        others = [callers.waiting(callers.log.append, TOPIC, Event(f"{number}")) for number in range(3)]
        fails = failing(OperationalError("server closed the connection unexpectedly"))
        monkeypatch.setattr(callers.log, "_append_directly", fails)
        monkeypatch.setattr(callers.log, "_appended", fails)
    errors = {future.exception(WAIT) for future in [first, *others]}
    assert len(errors) == 4
    assert {type(error) for error in errors} == {EventLogUnavailable}
    assert all("The database said: server closed" in str(error) for error in errors)
    assert len(callers.commits) == 2, "nobody tries what has failed for all"


@only_postgres
def test_whether_a_group_was_committed_may_be_unknown_to_each_of_it(callers: Callers, postgres_url: str) -> None:
    def lose_the_answer(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        execute(sql, params, many, context)
        if "both" in str(params):
            with psycopg.connect(postgres_url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'event_log'")
            raise OperationalError("server closed the connection unexpectedly")

    def append(text: str) -> Appended:
        connections[callers.log.alias].ensure_connection()
        with connections[callers.log.alias].execute_wrapper(lose_the_answer):
            return callers.log.append(TOPIC, Event(text))

    append("warm")
    with callers.held():
        others = [callers.waiting(append, f"both {number}") for number in range(2)]
    errors = [other.exception(WAIT) for other in others]
    assert {type(error) for error in errors} == {EventLogUnavailable}
    assert len({*errors}) == 2
    assert all("Whether it was committed is not known" in str(error) for error in errors)
    assert texts(callers.log) == ["begins", "warm", "first", "both 0", "both 1"]


def test_what_may_be_wrong_with_one_of_a_group_each_tries_by_itself(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    append = callers._append

    def picky(topic: str, events: Any, *about: Any) -> Appended:
        if any("odd" in event.data for event, _ in events):
            raise EventLogUnavailable("refused") from DatabaseError("odd")
        return append(topic, events, *about)

    callers._append = picky
    with callers.held():
        others = [callers.waiting(callers.log.append, TOPIC, Event(text)) for text in ["1", "odd", "2"]]
    assert isinstance(others[1].exception(WAIT), EventLogUnavailable)
    assert {len(others[number].result(WAIT)) for number in (0, 2)} == {1}
    assert sorted(texts(callers.log)) == ["1", "2", "begins", "first"]


# Callers that end early


@only_sqlite
def test_an_interrupted_leader_leaves_nobody_waiting(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    together = callers.log._append_together
    monkeypatch.setattr(callers.log, "_append_together", failing(KeyboardInterrupt()))
    with callers.held():
        leader, *others = [callers.waiting(callers.log.append, TOPIC, Event(f"{number}")) for number in range(3)]
    assert isinstance(leader.exception(WAIT), KeyboardInterrupt)
    for other in others:
        with pytest.raises(EventLogUnavailable, match=r"was interrupted\. Whether it was committed is not known"):
            other.result(WAIT)
    monkeypatch.setattr(callers.log, "_append_together", together)
    assert callers.log.append(TOPIC, Event("2")).first == 3


@only_sqlite
def test_who_is_interrupted_while_it_waits_leaves_the_line(callers: Callers) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with callers.held() as first:
            with pytest.raises(Interrupted):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                callers.log.append(TOPIC, Event("interrupted"))
            assert callers.in_line() == 0
            other = callers.waiting(callers.log.append, TOPIC, Event("2"))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert (first.result(WAIT).first, other.result(WAIT).first) == (2, 3)
    assert texts(callers.log) == ["begins", "first", "2"]


@pytest.mark.parametrize("alias", ["postgres"], indirect=True)
def test_who_has_waited_for_too_long_goes_alone(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "PATIENCE", 0.05)
    with callers.held() as first:
        other = callers.start(callers.log.append, TOPIC, Event("2"))
        until = time.monotonic() + WAIT
        while len(callers.commits) < 2:  # it is in the middle of an append of its own
            assert time.monotonic() < until
            time.sleep(0.001)
        assert callers.in_line() == 0
    assert {first.result(WAIT).first, other.result(WAIT).first} == {2, 3}
    assert sorted(texts(callers.log)) == ["2", "begins", "first"]


@only_sqlite
def test_an_append_in_the_middle_of_an_append_does_not_wait_for_itself(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> None:
    append = callers._append

    def chatty(topic: str, events: Any, *about: Any) -> Appended:
        if topic == TOPIC:
            callers.log.append("chatter", Event("1"))
        return append(topic, events, *about)

    callers._append = chatty
    assert callers.start(callers.log.append, TOPIC, Event("2")).result(WAIT).first == 2
    assert texts(callers.log, "chatter") == ["1"]


def test_a_forked_child_has_nobody_to_wait_for() -> None:
    group = grouping.GroupCommit()
    mine = grouping.PendingAppend(TOPIC, [(Event("1"), 1)], *grouping.PLAIN)

    def alone() -> Appended:
        group.reset()  # what a child does first; it has none of its parent's threads
        other = grouping.PendingAppend(TOPIC, [(Event("2"), 1)], *grouping.PLAIN)
        return group.append("", other, lambda: Appended("e", 2, 2), lambda topics: {})

    assert group.append("", mine, alone, lambda topics: {}).first == 2
    assert group._queues == {}


# Many at once


def test_of_many_at_once_each_stands_where_it_was_told(callers: Callers, alias: str) -> None:
    """Appends of every kind at random; what succeeded is there, where its caller was told, and nothing else."""
    log, count = callers.log, 20 if alias == "mariadb" else 40
    for number in range(3):
        log.append(f"t{number}", Event("begins"))

    def call(worker: int) -> list[tuple[str, str, int]]:
        chance, done = random.Random(worker), []
        for number in range(count):
            topic, text = f"t{chance.randrange(4)}", f"{worker}.{number}"
            about: dict[str, Any] = chance.choice([{}, {}, {}, {"key": text}, {"expect": chance.randrange(30)}, {"holder": "r"}])
            with suppress(TopicClosed, PositionConflict, LeaseLost):
                appended = log.append(topic, [Event(f"{text}.{one}") for one in range(chance.randint(1, 3))], **about)
                done += [(topic, f"{text}.{one}", position.offset) for one, position in enumerate(appended)]
            if topic == "t2" and chance.random() < 0.02:
                log.close(topic)
        return done

    workers = [callers.start(call, worker) for worker in range(12)]
    done = sorted(entry for worker in workers for entry in worker.result(300))
    there = []
    for topic in log.topics():
        records = [*log.read_after(topic, limit=10_000).records]
        assert [record.offset for record in records] == list(range(1, len(records) + 1))
        there += [(topic, record.event.data, record.offset) for record in records]
    assert sorted(entry for entry in there if entry[1] != "begins") == done
