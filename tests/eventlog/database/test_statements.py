"""Appends in as few statements as PostgreSQL and SQLite take: they do what the ORM's do, also where callers meet."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connections, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_agent_sse.eventlog.database import DatabaseEventLog
from django_agent_sse.eventlog.records import Appended
from django_agent_sse.exceptions import EventLogError, EventLogUnavailable, LeaseLost, PositionConflict, TopicClosed
from django_agent_sse.models import LogKey, LogMark, LogRow, LogTopic
from django_agent_sse.wire.event import Event
from tests.log_databases import database

TOPIC = "builds.42"
DERIVED = "tests.eventlog.database.derived"
with_statements = pytest.mark.parametrize("alias", ["sqlite", "postgres"], indirect=True)
only_postgres = pytest.mark.parametrize("alias", ["postgres"], indirect=True)


@pytest.fixture
def log(alias: str) -> DatabaseEventLog:
    made = DatabaseEventLog(ALIAS=alias)
    made.append(TOPIC, Event("1"))
    return made


@pytest.fixture
def derived(alias: str) -> Iterator[str]:
    """The same database by an engine that is derived from Django's."""
    entry = connections.databases[alias]
    with database("derived", {**entry, "ENGINE": f"{DERIVED}.{connections[alias].vendor}"}, migrate=False) as name:
        yield name


def texts(log: DatabaseEventLog) -> list[str]:
    return [record.event.data for record in log.read_after(TOPIC).records]


def statements(alias: str, call: Callable[[], object]) -> list[str]:
    """The first words of what a call asks of the database."""
    with CaptureQueriesContext(connections[alias]) as captured:
        call()
    return [query["sql"].split()[0] for query in captured]


# How many they are


@pytest.mark.parametrize("about", [{}, {"expect": 1}, {"key": "k"}], ids=["plain", "expect", "key"])
@only_postgres
def test_on_postgresql_it_is_one_statement_without_a_transaction(log: DatabaseEventLog, about: dict[str, Any]) -> None:
    asked = statements(log.alias, lambda: log.append(TOPIC, [Event("ERROR: 2"), Event("3")], **about))
    assert asked == ["WITH"]
    assert texts(log) == ["1", "ERROR: 2", "3"]


@only_postgres
def test_what_depends_on_other_tables_has_the_topics_lock_first(log: DatabaseEventLog) -> None:
    log.acquire(TOPIC, "r1", 30)
    assert statements(log.alias, lambda: log.append(TOPIC, Event("2"), holder="r1")) == ["BEGIN", "SELECT", "WITH", "COMMIT"]
    with transaction.atomic(using=log.alias):
        assert statements(log.alias, lambda: log.append(TOPIC, Event("3"), key="k")) == ["SELECT", "WITH"]
        assert statements(log.alias, lambda: log.append(TOPIC, Event("4"))) == ["WITH"]
    assert texts(log) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("alias", ["sqlite"], indirect=True)
def test_on_sqlite_it_is_an_update_and_what_is_inserted(log: DatabaseEventLog) -> None:
    log.acquire(TOPIC, "r1", 30)
    assert statements(log.alias, lambda: log.append(TOPIC, Event("2"))) == ["BEGIN", "UPDATE", "INSERT", "COMMIT"]
    with transaction.atomic(using=log.alias):
        asked = statements(log.alias, lambda: log.append(TOPIC, Event("ERROR: 3"), holder="r1", key="k"))
    assert asked == ["SAVEPOINT", "UPDATE", "INSERT", "INSERT", "INSERT", "RELEASE"]
    assert texts(log) == ["1", "2", "ERROR: 3"]


@with_statements
def test_an_engine_that_is_derived_from_djangos_has_the_orms(log: DatabaseEventLog, derived: str) -> None:
    asked = statements(derived, lambda: DatabaseEventLog(ALIAS=derived).append(TOPIC, Event("2")))
    assert asked == ["BEGIN", "UPDATE", "SELECT", "INSERT", "COMMIT"]
    assert texts(log) == ["1", "2"]


# The same as the ORM's

