"""What ``check --deploy`` says of the database that keeps topics."""

from __future__ import annotations

from typing import Any

import pymysql
import pytest
from django.core.checks import run_checks
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import atomic
from django.test import override_settings

from django_agent_sse.eventlog.database import DatabaseEventLog
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.wire.event import Event
from tests.log_databases import database


def test_nothing_is_said_of_the_databases_that_the_log_is_tested_on(alias: str) -> None:
    assert DatabaseEventLog(ALIAS=alias).examine() == []


def test_another_database_is_said_not_to_be_tested(sqlite_alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(connections[sqlite_alias]), "vendor", "oracle")
    log = {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog", "OPTIONS": {"ALIAS": sqlite_alias}}
    with override_settings(AGENT_SSE={"EVENT_LOG": log, "LIMITS": None}):
        assert run_checks(tags=["django_agent_sse"]) == []
        (message,) = run_checks(tags=["django_agent_sse"], include_deployment_checks=True)
    assert message.id == "django_agent_sse.W025"
    assert f"DATABASES[{sqlite_alias!r}]" in message.msg


@pytest.fixture
def small_mariadb(mariadb_database: dict[str, Any], django_db_blocker: Any) -> Any:
    """A database whose tables know no transactions and few characters."""
    with pymysql.connect(unix_socket=mariadb_database["HOST"], user="root") as connection, connection.cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS small")
        cursor.execute("CREATE DATABASE small CHARACTER SET latin1")
    engine = {"init_command": "SET default_storage_engine=MyISAM"}
    with django_db_blocker.unblock(), database("small", {**mariadb_database, "NAME": "small", "OPTIONS": engine}) as alias:
        yield alias


def test_tables_without_transactions_or_with_few_characters_are_found(small_mariadb: str) -> None:
    log = DatabaseEventLog(ALIAS=small_mariadb)
    findings = log.examine()
    assert [finding.kind for finding in findings] == ["unusable", "unusable"]
    assert "MyISAM" in findings[0].about
    assert "latin1" in findings[1].about
    with pytest.raises(EventLogUnavailable):
        log.append("topic", Event("\N{SNOWMAN}"))


@pytest.fixture
def repeatable(mariadb_alias: str, django_db_blocker: Any) -> Any:
    """A database whose transactions see what was there when they began to read."""
    base = connections.databases[mariadb_alias]
    options = {**base["OPTIONS"], "isolation_level": "repeatable read"}
    with django_db_blocker.unblock(), database("repeatable", {**base, "OPTIONS": options}, migrate=False) as alias:
        DatabaseEventLog(ALIAS=alias).clear_all()
        yield alias


def test_transactions_that_do_not_see_what_others_commit_are_found(repeatable: str, mariadb_alias: str) -> None:
    log = DatabaseEventLog(ALIAS=repeatable)
    (finding,) = log.examine()
    assert (finding.kind, "REPEATABLE READ" in finding.about, "'read committed'" in finding.hint) == ("unusable", True, True)
    log.append("topic", Event("begins"))
    with atomic(using=repeatable):
        assert log.state("topic").top == 1
        DatabaseEventLog(ALIAS=mariadb_alias).append("topic", Event("once"), key="k")
        assert log.append("topic", Event("once"), key="k").first == 3, "it is what the finding says"


def test_a_server_that_finds_the_conflict_by_itself_is_fit(repeatable: str, mariadb_alias: str) -> None:
    log = DatabaseEventLog(ALIAS=repeatable)
    with connections[repeatable].cursor() as cursor:
        cursor.execute("SET SESSION innodb_snapshot_isolation = ON")
    assert log.examine() == []
    log.append("topic", Event("begins"))
    with pytest.raises(EventLogUnavailable, match="others held"), atomic(using=repeatable):
        assert log.state("topic").top == 1
        DatabaseEventLog(ALIAS=mariadb_alias).append("topic", Event("once"), key="k")
        log.append("topic", Event("once"), key="k")


def test_what_the_hints_say_mends_it(small_mariadb: str) -> None:
    log = DatabaseEventLog(ALIAS=small_mariadb)
    connection: BaseDatabaseWrapper = connections[small_mariadb]
    for finding in log.examine():
        with connection.cursor() as cursor:
            cursor.execute(finding.hint.partition(",")[0].rstrip("."))
    assert log.examine() == []


def test_a_database_that_is_away_is_one_finding_that_says_so(mariadb_database: dict[str, Any], django_db_blocker: Any) -> None:
    with django_db_blocker.unblock(), database("away", {**mariadb_database, "NAME": "nowhere"}, migrate=False) as alias:
        (finding,) = DatabaseEventLog(ALIAS=alias).examine()
    assert finding.kind == "unusable"
    assert "cannot be reached" in finding.about
