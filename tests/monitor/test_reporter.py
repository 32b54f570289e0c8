"""The monitor's thread: what it obeys and what it leaves alone, and that nothing ends it but its own end."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from django_agent_sse.contrib.monitor import reporter as reporting
from django_agent_sse.contrib.monitor import service
from django_agent_sse.contrib.monitor.commands import COMMANDS, Close, Command, WatchRows, event_of
from django_agent_sse.contrib.monitor.inspector import StreamInspector, StreamQuery
from django_agent_sse.contrib.monitor.report_json import decode
from django_agent_sse.contrib.monitor.reporter import MAX_WATCHES, REPORTS, ROWS, Reporter
from django_agent_sse.contrib.monitor.service import monitor
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.eventlog.records import Page
from django_agent_sse.exceptions import EventLogUnavailable
from django_agent_sse.streams.registry import registry
from django_agent_sse.topics.reading import history

PATIENCE = 60.0
MANY = 600
"""More than two pages of a read."""


@pytest.fixture
def log(settings: Any) -> Iterator[MemoryEventLog]:
    """A memory log, which no other process reads; the thread does not ask."""
    settings.AGENT_SSE = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.memory.MemoryEventLog"}}
    found = event_log()
    assert isinstance(found, MemoryEventLog)
    found.clear_all()
    yield found
    found.clear_all()


@pytest.fixture
def obeyed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of what was obeyed, in order."""
    ids: list[str] = []

    def execute(command: Command, looker: StreamInspector) -> int:
        ids.append(command.id)
        return 0

    monkeypatch.setattr(reporting, "execute", execute)
    return ids


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Reporter]]:
    """Begin a thread that stays until the test is over."""
    monkeypatch.setattr(reporting, "in_use", lambda: True)
    made: list[Reporter] = []

    def start() -> Reporter:
        made.append(one := Reporter())
        return one

    yield start
    for one in made:
        one.stop(PATIENCE)
        assert not one.running


