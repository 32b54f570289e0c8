"""Notifications by the log's own database: they hasten with nothing installed, and whatever happens to them loses nothing."""

from __future__ import annotations

import asyncio
import random
import select
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Timer
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from django.core import mail
from django.db import connections, transaction
from django.test import override_settings

from django_agent_sse.eventlog.database import DatabaseEventLog
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.eventlog.notify import across, postgresql, sqlite
from django_agent_sse.eventlog.notify import poll as poll_module
from django_agent_sse.eventlog.notify.across import way_to_others
from django_agent_sse.eventlog.notify.channel_layer import ChannelLayerNotifier
from django_agent_sse.eventlog.notify.local import LocalNotifier
from django_agent_sse.eventlog.notify.notifier import Notifier
from django_agent_sse.eventlog.notify.poll import Heads, Poll
from django_agent_sse.eventlog.notify.remote import PendingTopics
from django_agent_sse.models import LogTopic
from django_agent_sse.runtime.loop import BackgroundLoop
from django_agent_sse.topics.feeds import Feeds
from django_agent_sse.topics.follower import Follower
from django_agent_sse.wire.event import Event
from tests.inprocess import eventually
from tests.log_databases import database
from tests.topics.reading import texts_until

from ..layers import through
from ..processes import PATIENCE, ROOT, arguments, run

PATIENT = "from django_agent_sse.eventlog.notify import notifier as module; module.FLUSH_TIMEOUT = 60.0\n"
"""For a script that ends at once, on a machine that stands still for a second meanwhile."""
OURS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"


class Process:
    """What a process has one of each of; several of them are here in one."""

    def __init__(self, alias: str, **options: Any) -> None:
        self.local = LocalNotifier()
        self.notifier = Notifier(self.local, BackgroundLoop())
        self.log = DatabaseEventLog(ALIAS=alias, **options)
        self.log.on_change = self.notifier.notify
        self.notifier.serve(self.log)
        self.tops: dict[str, int] = {}

    def follow(self, *topics: str) -> Callable[[], None]:
        watch = self.notifier.watch(self.log, self._see)
        for topic in topics:
            watch.add(topic)
        return watch.clear

    def _see(self, heads: Heads) -> None:
        self.tops |= {topic: head.top if head is not None else 0 for topic, head in heads.items()}

    async def told(self, topic: str, top: int) -> None:
        await eventually(f"{topic} ends at {top}", lambda: self.tops.get(topic) == top, PATIENCE)


Make = Callable[..., Process]


@pytest.fixture(params=["sqlite", "postgres"])
def alias(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[str]:
    """Each of the databases that say by themselves that something was committed, with empty tables."""
    name: str = request.getfixturevalue(f"{request.param}_alias")
    with django_db_blocker.unblock():
        DatabaseEventLog(ALIAS=name).clear_all()
        yield name


@pytest_asyncio.fixture
async def process(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    """``process(alias)``: as outside of tests, where a database may be listened to."""
    monkeypatch.setattr(across, "_in_tests", lambda: False)
    monkeypatch.setattr(poll_module, "LATE", 3600.0)  # how fast it is, is not what is tried
    monkeypatch.setattr(postgresql, "SELF_TEST_TIMEOUT", PATIENCE)
    made: list[Process] = []

    def make(alias: str, **options: Any) -> Process:
        made.append(Process(alias, **options))
        return made[-1]

    yield make
    for one in made:
        await asyncio.to_thread(one.notifier.reset)


@pytest.fixture
def slow_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told comes through the database."""
    monkeypatch.setattr(poll_module, "SLOWEST", 3600.0)


def asked(alias: str, sql: str, *params: Any) -> Any:
    with psycopg.connect(
        **{**connections[alias].get_connection_params(), "cursor_factory": psycopg.Cursor}, autocommit=True
    ) as connection:
        return connection.execute(sql, params).fetchall()  # type: ignore[call-overload]


def entry_of(alias: str) -> dict[str, Any]:
    return {name: connections.databases[alias][name] for name in ("ENGINE", "NAME", "USER", "HOST", "OPTIONS")}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "django_agent_sse.notify"]


@pytest.fixture
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that cannot be reached."""
    postgres = request.getfixturevalue("postgres") if "postgres" in request.fixturenames else None
    entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "no" / "file")}
    with database("away", {**entry_of(postgres), "HOST": "/nowhere"} if postgres else entry, migrate=False) as alias:
        yield alias


# Of both databases


