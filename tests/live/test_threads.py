"""Nothing pinned: threads and database connections of many open streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from django_agent_sse.conf import DEFAULTS
from django_agent_sse.eventlog.notify.postgresql import APPLICATION_NAME
from tests.timing import LONG

from .client import Client
from .conftest import seed
from .servers import Server, poll

STREAMS = 300 if LONG else 100
MOST_THREADS = DEFAULTS["THREADS"] + 8
"""Those of streams, and what the server, the event loop and the event log have."""
THREADS = 3
REQUEST_THREADS = 8
QUIET = 1.0


@contextmanager
def sampled(probe: Callable[[], int]) -> Iterator[list[int]]:
    """Sample a number every few milliseconds from another thread while the block runs."""
    samples: list[int] = []
    over = threading.Event()

    def sample() -> None:
        while not over.is_set():
            samples.append(probe())
            over.wait(0.003)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield samples
    finally:
        over.set()
        sampler.join()


def open_streams(server: Server, key: str, session_key: str, count: int = STREAMS) -> list[Client]:
    """Open streams that each have used a session and the ORM; all wait at the gate ``key``."""
    clients = []
    for _ in range(count):
        client = server.open("data/load/", key=key, headers={"Cookie": f"sessionid={session_key}"})
        assert client.next().data == '{"user":"user-000","colour":"green"}'
        clients.append(client)
    return clients


def close_all(clients: list[Client]) -> None:
    for client in clients:
        client.close()


def test_many_streams_take_few_threads_open_busy_or_closing(server: Server, key: str, session_key: str) -> None:
    clients = open_streams(server, key, session_key)
    poll("the requests' own threads are gone", lambda: server.os_threads() <= MOST_THREADS)
    with sampled(server.os_threads) as samples:
        server.open_gate(key)
        for client in clients:
            assert client.next().data == "500"
        close_all(clients)
        server.recorded(key, "on_end", count=STREAMS)
        poll("no stream is open", lambda: server.state()["open_streams"] == 0)
    assert len(samples) >= 5, "it looked while they wrote and closed; how often depends on the machine"
    assert max(samples) <= MOST_THREADS
    print(f"\n{server.kind}: {STREAMS} streams, at most {max(samples)} threads")


@pytest.mark.parametrize("kind", ["uvicorn", "daphne"])
def test_with_the_wrapper_connecting_takes_the_threads_that_the_setting_says(
    start: Callable[..., Server], session_key: str, key: str, kind: str
) -> None:
    server = start(kind, middleware="default", wrapper=1, agent_sse={"REQUEST_THREADS": REQUEST_THREADS})
    with sampled(server.os_threads) as samples:
        headers = {"Cookie": f"sessionid={session_key}"}
        clients = server.connect(STREAMS, "data/load/", key=key, headers=headers)
        close_all(clients)
        server.recorded(key, "on_end", count=STREAMS)
    print(f"\n{kind}, wrapped: {STREAMS} clients connect, at most {max(samples)} threads")
    assert max(samples) <= MOST_THREADS + REQUEST_THREADS
    assert server.recorded(key, "on_end")["ending"] == "client_disconnect"


@pytest.fixture(scope="module")
def database(postgres_url: str) -> tuple[str, str]:
    """A filled PostgreSQL database of this module's own, and the key of its session."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE live_threads")
    url = postgres_url.replace("/postgres?", "/live_threads?")
    return url, str(seed(url)["session"])


@pytest.fixture(scope="module")
def on_postgres(start: Callable[..., Server], database: tuple[str, str]) -> Server:
    return start("uvicorn", database=database[0], middleware="whitenoise", quiet_seconds=QUIET, agent_sse={"THREADS": THREADS})


@pytest.fixture
def connections(postgres_url: str, database: tuple[str, str]) -> Iterator[Callable[[], int]]:
    """How many connections the site's database has."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:

        def count() -> int:
            sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'live_threads' AND application_name != %s"
            found = connection.execute(sql, [APPLICATION_NAME]).fetchone()  # which outlives the last follower by a minute
            return int(found[0]) if found else 0

        yield count


def test_connections_are_bounded_by_threads_and_given_back_after_the_quiet_time(
    on_postgres: Server, database: tuple[str, str], connections: Callable[[], int], key: str
) -> None:
    clients = open_streams(on_postgres, key, database[1])
    poll("the requests' own connections are gone", lambda: connections() <= THREADS)
    poll("so are their threads, under sync-only middleware too", lambda: on_postgres.os_threads() <= MOST_THREADS)
    asked = time.monotonic()
    with on_postgres.most_connections() as most:
        on_postgres.open_gate(key)
        for client in clients:
            assert client.next().data == "500"
    assert 1 <= most[0] <= THREADS
    poll("no connection is held by open streams", lambda: connections() == 0)
    assert time.monotonic() - asked > QUIET, "each was kept for a while"
    with on_postgres.most_connections() as most:
        close_all(clients)
        on_postgres.recorded(key, "on_end", count=STREAMS)
    assert most[0] <= THREADS
    poll("no connection is held by closed streams", lambda: connections() == 0)


@pytest.mark.parametrize("route", ["aiterator", "iterator"])
def test_a_server_side_cursor_is_streamed_to_the_end(on_postgres: Server, connections: Callable[[], int], route: str) -> None:
    clients = [on_postgres.open(f"data/{route}/") for _ in range(6)]
    for client in clients:
        with client:
            assert [event.data for event in client.own_events()] == [f"user-{number:03}" for number in range(500)]
            assert client.complete
    poll("no cursor keeps its connection", lambda: connections() == 0)


def test_a_cursor_keeps_its_connection_through_a_pause_longer_than_the_quiet_time(on_postgres: Server) -> None:
    with on_postgres.open("data/paused/", seconds=2.5 * QUIET) as client:
        assert [event.data for event in client.own_events()] == ["500"]
