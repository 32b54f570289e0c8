"""The log in a database and the transactions of who publishes: what is rolled back was never published."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import TestCase, TransactionTestCase

from django_agent_sse import (
    Router,
    Topic,
    aclose_topic,
    apublish,
    apublish_many,
    close_topic,
    publish,
    publish_many,
)
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.database import DatabaseEventLog
from django_agent_sse.exceptions import (
    EventLogUnavailable,
    InvalidEvent,
    LeaseLost,
    PositionConflict,
    TopicClosed,
    TransactionRefused,
)
from django_agent_sse.runtime.pools import Pool, writers
from django_agent_sse.testing import SSEClient, SSETestMixin
from django_agent_sse.wire.event import Event
from tests.log_databases import database
from tests.serving import served

TOPIC = "builds.42"
MEMORY = {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}
DATABASE = "django_agent_sse.eventlog.database.DatabaseEventLog"


class Stop(Exception):
    """Ends a block of a test."""


@pytest.fixture
def rung() -> list[str]:
    return []


@pytest.fixture
def log(alias: str, rung: list[str]) -> DatabaseEventLog:
    made = DatabaseEventLog(ALIAS=alias)
    made.on_change = lambda topic, *page: rung.append(topic)
    return made


@pytest.fixture
def project(alias: str, settings: Any) -> Iterator[str]:
    """The log of the process in each of the databases, for ``publish()``."""
    settings.AGENT_SSE = {"EVENT_LOG": {"BACKEND": DATABASE, "OPTIONS": {"ALIAS": alias}}}
    backend.reset()
    yield alias
    settings.AGENT_SSE = {"EVENT_LOG": MEMORY}
    backend.reset()


def seen_by_others(log: DatabaseEventLog, topic: str = TOPIC) -> list[str]:
    """What another connection reads."""
    found: list[list[str]] = []

    def read() -> None:
        try:
            found.append([record.event.data for record in log.read_after(topic).records])
        finally:
            connections.close_all()

    thread = threading.Thread(target=read)
    thread.start()
    thread.join(60)
    return found[0]


def atomic(log: DatabaseEventLog, **about: Any) -> Any:
    return transaction.atomic(using=log.alias, **about)


def test_followers_in_this_process_are_told_what_was_appended_as_the_log_has_it(log: DatabaseEventLog) -> None:
    pages: list[Any] = []
    log.on_change = lambda topic, *page: pages.extend(page or [None])
    log.append(TOPIC, [Event("1"), Event("2", event="tick", retry=5)])
    log.append(TOPIC, Event("3"))
    read = log.read_after(TOPIC)
    assert [(page.epoch, page.top, page.before) for page in pages] == [(read.epoch, 2, ""), (read.epoch, 3, "")]
    told = [(record.offset, record.event, record.nonce) for page in pages for record in page.records]
    assert told == [(record.offset, record.event, record.nonce) for record in read.records]
    pages.clear()
    log.append(TOPIC, Event("4"), key="k")
    log.append(TOPIC, Event("another one"), key="k")
    log.append(TOPIC, Event("x" * 20_000))
    log.append(TOPIC, [])
    with atomic(log):
        log.append(TOPIC, Event("6"))
    log.close(TOPIC)
    assert pages == [None] * 6, "what is not sure, large, or kept until a commit is read"


def test_whoever_is_late_changes_nothing_in_the_callers_transaction(log: DatabaseEventLog) -> None:
    log.append(TOPIC, Event("1"))
    log.acquire(TOPIC, "r1", 30)
    with atomic(log):
        log.append(TOPIC, Event("2"), holder="r1")
        before = log.state(TOPIC)
        for key in (None, "k"):
            with pytest.raises(LeaseLost, match="Nothing was appended"):
                log.append(TOPIC, Event("late"), holder="r2", key=key)
        assert log.state(TOPIC) == before
        log.append(TOPIC, Event("3"))
    assert [record.event.data for record in log.read_after(TOPIC).records] == ["1", "2", "3"]


# Joining


def test_a_rollback_publishes_nothing_and_notifies_nobody(log: DatabaseEventLog, rung: list[str]) -> None:
    log.append(TOPIC, Event("before"))
    rung.clear()
    with pytest.raises(Stop), atomic(log):
        log.append(TOPIC, Event("lost"))
        log.append("new", Event("lost"), key="k")
        log.close("ended")
        raise Stop
    assert rung == []
    assert log.topics() == [TOPIC]
    assert log.append(TOPIC, Event("after")).first == 2, "the number was not used up"
    assert log.append("new", Event("x"), key="k").first == 1, "nor the key"


def test_a_commit_publishes_in_order_and_notifies_then(log: DatabaseEventLog, rung: list[str]) -> None:
    with atomic(log):
        log.append(TOPIC, Event("one"))
        log.append(TOPIC, [Event("two"), Event("three")])
        assert [record.event.data for record in log.read_after(TOPIC).records] == ["one", "two", "three"], "it sees its own"
        assert seen_by_others(log) == []
        log.close(TOPIC)
        assert rung == []
    assert rung == [TOPIC] * 3
    assert seen_by_others(log) == ["one", "two", "three"]
    assert log.state(TOPIC).closed == "completed"


def test_an_inner_block_that_is_rolled_back_takes_only_its_own_with_it(log: DatabaseEventLog, rung: list[str]) -> None:
    with atomic(log):
        log.append(TOPIC, Event("one"))
        with pytest.raises(Stop), atomic(log):
            log.append(TOPIC, Event("lost"))
            log.append("other", Event("lost"))
            raise Stop
        with atomic(log):
            log.append(TOPIC, Event("two"))
    assert rung == [TOPIC] * 2
    assert seen_by_others(log) == ["one", "two"]
    assert log.topics() == [TOPIC]


def test_what_is_refused_leaves_the_callers_transaction_whole(log: DatabaseEventLog) -> None:
    log.append("closed", Event("x"))
    log.close("closed")
    with atomic(log):
        log.append(TOPIC, Event("one"))
        with pytest.raises(TopicClosed):
            log.append("closed", Event("x"))
        with pytest.raises(PositionConflict):
            log.append(TOPIC, Event("x"), expect=7)
        with pytest.raises(PositionConflict):
            log.append("new", Event("x"), expect=7)
        with pytest.raises(InvalidEvent):
            log.append(TOPIC, Event("x"), key="")
        assert log.append(TOPIC, Event("two"), key="k") == log.append(TOPIC, Event("two"), key="k")
    assert seen_by_others(log) == ["one", "two"]
    assert log.topics() == [TOPIC, "closed"]


def test_a_database_error_inside_a_transaction_lets_it_only_roll_back(
    log: DatabaseEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the caller goes on: an append of which only half was done is never committed."""
    log.append(TOPIC, Event("one"))
    with atomic(log):
        log.append(TOPIC, Event("lost"))
        with monkeypatch.context() as broken, pytest.raises(EventLogUnavailable, match="migrate"):
            broken.setattr("django_agent_sse.models.LogRow._meta.db_table", "nowhere")
            log.append(TOPIC, Event("half"))
        assert transaction.get_rollback(using=log.alias)
    assert seen_by_others(log) == ["one"]
    assert log.append(TOPIC, Event("two")).first == 2