async def test_what_another_process_commits_is_told_of_though_nobody_polls(alias: str, process: Make, slow_poll: None) -> None:
    here, there = process(alias), process(alias)
    here.follow("a", "b")
    for number in range(1, 6):
        await there.log.aappend("a", Event(str(number)))
        await here.told("a", number)
    await there.log.aclose("b", "completed")
    assert here.notifier.troubles() == there.notifier.troubles() == {}


async def test_a_script_that_publishes_and_ends_is_heard(alias: str, process: Make, slow_poll: None) -> None:
    here = process(alias)
    here.follow("a")
    await here.told("a", 0)
    await asyncio.sleep(0.1)
    for number in range(1, 4):
        assert await run(f"{PATIENT}publish('a', 'x')", DATABASES={"default": entry_of(alias)}) == ""
        await here.told("a", number)


async def test_parent_and_forked_child_have_a_connection_each(alias: str, process: Make, slow_poll: None) -> None:
    code = """
    import gc, warnings
    warnings.simplefilter("ignore")
    from django.db import connections
    from django_agent_sse.eventlog.notify import notifier as module, poll
    module.FLUSH_TIMEOUT = 60.0
    poll.SLOWEST = poll.LATE = 3600.0

    async def hear(topic, top):
        told = asyncio.Event()
        watch = notifier.watch(event_log(), lambda heads: heads[topic] and heads[topic].top >= top and told.set())
        watch.add(topic)
        await asyncio.to_thread(publish, "begin", "x")
        await asyncio.wait_for(told.wait(), 60)
        watch.clear()

    asyncio.run(hear("a", 1))
    connections.close_all()
    child = os.fork()
    if not child:
        gc.collect()
        asyncio.run(hear("a", 2))
        publish("b", "of the child")
        assert notifier.flush(10)
        notifier.reset()
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    asyncio.run(hear("a", 3))
    publish("b", "of the parent")
    print("fine")
    """
    here = process(alias)
    here.follow("begin", "b")
    running = asyncio.create_task(run(code, DATABASES={"default": entry_of(alias)}))
    for number in range(1, 4):
        await here.told("begin", number)
        await here.log.aappend("a", Event("x"))
    assert await running == "fine\n"
    await here.told("b", 2)


