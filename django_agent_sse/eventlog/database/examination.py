"""What a database says about itself that bears on what the log promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ...exceptions import AgentSSEError
from ...models import LogRow
from ..records import StoreWarning
from .transactions import explained

TESTED: Final = {"sqlite", "postgresql", "mariadb"}
"""The contract of an event log, appends of several processes at once and failures are tried on these."""


def findings(alias: str) -> Iterator[StoreWarning]:
    """Yield what bears on the log's promise; one warning where the database cannot be asked."""
    connection = connections[alias]
    named = f"DATABASES[{alias!r}]"
    try:
        with explained(alias, "It was not examined"):
            name = connection.vendor
            if name == "mysql":
                name = "mariadb" if connection.mysql_is_mariadb else "mysql"  # type: ignore[attr-defined]
                yield from _tables_of_mysql(connection, named)
                yield from _isolation_of_mysql(connection, named)
    except AgentSSEError as error:
        yield StoreWarning("unusable", str(error), "Nothing can be published or followed until that is fixed.")
        return
    if name not in TESTED:
        yield StoreWarning(
            "untested",
            f"topics are kept in {named}, which is {connection.display_name}: the event log is tested on PostgreSQL, SQLite and "
            "MariaDB, and on nothing else",
            "Run the project's own load on it first, or keep topics in another entry of DATABASES, as "
            "AGENT_SSE['EVENT_LOG']['OPTIONS']['ALIAS'].",
        )


def _tables_of_mysql(connection: BaseDatabaseWrapper, named: str) -> Iterator[StoreWarning]:
    """Yield what is wrong with the table of events, where it is there: engine and characters are the server's defaults."""
    table = LogRow._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.engine, c.character_set_name FROM information_schema.tables t JOIN information_schema.columns c "
            "ON c.table_schema = t.table_schema AND c.table_name = t.table_name AND c.column_name = 'payload' "
            "WHERE t.table_schema = DATABASE() AND t.table_name = %s",
            [table],
        )
        found = cursor.fetchone()
    if found is None:
        return
    engine, characters = found
    if engine != "InnoDB":
        yield StoreWarning(
            "unusable",
            f"{table} in {named} is a table of {engine}, which knows no transactions: events of two processes get one number, "
            "and what failed stays half done",
            f"ALTER TABLE {table} ENGINE=InnoDB, and the same for the other tables of the app.",
        )
    if characters != "utf8mb4":
        yield StoreWarning(
            "unusable",
            f"{table}.payload in {named} takes the characters of {characters}: an event with any other one cannot be appended",
            f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4.",
        )


def _isolation_of_mysql(connection: BaseDatabaseWrapper, named: str) -> Iterator[StoreWarning]:
    """Yield what is wrong with the isolation of transactions: one of a caller's may have taken its snapshot before it appends."""
    with connection.cursor() as cursor:  # two names of one thing, and what not every server has
        cursor.execute(
            "SHOW VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation', 'innodb_snapshot_isolation')"
        )
        values = {str(value).upper() for _, value in cursor.fetchall()}
    if "REPEATABLE-READ" in values and "ON" not in values:
        yield StoreWarning(
            "unusable",
            f"transactions in {named} are REPEATABLE READ: one that has read something before it publishes does not see what "
            "others have published since, and appends with a key that they have used",
            f"{named}['OPTIONS']['isolation_level'] = 'read committed', which is Django's default.",
        )
