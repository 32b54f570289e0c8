"""Topics with very many rows: what ends or is trimmed is gone at once, and its rows go in steps that hold up nobody."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_agent_sse.eventlog.database import DatabaseEventLog, sweeping
from django_agent_sse.eventlog.database.sweeping import CLAIM_SECONDS, SWEPT, Sweeper
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.models import LogKey, LogMark, LogRow, LogTopic, TopicNote
from django_agent_sse.wire.event import Event

TOPIC = "builds.42"
STEP = 10
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sweeping", "store"):
        monkeypatch.setattr(f"django_agent_sse.eventlog.database.{module}.STEP_ROWS", STEP)


@pytest.fixture
def log(alias: str) -> DatabaseEventLog:
    return DatabaseEventLog(ALIAS=alias)


def fill(log: DatabaseEventLog, topic: str = TOPIC, rows: int = 5 * STEP + 3) -> None:
    for number in range(rows):
        log.append(topic, Event("error: it failed" if number % 2 else "ok"), key=f"{number}")


def left(log: DatabaseEventLog) -> dict[str, int]:
    """Rows of each table, and notes of what is to be swept."""
    models = {"rows": LogRow, "marks": LogMark, "keys": LogKey}
    found = {name: model._default_manager.using(log.alias).count() for name, model in models.items()}
    return {**found, "notes": TopicNote._default_manager.using(log.alias).filter(kind=SWEPT).count()}


NOTHING = {"rows": 0, "marks": 0, "keys": 0, "notes": 0}


def transactions(alias: str, queries: CaptureQueriesContext) -> list[list[str]]:
    """The statements that delete events, by transaction."""
    found: list[list[str]] = [[]]
    for query in queries.captured_queries:
        sql = query["sql"]
        if sql.startswith("DELETE") and LogRow._meta.db_table in sql:
            found[-1].append(sql)
        elif sql.startswith("COMMIT"):
            found.append([])
    return [part for part in found if part]


def test_a_topic_with_many_rows_is_deleted_in_steps(log: DatabaseEventLog) -> None:
    fill(log)
    with CaptureQueriesContext(connections[log.alias]) as queries:
        assert log.delete(TOPIC)
    assert left(log) == NOTHING
    assert [len(part) for part in transactions(log.alias, queries)] == [1] * 6


def test_each_step_looks_only_behind_the_one_before(log: DatabaseEventLog) -> None:
    """Else PostgreSQL passes each time over all that is deleted and not yet vacuumed, which grows with the square of the rows."""
    fill(log)
    with CaptureQueriesContext(connections[log.alias]) as queries:
        assert log.delete(TOPIC)
    asked = [query["sql"] for query in queries.captured_queries if LogRow._meta.db_table in query["sql"]]
    found = [re.search(r'last["`] > (\d+)', sql) for sql in asked if sql.startswith(("SELECT", "DELETE"))]
    assert None not in found
    behind = [int(bound[1]) for bound in found if bound is not None]
    assert [*dict.fromkeys(behind)] == [*range(0, 5 * STEP + 1, STEP), 5 * STEP + 3]


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
def test_followers_hear_of_a_deletion_before_its_rows_are_deleted(log: DatabaseEventLog, inside: bool) -> None:
    fill(log)
    seen: list[tuple[str, int, bool]] = []
    log.on_change = lambda topic, *page: seen.append((topic, left(log)["rows"], connections[log.alias].in_atomic_block))
    with transaction.atomic(using=log.alias) if inside else nullcontext():
        log.delete(TOPIC)
        assert bool(seen) is not inside
    assert seen == [(TOPIC, 5 * STEP + 3, False)]
    assert left(log) == NOTHING


def test_a_topic_is_trimmed_in_steps(log: DatabaseEventLog) -> None:
    fill(log)
    with CaptureQueriesContext(connections[log.alias]) as queries:
        assert log.trim(TOPIC, max_events=2) == 5 * STEP + 1
    deletions = transactions(log.alias, queries)
    assert [len(part) for part in deletions] == [1] * 6
    # Of two bounds SQLite may find rows by the wrong one, and look at all that are to go, each time.
    assert [len(re.findall(r"<= ", sql)) for (sql,) in deletions] == [1] * 6
    assert (left(log)["rows"], left(log)["notes"]) == (2, 0)
    state = log.state(TOPIC)
    assert (state.events, state.top) == (2, 5 * STEP + 3)
    assert [record.offset for record in log.read_after(TOPIC, 0).records] == [5 * STEP + 2, 5 * STEP + 3]
    assert log.append(TOPIC, Event("next")).first == 5 * STEP + 4


def test_a_step_has_no_more_bytes_than_fit(log: DatabaseEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "STEP_BYTES", 3_000)
    for _ in range(STEP + 2):
        log.append(TOPIC, Event("x" * 1_000))
    with CaptureQueriesContext(connections[log.alias]) as queries:
        log.delete(TOPIC)
    assert len(transactions(log.alias, queries)) == 3
    assert left(log) == NOTHING


def test_others_read_and_write_between_two_steps(log: DatabaseEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lock outlives a step, of SQLite neither."""
    fill(log)
    fill(log, "other", 1)
    step, seen = Sweeper._step, list[int]()

    def between(sweeper: Sweeper, *args: Any) -> Any:
        done = step(sweeper, *args)
        with transaction.atomic(using=log.alias):  # it is the caller's transaction that others wait for: look after its end
            transaction.on_commit(lambda: seen.append(thread.submit(lambda: append(log)).result(PATIENCE)), using=log.alias)
        return done

    monkeypatch.setattr(Sweeper, "_step", between)
    with ThreadPoolExecutor(1) as thread:
        log.delete(TOPIC)
        thread.submit(lambda: connections[log.alias].close()).result(PATIENCE)
    assert seen == list(range(2, 2 + len(seen)))
    assert len(seen) >= 6


