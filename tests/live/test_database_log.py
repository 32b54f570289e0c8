"""Topics in a real database behind a real server: what followers get, and how few threads and connections that takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import psycopg
import pytest

from django_agent_sse.eventlog.notify.postgresql import APPLICATION_NAME

from .conftest import seed
from .servers import Server, poll
from .test_threads import MOST_THREADS, sampled

FOLLOWERS, TOPICS = 100, 25
THREADS, OWN = 3, 2
"""Of the streams; and of the log, for what the hub reads, and as many for what is published by tasks without a request."""
MONITOR = 2
"""Threads: the one that tells other processes what this one has open, and the log's that appends it."""
REQUEST = 2
"""Threads of the one request that publishes meanwhile: its own, for sync middleware, and asgiref's, which waits for its end."""
QUIET = 1.0
LOG = {"BACKEND": "django_agent_sse.eventlog.database.DatabaseEventLog"}


@pytest.fixture(scope="module")
def database(postgres_url: str) -> str:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE live_log")
    url = postgres_url.replace("/postgres?", "/live_log?")
    seed(url)
    return url


@pytest.fixture(scope="module")
def server(start: Callable[..., Server], database: str) -> Server:
    about = {"THREADS": THREADS, "EVENT_LOG": LOG}
    return start("uvicorn", database=database, middleware="whitenoise", quiet_seconds=QUIET, agent_sse=about)


@pytest.fixture
def connections(postgres_url: str, database: str) -> Iterator[Callable[[], int]]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:

        def count() -> int:
            sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'live_log' AND application_name != %s"
            found = connection.execute(sql, [APPLICATION_NAME]).fetchone()  # which outlives the last follower by a minute
            return int(found[0]) if found else 0

        yield count


def test_followers_get_everything_with_a_bounded_number_of_threads_and_connections(
    server: Server, connections: Callable[[], int]
) -> None:
    clients = [
        server.open(f"topics/follow/t{number % TOPICS}/", headers={"Accept": "text/event-stream"}) for number in range(FOLLOWERS)
    ]
    poll("all are open", lambda: server.state()["open_streams"] == FOLLOWERS)
    with server.most_connections() as most:
        poll("the requests' own threads are gone", lambda: server.os_threads() <= MOST_THREADS + MONITOR)
        with sampled(server.os_threads) as threads:
            assert server.get("topics/produce/t0/", rate=200, seconds=1).status == 200
            for client in clients[::TOPICS]:
                numbers = [int(re.match(r"\d+", client.next().data)[0]) for _ in range(200)]  # type: ignore[index]
                assert numbers == list(range(200))
                assert client.next().name == "sse.end"
    assert max(threads) <= MOST_THREADS + MONITOR + REQUEST
    assert 1 <= most[0] <= THREADS + 2 * OWN
    for client in clients:
        client.close()
    poll("no stream is open", lambda: server.state()["open_streams"] == 0)
    poll("no connection is held", lambda: connections() == 0)


def test_what_was_published_is_there_when_the_server_was_killed(start: Callable[..., Server], database: str) -> None:
    first = start("uvicorn", database=database, agent_sse={"EVENT_LOG": LOG})
    assert first.get("topics/produce/durable/", rate=1000, seconds=0.05).status == 200
    with first.open("topics/follow/durable/", headers={"Accept": "text/event-stream"}) as client:
        events = [client.next() for _ in range(51)]
    first.kill()
    second = start("uvicorn", database=database, agent_sse={"EVENT_LOG": LOG})
    headers = {"Accept": "text/event-stream", "Last-Event-ID": events[9].id}
    with second.open("topics/follow/durable/", headers=headers) as client:
        again = [client.next() for _ in range(41)]
    assert [(event.id, event.data) for event in again] == [(event.id, event.data) for event in events[10:]]
    assert again[-1].name == "sse.end"
