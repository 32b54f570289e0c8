"""``RouteLogger`` is ordinary ``logging`` whose context travels as fields of the record."""

from __future__ import annotations

import logging

import pytest

from django_agent_sse.streams.logger import LOGGER_NAME, TRACE, RouteLogger
from tests.records import records_of


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(TRACE, logger=LOGGER_NAME)
    return caplog


@pytest.mark.parametrize(
    ("method", "level"),
    [("trace", 5), ("debug", 10), ("info", 20), ("warning", 30), ("warn", 30), ("error", 40), ("exception", 40)],
)
def test_c03_every_level_logs_under_the_route_logger(log: pytest.LogCaptureFixture, method: str, level: int) -> None:
    getattr(RouteLogger(), method)("step %s of %d", "compile", 3, build=42)
    (record,) = records_of(log, LOGGER_NAME)
    assert (record.name, record.levelno, record.getMessage()) == ("django_agent_sse.route", level, "step compile of 3")
    assert vars(record)["build"] == 42


def test_c03_a_child_carries_its_fields_and_those_of_its_parent(log: pytest.LogCaptureFixture) -> None:
    parent = RouteLogger({"route": "builds/"})
    parent.child(build=42, step="one").child(step="two").info("done", seconds=3)
    parent.info("parent")
    first, second = (vars(record) for record in records_of(log, LOGGER_NAME))
    assert (first["route"], first["build"], first["step"], first["seconds"]) == ("builds/", 42, "two", 3)
    assert "build" not in second


def test_c03_a_lone_mapping_is_context_as_in_the_reference(log: pytest.LogCaptureFixture) -> None:
    RouteLogger().info("Build finished", {"build": 42, "name": "docs"})
    assert vars(records_of(log, LOGGER_NAME)[0])["build"] == 42
    assert vars(records_of(log, LOGGER_NAME)[0])["field_name"] == "docs"
    assert records_of(log, LOGGER_NAME)[0].getMessage() == "Build finished"


def test_a_mapping_that_the_message_formats_stays_an_argument(log: pytest.LogCaptureFixture) -> None:
    RouteLogger().info("build %(build)s", {"build": 42})
    assert records_of(log, LOGGER_NAME)[0].getMessage() == "build 42"


@pytest.mark.parametrize(
    "name", ["name", "msg", "args", "message", "asctime", "levelname", "module", "thread", "exc_text", "self"]
)
def test_no_field_name_raises(log: pytest.LogCaptureFixture, name: str) -> None:
    logger = RouteLogger({name: 1})
    logger.info("parent", **{name: 2})
    logger.child(**{name: 3}).info("child", extra={"more": name})
    kept = "self" if name == "self" else f"field_{name}"
    assert [vars(record)[kept] for record in records_of(log, LOGGER_NAME)] == [2, 3]
    assert [record.name for record in records_of(log, LOGGER_NAME)] == [LOGGER_NAME] * 2


def test_exception_carries_the_traceback(log: pytest.LogCaptureFixture) -> None:
    raised = ValueError("broken")
    try:
        raise raised
    except ValueError:
        RouteLogger().exception("failed", build=42)
    assert records_of(log, LOGGER_NAME)[0].exc_info is not None
    assert records_of(log, LOGGER_NAME)[0].exc_info[1] is raised


def test_the_keywords_of_logging_keep_their_meaning(log: pytest.LogCaptureFixture) -> None:
    error = ValueError("broken")
    RouteLogger().error("failed", exc_info=error, stack_info=True, extra={"args": 1})
    assert records_of(log, LOGGER_NAME)[0].exc_info is not None
    assert records_of(log, LOGGER_NAME)[0].exc_info[1] is error
    assert records_of(log, LOGGER_NAME)[0].stack_info
    assert vars(records_of(log, LOGGER_NAME)[0])["field_args"] == 1


def test_the_record_names_the_line_of_the_caller(log: pytest.LogCaptureFixture) -> None:
    def helper() -> None:
        RouteLogger().info("from the helper's caller", stacklevel=2)

    RouteLogger().info("from here")
    helper()
    assert [(record.filename, record.funcName) for record in records_of(log, LOGGER_NAME)] == [
        ("test_logger.py", "test_the_record_names_the_line_of_the_caller")
    ] * 2


def test_a_disabled_level_formats_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Expensive:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    caplog.set_level(logging.INFO, logger=LOGGER_NAME)
    RouteLogger().debug(Expensive(), {"build": 42})
    assert records_of(caplog, LOGGER_NAME) == []


def test_the_level_below_debug_has_a_name() -> None:
    assert logging.getLevelName(TRACE) == "TRACE"