LARGE = "x" * 70_000
"""More than one statement takes."""
STEP = st.one_of(
    st.tuples(
        st.just("append"),
        st.lists(st.sampled_from(["x", "fine", "ERROR: a", "WARNING: b", "ü" * 40, "large"]), max_size=4),
        st.sampled_from([{}, {}, {"key": "a"}, {"key": "b"}, {"holder": "r1"}, {"holder": "r2"}, {"holder": "r1", "key": "a"}]),
        st.sampled_from([None, None, 0, 1, "top"]),
    ),
    st.tuples(st.sampled_from(["acquire", "release"]), st.sampled_from(["r1", "r2"])),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 30.0, 100.0])),
    st.tuples(st.sampled_from(["trim", "close", "delete"])),
)


class Script:
    """Runs steps against a log in a time of its own, and notes what they return or raise."""

    def __init__(self, alias: str, atomic: bool) -> None:
        self.log = DatabaseEventLog(ALIAS=alias, MAX_EVENTS=20, MAX_BYTES=200_000, MAX_AGE=150, KEY_WINDOW=50)
        if connections[alias].vendor == "sqlite":
            with connections[alias].cursor() as cursor:
                cursor.execute("PRAGMA synchronous = OFF")  # thousands of commits
        self.log.clear_all()
        self.log._now = lambda: self._at
        self._at, self._atomic, self.outcomes = 1000.0, atomic, list[object]()

    def run(self, steps: list[Any]) -> tuple[Any, ...]:
        for kind, *about in steps:
            try:
                if self._atomic:
                    with transaction.atomic(using=self.log.alias):
                        self._step(kind, *about)
                else:
                    self._step(kind, *about)
            except EventLogError as error:
                text = str(error).replace(self.log.alias, "alias")
                self.outcomes.append((type(error), re.sub(r"for [\d.]+ s more", "for some time", text)))
        return self.outcomes, *self._tables(), replace(self.log.state(TOPIC), epoch="")

    def _step(self, kind: str, *about: Any) -> None:
        self._at += 1.0
        if kind == "wait":
            self._at += about[0]
        elif kind == "append":
            events, more, expect = about
            self._append(events, expect=self.log.state(TOPIC).top if expect == "top" else expect, **more)
        elif kind == "acquire":
            self.outcomes.append(self.log.acquire(TOPIC, about[0], 300).holder)
        elif kind == "trim":
            self.outcomes.append(self.log.trim(TOPIC, max_events=0))
        else:
            self.outcomes.append(getattr(self.log, kind)(TOPIC, *about))

    def _append(self, events: list[str], **about: Any) -> None:
        made = [Event(LARGE if text == "large" else text, event="stdout") for text in events]
        appended: Appended = self.log.append(TOPIC, made, **about)
        self.outcomes.append((appended.first, appended.last, appended.epoch == self.log.state(TOPIC).epoch))

    def _tables(self) -> Iterator[list[Any]]:
        for model in (LogTopic, LogRow, LogKey, LogMark):
            names = [field.attname for field in model._meta.fields if field.attname not in ("id", "topic_id", "epoch")]
            yield sorted(model._default_manager.using(self.log.alias).values_list(*names))


@with_statements
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=5, max_size=25), atomic=st.booleans())
def test_tables_outcomes_and_errors_are_those_of_the_orm(alias: str, derived: str, steps: list[Any], atomic: bool) -> None:
    steps = [("append", ["begins"], {}, None), *steps]
    with pytest.MonkeyPatch.context() as patched:
        for module in ("log", "statements"):
            patched.setattr(f"django_agent_sse.eventlog.database.{module}.KEYS_EVERY", 4)
        assert Script(alias, atomic).run(steps) == Script(derived, atomic).run(steps)


def test_parameters_that_the_server_binds_are_taken(postgres_alias: str, django_db_blocker: Any) -> None:
    entry = {**connections.databases[postgres_alias], "OPTIONS": {"server_side_binding": True}}
    with django_db_blocker.unblock(), database("binding", entry, migrate=False) as alias:
        log = DatabaseEventLog(ALIAS=alias)
        log.clear_all()
        log.append(TOPIC, Event("1"))
        log.acquire(TOPIC, "r1", 30)
        assert statements(alias, lambda: log.append(TOPIC, Event("ERROR: 2"), key="k", expect=1)) == ["WITH"]
        assert log.append(TOPIC, Event("3"), holder="r1", key="l").first == 3
        assert log.append(TOPIC, Event("2"), key="k").first == 2
        assert texts(log) == ["1", "ERROR: 2", "3"]
        large = "x" * 600_000  # which is sent in several parts
        assert log.append(TOPIC, Event(large)).first == 4
        assert [record.event.data == large for record in log.read_after(TOPIC, 3).records] == [True]


