"""What goes wrong with a database: typed errors that name the fix, and nothing half-appended."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connections, transaction

from django_agent_sse.eventlog.database import DatabaseEventLog, transactions
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.models import LogRow
from django_agent_sse.wire.event import Event
from tests.log_databases import database

TOPIC = "builds.42"
SQLITE = "django.db.backends.sqlite3"


@pytest.fixture(autouse=True)
def unblocked(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def sqlite_file(tmp_path: Path) -> dict[str, Any]:
    """A database of this test's own that another connection may hold."""
    return {"ENGINE": SQLITE, "NAME": str(tmp_path / "own.sqlite3")}


@pytest.fixture
def postgres(postgres_database: dict[str, Any], postgres_url: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A database of this test's own."""
    name = f"own_{abs(hash(request.node.nodeid))}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
    return {**postgres_database, "NAME": name}


@pytest.fixture(params=["sqlite_file", "postgres"])
def entry(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = request.getfixturevalue(request.param)
    return found


def texts(log: DatabaseEventLog) -> list[str]:
    return [record.event.data for record in log.read_after(TOPIC).records]


# What is missing, or may not be


def test_without_the_migration_every_verb_names_it(entry: dict[str, Any]) -> None:
    with database("own", entry, migrate=False) as alias:
        log = DatabaseEventLog(ALIAS=alias)
        hint = r"the tables of the event log are not in DATABASES\['own'\].*run `manage\.py migrate --database own`"
        with pytest.raises(EventLogUnavailable, match=rf"{hint}.*Nothing was changed"):
            log.append(TOPIC, Event("x"))
        for verb in ("read_after", "state", "close", "delete", "trim"):
            with pytest.raises(EventLogUnavailable, match=hint):
                getattr(log, verb)(TOPIC)
        with pytest.raises(EventLogUnavailable, match=hint):
            log.summaries([TOPIC])
        with pytest.raises(EventLogUnavailable, match=hint):
            log.topics()


def test_a_server_that_is_not_there(postgres_database: dict[str, Any], tmp_path: Path) -> None:
    for away in ({**postgres_database, "HOST": str(tmp_path)}, {"ENGINE": SQLITE, "NAME": str(tmp_path / "no" / "db.sqlite3")}):
        with database("own", away, migrate=False) as alias:
            log = DatabaseEventLog(ALIAS=alias)
            with pytest.raises(
                EventLogUnavailable, match=r"DATABASES\['own'\] cannot be reached.*is the server up.*Nothing was ch"
            ):
                log.append(TOPIC, Event("x"))
            with pytest.raises(EventLogUnavailable, match=r"cannot be reached.*Nothing was read"):
                log.read_after(TOPIC)


def test_a_read_only_database_is_read_and_says_what_it_is(entry: dict[str, Any]) -> None:
    with database("own", entry) as alias:
        DatabaseEventLog(ALIAS=alias).append(TOPIC, Event("one"))
    if entry["ENGINE"] == SQLITE:
        read_only = {**entry, "NAME": f"file:{entry['NAME']}?mode=ro", "OPTIONS": {"uri": True}}
    else:
        read_only = {**entry, "OPTIONS": {"options": "-c default_transaction_read_only=on"}}
    with database("own", read_only, migrate=False) as alias:
        log = DatabaseEventLog(ALIAS=alias)
        assert texts(log) == ["one"]
        for verb in (lambda: log.append(TOPIC, Event("x")), lambda: log.close(TOPIC), lambda: log.trim(TOPIC, max_events=0)):
            with pytest.raises(EventLogUnavailable, match=r"DATABASES\['own'\] is read-only: .*'ALIAS'"):
                verb()


# A full disk


def can_mount() -> bool:
    """Whether a file system of a few hundred kilobytes can be made here."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False).returncode
        == 0
    )


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of two megabytes. Not in ``tmp_path``, which every pytest that begins closes to other users."""
    place = Path(tempfile.mkdtemp(prefix="sse-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()


@pytest.fixture
def full_sqlite(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """On a small disk; where none can be mounted, a file that SQLite itself keeps as small, and is full as well."""
    if can_mount():
        return {"ENGINE": SQLITE, "NAME": str(request.getfixturevalue("small_disk") / "db.sqlite3")}
    return {"ENGINE": SQLITE, "NAME": str(tmp_path / "db.sqlite3"), "OPTIONS": {"init_command": "PRAGMA max_page_count=256"}}


@pytest.fixture
def full_postgres(request: pytest.FixtureRequest, postgres: dict[str, Any], postgres_url: str) -> Iterator[dict[str, Any]]:
    """With its tables on a small disk, which it leaves empty: no checkpoint of the server succeeds while a file is missing."""
    disk: Path = request.getfixturevalue("small_disk")
    shutil.chown(disk, "nobody")
    name = f"small_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE {name} LOCATION '{disk}'")  # type: ignore[call-overload]
        try:
            yield {**postgres, "OPTIONS": {"options": f"-c default_tablespace={name}"}}
        finally:
            connection.execute(f"DROP DATABASE {postgres['NAME']} WITH (FORCE)")  # type: ignore[call-overload]
            connection.execute(f"DROP TABLESPACE {name}")  # type: ignore[call-overload]
            connection.execute("CHECKPOINT")


@pytest.mark.parametrize("which", ["full_sqlite", *(["full_postgres"] if can_mount() else [])])
def test_a_full_disk_is_named_and_nothing_is_half_appended(which: str, request: pytest.FixtureRequest) -> None:
    with database("own", request.getfixturevalue(which)) as alias:
        log = DatabaseEventLog(ALIAS=alias)
        noise = os.urandom(30_000).hex()  # PostgreSQL compresses what repeats itself
        appended = 0
        with pytest.raises(EventLogUnavailable, match=r"the disk of DATABASES\['own'\] is full: free some.*Nothing was changed"):
            for _ in range(100):
                log.append(TOPIC, [Event(noise[: 30_000 + appended]), Event("end")])
                appended += 2
        assert appended >= 2
        state = log.state(TOPIC)
        assert state.top == state.events == appended
        assert len(log.read_after(TOPIC, appended - 2).records) == 2


# Damage


@pytest.mark.parametrize("payload", ['["a"', '["a","b","c"]', "7", ""])
def test_a_broken_row_names_itself_and_what_is_around_it_is_read(alias: str, payload: str) -> None:
    log = DatabaseEventLog(ALIAS=alias)
    for text in ("one", "two", "three"):
        log.append(TOPIC, Event(text))
    LogRow.objects.using(alias).filter(last=2).update(payload=payload)
    assert log.read_after(TOPIC, 0, 1).records[0].event.data == "one"
    assert log.read_after(TOPIC, 2).records[0].event.data == "three"
    with pytest.raises(
        EventLogUnavailable, match=r"'builds\.42' is damaged: its row in \w+ with topic_id=\d+ and last=2 "
    ) as raised:
        log.read_after(TOPIC, 1)
    assert "event_log().trim('builds.42', max_events=1)" in str(raised.value)
    assert log.append(TOPIC, Event("four")).first == 4, "publishing goes on"
    log.trim(TOPIC, max_events=2)
    assert texts(log) == ["three", "four"]


def test_a_missing_row_is_told_from_a_trimmed_one(alias: str) -> None:
    log = DatabaseEventLog(ALIAS=alias)
    for text in ("one", "two", "three"):
        log.append(TOPIC, Event(text))
    LogRow.objects.using(alias).filter(last=2).delete()
    assert texts(log) == ["one"], "a page never skips"
    with pytest.raises(EventLogUnavailable, match=r"last=2 is missing"):
        log.read_after(TOPIC, 1)


# Others


def test_a_connection_that_was_lost_is_replaced_without_an_error(postgres_alias: str, postgres_url: str) -> None:
    log = DatabaseEventLog(ALIAS=postgres_alias)
    log.clear_all()

    def end_connections() -> None:
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'event_log'")

    end_connections()
    log.append(TOPIC, Event("one"))
    end_connections()
    assert texts(log) == ["one"]
    with pytest.raises(EventLogUnavailable, match="cannot be reached, or gave up"), transaction.atomic(using=postgres_alias):
        log.append(TOPIC, Event("lost"))
        end_connections()
        log.append(TOPIC, Event("lost"))
    assert log.append(TOPIC, Event("two")).first == 2


def test_serialization_failures_are_tried_again(postgres: dict[str, Any]) -> None:
    with database("own", {**postgres, "OPTIONS": {"isolation_level": psycopg.IsolationLevel.SERIALIZABLE}}) as alias:
        log = DatabaseEventLog(ALIAS=alias)

        def publish(number: int) -> list[int]:
            try:
                return [log.append(TOPIC, Event(f"{number}.{part}")).first for part in range(25)]
            finally:
                connections.close_all()

        with ThreadPoolExecutor(4) as pool:
            offsets = sorted(offset for found in pool.map(publish, range(4)) for offset in found)
        assert offsets == list(range(1, 101))


def test_deadlocks_between_transactions_are_an_error_of_one_of_them_only(postgres_alias: str) -> None:
    log = DatabaseEventLog(ALIAS=postgres_alias)
    log.clear_all()
    log.append("a", Event("x"))
    log.append("b", Event("x"))
    both = threading.Barrier(2)

    def publish(first: str, second: str) -> str:
        try:
            with transaction.atomic(using=postgres_alias):
                log.append(first, Event("y"))
                both.wait(60)
                log.append(second, Event("y"))
            return "done"
        except EventLogUnavailable as error:
            return str(error)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as pool:
        ended = sorted(pool.map(publish, "ab", "ba"))
    assert ended[0] == "done"
    assert "others held DATABASES['log-postgres'] for too long: try again" in ended[1]
    assert (log.state("a").top, log.state("b").top) == (2, 2)


def test_sqlite_is_waited_for_longer_than_its_own_time_out(sqlite_file: dict[str, Any]) -> None:
    with database("own", {**sqlite_file, "OPTIONS": {"timeout": 0.01}}) as alias:
        log = DatabaseEventLog(ALIAS=alias)
        holder = sqlite3.connect(sqlite_file["NAME"], isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN EXCLUSIVE")
        release = threading.Timer(0.4, lambda: holder.execute("COMMIT"))
        began = time.monotonic()
        release.start()
        assert log.append(TOPIC, Event("one")).first == 1
        assert time.monotonic() - began > 0.2
        release.join()
        holder.close()


def test_a_lock_that_is_never_given_back_is_an_error_in_the_end(
    sqlite_file: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "RETRY_TIMEOUT", 0.1)
    with database("own", {**sqlite_file, "OPTIONS": {"timeout": 0.01}}) as alias:
        log = DatabaseEventLog(ALIAS=alias)
        holder = sqlite3.connect(sqlite_file["NAME"], isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        for verb in (lambda: log.append(TOPIC, Event("x")), lambda: log.read_after(TOPIC)):
            with pytest.raises(EventLogUnavailable, match=r"others held DATABASES\['own'\] for too long"):
                verb()
        holder.execute("COMMIT")
        holder.close()
        assert log.append(TOPIC, Event("x")).first == 1


@pytest.mark.parametrize("mode", ["IMMEDIATE", None])
def test_inside_a_callers_transaction_sqlite_needs_it_to_begin_with_the_lock(
    sqlite_file: dict[str, Any], mode: str | None
) -> None:
    """One that has read cannot write any more, once somebody else has written; the error names the option."""
    about = {"timeout": 5, "init_command": "PRAGMA journal_mode=wal"}
    with database("own", {**sqlite_file, "OPTIONS": {**about, "transaction_mode": mode}}) as alias:
        log = DatabaseEventLog(ALIAS=alias)
        log.append(TOPIC, Event("one"))
        other = threading.Thread(target=lambda: (log.append(TOPIC, Event("other's")), connections.close_all()))
        with transaction.atomic(using=alias):
            assert log.state(TOPIC).top == 1
            other.start()
            other.join(0.3 if mode else 60)
            if mode:
                assert log.append(TOPIC, Event("mine")).first == 2
            else:
                with pytest.raises(EventLogUnavailable, match=r"\['own'\]\['OPTIONS'\]\['transaction_mode'\] = 'IMMEDIATE'"):
                    log.append(TOPIC, Event("mine"))
        other.join(60)
        assert texts(log) == (["one", "mine", "other's"] if mode else ["one", "other's"])