def until(what: str, probe: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not probe():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def ask(log: MemoryEventLog, *commands: Command) -> None:
    for command in commands:
        log.append(COMMANDS, event_of(command))


def watch(id: str) -> WatchRows:
    return WatchRows(id=id, query=StreamQuery(text=id), until=time.time() + 60)


def asked(one: Reporter) -> set[str]:
    return {query.text for query in tuple(one._watches)}


def test_what_was_asked_before_it_looked_is_over_however_many_pages_it_fills_but_for_who_watches(
    log: MemoryEventLog, obeyed: list[str], begin: Callable[[], Reporter]
) -> None:
    ask(log, watch("first"), *(Close(id=f"old-{number}", route="r/") for number in range(MANY)), watch("last"))
    one = begin()
    until("it hears who watches", lambda: asked(one) == {"first", "last"})
    ask(log, Close(id="new", route="r/"))
    until("it obeys", lambda: obeyed)
    assert obeyed == ["new"]


def test_of_too_many_queries_the_one_goes_that_nobody_asks_for_any_more(
    log: MemoryEventLog, begin: Callable[[], Reporter]
) -> None:
    names = [f"watch-{number}" for number in range(MAX_WATCHES)]
    one = begin()
    ask(log, *map(watch, names))
    until("it hears all", lambda: asked(one) == {*names})
    again = dataclasses.replace(watch(names[0]), id="from another process")
    ask(log, again, watch("one more"))
    until("it hears of one more", lambda: "one more" in asked(one))
    assert asked(one) == {*names, "one more"} - {names[1]}, "a process that asks for the same takes no place of its own"


def test_another_epoch_of_the_commands_brings_no_old_one_back_and_loses_no_new_one(
    log: MemoryEventLog, obeyed: list[str], begin: Callable[[], Reporter]
) -> None:
    old = [Close(id=f"old-{number}", route="r/") for number in range(MANY)]
    ask(log, *old)
    begin()
    until("it has looked, and reports", lambda: log.state(REPORTS).top)
    ask(log, Close(id="before", route="r/"))
    until("it obeys", lambda: obeyed)
    log.delete(COMMANDS)
    ask(log, *old, Close(id="before", route="r/"), Close(id="after", route="r/"))
    until("it obeys what is new", lambda: "after" in obeyed)
    assert obeyed == ["before", "after"]


def test_rows_travel_only_while_somebody_watches(
    log: MemoryEventLog, begin: Callable[[], Reporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "REPORT_INTERVAL", 0.05)
    monkeypatch.setattr(reporting, "ROWS_INTERVAL", 0.05)
    one = begin()
    until("it has reported now and then", lambda: log.state(REPORTS).top >= 4)
    assert not log.state(ROWS).exists, "nobody watches"
    ask(log, watch("somebody"))
    until("rows are told", lambda: log.state(ROWS).top >= 3)
    ask(log, dataclasses.replace(watch("somebody"), id="over", until=time.time()))
    until("nobody watches any more", lambda: not asked(one))
    told, reports = log.state(ROWS).top, log.state(REPORTS).top
    until("it goes on reporting", lambda: log.state(REPORTS).top >= reports + 4)
    assert log.state(ROWS).top <= told + 1, "one was under way"


def test_the_first_command_that_there_ever_was_is_obeyed(
    log: MemoryEventLog, obeyed: list[str], begin: Callable[[], Reporter]
) -> None:
    begin()
    until("it reports", lambda: log.state(REPORTS).top)
    ask(log, Close(id="new", route="r/"))
    until("it obeys", lambda: obeyed == ["new"])


def test_a_command_that_could_not_be_read_is_read_again_without_another_notification(
    log: MemoryEventLog, obeyed: list[str], begin: Callable[[], Reporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin()
    until("it reports", lambda: log.state(REPORTS).top)
    read, failed = log.aread_after, threading.Event()

    async def once(topic: str, *rest: Any) -> Page:
        if topic == COMMANDS and not failed.is_set():
            failed.set()
            raise EventLogUnavailable("away for a moment")
        return await read(topic, *rest)

    monkeypatch.setattr(log, "aread_after", once)
    ask(log, Close(id="new", route="r/"))
    until("it obeys", lambda: obeyed == ["new"])
    assert failed.is_set()


def test_an_error_of_any_kind_is_said_once_and_it_goes_on(
    log: MemoryEventLog, begin: Callable[[], Reporter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reporting, "REPORT_INTERVAL", 0.05)
    snapshot, failures = StreamInspector.snapshot, list[int]()

    def broken(self: StreamInspector, **about: Any) -> Any:
        if len(failures) < 3:
            failures.append(1)
            raise RuntimeError("a field of somebody's model")
        return snapshot(self, **about)

    monkeypatch.setattr(StreamInspector, "snapshot", broken)
    with caplog.at_level(logging.ERROR, "django_agent_sse.monitor"):
        begin()
        until("it reports", lambda: log.state(REPORTS).top)
    assert len(failures) == 3
    (record,) = [one for one in caplog.records if one.name == "django_agent_sse.monitor"]
    assert record.exc_info
    assert "goes on" in record.getMessage()


def test_a_stream_that_opens_while_a_process_says_that_it_is_idle_is_reported_at_once(
    log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is slow at that moment, as SQLite is while another process writes."""
    monkeypatch.setattr(reporting, "IDLE_INTERVAL", 3600.0)
    opened, writes, written = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(reporting, "in_use", opened.is_set)
    append = MemoryEventLog.append_unrung

    def slowly(self: MemoryEventLog, *about: Any) -> None:
        writes.set()
        assert written.wait(PATIENCE)
        append(self, *about)

    monkeypatch.setattr(MemoryEventLog, "append_unrung", slowly)
    one = Reporter(idle=True)
    try:
        assert writes.wait(PATIENCE)
        opened.set()
        one.wake()
        written.set()
        until("it reports", lambda: not one.idle)
        until("others are told", lambda: not decode([*history(log, REPORTS)][-1].data)[0].idle)
    finally:
        written.set()
        one.stop(PATIENCE)


def test_the_end_of_the_process_waits_for_the_last_report_and_one_that_goes_on_reports_again(
    log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "reports", lambda: True)
    monkeypatch.setattr(reporting, "in_use", lambda: True)
    monkeypatch.setattr(service, "LAST_REPORT_SECONDS", PATIENCE)  # only the report ends the wait
    try:
        monitor.begin()
        assert not monitor.busy
        monkeypatch.setattr(type(registry), "closing", True)
        monitor.shut_down()
        monitor.shut_down()
        until("it has said so", lambda: not monitor.busy)
        assert [decode(event.data)[0].last for event in history(log, REPORTS)][-1:] == [True]
        monitor.begin()
        assert not monitor.busy, "while it ends it reports no more"
        monkeypatch.setattr(type(registry), "closing", False)
        monitor.begin()
        until("it reports again", lambda: not decode([*history(log, REPORTS)][-1].data)[0].last)
    finally:
        monitor.stop(PATIENCE)


def test_the_end_of_the_process_does_not_wait_for_long_for_a_log_that_does_not_answer(
    log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    monkeypatch.setattr(monitor, "reports", lambda: True)
    monkeypatch.setattr(MemoryEventLog, "append_unrung", lambda *given: answers.wait(PATIENCE))
    try:
        monitor.begin()
        told = time.monotonic()
        monitor.shut_down()
        assert monitor.busy or time.monotonic() - told >= service.LAST_REPORT_SECONDS
        until("it is waited for no longer", lambda: not monitor.busy)
        assert not answers.is_set()
    finally:
        answers.set()
        monitor.stop(PATIENCE)


def test_it_ends_when_it_is_told_to_though_the_log_is_away(
    log: MemoryEventLog, begin: Callable[[], Reporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = begin()
    until("it reports", lambda: log.state(REPORTS).top)

    def away(*_: Any) -> None:
        raise EventLogUnavailable("away")

    monkeypatch.setattr(log, "append_unrung", away)
    one.stop(PATIENCE)
    assert not one.running


UNMIGRATED = """
import asyncio, logging, sys
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django_agent_sse", "django_agent_sse.contrib.monitor"],
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
)
django.setup()
logging.getLogger("django_agent_sse").addHandler(logging.StreamHandler(sys.stdout))
from django_agent_sse import Router
from django_agent_sse.contrib.monitor.service import monitor
from django_agent_sse.runtime.under_test import set_under_test
from django_agent_sse.testing import SSEClient
set_under_test(False)

async def plain(c, stream):
    await stream.write("one")
    await stream.wait_closed()

router = Router()
router.sse("plain/", plain)
router.topic("news/", "news")
urlpatterns = router.urls

async def main():
    async with asyncio.timeout(240), SSEClient(timeout=60) as client:
        stream = await client.open("/plain/")
        await stream.event()
        while monitor._reporter._failures.failures < 2:
            await asyncio.sleep(0.02)
        print("-- follows")
        for _ in range(5):
            await (await client.open("/news/")).rest()
        await stream.disconnect()

asyncio.run(main())
monitor.stop()
"""


def test_without_its_tables_nothing_is_said_before_somebody_follows_and_then_once_with_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNMIGRATED, str(tmp_path / "db.sqlite3")], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    before, _, after = done.stdout.partition("-- follows\n")
    assert before == ""
    assert [line for line in after.splitlines() if "the event log cannot be read now" in line] == after.splitlines()[:1]
    assert "run `manage.py migrate`" in after
    assert "migrate" not in after.partition("\n")[2]