# Callers that meet


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A thread with a connection of its own."""
    with ThreadPoolExecutor(1) as thread:
        yield thread
        thread.submit(connections.close_all).result(60)


def waits_for_a_lock(alias: str) -> bool:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


def begun(pool: ThreadPoolExecutor, log: DatabaseEventLog, call: Callable[[], Any]) -> Future[Any]:
    """Call in the other thread, which gets as far as the topic's lock, that this one holds."""
    future = pool.submit(call)
    deadline = time.monotonic() + 60
    while not waits_for_a_lock(log.alias):
        assert time.monotonic() < deadline, "it does not wait"
        assert not future.done(), future.result()
        time.sleep(0.005)
    return future


def connected(pool: ThreadPoolExecutor, log: DatabaseEventLog) -> None:
    """Have the other thread's connection open, as it is after its first query."""
    pool.submit(log.state, TOPIC).result(60)


@pytest.mark.parametrize("joined", [False, True], ids=["by itself", "in a transaction"])
@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
@only_postgres
def test_of_two_callers_with_one_key_at_once_one_appends(
    log: DatabaseEventLog, pool: ThreadPoolExecutor, joined: bool, commits: bool
) -> None:
    connected(pool, log)

    def again() -> Appended:
        if not joined:
            return log.append(TOPIC, Event("b"), key="k")
        with transaction.atomic(using=log.alias):
            return log.append(TOPIC, Event("b"), key="k")

    with transaction.atomic(using=log.alias):
        first = log.append(TOPIC, Event("a"), key="k")
        other = begun(pool, log, again)
        transaction.set_rollback(not commits, using=log.alias)
    assert other.result(60) == first, "the second one is told of the first, or is it"
    assert texts(log) == ["1", "a" if commits else "b"]
    assert LogKey.objects.using(log.alias).count() == 1


@pytest.mark.parametrize("joined", [False, True], ids=["by itself", "in a transaction"])
@only_postgres
def test_whoever_loses_the_lease_while_waiting_for_the_topic_appends_nothing(
    log: DatabaseEventLog, pool: ThreadPoolExecutor, joined: bool
) -> None:
    """When its append began, the lease was held; when it has its turn, somebody else has it."""
    log.acquire(TOPIC, "r1", 30)
    connected(pool, log)

    def late() -> Appended:
        if not joined:
            return log.append(TOPIC, Event("late"), holder="r1")
        with transaction.atomic(using=log.alias):
            return log.append(TOPIC, Event("late"), holder="r1")

    with transaction.atomic(using=log.alias):
        log.append(TOPIC, Event("2"))
        other = begun(pool, log, late)
        with ThreadPoolExecutor(1) as third:
            assert third.submit(log.release, TOPIC, "r1").result(60)
            third.submit(connections.close_all).result(60)
        log.acquire(TOPIC, "r2", 30)
    with pytest.raises(LeaseLost):
        other.result(60)
    assert log.append(TOPIC, Event("3"), holder="r2").first == 3
    assert texts(log) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("meanwhile", "about", "error"),
    [
        (lambda log: log.close(TOPIC), {}, TopicClosed),
        (lambda log: log.append(TOPIC, Event("2")), {"expect": 1}, PositionConflict),
        (lambda log: log.delete(TOPIC), {"expect": 1}, PositionConflict),
    ],
    ids=["closed", "appended to", "deleted"],
)
@only_postgres
def test_a_topic_that_changes_while_an_append_waits_is_taken_as_it_is_then(
    log: DatabaseEventLog, pool: ThreadPoolExecutor, meanwhile: Callable[[Any], Any], about: Any, error: type[Exception]
) -> None:
    connected(pool, log)
    with transaction.atomic(using=log.alias):
        meanwhile(log)
        other = begun(pool, log, lambda: log.append(TOPIC, Event("late"), **about))
    with pytest.raises(error):
        other.result(60)
    assert "late" not in texts(log)


