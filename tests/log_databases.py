"""Databases with the tables of the event log, beside the project's own: a fixture each, for the whole session.

Named as a pytest plugin by ``tests/conftest.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections

from django_agent_sse.runtime.pools import readers, writers


@contextmanager
def database(alias: str, entry: dict[str, Any], migrate: bool = True) -> Iterator[str]:
    """One more entry of ``DATABASES``, with the tables of the event log in it."""
    default = connections.databases["default"]
    connections.databases[alias] = {**default, "OPTIONS": {}, "TEST": {**default["TEST"]}, **entry}
    try:
        if migrate:
            call_command("migrate", "django_agent_sse", database=alias, verbosity=0)
        yield alias
    finally:
        for pool in (readers, writers):  # a call that nobody waits for any more would keep its connection, unnamed
            pool.shutdown()
        connections[alias].close()
        del connections[alias]
        del connections.databases[alias]


@pytest.fixture(scope="session")
def sqlite_alias(tmp_path_factory: Any, django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """A database in a file, as ``startproject`` makes one; no test database is made for it."""
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path_factory.mktemp("sqlite") / "db.sqlite3")}
    with django_db_blocker.unblock(), database("log-sqlite", entry) as alias:
        yield alias


@pytest.fixture(scope="session")
def postgres_alias(
    postgres_database: dict[str, Any], postgres_url: str, django_db_setup: None, django_db_blocker: Any
) -> Iterator[str]:
    """A database of the real server; no test database is made for it."""
    import psycopg

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE event_log")
    with django_db_blocker.unblock(), database("log-postgres", {**postgres_database, "NAME": "event_log"}) as alias:
        yield alias


@pytest.fixture(scope="session")
def mariadb_alias(mariadb_database: dict[str, Any], django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """A database of the real server; no test database is made for it."""
    with django_db_blocker.unblock(), database("log-mariadb", mariadb_database) as alias:
        yield alias
