"""What a block of code logs, in a topic that ends with its outcome."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from django_agent_sse import Topic, live_log
from django_agent_sse.contrib import log_records
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.exceptions import AsyncRequired, EventLogUnavailable, TopicClosed, TopicNameInvalid

NAME = "jobs.42"
logger = logging.getLogger("tests.live_log")


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[EventLog]:
    monkeypatch.setattr("django_agent_sse.contrib.logging.FLUSH_TIMEOUT", 60.0)
    backend.reset()
    yield backend.event_log()
    backend.reset()


def kept(log: EventLog) -> list[tuple[str | None, str]]:
    events = [record.event for record in log.read_after(NAME, 0, 5000).records]
    return [(event.event, event.data) for event in events if event.event != "record"]


def details(log: EventLog) -> list[dict[str, Any]]:
    return [json.loads(one.event.data) for one in log.read_after(NAME, 0, 5000).records if one.event.event == "record"]


def test_what_a_block_logs_is_in_the_topic_which_is_closed(log: EventLog) -> None:
    before = logging.getLogger().level, [*logging.getLogger().handlers]
    with live_log(NAME) as topic:
        logger.info("one %d", 1)
        topic.publish({"fraction": 0.5}, event="progress")
        logger.warning("two")
        logger.debug("not this")
    logger.error("nor this")
    assert sorted(kept(log)) == [("info", "one 1"), ("progress", '{"fraction":0.5}'), ("warning", "two")]
    assert log.state(NAME).closed == "completed"
    assert (logging.getLogger().level, logging.getLogger().handlers) == before


def test_a_block_that_raises_leaves_its_traceback_and_the_topic_failed(log: EventLog) -> None:
    with pytest.raises(ZeroDivisionError), live_log(NAME, "tests"):
        logger.info("begun")
        1 / 0  # noqa: B018
    (_, first), (level, last) = kept(log)
    assert (first, level) == ("begun", "error")
    assert last.startswith("ZeroDivisionError: division by zero\nTraceback (most recent call last):\n")
    assert last.endswith("ZeroDivisionError: division by zero")
    assert "1 / 0" in last
    assert log.state(NAME).closed == "failed"
    assert details(log)[-1]["file"].endswith("contrib/test_live_log.py")
    assert details(log)[-1]["logger"] == "tests"


@pytest.mark.parametrize(
    ("error", "reason"), [(KeyboardInterrupt(), "cancelled"), (SystemExit(0), "completed"), (SystemExit(3), "failed")], ids=repr
)
def test_how_a_block_ends_is_how_its_topic_does(log: EventLog, error: BaseException, reason: str) -> None:
    with pytest.raises(type(error)), live_log(NAME):
        raise error
    assert log.state(NAME).closed == reason


async def test_a_coroutine_does_not_wait_on_its_loop_and_takes_what_its_tasks_log(log: EventLog) -> None:
    async def part(number: int) -> None:
        await asyncio.sleep(0)
        logger.info("part %d", number)

    async def other() -> None:
        await begun.wait()
        logger.info("another request")

    begun = asyncio.Event()
    stranger = asyncio.create_task(other())
    async with live_log(NAME):
        begun.set()
        await asyncio.gather(part(1), part(2))
        await sync_to_async(logger.info)("in a thread")
        await stranger
    assert [text for _, text in kept(log)] == ["part 1", "part 2", "in a thread"]
    assert (await log.astate(NAME)).closed == "completed"


async def test_a_coroutine_that_is_cancelled_leaves_its_topic_closed(log: EventLog) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with live_log(NAME):
            logger.info("begun")
            begun.set()
            await asyncio.sleep(3600)

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (kept(log), (await log.astate(NAME)).closed) == ([("info", "begun")], "cancelled")


async def test_with_on_a_loop_is_refused(log: EventLog) -> None:
    with pytest.raises(AsyncRequired, match="live_log"), live_log(NAME):
        pass


def test_blocks_of_two_threads_do_not_mix_unless_all_is_wanted(log: EventLog) -> None:
    def other() -> None:
        with live_log("jobs.43"):
            logger.info("of 43")

    with live_log(NAME), live_log("jobs.all", everywhere=True):
        logger.info("of 42")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert kept(log) == [("info", "of 42")]
    assert [event.data for event in Topic("jobs.43").read() if event.event == "info"] == ["of 43"]
    assert [event.data for event in Topic("jobs.all").read() if event.event == "info"] == ["of 42", "of 43"]


def test_the_level_of_a_logger_is_back_when_the_last_block_is_over(log: EventLog) -> None:
    logger.setLevel(logging.ERROR)
    first, second = live_log("a", logger.name), live_log("b", logger.name, level="DEBUG")
    first.__enter__()
    second.__enter__()
    assert logger.level == logging.DEBUG
    first.__exit__(None, None, None)
    assert logger.level == logging.DEBUG
    second.__exit__(None, None, None)
    assert logger.level == logging.ERROR
    logger.setLevel(logging.NOTSET)


def test_a_topic_of_an_earlier_run_is_refused_or_forgotten(log: EventLog) -> None:
    for _ in range(2):
        with live_log(NAME, replace=True):
            logger.info("run")
    assert kept(log) == [("info", "run")]
    with pytest.raises(TopicClosed, match="replace=True"), live_log(NAME):
        raise AssertionError("it runs")
    with pytest.raises(TopicNameInvalid):
        live_log("ü")


def test_a_log_that_is_away_hinders_no_work(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise EventLogUnavailable("away")

    for verb in ("_state", "_append", "_close"):
        monkeypatch.setattr(log, verb, fails)
    worked = False
    with live_log(NAME):
        logger.info("x")
        worked = True
    assert worked


def test_records_say_their_logger_file_line_and_fields(log: EventLog) -> None:
    with live_log(NAME):
        logger.info("order", extra={"order": 17, "paid": True, "who": {"id": 3}, "_private": 1})
    (found,) = details(log)
    assert found.pop("line") > 100
    assert found.pop("file").endswith("test_live_log.py")
    assert found == {"level": "info", "logger": "tests.live_log", "fields": {"order": 17, "paid": True, "who": "{'id': 3}"}}
    offsets = [record.event.event for record in log.read_after(NAME).records]
    assert offsets == ["info", "record"], "it follows its line in the same append"


def test_what_a_record_says_is_bounded() -> None:
    class Bad:
        def __str__(self) -> str:
            raise ValueError

    about = {"levelno": 20, "name": "n" * 5000, "pathname": "/x/" + "p" * 5000, "lineno": 1, "nan": float("nan")}
    record = logging.makeLogRecord(about)
    assert json.loads(log_records.details_event(record).data)["fields"] == {}
    record = logging.makeLogRecord({"levelno": 20, **{f"f{number}": "x" * 5000 for number in range(1000)}})
    assert len(log_records.details_event(record).data) <= log_records.BYTES
    record = logging.makeLogRecord({"levelno": 20, "bad": Bad(), "big": "x" * 5000, "odd": "\udcff"})
    fields = json.loads(log_records.details_event(record).data)["fields"]
    assert fields == {"bad": "<Bad: ValueError>", "big": "x" * 1000 + "…", "odd": "\udcff"}


def test_without_details_there_are_lines_alone(log: EventLog) -> None:
    with live_log(NAME, details=False, format="%(levelname)s %(message)s"):
        logger.info("x")
    assert (kept(log), details(log)) == ([("info", "INFO x")], [])
