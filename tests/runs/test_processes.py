"""Runs in processes of their own that are killed, suspended and stopped, over each log that processes share."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from django_agent_sse import Topic
from django_agent_sse.eventlog import backend
from django_agent_sse.eventlog.base import EventLog
from django_agent_sse.eventlog.database import DatabaseEventLog
from django_agent_sse.runs.keeper import RENEW_AT
from tests.asleep import is_locked, stop
from tests.timing import bound

from .test_lost import OPEN, dead_run

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
LEASE = 8.0
PRODUCER = """
import asyncio, json, sys, time
import django
from django.conf import settings
about = json.loads(sys.argv[1])
settings.configure(INSTALLED_APPS=["django_agent_sse"], **about["settings"])
django.setup()
from django_agent_sse import produce
from django_agent_sse.exceptions import RunStopped

def last(ending):
    return [{"end": ending}]

def work():
    with produce("runs.1", lease=about["lease"], last=last) as out:
        out.write("1")
        out.flush()
        print(out.id, flush=True)
        for line in sys.stdin:
            out.write(line.strip())
            out.flush()
    print(out.ending, flush=True)

async def awork():
    async with produce("runs.1", lease=about["lease"], last=last) as out:
        await out.write("1")
        await out.flush()
        print(out.id, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            await out.write(line.strip())
            await out.flush()
    print(out.ending, flush=True)

async def think():
    async with produce("runs.1", lease=about["lease"], last=last) as out:
        await out.write("1")
        await out.flush()
        print(out.id, flush=True)
        try:
            await asyncio.sleep(60)
        finally:
            print("finally", flush=True)
    print(out.ending, flush=True)

try:
    work() if about["how"] == "sync" else asyncio.run(think() if about["how"] == "thinks" else awork())
except RunStopped as stopped:
    print(stopped.ending, flush=True)
"""


@pytest.fixture(params=["sqlite", "postgres", "redis"])
def shared(request: pytest.FixtureRequest, django_db_blocker: Any) -> Iterator[dict[str, Any]]:
    """The settings of a process that uses the same log as this one."""
    if request.param == "redis":
        options = {"url": request.getfixturevalue("redis_url"), "prefix": f"t{secrets.token_hex(6)}"}
        about = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}}
        with override_settings(AGENT_SSE=about):
            yield {"DATABASES": {}, "AGENT_SSE": about}
        backend.reset()
        return
    alias = request.getfixturevalue(f"{request.param}_alias")
    backend_name = "django_agent_sse.eventlog.database.DatabaseEventLog"
    entry = {name: connections.settings[alias][name] for name in ("ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT")}
    with (
        django_db_blocker.unblock(),
        override_settings(AGENT_SSE={"EVENT_LOG": {"BACKEND": backend_name, "OPTIONS": {"ALIAS": alias}}}),
    ):
        backend.event_log().clear_all()
        yield {"DATABASES": {"default": entry}}
    backend.reset()


@contextmanager
def producer(settings: dict[str, Any], how: str, *, lease: float = LEASE) -> Iterator[tuple[Any, str]]:
    """A process with a run, which has written one event, and the run's id: ``sync``, ``async``, or ``thinks`` for a minute."""
    about = json.dumps({"settings": settings, "how": how, "lease": lease})
    process = subprocess.Popen(
        [sys.executable, "-c", PRODUCER, about], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, bufsize=1
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)


def log_here() -> EventLog:
    return backend.event_log()


def suspend(process: Any) -> None:
    """Stop a process between two renewals of its lease: in the middle of one it would keep the lock of the database."""
    for _ in range(400):
        stop(process.pid)
        lease = log_here().lease("runs.1")
        assert lease is not None
        if LEASE * RENEW_AT < lease.left < LEASE - 0.1 and not holds_the_file():
            return
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.05)
    raise AssertionError("its lease was never found renewed and not yet due again")


def holds_the_file() -> bool:
    """Whether it was stopped while it reads a file of SQLite: nobody could write then."""
    log = log_here()
    if not isinstance(log, DatabaseEventLog) or connections[log.alias].vendor != "sqlite":
        return False
    return is_locked(str(connections[log.alias].settings_dict["NAME"]))


async def followed() -> list[str]:
    return [event.data async for event in Topic("runs.1").follow()]


async def many_readers(count: int = 20) -> list[list[str]]:
    return await asyncio.wait_for(asyncio.gather(*(followed() for _ in range(count))), PATIENCE)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_readers_of_a_run_whose_process_is_killed_see_its_end_at_the_deadline(shared: dict[str, Any], how: str) -> None:
    with producer(shared, how) as (process, id):
        assert log_here().lease("runs.1").holder == id  # type: ignore[union-attr]
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
        deadline = time.monotonic() + log_here().lease("runs.1").left  # type: ignore[union-attr]
        found = asyncio.run(many_readers())
        late = time.monotonic() - deadline
    assert found == [["1", '{"end":"lost"}']] * 20
    assert -0.2 < late < 20, "not before, and soon after"
    assert (log_here().state("runs.1").closed, log_here().state("runs.1").top) == ("lost", 2)


