"""The monitor is an app: a project without it pays nothing, and one that upgrades keeps what it granted, with it and without."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import warm

MONITOR = "django_agent_sse.contrib.monitor"
VIEW, CLOSE = "agent_sse_monitor.view_livestreams", "agent_sse_monitor.close_livestreams"
OLD_VIEW, OLD_CLOSE = "django_agent_sse.view_livestreams", "django_agent_sse.close_livestreams"
TOPICS = "django_agent_sse.view_logtopic"


def run(module: str, *arguments: str) -> list[dict[str, Any]]:
    """What a process prints, line by line; one that is asked what is imported begins cold."""
    begin = subprocess.run if module == "alone" else warm.run
    whole = {**os.environ, "PYTHONPATH": str(warm.ROOT), "PYTHONWARNINGS": "error::RuntimeWarning"}
    command = [sys.executable, "-m", f"tests.monitor.{module}", *arguments]
    done = begin(command, env=whole, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    (found,) = run("alone", str(tmp_path_factory.mktemp("without") / "db.sqlite3"))
    return found


@pytest.fixture(scope="module")
def with_it(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same with the app: what shows that the other one looks where there is something to see."""
    (found,) = run("alone", str(tmp_path_factory.mktemp("with") / "db.sqlite3"), MONITOR)
    return found


def test_without_the_app_nothing_of_it_is_imported(without: dict[str, Any], with_it: dict[str, Any]) -> None:
    assert without["modules"] == []
    assert f"{MONITOR}.reporter" in with_it["modules"]


def test_without_the_app_streams_start_no_thread_but_those_that_hear_whom_to_end(
    without: dict[str, Any], with_it: dict[str, Any]
) -> None:
    assert {name for name in without["threads"] if "sse" in name} <= {"sse-background", "sse-log-read", "sse-data-version"}
    assert "sse-log-write" in with_it["threads"]


def test_without_the_app_streams_write_nothing_to_the_database(without: dict[str, Any], with_it: dict[str, Any]) -> None:
    assert (without["written"], without["topics"]) == ([], [])
    assert with_it["topics"] == ["sse.monitor.history", "sse.monitor.reports"]
    assert any("logrow" in statement for statement in with_it["written"])


def test_without_the_app_there_is_no_page_and_no_permission(without: dict[str, Any], with_it: dict[str, Any]) -> None:
    assert without["pages"] == ["django_agent_sse.KeyValueStore", "django_agent_sse.LogTopic"]
    assert (without["index"], without["permissions"], without["types"]) == (False, [], [])
    assert with_it["pages"] == ["agent_sse_monitor.LiveStreams", *without["pages"]]
    assert (with_it["index"], with_it["types"]) == (True, ["agent_sse_monitor"])
    assert with_it["permissions"] == ["close_livestreams", "export_livestreams", "view_livestreams"]


def test_topics_metrics_and_health_work_without_the_app(without: dict[str, Any], with_it: dict[str, Any]) -> None:
    for found, readers in ((without, False), (with_it, True)):
        assert found["topics_page"] == 200
        assert (found["readers"], found["link"]) == (readers, readers), "who reads is known with the monitor only"
        assert found["ready"] == {"status": "ready", "problems": []}
    assert without["metrics"] == ['django_agent_sse_streams_opened_total{route="ticks/"}']
    (opened,) = with_it["metrics"]
    assert opened.startswith('django_agent_sse_streams_opened_total{process="')


def test_who_uses_it_without_installing_it_is_told_what_to_do(tmp_path: Path) -> None:
    code = """
import sys
import django
from tests.monitor.alone import configure
configure(sys.argv[1], [])
django.setup()
import django_agent_sse.contrib.monitor.admin
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "db.sqlite3")], capture_output=True, text=True, timeout=300, check=False
    )
    assert "ConfigurationError: the monitor is used and is not installed" in done.stderr.splitlines()[-1]


# A database from when the monitor was part of the core


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    database = tmp_path_factory.mktemp("before") / "db.sqlite3"
    run("upgraded", str(database), "before")
    return database


@pytest.fixture
def old(before: Path, tmp_path: Path) -> str:
    return str(shutil.copy(before, tmp_path))


def test_an_upgrade_with_the_app_keeps_who_may_do_what_and_what_was_done(old: str) -> None:
    (found,) = run("upgraded", old, "after", MONITOR)
    assert found["looks"] == [VIEW]
    assert found["closes"] == [CLOSE, VIEW, TOPICS]
    assert (found["types"], found["logged"], found["permissions"]) == (["agent_sse_monitor"], ["agent_sse_monitor"], 3)
    assert (found["index"], found["page"]) == (200, 200)


def test_an_upgrade_without_the_app_hurts_nobody_and_the_app_may_come_later(old: str) -> None:
    (found,) = run("upgraded", old, "after")
    assert found["looks"] == [OLD_VIEW], "granted, and good for nothing: there is nothing to view"
    assert (found["index"], found["page"]) == (200, 404)
    assert found["logged"] == ["django_agent_sse"], "what was done stays in the admin's log"
    (later,) = run("upgraded", old, "after", MONITOR)
    assert later["looks"] == [VIEW]
    assert later["closes"] == [CLOSE, VIEW, TOPICS]
    assert (later["types"], later["permissions"], later["page"]) == (["agent_sse_monitor"], 3, 200)


def test_without_the_app_django_removes_what_is_left_of_it(old: str) -> None:
    left, removed = run("upgraded", old, "cleaned")
    assert (left["types"], left["permissions"]) == (["django_agent_sse"], 2)
    assert (removed["types"], removed["permissions"], removed["looks"]) == ([], 0, [])
    assert removed["closes"] == [TOPICS], "and nothing else"


def test_the_step_can_be_undone(old: str) -> None:
    run("upgraded", old, "after", MONITOR)
    (found,) = run("upgraded", old, "undone", MONITOR)
    assert found["looks"] == [VIEW], "there and back again"
