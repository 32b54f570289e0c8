"""Records of Python's logging are lines of a log wherever it is shown, and their levels are levels."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command

from django_agent_sse import Event, Router
from django_agent_sse.admin.topics import as_line
from django_agent_sse.contrib.logging import TopicHandler
from django_agent_sse.eventlog.backend import event_log
from django_agent_sse.logs import log_tail
from django_agent_sse.wire.log_lines import LEVELS, is_line, level_name, line_text
from tests.serving import ask, served

NAME = "builds.1"
TEXT = [
    "step",
    "started",
    "WARNING: disk is nearly full",
    "ERROR: it failed",
    "Traceback: …",
    "app CRITICAL down",
]
"""What the records of ``logged`` read as. The last one's format names its level, so that it is not named twice."""


@pytest.fixture(autouse=True)
def logged() -> Iterator[None]:
    """One record of each level, and an event that is no line."""
    event_log().clear_all()
    handler = TopicHandler(NAME)
    logger = logging.Logger("app")
    logger.addHandler(handler)
    logger.debug("step")
    logger.info("started")
    logger.warning("disk is %s full", "nearly")
    logger.error("it failed\nTraceback: …")
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    logger.critical("down")
    handler.close()
    event_log().append(NAME, Event("{}", event="exit"))
    yield
    event_log().clear_all()


def routes() -> Router:
    router = Router()
    router.log("builds/<slug:id>/log/", "builds.{id}")
    return router


async def test_an_event_is_named_by_its_level_and_its_data_is_the_text_as_it_was_formatted() -> None:
    with served(routes()):
        records = (await ask("/builds/1/log/range/")).json()["records"]
        streamed = (await ask("/builds/1/log/raw/?follow=0")).body.decode()
    assert [(one["event"], one["data"]) for one in records[:-1] if one["event"] != "record"] == [
        ("debug", "step"),
        ("info", "started"),
        ("warning", "disk is nearly full"),
        ("error", "it failed\nTraceback: …"),
        ("critical", "app CRITICAL down"),
    ]
    assert streamed.splitlines() == TEXT


async def test_raw_reads_the_same_while_it_follows() -> None:
    await event_log().aclose(NAME)
    with served(routes()):
        assert (await ask("/builds/1/log/raw/")).body.decode().splitlines() == TEXT


def test_the_tail_in_a_page_reads_the_same() -> None:
    assert list(log_tail(NAME, 100).lines) == TEXT


@pytest.mark.parametrize("colour", [False, True])
def test_sse_tail_reads_the_same_and_has_colours(colour: bool) -> None:
    out = io.StringIO()
    call_command("sse_tail", NAME, no_follow=True, stdout=out, force_color=colour, no_color=not colour)
    lines = out.getvalue().splitlines()
    assert lines[-1].endswith("{}"), "an exit is no line"
    if colour:
        yellow, red, reset = "\x1b[33m", "\x1b[31m", "\x1b[0m"
        assert lines[:-1] == [*TEXT[:2], f"{yellow}{TEXT[2]}{reset}", red + TEXT[3], TEXT[4] + reset, f"{red}{TEXT[5]}{reset}"]
    else:
        assert lines[:-1] == TEXT


def test_the_topics_page_shows_them_as_they_are() -> None:
    for name in (*LEVELS, "stdout", "stderr"):
        event = Event("x", event=name)
        assert as_line(event) is event
    assert as_line(Event("x", event="tick")).event == "stdout"


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "debug"),
        (5, "debug"),
        (10, "debug"),
        (15, "debug"),
        (25, "info"),
        (30, "warning"),
        (45, "error"),
        (50, "critical"),
        (99, "critical"),
    ],
)
def test_a_level_of_the_projects_own_is_the_highest_that_it_reaches(number: int, name: str) -> None:
    handler = TopicHandler("builds.2")
    handler.handle(logging.makeLogRecord({"name": "app", "levelno": number, "levelname": "NOTICE", "msg": "x"}))
    handler.close()
    record, details = event_log().read_after("builds.2").records
    assert record.event == Event("x", event=name)
    assert json.loads(details.event.data)["level"] == name
    assert level_name(number) == name
    assert is_line(record.event)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event("Error: no such file", event="error"), "Error: no such file"),
        (Event("no such file\nerror", event="error"), "ERROR: no such file\nerror"),
        (Event("", event="warning"), "WARNING: "),
        (Event('{"a":1}', event="error"), 'ERROR: {"a":1}'),
        (Event("x", event="stderr"), "x"),
        (Event("x"), "x"),
    ],
)
def test_a_level_stands_first_where_the_first_line_does_not_name_it(event: Event, text: str) -> None:
    assert line_text(event) == text


async def test_a_long_line_has_its_level_in_raw_too() -> None:
    await event_log().aappend("builds.3", [Event("y" * 900_000 + "\n" + "z", event="error"), Event(json.dumps({}), event="exit")])
    with served(routes()):
        body = (await ask("/builds/3/log/raw/?follow=0")).body.decode()
    assert body == f"ERROR: {'y' * 900_000}\nz\n"
    assert (await sync_to_async(log_tail)("builds.3", 2)).lines[1] == "z"