def test_a_process_that_slept_for_too_long_writes_nothing_after_the_end(shared: dict[str, Any]) -> None:
    with producer(shared, "sync") as (process, _):
        suspend(process)
        found = asyncio.run(many_readers())
        os.kill(process.pid, signal.SIGCONT)
        process.stdin.write("late\nlater\nlatest\n")
        assert process.stdout.readline().strip() == "lost"
        assert process.wait(PATIENCE) == 0
    assert found == [["1", '{"end":"lost"}']] * 20
    assert [event.data for event in Topic("runs.1").read()] == found[0]


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_run_is_stopped_from_another_process(shared: dict[str, Any], how: str) -> None:
    with producer(shared, how, lease=30) as (process, id):
        assert not log_here().request_stop("runs.1", "another")
        assert log_here().request_stop("runs.1", id)
        assert log_here().request_stop("runs.1", id)
        if how == "sync":  # its code learns of it when it writes
            while not log_here().state("runs.1").closed:
                with suppress(BrokenPipeError):  # it is over, and has ended since
                    process.stdin.write("more\n")
                time.sleep(0.05)
        found = asyncio.run(many_readers(1))
    assert (found[0][0], found[0][-1], log_here().state("runs.1").closed) == ("1", '{"end":"stopped"}', "stopped")


def test_a_stop_from_another_process_while_the_model_thinks_is_seen_at_once(shared: dict[str, Any]) -> None:
    with producer(shared, "thinks", lease=3000) as (process, id):
        asked = time.monotonic()
        assert log_here().request_stop("runs.1", id)
        assert [process.stdout.readline().strip() for _ in range(2)] == ["finally", "stopped"]
        took = time.monotonic() - asked
        assert process.wait(PATIENCE) == 0
    assert took < bound(0.5, PATIENCE)  # the renewal of the lease would come after a thousand seconds
    assert [event.data for event in Topic("runs.1").read()] == ["1", '{"end":"stopped"}']


STARTS = """
import json, sys, threading
import django
from django.conf import settings
about = json.loads(sys.argv[1])
settings.configure(INSTALLED_APPS=["django_agent_sse"], **about["settings"])
django.setup()
from django.db import connections
from django_agent_sse import produce
from django_agent_sse.exceptions import RunExists
over, go = threading.Event(), threading.Event()
said = threading.Lock()

def say(*words):
    with said:
        print(*words, flush=True)

def begin(number):
    go.wait()
    try:
        with produce(f"runs.{number}", key="chat.7"):
            say("began", f"runs.{number}")
            over.wait()
    except RunExists as error:
        say("refused", error.topic)
    finally:
        connections.close_all()

threads = [threading.Thread(target=begin, args=(about["first"] + number,)) for number in range(about["threads"])]
for thread in threads:
    thread.start()
print("ready", flush=True)
sys.stdin.readline()
go.set()
sys.stdin.readline()
over.set()
for thread in threads:
    thread.join()
"""


def test_of_fifty_starts_in_four_processes_one_runs(shared: dict[str, Any]) -> None:
    about = [{"settings": shared, "first": first, "threads": count} for first, count in ((0, 13), (13, 13), (26, 12), (38, 12))]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTS, json.dumps(one)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for one in about
    ]

    def tell(word: str) -> None:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()

    try:
        assert all(process.stdout.readline() == "ready\n" for process in processes if process.stdout is not None)
        tell("go")
        said = []
        for process, one in zip(processes, about, strict=True):
            assert process.stdout is not None
            said += [process.stdout.readline().split() for _ in range(one["threads"])]
        tell("over")
        assert [process.wait(PATIENCE) for process in processes] == [0] * 4
    finally:
        for process in processes:
            process.kill()
            process.communicate(timeout=PATIENCE)
    (began,) = [topic for word, topic in said if word == "began"]
    assert [topic for word, topic in said if word == "refused"] == [began] * 49
    assert log_here().topics() == [began], "the others have left nothing behind"


LOOKS = """
import sys, json
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_agent_sse"], **json.loads(sys.argv[1]))
django.setup()
from django_agent_sse import event_log
assert "django_agent_sse.contrib.wires" not in sys.modules
print(event_log().expire("runs.1"))
"""


def test_a_process_that_has_never_heard_of_the_protocol_ends_a_lost_run_in_its_words(shared: dict[str, Any]) -> None:
    wire, events, words = OPEN["Responses"]
    dead_run(log_here(), wire, events, topic="runs.1")
    done = subprocess.run(
        [sys.executable, "-c", LOOKS, json.dumps(shared)], capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "True"
    assert [json.loads(event.data) for event in Topic("runs.1").read()][len(events) :] == words
