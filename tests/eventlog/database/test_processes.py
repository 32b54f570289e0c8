"""Several processes append to one database at once: contiguous, nothing lost, and no error reaches a caller.

The short form runs with every test run; in the long one twice as many append eighty times as much. ``-s`` prints the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from django_agent_sse.eventlog.database import DatabaseEventLog
from tests import warm
from tests.log_databases import database
from tests.timing import LONG

EVENTS = 2_000 if LONG else 25
AT_ONCE = [(2, 1), (8, 1), (8, 100)] if LONG else [(4, 1), (3, 100)]
"""Processes and topics."""
TIMEOUT = 500
ROOT = Path(__file__).resolve().parents[3]
PUBLISHER = "tests.eventlog.database.publishing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A database that processes share, and its alias here."""

    alias: str
    entry: dict[str, Any]


@pytest.fixture(params=["sqlite", "sqlite-wal", "postgres", "mariadb"])
def site(request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: Any) -> Iterator[Site]:
    """Of each kind a new one, with no option that helps."""
    if request.param == "postgres":
        name = f"processes_{request.node.callspec.indices['topics']}"
        with psycopg.connect(request.getfixturevalue("postgres_url"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        entry = {**request.getfixturevalue("postgres_database"), "NAME": name}
    elif request.param == "mariadb":
        shared, name = request.getfixturevalue("mariadb_database"), f"processes_{request.node.callspec.indices['topics']}"
        with pymysql.connect(unix_socket=shared["HOST"], user=shared["USER"]) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        entry = {**shared, "NAME": name}
    else:
        options = {"init_command": "PRAGMA journal_mode=wal"} if request.param == "sqlite-wal" else {}
        entry = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3"), "OPTIONS": options}
    with django_db_blocker.unblock(), database(f"processes-{request.param}", entry) as alias:
        yield Site(alias=alias, entry=entry)


def publish_at_once(site: Site, processes: int, topics: int) -> float:
    """Have so many processes publish, all from one moment on; return the seconds until the last one was done."""
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    with ExitStack() as stack:
        children = []
        for worker in range(processes):
            about = {"database": site.entry, "worker": worker, "events": EVENTS, "topics": topics}
            command = [sys.executable, "-m", PUBLISHER, json.dumps(about)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            child = stack.enter_context(warm.Popen(command, text=True, cwd=ROOT, env=environment, **pipes))
            stack.callback(child.kill)
            children.append(child)
        for child in children:
            assert child.stdout.readline() == "ready\n", child.communicate(timeout=TIMEOUT)[1]
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [child.communicate(timeout=TIMEOUT) for child in children]
        assert [error for _, error in said] == [""] * processes
        assert [child.returncode for child in children] == [0] * processes
        return max(float(told) for told, _ in said)


@pytest.mark.parametrize(("processes", "topics"), AT_ONCE, ids=[f"{processes} on {topics}" for processes, topics in AT_ONCE])
def test_processes_that_append_at_once_are_all_heard(site: Site, processes: int, topics: int) -> None:
    seconds = publish_at_once(site, processes, topics)
    log = DatabaseEventLog(ALIAS=site.alias)
    seen: list[tuple[int, int]] = []
    for topic in log.topics():
        after, here = 0, list[tuple[int, int]]()
        while records := log.read_after(topic, after).records:
            assert [record.offset for record in records] == list(range(after + 1, after + 1 + len(records)))
            here += [tuple(json.loads(record.event.data)) for record in records]
            after = records[-1].offset
        assert after == log.state(topic).top
        for worker in range(processes):
            numbers = [number for other, number in here if other == worker]
            assert numbers == sorted(numbers), "what one process publishes keeps its order"
        seen += here
    assert sorted(seen) == [(worker, number) for worker in range(processes) for number in range(EVENTS)]
    print(f"\n{site.alias}: {processes} processes, {topics} topics: {len(seen) / seconds:,.0f} appends a second")
