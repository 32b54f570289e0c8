"""Many streams on the database's topics: what they cost while nothing is published, and that they live all the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack

import psycopg
import pytest

from tests.timing import LONG

from .conftest import seed
from .servers import Server, poll
from .test_threads import MOST_THREADS

STREAMS, TOPICS = (500, 50) if LONG else (200, 20)
WINDOW = 4.0
MOST_QUERIES = 5.0
"""A second, of all streams together."""
LOG_THREADS = 3
"""However many streams there are: two that read the log, and the notifier's."""
MOST_CONNECTIONS = 6
"""Of four shared threads, and of the two that read the log."""
LOG = {
    "EVENT_LOG": {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"},
    "HEARTBEAT": 3600,
    "MONITOR": {"REPORTS": False},  # which asks on its own account
}
DATABASE = "live_idle_topics"


@pytest.fixture(scope="module")
def database(postgres_url: str) -> str:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
    url = postgres_url.replace("/postgres?", f"/{DATABASE}?")
    seed(url)
    return url


def connections(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = %s", [DATABASE]).fetchone()
    return int(found[0]) if found else 0


def test_many_idle_streams_on_some_topics_ask_at_most_five_questions_a_second(
    start: Callable[..., Server], database: str, postgres_url: str
) -> None:
    server = start("uvicorn", database=database, middleware="default", agent_sse=LOG)
    publish = [server.get(f"topics/produce/builds-{number}/", rate=1, seconds=1, close=0) for number in range(TOPICS)]
    assert {answer.status for answer in publish} == {200}
    with ExitStack() as stack:
        clients = [stack.enter_context(server.open(f"topics/follow/builds-{number % TOPICS}/")) for number in range(STREAMS)]
        for client in clients:
            assert client.next().data.startswith("0 ")
        poll("the requests' own threads are gone", lambda: server.os_threads() <= MOST_THREADS + LOG_THREADS)
        poll("the requests' own connections are gone", lambda: connections(database) <= MOST_CONNECTIONS)
        began, before = time.monotonic(), server.state()["queries"]
        time.sleep(WINDOW)
        rate = (server.state()["queries"] - before) / (time.monotonic() - began)
        print(f"\n{STREAMS} idle streams on {TOPICS} topics: {rate:.1f} queries a second, {server.os_threads()} threads")
        assert rate <= MOST_QUERIES
        assert server.os_threads() <= MOST_THREADS + LOG_THREADS
        assert connections(database) <= MOST_CONNECTIONS
        for number in range(TOPICS):
            server.get(f"topics/produce/builds-{number}/", rate=1, seconds=1, close=1)
        for client in clients:
            assert client.next().data.startswith("0 ")
            assert json.loads(client.next().data)["reason"] == "topic_closed"
