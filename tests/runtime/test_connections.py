"""Connections of our own threads: ``ON_CONNECTION``, and what of Django and of drivers is used beyond their documentation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from django_agent_sse.runtime.connections import OwnConnections
from tests.databases import asked, extra_database

ALIAS = "own"


@pytest.fixture
def alias(tmp_path: Path, django_db_blocker: Any) -> Iterator[str]:
    with (
        django_db_blocker.unblock(),
        extra_database(ALIAS, {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}),
    ):
        yield ALIAS


@pytest.fixture
def postgres(postgres_database: dict[str, Any], django_db_blocker: Any) -> Iterator[str]:
    with django_db_blocker.unblock(), extra_database(ALIAS, postgres_database):
        yield ALIAS


def on_own_thread(work: Callable[[OwnConnections], Any]) -> Any:
    """Do ``work`` on a thread with connections of its own."""
    outcome: list[Any] = []

    def run() -> None:
        own = OwnConnections()
        own.enter()
        try:
            outcome.append(work(own))
        except BaseException as error:
            outcome.append(error)
        finally:
            own.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    return result


# Preparing


def test_a_wrapper_is_prepared_before_anything_else_uses_it(alias: str) -> None:
    def work(own: OwnConnections) -> Any:
        own.begin(lambda connection: setattr(connection, "tenant", "mine"))
        assert connections[alias].tenant == "mine"  # type: ignore[attr-defined]
        connections[alias].tenant = "another, on purpose"  # type: ignore[attr-defined]
        assert asked(alias, "SELECT 1") == 1
        return connections[alias].tenant  # type: ignore[attr-defined]

    assert on_own_thread(work) == "another, on purpose"


def test_what_was_set_in_the_session_is_set_again_in_the_next_one(alias: str) -> None:
    prepared: list[str] = []

    def prepare(connection: BaseDatabaseWrapper) -> None:
        prepared.append(connection.alias)
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA user_version")

    def work(own: OwnConnections) -> None:
        own.begin(prepare)
        for _ in range(3):
            asked(alias, "SELECT 1")
            connections[alias].close()

    on_own_thread(work)
    assert prepared == [alias] * 3


def test_what_was_set_on_the_wrapper_alone_is_not_set_again(alias: str) -> None:
    prepared: list[str] = []

    def work(own: OwnConnections) -> None:
        own.begin(lambda connection: prepared.append(connection.alias))
        for _ in range(3):
            asked(alias, "SELECT 1")
            connections[alias].close()

    on_own_thread(work)
    assert prepared == [alias]


@pytest.mark.parametrize("first", [True, False], ids=["the first time", "when it connects anew"])
def test_an_error_of_it_is_the_callers_and_nothing_is_used_unprepared(alias: str, first: bool) -> None:
    fails = [first]

    def prepare(connection: BaseDatabaseWrapper) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if fails[0]:
            raise LookupError("no tenant")

    def work(own: OwnConnections) -> None:
        own.begin(prepare)
        if not first:
            asked(alias, "SELECT 1")
            connections[alias].close()
            fails[0] = True
        for _ in range(2):
            with pytest.raises(LookupError, match="no tenant"):
                asked(alias, "SELECT 1")
        fails[0] = False
        assert asked(alias, "SELECT 1") == 1

    on_own_thread(work)


def test_it_may_use_another_database_which_is_prepared_too(alias: str, postgres_database: dict[str, Any]) -> None:
    prepared: list[str] = []

    def prepare(connection: BaseDatabaseWrapper) -> None:
        prepared.append(connection.alias)
        if connection.alias == alias:
            asked("other", "SELECT 1")

    def work(own: OwnConnections) -> None:
        own.begin(prepare)
        asked(alias, "SELECT 1")

    with extra_database("other", postgres_database):
        on_own_thread(work)
    assert prepared == [alias, "other"]


def test_a_server_that_is_away_is_the_callers_error_and_it_goes_on_after_it(postgres: str) -> None:
    def work(own: OwnConnections) -> None:
        pid = asked(postgres, "SELECT pg_backend_pid()")
        own.clean()
        with pytest.raises(OperationalError):
            asked(postgres, "SELECT pg_terminate_backend(pg_backend_pid())")
        own.clean()
        assert asked(postgres, "SELECT pg_backend_pid()") != pid

    on_own_thread(work)


def test_an_iterator_may_end_on_another_thread_while_its_connection_is_closed(alias: str) -> None:
    def work(own: OwnConnections) -> None:
        cursor = connections[alias].chunked_cursor()
        cursor.execute("SELECT 1")
        raw = connections[alias].connection

        class EndsMeanwhile:
            def close(self) -> None:
                raw.close()
                elsewhere = threading.Thread(target=end)
                elsewhere.start()
                elsewhere.join(60)

        def end() -> None:
            try:
                cursor.close()
            except BaseException as error:
                said.append(error)

        said: list[BaseException] = []
        connections[alias].connection = EndsMeanwhile()
        own.clean()
        assert said == []
        assert not own.busy

    on_own_thread(work)


@pytest.mark.parametrize("let_go", [False, True], ids=["in use", "closed meanwhile"])
def test_what_fails_at_an_iterators_end_is_told_where_its_connection_is_still_in_use(alias: str, let_go: bool) -> None:
    class Fails:
        def __init__(self, own: OwnConnections) -> None:
            self.own = own

        def close(self) -> None:
            if let_go:
                self.own.clean()
            raise OperationalError("the server is away")

    def work(own: OwnConnections) -> None:
        connections[alias].cursor = lambda: Fails(own)  # type: ignore[method-assign]
        cursor = connections[alias].chunked_cursor()
        with nullcontext() if let_go else pytest.raises(OperationalError, match="the server is away"):
            cursor.close()
        assert not own.busy

    on_own_thread(work)


def test_other_threads_are_left_alone(alias: str) -> None:
    on_own_thread(lambda own: asked(alias, "SELECT 1"))
    wrapper = connections.create_connection(alias)
    assert "get_new_connection" not in vars(wrapper)
    assert "chunked_cursor" not in vars(wrapper)


# Django and psycopg, pinned


def test_django_makes_wrappers_by_create_connection_when_one_is_first_asked_for(alias: str) -> None:
    made: list[str] = []

    class Watched(type(connections)):  # type: ignore[misc]
        def create_connection(self, alias: str) -> Any:
            made.append(alias)
            return super().create_connection(alias)

    handler = Watched(connections.settings)
    assert handler[alias] is handler[alias]
    assert made == [alias]
    assert handler.all(initialized_only=True) == [handler[alias]]
    del handler[alias]
    assert handler.all(initialized_only=True) == []


def test_django_connects_through_get_new_connection_and_reads_rows_through_chunked_cursor(postgres: str) -> None:
    wrapper = connections[postgres]
    calls: list[str] = []
    for name in ("get_new_connection", "chunked_cursor"):
        original = getattr(wrapper, name)
        setattr(wrapper, name, lambda *args, name=name, original=original: (calls.append(name), original(*args))[1])
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1")
    with wrapper.chunked_cursor() as cursor:
        cursor.execute("SELECT 1")
    assert calls == ["get_new_connection", "chunked_cursor"]
    assert callable(wrapper._configure_connection)  # type: ignore[attr-defined]


def test_psycopg_says_whether_a_transaction_is_open_and_how_it_was_set_up(postgres: str) -> None:
    connections[postgres].ensure_connection()
    raw = connections[postgres].connection
    assert (raw.info.transaction_status, raw.closed, raw.prepare_threshold) == (0, False, None)
    assert {"_isolation_level", "_read_only", "_deferrable", "_notice_handlers", "row_factory", "cursor_factory"} <= set(
        vars(raw)
    )