# Connections that are lost


def end_connections(url: str, where: str = "true") -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute(  # type: ignore[call-overload]
            f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'event_log' AND {where}"
        )


@only_postgres
def test_a_connection_that_ends_while_nobody_uses_it_is_replaced(log: DatabaseEventLog, postgres_url: str) -> None:
    end_connections(postgres_url)
    assert log.append(TOPIC, Event("2")).first == 2
    assert statements(log.alias, lambda: log.append(TOPIC, Event("3"))) == ["WITH"], "and the new one is like any other"
    assert texts(log) == ["1", "2", "3"]


@only_postgres
def test_a_connection_that_ends_in_the_middle_of_an_append_is_an_error_that_says_what_is_not_known(
    log: DatabaseEventLog, pool: ThreadPoolExecutor, postgres_url: str
) -> None:
    """Nobody tells a statement that was committed from one that was not: it is not sent again."""
    connected(pool, log)
    with transaction.atomic(using=log.alias):
        log.append(TOPIC, Event("2"))
        other = begun(pool, log, lambda: log.append(TOPIC, Event("lost")))
        end_connections(postgres_url, "pid IN (SELECT pid FROM pg_locks WHERE NOT granted)")
        with pytest.raises(EventLogUnavailable, match=r"cannot be reached, or gave up.*Whether it was committed is not known"):
            other.result(60)
    assert texts(log) == ["1", "2"]
    assert pool.submit(log.append, TOPIC, Event("3")).result(60).first == 3, "with another connection"


@only_postgres
def test_a_connection_that_ends_in_the_callers_transaction_takes_all_of_it_with_it(
    log: DatabaseEventLog, postgres_url: str
) -> None:
    with (
        pytest.raises(EventLogUnavailable, match=r"cannot be reached, or gave up.*Nothing was changed"),
        transaction.atomic(using=log.alias),
    ):
        log.append(TOPIC, Event("lost"))
        end_connections(postgres_url)
        log.append(TOPIC, Event("lost"))
    assert log.append(TOPIC, Event("2")).first == 2
    assert texts(log) == ["1", "2"]


@pytest.mark.parametrize("about", [{}, {"key": "k"}], ids=["plain", "key"])
@only_postgres
def test_an_append_whose_answer_is_lost_is_there_once(log: DatabaseEventLog, postgres_url: str, about: dict[str, Any]) -> None:
    def lose_the_answer(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        execute(sql, params, many, context)
        end_connections(postgres_url)
        raise OperationalError("server closed the connection unexpectedly")

    with (
        connections[log.alias].execute_wrapper(lose_the_answer),
        pytest.raises(EventLogUnavailable, match=r"Whether it was committed is not known.*said: server closed"),
    ):
        log.append(TOPIC, Event("2"), **about)
    assert texts(log) == ["1", "2"]
    if about:
        assert log.append(TOPIC, Event("2"), **about).first == 2, "with a key it can be published again"
    assert texts(log) == ["1", "2"]


@only_postgres
def test_a_lock_that_others_keep_for_too_long_is_asked_for_again(log: DatabaseEventLog, pool: ThreadPoolExecutor) -> None:
    """What the database has refused is known not to be committed."""

    tries: list[str] = []

    def noted(execute: Any, sql: str, *about: Any) -> Any:
        tries.append(sql)
        return execute(sql, *about)

    def impatient() -> int | None:
        with connections[log.alias].cursor() as cursor:
            cursor.execute("SET lock_timeout = '1ms'")
        with connections[log.alias].execute_wrapper(noted):
            return log.append(TOPIC, Event("3")).first

    with transaction.atomic(using=log.alias):
        log.append(TOPIC, Event("2"))
        other = pool.submit(impatient)
        deadline = time.monotonic() + 60
        while len(tries) < 2:  # it was refused, and asks again
            assert not other.done(), other.result()
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert other.result(60) == 3
    assert texts(log) == ["1", "2", "3"]
