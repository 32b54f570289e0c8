"""The log in a database: what it costs, what it keeps, and whose threads it uses. What it does is in ``test_contract``."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import ConnectionHandler, connections
from django.test.utils import CaptureQueriesContext

from django_agent_sse.eventlog.database import DatabaseEventLog, store
from django_agent_sse.eventlog.database.serialization import pack, unpack
from django_agent_sse.exceptions import ConfigurationError, EventLogUnavailable
from django_agent_sse.models import LogKey, LogRow, LogTopic
from django_agent_sse.runtime import pools
from django_agent_sse.runtime.pools import Pool, give_connections_back, readers
from django_agent_sse.wire.event import Event
from tests.inprocess import eventually

TOPIC = "builds.42"


@pytest.fixture
def log(alias: str) -> DatabaseEventLog:
    return DatabaseEventLog(ALIAS=alias)


def events(*texts: str) -> list[Event]:
    return [Event(text) for text in texts]


def numbers(first: int, last: int) -> list[Event]:
    return events(*map(str, range(first, last + 1)))


def stored(alias: str) -> int:
    """How many events are in the tables, whether or not they are still read."""
    return sum(LogRow.objects.using(alias).values_list("events", flat=True))


WORDS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")


ORM = ["UPDATE", "SELECT", "INSERT"]
APPEND = {"postgresql": ["WITH"], "sqlite": ["UPDATE", "INSERT"]}
"""What an append asks; of other databases it asks what the ORM makes."""


class Queries:
    """Counts what a block asks of the database."""

    def __init__(self, alias: str) -> None:
        self._captured = CaptureQueriesContext(connections[alias])

    def __enter__(self) -> Queries:
        self._captured.__enter__()
        return self

    def __exit__(self, *about: Any) -> None:
        self._captured.__exit__(*about)

    @property
    def sql(self) -> list[str]:
        return [query["sql"] for query in self._captured if query["sql"].split()[0] in WORDS]

    def __len__(self) -> int:
        return len(self.sql)


# What it costs


def test_an_append_is_as_few_statements_as_the_database_takes(alias: str, log: DatabaseEventLog) -> None:
    log.append(TOPIC, Event("first"))
    with Queries(alias) as queries:
        log.append(TOPIC, numbers(1, 100))
    assert [sql.split()[0] for sql in queries.sql] == APPEND.get(connections[alias].vendor, ORM)


def test_a_larger_one_is_an_update_a_select_and_an_insert(alias: str, log: DatabaseEventLog) -> None:
    log.append(TOPIC, Event("first"))
    with Queries(alias) as queries:
        log.append(TOPIC, numbers(1, 500))
    assert [sql.split()[0] for sql in queries.sql] == ORM


def test_all_renewals_are_one_transaction_of_sqlite_which_is_asked_often(alias: str, log: DatabaseEventLog) -> None:
    topics = [f"t{number}" for number in range(5)]
    for topic in topics:
        log.acquire(topic, "r1", 300)
    with Queries(alias) as queries, log.keen():
        assert set(log.renew_all([(topic, "r1", 3000) for topic in topics])) == set(topics)
    told = [query["sql"] for query in queries._captured]
    if connections[alias].vendor != "sqlite":  # rows have locks of their own there: one that is held keeps no other one waiting
        assert len(queries) == 10
        return
    asked = [sql for sql in told if sql.startswith("PRAGMA busy_timeout")]
    before = int(connections[alias].settings_dict.get("OPTIONS", {}).get("timeout", 5) * 1000)
    assert asked == ["PRAGMA busy_timeout", "PRAGMA busy_timeout = 50", f"PRAGMA busy_timeout = {before}"]
    assert [sql for sql in told if sql.startswith(("BEGIN", "COMMIT"))] in (["BEGIN", "COMMIT"], ["BEGIN IMMEDIATE", "COMMIT"])
    assert len(queries) == 6


@pytest.mark.parametrize(
    ("alias", "asked"), [("sqlite", ["UPDATE", "INSERT", "INSERT"]), ("postgres", ["WITH"])], indirect=["alias"]
)
def test_a_key_costs_one_more_insert_at_most_and_is_found_again_by_three(
    alias: str, log: DatabaseEventLog, asked: list[str]
) -> None:
    log.append(TOPIC, Event("first"))
    with Queries(alias) as queries:
        log.append(TOPIC, Event("x"), key="k")
    assert [sql.split()[0] for sql in queries.sql] == asked
    with Queries(alias) as queries:
        log.append(TOPIC, Event("x"), key="k")
    assert [sql.split()[0] for sql in queries.sql] == [asked[0], "UPDATE", "SELECT", "SELECT"]


def test_a_key_costs_four_more_with_the_orm(alias: str, log: DatabaseEventLog) -> None:
    log.append(TOPIC, Event("first"))
    with Queries(alias) as queries:
        log.append(TOPIC, Event("x" * 100_000), key="k")
    assert len(queries) == 8


def test_who_has_everything_costs_one_query_and_a_page_two(alias: str, log: DatabaseEventLog) -> None:
    log.append(TOPIC, numbers(1, 300))
    with Queries(alias) as queries:
        assert log.read_after(TOPIC, 300).records == []
    assert len(queries) == 1
    with Queries(alias) as queries:
        assert len(log.read_after(TOPIC, 10).records) == 256
    assert len(queries) == 2


def test_the_heads_of_five_hundred_topics_are_one_query(alias: str, log: DatabaseEventLog) -> None:
    names = [f"t{number}" for number in range(500)]
    for name in names[:20]:
        log.append(name, Event("x"))
    with Queries(alias) as queries:
        assert log.summaries(names).keys() == set(names[:20])
    assert len(queries) == 1


def test_more_names_than_a_query_takes_are_asked_for_in_parts(alias: str, log: DatabaseEventLog) -> None:
    log.append("t0", Event("x"))
    log.append("t70000", Event("x"))
    assert log.summaries([f"t{number}" for number in range(70_001)]).keys() == {"t0", "t70000"}


# What it keeps


def test_a_large_append_is_several_rows_and_one_append(alias: str, log: DatabaseEventLog) -> None:
    log.append(TOPIC, numbers(1, 1000))
    log.append(TOPIC, events(*["x" * 100_000] * 5))
    assert LogRow.objects.using(alias).count() == 4 + 3
    assert [record.offset for record in log.read_after(TOPIC, 990, 20).records] == list(range(991, 1006))


def test_what_is_too_much_is_not_read_at_once_and_deleted_many_at_a_time(alias: str) -> None:
    log = DatabaseEventLog(ALIAS=alias, MAX_EVENTS=160)
    deletes = 0
    for number in range(1, 501):
        with Queries(alias) as queries:
            log.append(TOPIC, Event(str(number)))
        deletes += any(sql.startswith("DELETE") for sql in queries.sql)
        state = log.state(TOPIC)
        assert (state.events, state.floor) == (min(number, 160), max(0, number - 160))
        assert log.read_after(TOPIC, 0, 1).records[0].offset == state.floor + 1
        assert stored(alias) <= 160 + 10
    assert deletes <= 500 / 10


def test_the_state_counts_bytes_also_where_the_floor_lies_in_a_row(alias: str) -> None:
    log = DatabaseEventLog(ALIAS=alias, MAX_EVENTS=160)
    log.append(TOPIC, events(*["ü"] * 100))
    log.append(TOPIC, events(*["abc"] * 65))
    assert stored(alias) == 165
    assert (log.state(TOPIC).events, log.state(TOPIC).bytes) == (160, 95 * 2 + 65 * 3)
    log.trim(TOPIC, max_events=70)
    assert (log.state(TOPIC).events, log.state(TOPIC).bytes) == (70, 5 * 2 + 65 * 3)
    assert stored(alias) == 165, "the floor lies in both rows"
    log.trim(TOPIC, max_events=65)
    assert (stored(alias), log.state(TOPIC).bytes) == (65, 65 * 3)


def test_bytes_are_bounded_with_a_sixteenth_of_slack_and_what_is_within_is_kept(alias: str) -> None:
    log = DatabaseEventLog(ALIAS=alias, MAX_BYTES=1600)
    for _ in range(60):
        log.append(TOPIC, events("x" * 50, "y" * 50))
        assert min(1600, log.state(TOPIC).top * 50) <= log.state(TOPIC).bytes <= 1700


def test_some_events_may_be_too_old_in_the_middle_of_a_topic(alias: str) -> None:
    log = DatabaseEventLog(ALIAS=alias, MAX_AGE=1000)
    for at in range(100):
        log._now = lambda at=at: 1000.0 + 10 * at  # type: ignore[misc]
        log.append(TOPIC, events("one", "two"))
    log._now = lambda: 2505.0  # older than 1505: 51 of the 100 appends
    page, state, head = log.read_after(TOPIC), log.state(TOPIC), log.summaries([TOPIC])[TOPIC]
    assert (page.floor, page.records[0].offset, page.records[0].at) == (102, 103, 1510.0)
    assert (state.floor, state.events, state.oldest_at, state.newest_at) == (102, 98, 1510.0, 1990.0)
    assert head.top == 200
    assert stored(alias) == 200
    log.append(TOPIC, Event("new"))
    assert stored(alias) == 99, "an append deletes what is too old"
    log._now = lambda: 9999.0
    assert (log.state(TOPIC).events, log.summaries([TOPIC])[TOPIC].floor) == (0, 201)
    assert log.trim(TOPIC) == 0
    assert stored(alias) == 0


def test_a_key_outlives_the_events_that_it_named_and_not_its_window(alias: str) -> None:
    log = DatabaseEventLog(ALIAS=alias, MAX_EVENTS=2, KEY_WINDOW=100)
    log._now = lambda: 1000.0
    first = log.append(TOPIC, Event("one"), key="k")
    log.append(TOPIC, numbers(2, 50))
    assert log.state(TOPIC).floor == 48
    assert log.append(TOPIC, Event("one"), key="k") == first
    log._now = lambda: 1101.0
    again = log.append(TOPIC, Event("one"), key="k")
    assert again.first == 51
    assert log.append(TOPIC, Event("one"), key="k") == again


def test_old_keys_are_deleted_by_appends_with_keys_and_by_trim(alias: str) -> None:
    log = DatabaseEventLog(ALIAS=alias, KEY_WINDOW=50)
    for number in range(200):
        log._now = lambda number=number: 1000.0 + number  # type: ignore[misc]
        log.append(TOPIC, Event("x"), key=str(number))
        assert LogKey.objects.using(alias).count() <= 50 + 64
    log.trim(TOPIC)
    assert LogKey.objects.using(alias).count() == 50


def test_odd_keys_are_taken(log: DatabaseEventLog) -> None:
    for key in ("ü\0", "\ud800", "K", "k", "k "):
        first = log.append(TOPIC, Event("x"), key=key)
        assert log.append(TOPIC, Event("x"), key=key) == first
    assert log.state(TOPIC).top == 5


def test_the_latest_topic_makes_room_for_itself_and_leaves_no_rows_of_others(alias: str) -> None:
    log = DatabaseEventLog(ALIAS=alias, MAX_TOPICS=3)
    for name in ("a", "b", "c", "d", "e"):
        log.append(name, Event(name), key="k")
    assert log.topics() == ["c", "d", "e"]
    assert (LogTopic.objects.using(alias).count(), LogRow.objects.using(alias).count()) == (3, 3)
    log.close("f", "never written to")
    assert log.topics() == ["d", "e", "f"]


@pytest.mark.parametrize("data", ["", "a\0b", "\u2028\x85", "\U0001f600", '"\\', "x" * 100_000], ids=repr)
def test_every_text_comes_back(log: DatabaseEventLog, data: str) -> None:
    given = [Event(data), Event(data, event="ü"), Event(data, retry=5), Event(data, event="", retry=0)]
    log.append(TOPIC, given)
    assert [record.event for record in log.read_after(TOPIC).records] == given
    assert unpack(pack(given)) == given


@pytest.mark.parametrize("data", ["\0", "\\", "'", '"', "x", "é"], ids=repr)
def test_no_statement_is_much_longer_than_what_is_appended(log: DatabaseEventLog, alias: str, data: str) -> None:
    """A driver copies and escapes a statement as a whole: the longer it is, the longer nothing else of the process goes on."""
    sent: list[int] = []

    def measure(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        values = [value for part in params or () for value in (part if isinstance(part, list) else [part])]
        sent.append(sum(len(value) for value in values if isinstance(value, str)))
        return execute(sql, params, many, context)

    one = [Event(data * (1_000_000 // len(data.encode())))]
    many = [Event(data * (100_000 // len(data.encode())), event=str(number)) for number in range(40)]
    with connections[alias].execute_wrapper(measure):
        log.append(TOPIC, one)
        log.append(TOPIC, many)
    assert max(sent) < 1_600_000
    assert sum(sent) > 40 * (100_000 // len(data.encode()))
    assert [record.event for record in log.read_after(TOPIC).records] == one
    found: list[Event] = []
    while len(found) < 40:
        found += [record.event for record in log.read_after(TOPIC, 1 + len(found)).records]
    assert found == many


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting"),
        ('["a"', "Expecting"),
        ("{}", "not a list"),
        ("[1]", "not an event"),
        ('[["a"]]', "not an event"),
        ('[["a",1]]', "must be a str"),
        ('[["a","b",-1]]', "negative"),
        ('[["a","b\\n"]]', "line feed"),
    ],
)
def test_what_was_never_packed_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        unpack(text)


# Others in between


def test_a_page_is_read_again_where_somebody_trims_between_its_two_queries(
    alias: str, log: DatabaseEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(TOPIC, Event("one"))
    log.append(TOPIC, Event("two"))
    original, changes = store.TopicStore.records, [lambda: log.trim(TOPIC, max_events=1), lambda: log.delete(TOPIC)]

    def records(self: store.TopicStore, *about: Any) -> Any:
        if changes:
            changes.pop(0)()
        return original(self, *about)

    monkeypatch.setattr(store.TopicStore, "records", records)
    assert log.read_after(TOPIC).epoch == "", "trimmed first, then deleted"
    assert changes == []


@pytest.mark.parametrize("back", [True, False], ids=["backwards", "forwards"])
@pytest.mark.parametrize("change", ["trimmed", "deleted"])
def test_a_search_ends_where_rows_go_between_its_queries(
    alias: str, log: DatabaseEventLog, monkeypatch: pytest.MonkeyPatch, back: bool, change: str
) -> None:
    """What is looked for by halving may lie in a part that is no longer there."""
    for number in range(64):
        log.append(TOPIC, Event(f"line {number}"))
    asked = changing_meanwhile(monkeypatch, lambda: log.trim(TOPIC, max_events=1) if change == "trimmed" else log.delete(TOPIC))
    found = log.candidates(TOPIC, 60 if back else 3, back=back, text="line", levels=frozenset())
    assert found.until >= 0
    assert len(asked) < 40


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (lambda log: [record.event.data for record in log.read_after(TOPIC).records], ["62", "63"]),
        (lambda log: log.state(TOPIC).events, 2),
    ],
    ids=["a page", "the state"],
)
def test_what_is_kept_by_age_is_told_where_rows_go_meanwhile(
    alias: str, monkeypatch: pytest.MonkeyPatch, question: Callable[[DatabaseEventLog], object], answer: object
) -> None:
    log = DatabaseEventLog(ALIAS=alias, MAX_AGE=100)
    began = time.time()
    for number in range(64):
        log._now = lambda number=number: began - 64 + number  # type: ignore[misc]
        log.append(TOPIC, Event(str(number)))
    log._now = lambda: began + 50  # type: ignore[method-assign]
    asked = changing_meanwhile(monkeypatch, lambda: DatabaseEventLog(ALIAS=alias).trim(TOPIC, max_events=2))
    assert question(log) == answer
    assert 2 < len(asked) < 40


def changing_meanwhile(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> list[int]:
    """Have a topic changed by somebody else before the second row is asked for; return the offsets that were asked for."""
    original, asked = store.TopicStore.row_after, list[int]()

    def row_after(self: store.TopicStore, topic: Any, offset: int) -> Any:
        asked.append(offset)
        assert len(asked) < 1_000, "it goes on for ever"
        if len(asked) == 2:
            change()
        return original(self, topic, offset)

    monkeypatch.setattr(store.TopicStore, "row_after", row_after)
    return asked


def test_a_topic_that_never_rests_is_given_up(alias: str, log: DatabaseEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.TopicStore, "make", lambda *about, **more: None)
    with pytest.raises(EventLogUnavailable, match=r"deleted, made or trimmed 10 times"):
        log.append(TOPIC, Event("x"))
    with pytest.raises(EventLogUnavailable, match=r"10 times"):
        log.close(TOPIC)


# Options


def test_the_database_is_the_named_one_or_the_routers(settings: Any) -> None:
    assert DatabaseEventLog().alias == "default"
    settings.DATABASE_ROUTERS = [Router()]
    assert DatabaseEventLog().alias == "events"
    assert DatabaseEventLog(ALIAS="other").alias == "other"
    with pytest.raises(ConfigurationError, match="'ALIAS'"):
        DatabaseEventLog(ALIAS=5)
    with pytest.raises(ConfigurationError, match="knows ALIAS, KEY_WINDOW"):
        DatabaseEventLog(NAME="x")


class Router:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "events" if model is LogTopic else None

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "a replica, which is never asked"


def test_what_keeps_it_from_working_is_told(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert DatabaseEventLog(ALIAS=alias).check() == []
    (problem,) = DatabaseEventLog(ALIAS="nowhere").check()
    assert "'nowhere'" in problem
    assert alias in problem
    monkeypatch.setitem(
        connections.databases, "empty", {**connections.databases["default"], "ENGINE": "django.db.backends.dummy"}
    )
    (problem,) = DatabaseEventLog(ALIAS="empty").check()
    assert "names no ENGINE" in problem
    nowhere = DatabaseEventLog(ALIAS="nowhere")
    uses: list[Callable[[], object]] = [
        lambda: nowhere.append(TOPIC, Event("x")),
        lambda: nowhere.append(TOPIC, Event("x"), outside_transaction=True),
        lambda: nowhere.trim(TOPIC, max_events=1),
        lambda: nowhere.acquire(TOPIC, "me", 5),
        lambda: nowhere.state(TOPIC),
    ]
    for use in uses:
        with pytest.raises(ConfigurationError, match="no 'nowhere'"):
            use()
    with pytest.raises(ConfigurationError, match=r"cannot be used: .*AGENT_SSE\['EVENT_LOG'\]"):
        DatabaseEventLog(ALIAS="empty").append(TOPIC, Event("x"))
    del connections["empty"]


# Threads


def on_a_server(alias: str, *verbs: str) -> set[str]:
    """The threads that verbs ran on, called on a loop that nobody waits for."""
    seen: set[str] = set()

    class Watched(DatabaseEventLog):
        async def _run_read(self, body: Any) -> Any:
            return await super()._run_read(lambda: (seen.add(threading.current_thread().name), body())[1])

    log = Watched(ALIAS=alias)

    async def main() -> None:
        about: dict[str, Any] = {"asummaries": [TOPIC]}
        for _ in range(20):
            await asyncio.gather(*(getattr(log, verb)(about.get(verb, TOPIC)) for verb in verbs))

    asyncio.run(main())
    return seen


def test_what_the_hub_reads_is_read_by_two_threads_of_the_logs_own(alias: str) -> None:
    assert on_a_server(alias, "aread_after", "asummaries", "astate", "aread_after") == {"sse-log-read"}
    assert len([one for one in threading.enumerate() if one.name == "sse-log-read"]) <= 2


def test_under_a_loop_that_a_thread_waits_for_it_is_read_by_that_thread(log: DatabaseEventLog) -> None:
    seen = []
    log._now = lambda: (seen.append(threading.current_thread()), time.time())[1]  # type: ignore[func-returns-value]
    async_to_sync(log.aread_after)(TOPIC)
    assert seen == [threading.current_thread()]


async def test_threads_end_after_the_quiet_time_and_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.05)
    own = Pool("test-own", 2)

    def running() -> int:
        return sum(one.name == "test-own" for one in threading.enumerate())

    for _ in range(2):
        futures = [own.submit(lambda: time.sleep(0.005)) for _ in range(10)]
        assert running() <= 2
        for future in futures:
            future.result(60)
        await eventually("they end", lambda: running() == 0)
    failing = own.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.result(60)


@pytest.mark.parametrize("shared", [False, True])
def test_a_connection_to_a_database_in_memory_is_closed_too_unless_others_share_it(shared: bool) -> None:
    def use() -> tuple[bool, bool]:
        connection = ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})["default"]
        connection.connect()
        connections["default"] = connection
        if shared:
            connection.inc_thread_sharing()
        try:
            give_connections_back()
            return connection.connection is None, connection.is_in_memory_db()  # type: ignore[attr-defined]
        finally:
            if connection.connection is not None:
                connection.connection.close()
            del connections["default"]

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(use).result(60) == (not shared, True)


def test_a_thread_gives_its_connection_back(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once under test, so that a runner can drop the database; elsewhere after the quiet time."""
    closed: list[float] = []

    def use() -> None:
        connection = connections[alias]
        connection.ensure_connection()
        original = connection.close
        connection.close = lambda: (closed.append(time.monotonic()), original())[1]  # type: ignore[method-assign]

    own = Pool("test-own", 1)
    own.submit(use).result(60)
    own.submit(lambda: None).result(60)
    assert closed, "it was closed before the next piece of work"
    monkeypatch.setattr(pools, "under_test", lambda: False)
    monkeypatch.setattr(pools, "IDLE_SECONDS", 60.0)
    other = Pool("test-other", 1)
    other.submit(use).result(60)
    closed.clear()
    for _ in range(5):
        other.submit(lambda: None).result(60)
    assert closed == []
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.05)
    other.submit(time.sleep, 0.2).result(60)  # it is idle anew, for the shorter time
    deadline = time.monotonic() + 60
    while not closed:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_pool_that_is_shut_down_while_it_has_no_thread_keeps_the_next_one() -> None:
    own = Pool("test-own", 1)
    own.shutdown()
    thread = own.submit(threading.current_thread).result(60)
    deadline = time.monotonic() + 60
    while not own._idle and thread.is_alive():
        assert time.monotonic() < deadline
    assert own.submit(threading.current_thread).result(60) is thread
    own.shutdown()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_of_a_fork_has_threads_of_its_own() -> None:
    assert readers.submit(os.getpid).result(60) == os.getpid()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(readers.submit(os.getpid).result(60)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        assert told.read() == str(child)
    os.waitpid(child, 0)