@pytest.mark.parametrize("alias", ["postgres"], indirect=True)
def test_appends_of_several_transactions_are_contiguous_in_the_order_of_their_commits(log: DatabaseEventLog) -> None:
    """The second waits for the first, whose number would otherwise come later than its own. (SQLite has one writer anyway.)"""
    log.append(TOPIC, Event("zero"))
    done: list[int] = []

    def second() -> None:
        try:
            done.append(log.append(TOPIC, Event("second")).first)
        finally:
            connections.close_all()

    thread = threading.Thread(target=second)
    with atomic(log):
        log.append(TOPIC, Event("first"))
        thread.start()
        thread.join(0.3)
        assert done == []
        assert log.append("another", Event("x")).first == 1, "other topics are free"
    thread.join(60)
    assert done == [3]
    assert seen_by_others(log) == ["zero", "first", "second"]


def test_in_manual_transactions_it_joins_too(log: DatabaseEventLog) -> None:
    log.append(TOPIC, Event("one"))
    transaction.set_autocommit(False, using=log.alias)
    try:
        log.append(TOPIC, Event("lost"))
        transaction.rollback(using=log.alias)
        log.append(TOPIC, Event("two"))
        transaction.commit(using=log.alias)
    finally:
        transaction.set_autocommit(True, using=log.alias)
    assert seen_by_others(log) == ["one", "two"]


# Outside of it


