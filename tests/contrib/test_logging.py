"""Python's logging to a topic: in order, in a thread of its own, and never in a circle."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from django_agent_sse import Topic
from django_agent_sse.contrib.logging import TopicHandler
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.exceptions import EventLogUnavailable, TopicNameInvalid
from django_agent_sse.runtime import pools
from django_agent_sse.runtime.backoff import Backoff
from django_agent_sse.runtime.pools import give_connections_back
from tests.live.servers import poll
from tests.timing import bound

NAME = "logs.app"


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventLog]:
    monkeypatch.setattr("django_agent_sse.contrib.logging.FLUSH_TIMEOUT", 60.0)
    backend.reset()
    yield backend.event_log()
    backend.reset()


@pytest.fixture
def handler() -> Iterator[TopicHandler]:
    handler = TopicHandler(NAME)
    yield handler
    handler.close()


@pytest.fixture
def logger(handler: TopicHandler) -> Iterator[logging.Logger]:
    logger = logging.getLogger("tests.to_topic")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield logger
    logger.removeHandler(handler)


def kept(log: EventLog) -> list[tuple[str | None, str]]:
    events = [record.event for record in log.read_after(NAME, 0, 5000).records]
    return [(event.event, event.data) for event in events if event.event != "record"]


def test_records_are_events_named_by_their_level(log: EventLog, logger: logging.Logger, handler: TopicHandler) -> None:
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logger.info("one %d", 1)
    logger.error("two\nlines \udcff")
    handler.flush()
    assert kept(log) == [("info", "tests.to_topic: one 1"), ("error", "tests.to_topic: two\nlines \\udcff")]


def test_a_thousand_records_of_ten_threads_are_all_there_in_each_threads_order(
    log: EventLog, logger: logging.Logger, handler: TopicHandler
) -> None:
    def work(number: int) -> None:
        for index in range(100):
            logger.info("%d %d", number, index)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.flush()
    found = [tuple(map(int, text.split())) for _, text in kept(log)]
    for number in range(10):
        assert [index for owner, index in found if owner == number] == list(range(100))


async def test_logging_on_an_event_loop_publishes_from_the_thread(
    log: EventLog, logger: logging.Logger, handler: TopicHandler
) -> None:
    logger.warning("from a coroutine")
    await asyncio.to_thread(handler.flush)
    assert kept(log) == [("warning", "from a coroutine")]


@pytest.mark.parametrize(
    "name", ["django_agent_sse", "django_agent_sse.stream", "django.db", "django.db.backends", "psycopg.pool", "redis", "asyncio"]
)
def test_what_publishing_itself_logs_is_never_published(log: EventLog, handler: TopicHandler, name: str) -> None:
    assert not handler.filter(logging.LogRecord(name, logging.ERROR, "", 0, "x", None, None))
    assert handler.filter(logging.LogRecord(f"my_{name}", logging.ERROR, "", 0, "x", None, None))


def test_what_waits_is_bounded_and_the_dropped_are_counted(
    log: EventLog, logger: logging.Logger, handler: TopicHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handler._publisher, "_backoff", Backoff(0.01, 0.01))
    handler._publisher._capacity = 5
    append = log._append

    def away(*args: Any) -> Any:
        raise EventLogUnavailable("the store is away")

    monkeypatch.setattr(log, "_append", away)
    began = time.monotonic()
    for number in range(8):
        logger.info("%d", number)
    assert time.monotonic() - began < bound(2.0, 30.0), "whoever logs does not wait, as the store is away for ever"
    monkeypatch.setattr(log, "_append", append)
    handler.flush()
    assert kept(log) == [
        *[("info", str(number)) for number in range(5)],
        ("warning", "3 records were dropped: the event log took none"),
    ]


def test_a_closed_topic_reports_and_stops_nobody(
    logger: logging.Logger, handler: TopicHandler, capsys: pytest.CaptureFixture[str], log: EventLog
) -> None:
    Topic(NAME).close()
    logger.info("late")
    handler.flush()
    assert "is closed" in capsys.readouterr().err
    assert kept(log) == []


def test_closing_publishes_what_waits_and_ends_the_thread(log: EventLog) -> None:
    handler = TopicHandler(NAME)
    logger = logging.getLogger("tests.to_topic_closing")
    logger.addHandler(handler)
    logger.error("the last")
    logger.removeHandler(handler)
    handler.close()
    assert kept(log) == [("error", "the last")]
    assert not any(thread.name == f"sse-log-{NAME}" for thread in threading.enumerate())


@pytest.mark.django_db(transaction=True)
def test_the_thread_ends_when_there_is_nothing_to_log_and_holds_no_database_connection(
    logger: logging.Logger, handler: TopicHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    ended: list[threading.Thread] = []

    def spied() -> None:
        if threading.current_thread().name != f"sse-log-{NAME}":  # another pool's
            return give_connections_back()
        held.append(any(one.connection is not None for one in connections.all(initialized_only=True)))
        give_connections_back()
        held.append(any(one.connection is not None for one in connections.all(initialized_only=True)))
        return ended.append(threading.current_thread())

    monkeypatch.setattr(pools, "give_connections_back", spied)
    monkeypatch.setattr(pools, "under_test", lambda: False)
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.1)
    with override_settings(AGENT_SSE={"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}}):
        for number in range(2):
            logger.info("%d", number)
            handler.flush()
            poll("it ends", lambda number=number: len(ended) > number)
            ended[number].join(20)
            assert not ended[number].is_alive()
            assert held == [True, False] * (number + 1)
        assert [text for _, text in kept(backend.event_log())] == ["0", "1"]


def test_it_is_configured_as_any_handler(log: EventLog) -> None:
    about: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"topic": {"class": "django_agent_sse.contrib.logging.TopicHandler", "topic": NAME, "level": "WARNING"}},
        "loggers": {"tests.configured": {"handlers": ["topic"], "propagate": False}},
    }
    logging.config.dictConfig(about)
    logger = logging.getLogger("tests.configured")
    (handler,) = logger.handlers
    logger.info("no")
    logger.warning("yes")
    handler.close()
    logger.removeHandler(handler)
    assert kept(log) == [("warning", "yes")]
    with pytest.raises(TopicNameInvalid):
        TopicHandler("")


def test_after_a_fork_the_child_has_a_thread_of_its_own(log: EventLog, logger: logging.Logger, handler: TopicHandler) -> None:
    logger.info("in the parent")
    handler.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other tests have left threads, which the child does not need
        child = os.fork()
    if child == 0:
        try:
            logger.info("in the child")
            handler.flush()
            os._exit(0 if kept(backend.event_log()) == [("info", "in the child")] else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert done == (child, 0)
    assert kept(log) == [("info", "in the parent")]