async def test_notifications_that_are_lost_doubled_and_late_lose_no_event(
    alias: str, process: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry, dice = Poll.hurry, random.Random(7)
    fates: list[str] = []

    def carelessly(poll: Poll) -> None:
        fates.append(dice.choice(["lost", "doubled", "late"]))
        if fates[-1] == "doubled":
            hurry(poll)
            hurry(poll)
        if fates[-1] == "late":
            asyncio.get_running_loop().call_later(dice.random() / 5, hurry, poll)

    monkeypatch.setattr(Poll, "hurry", carelessly)
    here, there = process(alias), process(alias)
    feeds = Feeds(here.log, here.local, here.notifier)
    feed = await feeds.open("a")
    reading = [asyncio.create_task(texts_until(Follower(feed), 120)) for _ in range(3)]
    await eventually("it listens", lambda: fates, PATIENCE)
    for number in range(120):
        await there.log.aappend("a", Event(str(number)))
        await asyncio.sleep(dice.random() / 50)
    for texts in await asyncio.wait_for(asyncio.gather(*reading), PATIENCE):
        assert texts == [str(number) for number in range(120)]
    assert {*fates} == {"lost", "doubled", "late"}
    feeds.close()


def test_where_nothing_is_to_be_asked_there_is_the_poll_alone(alias: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    log = DatabaseEventLog(ALIAS=alias)
    assert way_to_others(log) is None, "a runner of tests wants to drop its database"
    monkeypatch.setattr(across, "under_test", lambda: False)
    assert hasattr(mail, "outbox")
    assert way_to_others(log) is None, "also where django_agent_sse.testing is not imported"
    settings.ALLOWED_HOSTS = ["*"]  # as where locmem takes the mail, and no runner has been here
    kind = postgresql.PostgresNotifier if connections[alias].vendor == "postgresql" else sqlite.SqliteWatcher
    assert way_to_others(log) == (kind, alias)
    assert way_to_others(DatabaseEventLog(NOTIFY_ALIAS=alias)) == (kind, alias)
    assert way_to_others(DatabaseEventLog(ALIAS=alias, NOTIFY_ALIAS=None)) is None
    assert way_to_others(DatabaseEventLog(ALIAS=alias, NOTIFY_ALIAS="nowhere")) is None, "a check says it"
    with database("memory", {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}, migrate=False) as memory:
        assert way_to_others(DatabaseEventLog(ALIAS=memory)) is None
    assert way_to_others(MemoryEventLog()) is None
    assert way_to_others(None) is None
    with override_settings(CHANNEL_LAYERS=through("redis://127.0.0.1:1/0")):
        assert way_to_others(log) == (ChannelLayerNotifier, ""), "one way is enough"


async def test_another_log_of_the_process_is_another_way(alias: str, process: Make, slow_poll: None) -> None:
    here, there = process(alias, NOTIFY_ALIAS=None), process(alias)
    here.follow("a")
    await here.told("a", 0)
    here.notifier.serve(here.log)
    assert here.notifier._remote is None
    here.notifier.serve(DatabaseEventLog(ALIAS=alias))
    assert here.notifier._remote is not None
    await there.log.aappend("a", Event("1"))
    await here.told("a", 1)


# PostgreSQL


@pytest.fixture
def postgres(postgres_alias: str, django_db_blocker: Any) -> Iterator[str]:
    with django_db_blocker.unblock():
        DatabaseEventLog(ALIAS=postgres_alias).clear_all()
        yield postgres_alias


def test_the_channel_is_named_after_the_logs_own_table(postgres: str) -> None:
    assert LogTopic._meta.db_table == postgresql.TABLE
    session, with_another_schema = postgresql.Session(postgres), None
    entry = {**entry_of(postgres), "OPTIONS": {"options": "-c search_path=pg_temp"}}
    with database("elsewhere", entry, migrate=False) as alias:
        with_another_schema = postgresql.Session(alias)
    assert session._channel != with_another_schema._channel
    for one in (session, with_another_schema):
        one.end()


async def test_it_is_told_after_the_commit_and_never_after_a_rollback(postgres: str, process: Make, slow_poll: None) -> None:
    there = process(postgres)
    session = postgresql.Session(postgres)
    params = {**connections[postgres].get_connection_params(), "cursor_factory": psycopg.AsyncCursor}
    listener = await psycopg.AsyncConnection.connect(**params, autocommit=True)
    await listener.execute(f"LISTEN {session._channel}")

    async def mark(what: str) -> None:
        await listener.execute(f"NOTIFY {session._channel}, '{what}'")

    def roll_back() -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic(postgres):
            there.log.append("a", Event("never"))
            raise ZeroDivisionError
        connections[postgres].close()  # the thread's own

    def commit() -> None:
        with transaction.atomic(postgres):
            there.log.append("a", Event("1"))
            assert there.notifier.flush(0)
            session.notify()
        connections[postgres].close()

    await asyncio.to_thread(roll_back)
    assert await asyncio.to_thread(there.notifier.flush, PATIENCE)
    await mark("rolled back")
    await asyncio.to_thread(commit)
    assert await asyncio.to_thread(there.notifier.flush, PATIENCE)
    await mark("committed")
    heard = []
    async for notify in listener.notifies(timeout=PATIENCE):
        heard.append((notify.payload, notify.pid == session._pid))
        if notify.payload == "committed":
            break
    assert heard == [("rolled back", False), ("", True), ("", False), ("committed", False)]
    await listener.close()
    session.end()


async def test_what_a_process_says_itself_it_does_not_listen_to(postgres: str) -> None:
    session, other = postgresql.Session(postgres), postgresql.Session(postgres)
    session.listen()
    session.notify()
    session.ping()
    assert not session.heard()
    other.notify()
    session.ping()
    assert session.heard()
    assert not session.heard()
    session.end()
    other.end()


async def test_a_process_that_stands_still_for_the_whole_of_its_test_hears_all_the_same(
    postgres: str, process: Make, slow_poll: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the notification and the end of its time come in one turn of the loop."""
    monkeypatch.setattr(postgresql, "SELF_TEST_TIMEOUT", 0.5)
    say, hear = postgresql._notify_once, postgresql.PostgresNotifier._test
    stood_still: list[float] = []

    def late(alias: str) -> None:
        Timer(0.3, say, [alias]).start()

    async def test(self: Any, session: Any) -> None:
        def stand_still() -> None:
            select.select([session.fileno], [], [], PATIENCE)  # it has come
            time.sleep(0.6)  # and the time for it is over
            stood_still.append(1)

        asyncio.get_running_loop().call_later(0.1, stand_still)
        await hear(self, session)

    monkeypatch.setattr(postgresql, "_notify_once", late)
    monkeypatch.setattr(postgresql.PostgresNotifier, "_test", test)
    here, there = process(postgres), process(postgres)
    here.follow("a")
    await eventually("it stood still", lambda: stood_still, PATIENCE)
    await there.log.aappend("a", Event("1"))
    await here.told("a", 1)
    assert here.notifier.troubles() == {}
    assert said(caplog) == []


async def test_a_connection_that_is_killed_comes_back_and_nothing_is_lost(
    postgres: str, process: Make, slow_poll: None, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = process(postgres), process(postgres)
    here.follow("a")
    await there.log.aappend("a", Event("1"))
    await here.told("a", 1)
    for number in (2, 3):
        await asyncio.to_thread(
            asked,
            postgres,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            postgresql.APPLICATION_NAME,
        )
        await there.log.aappend("a", Event(str(number)))
        await here.told("a", number)
        await eventually("it works again", lambda: not here.notifier.troubles(), PATIENCE)
    await there.log.aappend("a", Event("4"))
    await here.told("a", 4)
    assert any("notifications cannot be received through DATABASES['log-postgres'] now" in text for text in said(caplog))
    assert any("works again" in text for text in said(caplog))


async def test_a_server_that_is_away_is_said_once_and_costs_publishing_nothing(
    postgres: str, away: str, process: Make, slow_poll: None, caplog: pytest.LogCaptureFixture
) -> None:
    there = process(postgres, NOTIFY_ALIAS=away)
    for number in range(3):
        await there.log.aappend("a", Event(str(number)))
        assert await asyncio.to_thread(there.notifier.flush, PATIENCE)
    assert [*there.notifier.troubles()] == ["database_notifications"]
    assert there.notifier.troubles()["database_notifications"].endswith(": OperationalError")
    (text,) = said(caplog)
    assert "notifications cannot be sent through DATABASES['away'] now" in text


async def test_who_follows_and_publishes_nothing_holds_no_connection(
    postgres: str, process: Make, slow_poll: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "LEAVE_IDLE", 0.2)
    monkeypatch.setattr(postgresql, "RENEW_INTERVAL", 0.05)
    here, there = process(postgres), process(postgres)

    def held() -> int:
        return int(asked(postgres, OURS, postgresql.APPLICATION_NAME)[0][0])

    await eventually("those of earlier tests are gone", lambda: held() == 0, PATIENCE)
    leave = here.follow("a")
    await there.log.aappend("a", Event("1"))
    await here.told("a", 1)
    await eventually("one listens", lambda: held() == 1, PATIENCE)
    leave()
    await eventually("none is held", lambda: held() == 0, PATIENCE)
    here.follow("a")
    await there.log.aappend("a", Event("2"))
    await here.told("a", 2)
    await asyncio.to_thread(here.notifier.reset)
    await asyncio.to_thread(there.notifier.reset)
    await eventually("a database can be dropped", lambda: held() == 0, PATIENCE)


async def test_with_psycopg_2(postgres: str, process: Make, slow_poll: None) -> None:
    code = """
    import psycopg2
    from django.db import connection
    from django_agent_sse.eventlog.notify import notifier as module, poll
    module.FLUSH_TIMEOUT = 60.0
    poll.SLOWEST = poll.LATE = 3600.0
    assert connection.Database is psycopg2

    async def main():
        tops, told = [], asyncio.Event()
        def see(heads):
            tops.append(heads["a"].top if heads["a"] else 0)
            told.set()
        watch = notifier.watch(event_log(), see)
        watch.add("a")
        for number in range(3):
            await apublish("asks", "x")
            async with asyncio.timeout(60):
                while number + 1 not in tops:
                    told.clear()
                    await told.wait()
        assert not notifier.troubles(), notifier.troubles()
        watch.clear()
    asyncio.run(main())
    print("fine")
    """
    settings, hidden = {"DATABASES": {"default": entry_of(postgres)}}, "import sys; sys.modules['psycopg'] = None\n"
    here = process(postgres)
    here.follow("asks")

    async def answer() -> None:
        for number in range(1, 4):
            await here.told("asks", number)
            await here.log.aappend("a", Event(str(number)))

    child = await asyncio.create_subprocess_exec(
        *arguments(code, settings, hidden), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT
    )
    publishing = asyncio.create_task(answer())
    assert await asyncio.wait_for(child.communicate(), PATIENCE) == (b"fine\n", None)
    await publishing


# SQLite


@pytest.fixture(params=["delete", "wal"])
def file(request: pytest.FixtureRequest, tmp_path: Path, django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """A database in a file whose name has to be quoted."""
    path = tmp_path / "a ?#% file.sqlite3"
    entry = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {"init_command": f"PRAGMA journal_mode={request.param}"},
    }
    with django_db_blocker.unblock(), database(f"log-{tmp_path.parent.name}-{tmp_path.name}", entry) as alias:
        yield alias


async def test_a_file_is_looked_at_whatever_its_journal_is(file: str, process: Make, slow_poll: None) -> None:
    here, there = process(file), process(file)
    here.follow("a")
    for number in range(1, 4):
        await there.log.aappend("a", Event(str(number)))
        await here.told("a", number)
    assert there.notifier.loop.thread is None, "who only publishes says nothing"
    assert here.notifier.troubles() == {}


async def test_a_lock_of_somebody_else_is_no_news_and_no_error(
    file: str, process: Make, slow_poll: None, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = process(file), process(file)
    here.follow("a")
    await here.told("a", 0)
    with sqlite3.connect(str(connections[file].settings_dict["NAME"]), isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        await asyncio.sleep(4 * sqlite.INTERVAL)
        other.execute("ROLLBACK")
    other.close()
    await there.log.aappend("a", Event("1"))
    await here.told("a", 1)
    assert said(caplog) == []


async def test_a_file_that_takes_anothers_place_is_found(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "RENEW_INTERVAL", 0.1)
    monkeypatch.setattr(sqlite, "FOLLOWED_INTERVAL", 0.1)
    hurried = asyncio.Event()
    watching = asyncio.create_task(sqlite.SqliteWatcher(file, PendingTopics(), lambda: {"a"}, hurried.set).run())
    await asyncio.wait_for(hurried.wait(), PATIENCE)
    name, copy = Path(str(connections[file].settings_dict["NAME"])), tmp_path / "copy.sqlite3"
    with closing(sqlite3.connect(copy)) as other:
        other.execute("CREATE TABLE another (place)")
        copy.replace(name)
        hurried.clear()
        await asyncio.wait_for(hurried.wait(), PATIENCE)
    watching.cancel()
    await asyncio.wait({watching})


@pytest.fixture
def unmade(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A database whose file is not there yet, and the file."""
    path = tmp_path / "new.sqlite3"
    with database("unmade", {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}, migrate=False) as alias:
        yield alias, path


async def test_a_file_that_nobody_has_made_yet_is_waited_for_and_nothing_is_said(
    unmade: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite, "FOLLOWED_INTERVAL", 0.05)
    hurried = asyncio.Event()
    watcher = sqlite.SqliteWatcher(unmade[0], PendingTopics(), lambda: {"a"}, hurried.set)
    watching = asyncio.create_task(watcher.run())
    await asyncio.sleep(0.2)
    assert not hurried.is_set()
    with closing(sqlite3.connect(unmade[1])) as other:
        other.execute("CREATE TABLE made (id)")
    await asyncio.wait_for(hurried.wait(), PATIENCE)
    watching.cancel()
    await asyncio.wait({watching})
    assert (watcher.trouble, said(caplog)) == ("", [])


async def test_a_file_that_cannot_be_opened_is_said_once(
    file: str, away: str, process: Make, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = process(file, NOTIFY_ALIAS=away), process(file)
    here.follow("a")
    await there.log.aappend("a", Event("1"))
    await here.told("a", 1)
    await eventually("it is said", lambda: said(caplog), PATIENCE)
    assert [*here.notifier.troubles()] == ["database_notifications"]
    (text,) = said(caplog)
    assert "notifications cannot be received through DATABASES['away'] now" in text


async def test_while_nothing_is_followed_nothing_is_looked_at(
    file: str, process: Make, slow_poll: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look = sqlite._version
    monkeypatch.setattr(sqlite, "_version", lambda cursor, seen: looks.append(seen) or look(cursor, seen))
    monkeypatch.setattr(sqlite, "FOLLOWED_INTERVAL", 0.1)
    here = process(file)
    leave = here.follow("a")
    await eventually("it looks", lambda: len(looks) > 3, PATIENCE)
    leave()
    before = -1
    for _ in range(60):
        await asyncio.sleep(0.5)
        if len(looks) == before:
            break
        before = len(looks)
    else:
        pytest.fail("it goes on looking")
    here.follow("a")
    await eventually("it looks again", lambda: len(looks) > before, PATIENCE)