def append(log: DatabaseEventLog) -> int:
    return log.append("other", Event("x")).first


def test_a_new_topic_of_the_same_name_is_not_swept(log: DatabaseEventLog) -> None:
    fill(log)
    with transaction.atomic(using=log.alias):
        log.delete(TOPIC)
        log.append(TOPIC, Event("anew"))
    assert [record.event.data for record in log.read_after(TOPIC, 0).records] == ["anew"]
    assert (left(log)["rows"], left(log)["notes"]) == (1, 0)


def test_what_is_rolled_back_is_not_swept(log: DatabaseEventLog) -> None:
    fill(log)
    with pytest.raises(KeyError), transaction.atomic(using=log.alias):
        log.delete(TOPIC)
        raise KeyError
    assert len(log.read_after(TOPIC, 0, 100).records) == 5 * STEP + 3
    assert left(log)["notes"] == 0


def killed(*_: object) -> Iterator[None]:
    """Steps of a process that ends before the first one."""
    return iter(())


def test_what_a_process_that_died_has_left_is_swept_by_the_next(log: DatabaseEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(log)
    with monkeypatch.context() as dying:
        dying.setattr(Sweeper, "_steps", killed)
        log.delete(TOPIC)
    assert left(log)["rows"] == 5 * STEP + 3
    assert log.topics() == []
    log.append("other", Event("x"))
    log.trim("other")
    assert (left(log)["rows"], left(log)["notes"]) == (1, 0)


def test_of_one_that_died_amid_its_steps_the_claim_runs_out(log: DatabaseEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(log)
    with monkeypatch.context() as dying:
        dying.setattr(Sweeper, "_steps", killed)
        log.delete(TOPIC)
    steps = Sweeper(log.alias)._steps()
    next(steps)
    steps.close()
    Sweeper(log.alias).sweep()
    assert left(log)["rows"] == 4 * STEP + 3, "it may still be at work"
    now = sweeping.time.time
    monkeypatch.setattr(sweeping.time, "time", lambda: now() + CLAIM_SECONDS + 1)
    Sweeper(log.alias).sweep()
    assert left(log) == NOTHING


def test_a_trim_that_comes_meanwhile_is_swept_too(log: DatabaseEventLog) -> None:
    fill(log)
    with pytest.MonkeyPatch.context() as dying:
        dying.setattr(Sweeper, "_steps", killed)
        log.trim(TOPIC, max_events=3 * STEP)
    steps = Sweeper(log.alias)._steps()
    next(steps)
    log.trim(TOPIC, max_events=1)
    assert [*steps] == [None]
    assert (left(log)["rows"], left(log)["notes"]) == (1, 0)


def test_an_append_beyond_new_limits_waits_for_no_deletion(alias: str) -> None:
    fill(DatabaseEventLog(ALIAS=alias))
    log = DatabaseEventLog(ALIAS=alias, MAX_EVENTS=2)
    with CaptureQueriesContext(connections[alias]) as queries:
        log.append(TOPIC, Event("last"))
    assert transactions(alias, queries) == [], "the threads that write do it"
    settle(log)
    assert (left(log)["rows"], left(log)["notes"]) == (2, 0)


def test_an_eviction_waits_for_no_deletion(alias: str) -> None:
    fill(DatabaseEventLog(ALIAS=alias))
    log = DatabaseEventLog(ALIAS=alias, MAX_TOPICS=1)
    with CaptureQueriesContext(connections[alias]) as queries:
        log.append("new", Event("x"))
    assert transactions(alias, queries) == []
    settle(log)
    assert log.topics() == ["new"]
    assert (left(log)["rows"], left(log)["notes"]) == (1, 0)


def settle(log: DatabaseEventLog) -> None:
    """Wait until nothing is left to sweep."""
    until = time.monotonic() + PATIENCE
    while left(log)["notes"]:
        assert time.monotonic() < until, left(log)
        time.sleep(0.02)


def test_a_database_that_fails_meanwhile_is_said_and_the_topic_is_gone(
    log: DatabaseEventLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> Iterator[None]:
        raise EventLogUnavailable("it is away")
        yield

    fill(log)
    monkeypatch.setattr(Sweeper, "_steps", away)
    assert log.delete(TOPIC), "it is gone, whatever becomes of its rows"
    assert "not deleted yet" in caplog.text
    caplog.clear()
    Sweeper(log.alias).sweep_soon()
    until = time.monotonic() + PATIENCE
    while "not deleted yet" not in caplog.text:  # it is one of two threads that writes
        assert time.monotonic() < until
        time.sleep(0.01)


def test_rows_below_the_floor_are_not_found_by_anybody(log: DatabaseEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """While they are being swept they are as if they were gone."""
    fill(log)
    with monkeypatch.context() as dying:
        dying.setattr(Sweeper, "_steps", killed)
        log.trim(TOPIC, max_events=4)
    assert left(log)["rows"] == 5 * STEP + 3
    page = log.read_after(TOPIC, 0)
    assert (page.floor, [record.offset for record in page.records]) == (5 * STEP - 1, [*range(5 * STEP, 5 * STEP + 4)])
    assert log.state(TOPIC).events == 4
    log.trim(TOPIC, max_events=3)
    assert LogTopic._default_manager.using(log.alias).get(name=TOPIC).floor == 5 * STEP
    assert (left(log)["rows"], left(log)["notes"]) == (3, 0)
