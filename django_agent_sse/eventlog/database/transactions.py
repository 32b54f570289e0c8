"""The database behind the log: the caller's transaction or one of our own, and errors that say what to do."""

from __future__ import annotations

import select
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Final, ParamSpec, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, Error, InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError
from django.utils.connection import ConnectionDoesNotExist

from ... import conf
from ...exceptions import ConfigurationError, EventLogUnavailable, TransactionRefused
from ...runtime.backoff import Backoff

RETRY_TIMEOUT = 20.0
"""Seconds for which a transaction of our own is tried again while others hold the database."""
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.25
_keen = ContextVar("keen", default=False)
KEEN_PAUSE = 0.005
KEEN_MILLISECONDS = 50
"""For so long SQLite asks for its turn often by itself."""

_POSTGRESQL: Final = frozenset({"django.db.backends.postgresql", "django.contrib.gis.db.backends.postgis"})
_SQLITE: Final = frozenset({"django.db.backends.sqlite3", "django.contrib.gis.db.backends.spatialite"})
"""Django's own engines. One that is derived from them may have other ideas about SQL."""
_DIRECT: Final = _POSTGRESQL | (_SQLITE if sqlite3.sqlite_version_info >= (3, 35) else frozenset())
"""Those that know ``RETURNING``: Django 5.2 runs on older versions of SQLite, too."""

UNKNOWN = "Whether it was committed is not known: look at the topic. What is published with a `key` can be published again"

_SQLITE_LOCKED = {5, 6}
_SQLITE_READ_ONLY = 8
_SQLITE_FULL = {10, 13}
"""The second is "full"; the first, an error of input or output, is what SQLite makes of some full disks."""
_LOCKED = {"40001", "40P01", "55P03", 1020, 1205, 1213, *_SQLITE_LOCKED}
"""Serialization failures, deadlocks and time-outs of locks: codes of PostgreSQL, numbers of MySQL, primary codes of SQLite."""
_MISSING = {"42P01", "42703", 1146, 1054}
_READ_ONLY = {"25006", 1290, 1792, 1836, _SQLITE_READ_ONLY}
_FULL = {"53100", 1021, 1114, *_SQLITE_FULL}

_P = ParamSpec("_P")
_T = TypeVar("_T")


def is_open(alias: str) -> bool:
    """Return whether this thread has a transaction open in a database."""
    return _has_transaction(connections[alias])


def _has_transaction(connection: BaseDatabaseWrapper) -> bool:
    commits = connection.settings_dict["AUTOCOMMIT"] if connection.connection is None else connection.get_autocommit()
    return connection.in_atomic_block or not commits


def hold(alias: str, name: str) -> None:
    """Note that the caller's ``atomic()`` may hold locks of a topic or a pointer from now on, unless a savepoint frees them.

    Raises:
        ConfigurationError: There is no such database.
    """
    with explained(alias, "Nothing was changed"):
        if connections[alias].in_atomic_block:
            transaction.on_commit(partial(_held, name), using=alias)


def must_leave(alias: str, name: str) -> bool:
    """Return whether what is outside of transactions needs another thread: this one has one open.

    Refused is what would wait for the end of that transaction, which waits for it.

    Raises:
        ConfigurationError: There is no such database.
        TransactionRefused: SQLite has one writer; or this transaction holds locks of the name, or nobody knows whether it does.
    """
    with explained(alias, "Nothing was changed"):
        connection = connections[alias]
    if not _has_transaction(connection):
        return False
    if connection.vendor == "sqlite":
        raise TransactionRefused(
            "outside_transaction=True, which runs always have, needs a second connection that writes, and SQLite has one "
            "writer, this transaction: publish, or begin the run, before or after it, or use PostgreSQL. Nothing was appended"
        )
    if not connection.in_atomic_block:
        raise TransactionRefused(
            f"outside_transaction=True might wait for ever: autocommit of DATABASES[{alias!r}] is off, and nobody knows which "
            "locks this transaction holds. Use atomic(), or publish as a part of the transaction. Nothing was appended"
        )
    hooks = [hook for _, hook, *_ in connection.run_on_commit if isinstance(hook, partial)]
    if any(hook.func is _held and hook.args == (name,) for hook in hooks):
        raise TransactionRefused(
            f"outside_transaction=True would wait for ever: this transaction has itself published to {name!r}, or changed it, "
            "and holds its lock until it ends. Publish there with outside_transaction=True only. Nothing was appended"
        )
    return True