@pytest.mark.parametrize("alias", ["postgres"], indirect=True)
def test_outside_its_transaction_a_publisher_is_seen_at_once_whatever_becomes_of_it(
    log: DatabaseEventLog, rung: list[str]
) -> None:
    with pytest.raises(Stop), atomic(log):
        log.append("inside", Event("lost"))
        assert log.append(TOPIC, Event("progress"), outside_transaction=True).first == 1
        assert log.close("ended", outside_transaction=True)
        assert seen_by_others(log) == ["progress"]
        assert rung == [TOPIC, "ended"]
        with pytest.raises(TransactionRefused, match=r"wait for ever.*'inside'.*Nothing was appended"):
            log.append("inside", Event("x"), outside_transaction=True)
        with pytest.raises(TopicClosed):
            log.append("ended", Event("x"), outside_transaction=True)
        raise Stop
    assert log.topics() == [TOPIC, "ended"]


@pytest.mark.parametrize("alias", ["postgres"], indirect=True)
def test_outside_it_nobody_waits_for_those_who_wait_for_its_end(log: DatabaseEventLog) -> None:
    """Each of these callers keeps a thread of the package waiting for the lock that the first one's transaction holds."""
    for topic in ("held", TOPIC):
        log.append(topic, Event("begins"))
    threads = Pool("test-callers", 9)  # daemons: where they wait for ever, the test does not
    holds, goes_on = threading.Event(), threading.Event()

    def outside(topic: str) -> None:
        with atomic(log):
            log.append(topic, Event("outside"), outside_transaction=True)

    def hold() -> None:
        with atomic(log):
            log.append("held", Event("inside"))
            holds.set()
            assert goes_on.wait(60)
            log.append(TOPIC, Event("outside"), outside_transaction=True)

    holder = threads.submit(hold)
    assert holds.wait(60)
    others = [threads.submit(outside, "held") for _ in range(8)]
    until = time.monotonic() + 30
    while not any(queue.waiting for queue in [*log._group._queues.values()]):  # one waits for the lock, another one behind it
        assert time.monotonic() < until
        time.sleep(0.001)
    goes_on.set()
    holder.result(30)
    for other in others:
        other.result(30)
    assert seen_by_others(log, "held") == ["begins", "inside", *["outside"] * 8]


def conflict(log: DatabaseEventLog) -> None:
    with pytest.raises(PositionConflict):
        log.append(TOPIC, Event("x"), key="k", expect=77)


def lose(log: DatabaseEventLog) -> None:
    with pytest.raises(LeaseLost):
        log.close(TOPIC, holder="another")


@pytest.mark.parametrize("alias", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        partial(DatabaseEventLog.trim, topic=TOPIC, max_events=1),
        partial(DatabaseEventLog.renew, topic=TOPIC, holder="run", seconds=50),
        conflict,
        lose,
    ],
    ids=["trim", "renew", "conflict", "lose"],
)
def test_outside_it_nobody_waits_for_a_lock_that_is_held_without_a_notification(
    change: Callable[[DatabaseEventLog], object], log: DatabaseEventLog
) -> None:
    log.append(TOPIC, [Event("one"), Event("two")])
    log.acquire(TOPIC, "run", 60)
    thread = Pool("test-caller", 1)  # a daemon: where it waits for ever, the test does not

    def publish_outside() -> None:
        with atomic(log):
            change(log)
            log.acquire(TOPIC, "run", 60, outside_transaction=True)

    published = thread.submit(publish_outside)
    try:
        with pytest.raises(TransactionRefused, match="wait for ever"):
            published.result(60)
    finally:  # or the next test would wait, too
        with connections[log.alias].cursor() as cursor:
            cursor.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")


@pytest.mark.parametrize("alias", ["postgres"], indirect=True)
def test_a_savepoint_that_is_rolled_back_frees_the_topic(log: DatabaseEventLog) -> None:
    log.append(TOPIC, Event("one"))
    with atomic(log):
        with pytest.raises(Stop), atomic(log):
            log.trim(TOPIC, max_events=1)
            log.append(TOPIC, Event("lost"))
            raise Stop
        assert log.append(TOPIC, Event("two"), outside_transaction=True).first == 2


