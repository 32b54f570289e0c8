"""Runs behind real servers: their process is told to end, or killed; and readers come and go."""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from django_agent_sse.eventlog.redis import RedisEventLog
from django_agent_sse.topics.reading import history
from tests.site.routes.runs import LEASE
from tests.timing import LONG, bound

from .client import Client, EndOfStreamError
from .servers import Server

Start = Callable[..., Server]
SERVERS = ("uvicorn", "daphne", "granian", "hypercorn", "gunicorn with uvicorn")
WITHIN = bound(8.0, 60.0)
READERS, PROCESSES = (100, 4) if LONG else (20, 2)
"""Who reads, and over how many processes, beside that of the run."""
LATE = 5.0
"""Seconds after a deadline within which a machine at work has told every reader; heartbeats, at which one might look too,
come after sixty here."""


@pytest.fixture
def shared(redis_url: str) -> tuple[dict[str, Any], RedisEventLog]:
    """The settings of servers that share a log, and that log."""
    options = {"url": redis_url, "prefix": f"t{secrets.token_hex(6)}"}
    about = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.redis.RedisEventLog", "OPTIONS": options}, "HEARTBEAT": 60}
    return about, RedisEventLog(**options)


DATABASE = {"EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}}


def begin(server: Server, what: str, name: str, key: str, **query: Any) -> str:
    """Start a run that nobody reads; return the path of it."""
    answer = server.get(f"runs/{what}/{name}/", method="POST", headers={"Prefer": "respond-async"}, key=key, **query)
    assert answer.status == 202, answer
    return answer.headers["location"].lstrip("/")


def rest(client: Client) -> list[str]:
    """The data of all events, whatever becomes of the connection."""
    with client:
        try:
            while True:
                client.next()
        except (EndOfStreamError, ConnectionResetError):
            return [event.data for event in client.events if not event.name.startswith("sse.")]


def whole(data: list[str], ending: str) -> bool:
    """Whether these are numbers from 0 without a gap or a double, and then the last event of this ending."""
    return len(data) > 1 and data == [*map(str, range(len(data) - 1)), f"[{ending}]"]


def odd(data: list[str]) -> list[tuple[int, str]]:
    """Where these are not the numbers from 0."""
    return [(at, one) for at, one in enumerate(data) if one != str(at)][:5]


@pytest.mark.parametrize("kind", SERVERS)
def test_sigterm_interrupts_every_run_whether_or_not_somebody_reads_it(start: Start, key: str, kind: str) -> None:
    server = start(kind, middleware="default", ending=60, agent_sse=DATABASE)
    reader = server.open("runs/count/read/", method="POST", key=f"{key}-read")
    reader.take(3)
    unread, blocking = begin(server, "count", "unread", f"{key}-unread"), begin(server, "block", "blocking", f"{key}-blocking")
    for path in (unread, blocking):
        with server.open(path) as once:
            once.take(2)
    asked = time.monotonic()
    server.signal(signal.SIGTERM)
    server.wait(WITHIN)
    took = time.monotonic() - asked
    assert took < WITHIN
    seen = rest(reader)
    if kind != "daphne":  # it stops its loop under the handlers, whatever they are doing
        assert whole(seen, "interrupted"), (odd(seen), took)
        assert not reader.complete
        for name in ("read", "unread"):
            assert server.steps(f"{key}-{name}") == ["started", "cancelled", "finally"]
    server.restart()
    for path in ("runs/count/read/", unread, blocking):
        seen = rest(server.open(path))
        assert whole(seen, "interrupted"), (path, odd(seen))


def test_a_run_whose_process_is_killed_is_lost_at_the_deadline_once_for_every_reader(
    start: Start, key: str, shared: tuple[dict[str, Any], RedisEventLog]
) -> None:
    about, log = shared
    writing, *reading = (start("uvicorn", agent_sse=about) for _ in range(1 + PROCESSES))
    path = begin(writing, "chat", "killed", key)
    topic = f"runs.chat.{path.rstrip('/').rpartition('/')[2]}"
    readers = [reading[number % PROCESSES].open(path, headers={"Accept": "*/*"}) for number in range(READERS)]
    for reader in readers:
        reader.take(3)
    writing.kill()
    asked, lease = time.monotonic(), log.lease(topic)
    assert lease is not None
    deadline = asked + lease.left
    assert lease.left <= LEASE
    seen = [rest(reader) for reader in readers]
    late = time.monotonic() - deadline
    assert -0.3 < late < LATE, "not before, and soon after"
    kept = [event.data for event in history(log, topic)]
    text = kept.count('{"type":"text-delta","id":"t","delta":"é"}')
    assert [json.loads(data)["type"] for data in kept[:2] + kept[2 + text : -1]] == [
        *("start", "text-start", "text-end", "error", "finish")
    ]
    assert kept[-1] == "[DONE]"
    for data in seen:  # whoever came late got the first deltas as one
        assert data[-4:] == kept[-4:]
        assert [*data].count("[DONE]") == 1
        deltas = [json.loads(one)["delta"] for one in data if "text-delta" in one]
        assert "".join(deltas) == "é" * text
    assert all(reader.complete for reader in readers), "its last parts say that it was lost"


@pytest.mark.parametrize("kind", ["uvicorn", "daphne"])
def test_readers_who_leave_and_come_back_lose_and_double_nothing(start: Start, key: str, kind: str) -> None:
    server = start(kind, middleware="default", agent_sse=DATABASE)
    client = server.open("runs/count/cut/", method="POST", key=key, most=100)
    seen: list[str] = []
    for step in range(1, 12):
        events = [client.next() for _ in range(step)]
        seen += [event.data for event in events]
        client.reset() if step % 2 else client.close()
        client = server.open("runs/count/cut/", headers={"Last-Event-ID": events[-1].id, "Accept": "*/*"})
    seen += rest(client)
    assert whole(seen, "finished")
    assert server.steps(key) == ["started", "finally"]
    assert rest(server.open("runs/count/cut/")) == seen, "a page that is opened anew has all of it"


def test_a_run_is_stopped_through_another_process(start: Start, key: str, shared: tuple[dict[str, Any], RedisEventLog]) -> None:
    about, _ = shared
    one, other = (start("uvicorn", agent_sse=about) for _ in range(2))
    path = begin(one, "count", "stopped", key, pause=600)
    with one.open(path) as reader:
        reader.take(1)
        assert other.get(path, method="DELETE").status == 202
        assert rest(reader) == ["0", "[stopped]"]
    assert one.steps(key) == ["started", "cancelled", "finally"]


def test_a_resumable_handler_goes_on_where_its_browser_was(start: Start) -> None:
    server = start("uvicorn", middleware="default", agent_sse=DATABASE)
    client = server.open("runs/resumable/page/")
    one = client.take(5)[-1]
    client.reset()
    resumed = server.open("runs/resumable/page/", headers={"Last-Event-ID": one.id})
    assert rest(resumed) == [*map(str, range(5, 100))]
    assert server.get("runs/resumable/page/", headers={"Last-Event-ID": resumed.events[-1].id}).status == 204