def _held(name: str) -> None:
    """Do nothing at the commit: Django forgets it where a savepoint is rolled back, as the database frees the locks."""


def lock_scope(alias: str, topic: str) -> str | None:
    """Return whose appends wait for each other's commit: those to this topic, or to all of a database that has one writer.

    ``None`` in a transaction.

    Raises:
        EventLogUnavailable: There is no connection, and none can be made.
        ConfigurationError: There is no such database.
    """
    with explained(alias, "Nothing was changed"):
        connection = connections[alias]
        if connection.connection is None and not connection.in_atomic_block:
            # Those who wait in line may hold all that a pool has: who is before them must not have to wait for one of these.
            _tried(alias, connection.ensure_connection)
    if _has_transaction(connection):
        return None
    return alias if connection.vendor == "sqlite" else f"{alias} {topic}"  # a router may name another one in another thread


def write(alias: str, body: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call ``body``, whose first statement writes, in the caller's transaction or in one of its own.

    Its own is tried again where others held the database, or where the connection turned out to be lost before the commit.

    Raises:
        EventLogUnavailable: The database failed. Nothing was appended, unless the message says that this is not known; a
            transaction of the caller's can only roll back.
        ConfigurationError: There is no such database.
    """
    with explained(alias, "Nothing was changed"):
        if not is_open(alias):
            return _tried(alias, partial(_in_one, alias, body, *args, **kwargs))
        try:
            return body(*args, **kwargs)
        except Error:
            if connections[alias].in_atomic_block:
                transaction.set_rollback(True, using=alias)  # half an append must not be committed
            raise


def is_direct(alias: str) -> bool:
    """Return whether appends to a database have statements of their own: see ``statements``."""
    return _engine(alias) in _DIRECT


def is_one_statement(alias: str) -> bool:
    """Return whether such an append is one statement, so that it needs no transaction."""
    return _engine(alias) in _POSTGRESQL


def _engine(alias: str) -> str:
    engine: str = connections.settings.get(alias, {}).get("ENGINE", "")
    return engine


def by_itself(alias: str, statement: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call ``statement``, which is one that the database commits by itself, where ``may_stand_alone``.

    It is tried again where others held the database, and not where the connection was lost meanwhile: it may be committed.

    Raises:
        EventLogUnavailable: The database failed. Nothing was appended, unless the message says that this is not known.
    """
    with explained(alias, "Nothing was changed"):
        return _tried(alias, partial(_committing, statement, *args, **kwargs))


def may_stand_alone(alias: str) -> bool:
    """Return whether a statement may commit by itself: in no transaction, over a connection that shows no sign of its end.

    An idle server says nothing, unless it ends the connection. A transaction finds that out before it has anything to lose.

    Raises:
        ConfigurationError: There is no such database.
    """
    with explained(alias, "Nothing was changed"):
        database = connections[alias].connection
        if is_open(alias) or database is None or database.closed or not hasattr(select, "poll"):
            return False
        poll = select.poll()
        poll.register(database.fileno(), select.POLLIN)
        return not poll.poll(0)


def read(alias: str, body: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call ``body``, which reads and can be called again.

    Raises:
        EventLogUnavailable: The database failed.
        ConfigurationError: There is no such database.
    """
    with explained(alias, "Nothing was read"):
        return body(*args, **kwargs) if is_open(alias) else _tried(alias, partial(body, *args, **kwargs))


@contextmanager
def keen(alias: str) -> Iterator[None]:
    """Ask SQLite for its turn every few milliseconds meanwhile, where it asks ten times a second by itself.

    The turn is whose question comes just when it is free, and those who write without a pause leave few such moments.
    """
    with explained(alias, "Nothing was changed"), connections[alias].cursor() as cursor:
        before = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout = {KEEN_MILLISECONDS}")
    token = _keen.set(True)
    try:
        yield
    finally:
        _keen.reset(token)
        with explained(alias, "Nothing was changed"), connections[alias].cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {before}")


class _AtCommit(Exception):
    """A commit failed. Where the connection broke, nobody knows whether the transaction was committed: it is not tried again."""


def _in_one(alias: str, body: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    done = False
    try:
        with transaction.atomic(using=alias):
            result = body(*args, **kwargs)
            done = True
        return result
    except Error as error:
        if done:
            raise _AtCommit from error
        raise


def _committing(statement: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    try:
        return statement(*args, **kwargs)
    except Error as error:
        raise _AtCommit from error


def _tried(alias: str, attempt: Callable[[], _T]) -> _T:
    until = time.monotonic() + RETRY_TIMEOUT
    backoff, reconnected = Backoff(FIRST_PAUSE, KEEN_PAUSE if _keen.get() else LONGEST_PAUSE, jitter=1.0), False
    while True:
        before = connections[alias].connection
        try:
            return attempt()
        except (Error, _AtCommit) as raised:
            at_commit = isinstance(raised, _AtCommit)
            error = raised.__cause__ if at_commit else raised
            assert isinstance(error, Error)
            lost = before is not None and _is_lost(connections[alias], before)
            again = _code(error) in _LOCKED or (lost and not reconnected and not at_commit)
            reconnected = reconnected or lost
            if not again or time.monotonic() > until:
                if at_commit and lost and connections[alias].vendor != "sqlite":
                    raise _unavailable(alias, error, UNKNOWN) from error
                raise error from error.__cause__
        time.sleep(backoff.next())


def _is_lost(connection: BaseDatabaseWrapper, before: object) -> bool:
    """Return whether the connection is gone, as after a restart of the server; the next use then makes another one."""
    if connection.connection is not before:
        return True  # Django has closed what it could not roll back
    if connection.is_usable():
        return False
    connection.close()
    return True


def _code(error: BaseException) -> str | int | None:
    """Return the driver's code for what happened."""
    cause = error.__cause__
    sqlite: int | None = getattr(cause, "sqlite_errorcode", None)
    if sqlite is not None:
        return sqlite & 0xFF
    number = cause.args[0] if cause is not None and cause.args else None
    if isinstance(number, int) and number > 255:  # MySQL; PyMySQL has states too, which are the same for many numbers
        return number
    state: str | None = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state


@contextmanager
def explained(alias: str, outcome: str) -> Iterator[None]:
    """Turn errors of the database into errors that say what to do."""
    try:
        yield
    except TransactionManagementError:
        raise  # the caller's own: after an error, its block takes no more queries
    except ConnectionDoesNotExist as error:
        raise ConfigurationError(f"AGENT_SSE['EVENT_LOG']: DATABASES has no {conf.shown(alias)}. {outcome}") from error
    except ImproperlyConfigured as error:
        raise ConfigurationError(
            f"topics are kept in DATABASES[{alias!r}], which cannot be used: {error} Or keep them elsewhere: "
            f"AGENT_SSE['EVENT_LOG']. {outcome}"
        ) from error
    except Error as error:
        raise _unavailable(alias, error, outcome) from error


def _unavailable(alias: str, error: Error, outcome: str) -> EventLogUnavailable:
    said = str(error).partition("\n")[0] or type(error).__name__
    message = f"{_what(alias, error)} {outcome}. The database said: {said}"
    return EventLogUnavailable(message, "tables" if _is_missing(error) else "store")


def _is_missing(error: Error) -> bool:
    return _code(error) in _MISSING or "no such table" in str(error) or "no such column" in str(error)


def _what(alias: str, error: Error) -> str:
    code = _code(error)
    where = f"DATABASES[{alias!r}]"
    if _is_missing(error):
        database = "" if alias == "default" else f" --database {alias}"
        return f"the tables of the event log are not in {where}, or are old: run `manage.py migrate{database}`."
    if code in _READ_ONLY:
        return f"{where} is read-only: name another one, as AGENT_SSE['EVENT_LOG']['OPTIONS']['ALIAS'] or by a router."
    if code in _FULL:
        return f"the disk of {where} is full: free some of it; `Topic(…).delete()` and shorter retention make room in the tables."
    if code in _LOCKED:
        hint = ": try again; shorter transactions help"
        if connections[alias].vendor == "sqlite":
            hint = (
                f": set {where}['OPTIONS']['transaction_mode'] = 'IMMEDIATE', so that a transaction waits for its turn when it "
                "begins, and not where it first writes, when it is too late"
            )
        return f"others held {where} for too long{hint}."
    if isinstance(error, (OperationalError, InterfaceError)):
        return f"{where} cannot be reached, or gave up: is the server up, and are its host and password right?"
    return f"{where} refused what the event log asked of it." if isinstance(error, DatabaseError) else f"{where} failed."