@pytest.fixture(params=["sqlite", "postgres"])
def manual(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[str]:
    """A project that commits by itself."""
    entry = {**connections.databases[request.getfixturevalue(f"{request.param}_alias")], "AUTOCOMMIT": False}
    with django_db_blocker.unblock(), database("manual", entry, migrate=False) as name:
        DatabaseEventLog(ALIAS=name).clear_all()
        transaction.commit(using=name)
        yield name
        transaction.rollback(using=name)


def test_without_autocommit_nothing_is_published_outside_as_nobody_knows_what_is_locked(manual: str) -> None:
    log = DatabaseEventLog(ALIAS=manual)
    connections[manual].close()
    for _ in range(2):  # before the first query there is no connection yet, and then there is one
        with pytest.raises(TransactionRefused, match="Nothing was appended"):
            log.append(TOPIC, Event("x"), outside_transaction=True)
        assert not log.state(TOPIC).exists


def test_without_autocommit_what_our_threads_write_is_committed_all_the_same(manual: str) -> None:
    log = DatabaseEventLog(ALIAS=manual)
    writers.submit(partial(log.append, TOPIC, Event("one"))).result(30)
    assert [record.event.data for record in log.read_after(TOPIC).records] == ["one"]
    assert connections[manual].get_autocommit() is False


@pytest.mark.parametrize("alias", ["sqlite"], indirect=True)
def test_on_sqlite_that_is_refused_with_a_hint(log: DatabaseEventLog) -> None:
    with atomic(log), pytest.raises(TransactionRefused, match=r"SQLite has one writer.*PostgreSQL\. Nothing was appended"):
        log.append(TOPIC, Event("x"), outside_transaction=True)
    assert log.append(TOPIC, Event("x"), outside_transaction=True).first == 1, "there is no transaction to be outside of"


# By publish()


def functions_of(call: Callable[[], object]) -> list[tuple[str, str]]:
    """The package's functions that a call runs in this thread: file and name of each, in their order."""
    seen: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        home, inside, file = frame.f_code.co_filename.rpartition("/django_agent_sse/")
        if event == "call" and inside and "/tests/" not in home:
            seen.append((file, frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return seen


@pytest.mark.parametrize("backend_of", [DATABASE, MEMORY["BACKEND"]], ids=["database", "memory"])
def test_publishing_is_a_straight_line_that_an_editor_can_follow(project: str, backend_of: str, settings: Any) -> None:
    """No function on it is one that was made on the way, where "go to definition" would stop."""
    if backend_of == MEMORY["BACKEND"]:
        settings.AGENT_SSE = {"EVENT_LOG": MEMORY}
    publish(TOPIC, "one")
    path = functions_of(lambda: publish(TOPIC, "two"))
    names = [name for _, name in path if not name.endswith(("<genexpr>", "comp>"))]  # which are functions in Python 3.11
    assert [name for name in names if "<lambda>" in name or "<locals>" in name] == []
    straight = ["publish", "TopicPublisher.publish", "EventLog.append", f"{backend_of.rpartition('.')[2]}._append"]
    assert [name for name in names if name in straight] == straight
    files = {file for file, _ in path if not file.startswith("runtime/")}  # which Django calls, once a thread of ours has run
    assert len(files) <= 16, "\n".join(sorted(files))


def test_django_publishes_at_the_commit(project: str) -> None:
    with transaction.atomic(using=project):
        transaction.on_commit(partial(publish, TOPIC, "one"), using=project)
        transaction.on_commit(partial(publish_many, TOPIC, ["two", "three"], event="log"), using=project)
        transaction.on_commit(partial(Topic(TOPIC).publish, "four"), using=project)
        transaction.on_commit(partial(close_topic, TOPIC), using=project)
        assert not Topic(TOPIC).state().exists
    state = Topic(TOPIC).state()
    assert (state.top, state.closed) == (4, "completed")


def test_a_failure_after_the_commit_is_logged_and_others_go_on(project: str, caplog: Any) -> None:
    close_topic(TOPIC)
    with transaction.atomic(using=project):
        transaction.on_commit(lambda: publish(TOPIC, "late"), using=project, robust=True)  # Django 5.2 cannot log a partial
        transaction.on_commit(partial(publish, "other", "x"), using=project)
    assert "is closed" in caplog.text
    assert Topic("other").state().top == 1


@pytest.mark.parametrize(
    "call",
    [
        partial(publish, TOPIC, "x"),
        partial(publish_many, TOPIC, ["x"]),
        partial(close_topic, TOPIC),
        partial(Topic(TOPIC).publish, "x"),
        partial(Topic(TOPIC).publish_many, ["x"]),
        partial(Topic(TOPIC).close),
    ],
)
@pytest.mark.parametrize("alias", ["sqlite"], indirect=True)
def test_on_commit_is_no_argument_of_ours(call: Any, project: str) -> None:
    with pytest.raises(TypeError, match="on_commit"):
        call(on_commit=True)
    assert not Topic(TOPIC).state().exists


@pytest.mark.parametrize("alias", ["postgres"], indirect=True)
def test_publish_outside_the_transaction(project: str) -> None:
    with pytest.raises(Stop), transaction.atomic(using=project):
        assert publish(TOPIC, "one", outside_transaction=True).offset == 1
        assert [position.offset for position in publish_many(TOPIC, ["two"], outside_transaction=True)] == [2]
        assert close_topic(TOPIC, outside_transaction=True)
        raise Stop
    assert Topic(TOPIC).state().top == 2


@pytest.mark.django_db(transaction=True)
def test_a_log_that_is_in_no_database_appends_at_once_or_at_the_commit(settings: Any) -> None:
    settings.AGENT_SSE = {"EVENT_LOG": MEMORY}
    backend.reset()
    with transaction.atomic():
        publish(TOPIC, "at once")
        transaction.on_commit(partial(publish, TOPIC, "committed"))
        assert Topic(TOPIC).publish("too", outside_transaction=True).offset == 2
    with pytest.raises(Stop), transaction.atomic():
        transaction.on_commit(partial(publish, TOPIC, "lost"))
        raise Stop
    found = backend.event_log().read_after(TOPIC).records
    assert [record.event.data for record in found] == ["at once", "too", "committed"]
    backend.reset()


# Tests of users


def use_the_database() -> dict[str, Any]:
    return {"EVENT_LOG": {"BACKEND": DATABASE}}


router = Router()
router.topic("builds/<int:id>/", "builds.{id}")


class WithTheFixture(SSETestMixin, TestCase):
    """The default is the database here; the fixture keeps topics in memory, which no transaction hides."""

    async def test_a_follower_sees_what_the_tests_transaction_publishes(self) -> None:
        with self.settings(AGENT_SSE={"HEARTBEAT": 5}), served(router):
            async with SSEClient(timeout=60) as client:
                stream = await client.open("/builds/42/")
                await apublish("builds.42", "one")
                assert (await stream.event()).data == "one"
            assert [event.data for event in self.sse_log.published("builds.42")] == ["one"]


class OnTheDatabaseItself(TransactionTestCase):
    """Without the fixture: what a test commits is followed, through the test's own connection."""

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(self.settings(AGENT_SSE=use_the_database()))
        backend.reset()
        self.addCleanup(backend.reset)

    async def test_a_follower_gets_what_was_and_what_comes(self) -> None:
        await apublish("builds.42", "one")
        with served(router):
            async with SSEClient(timeout=60) as client:
                stream = await client.open("/builds/42/")
                assert (await stream.event()).data == "one"
                await apublish_many("builds.42", ["two", "three"])
                assert [(await stream.event()).data for _ in range(2)] == ["two", "three"]
                await aclose_topic("builds.42", "passed")
                assert (await stream.event()).event == "sse.end"

    def test_a_test_that_publishes_and_reads(self) -> None:
        with transaction.atomic():
            publish(TOPIC, "one")
        assert Topic(TOPIC).state().top == 1


class InATestCase(TestCase):
    """And without committing: what was published is read by the test, and by a stream that begins afterwards."""

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(self.settings(AGENT_SSE=use_the_database()))
        backend.reset()
        self.addCleanup(backend.reset)

    async def test_a_stream_reads_through_the_tests_connection(self) -> None:
        await apublish("builds.42", "one")
        await aclose_topic("builds.42")
        with served(router):
            async with SSEClient(timeout=60) as client:
                stream = await client.open("/builds/42/")
                assert (await stream.event()).data == "one"

    def test_followers_are_notified_where_the_test_runs_the_callbacks_of_the_commit(self) -> None:
        rung: list[str] = []
        backend.event_log().on_change = lambda topic, *page: rung.append(topic)
        with self.captureOnCommitCallbacks(execute=True):
            publish(TOPIC, "one")
            assert rung == []
        assert rung == [TOPIC]
